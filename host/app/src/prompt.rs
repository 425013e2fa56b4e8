//! What a person is asked to do outside of the MCP conversation, on the terminal.
//!
//! A device code is entered on another device, usually a phone. So on a terminal, its link follows as a QR code that a
//! camera reads; the text stands above it as always.

use std::io::{self, IsTerminal as _};

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::{config, console};

/// The longest link that becomes a QR code, in bytes. That of a device code has some 40. The link of a browser sign-in has
/// hundreds, and leads back to this machine: a phone has no use for it.
const MAX_LINK_BYTES: usize = 96;

/// Shows a prompt.
pub(crate) fn show(message: &str) {
    console::notice(message);
    if !io::stderr().is_terminal() || !config::terminal_shows_unicode() {
        return;
    }
    if let Some(code) = link(message).and_then(qr_code) {
        console::notice(&code);
    }
}

/// The link of a prompt, if another device can open it.
fn link(message: &str) -> Option<&str> {
    let mut links = message.split_whitespace().filter(|word| word.starts_with("https://"));
    let link = links.next()?;
    (links.next().is_none() && link.len() <= MAX_LINK_BYTES).then_some(link)
}

/// White on black, whatever the colours of the terminal are (ECMA-48, Select Graphic Rendition), and back to them.
const LIGHT_ON_DARK: &str = "\u{1b}[97;40m";
const AS_BEFORE: &str = "\u{1b}[0m";

/// A QR code (ISO/IEC 18004) of half blocks, dark on light: many readers know no other.
fn qr_code(link: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(link, EcLevel::L).ok()?;
    // What the crate calls dark is drawn, and what is drawn is white here: so the two change places.
    let cells = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let lines: Vec<_> = cells.lines().map(|line| format!("{LIGHT_ON_DARK}{line}{AS_BEFORE}")).collect();
    Some(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_of_a_device_code_is_one_for_another_device() {
        let prompt = "To sign in, open https://login.microsoftonline.com/device and enter the code ABCD-EFGH.";
        assert_eq!(link(prompt), Some("https://login.microsoftonline.com/device"));
    }

    #[test]
    fn a_link_for_this_machine_is_not() {
        let long = format!("To sign in, open this page: https://login.microsoftonline.com/{}", "x".repeat(100));
        assert_eq!(link(&long), None);
        assert_eq!(link("To sign in, open http://localhost/device and enter the code A."), None);
        assert_eq!(link("https://a.example https://b.example"), None);
        assert_eq!(link("Signed in."), None);
    }

    /// Width and height of a module in the picture that the reader is given.
    const PIXELS: usize = 4;

    #[test]
    fn a_code_reads_as_its_link() {
        let longest = format!("https://login.microsoftonline.com/{}", "x".repeat(MAX_LINK_BYTES - 34));
        assert_eq!(longest.len(), MAX_LINK_BYTES);
        for link in ["https://login.microsoftonline.com/device", &longest] {
            let code = qr_code(link).unwrap();
            let lines: Vec<Vec<char>> = code
                .lines()
                .map(|line| {
                    line.strip_prefix(LIGHT_ON_DARK).unwrap().strip_suffix(AS_BEFORE).unwrap().chars().collect()
                })
                .collect();
            // What is drawn is light.
            let is_light = |x: usize, y: usize| matches!((lines[y / 2][x], y % 2), ('█', _) | ('▀', 0) | ('▄', 1));
            let (width, height) = (lines[0].len() * PIXELS, lines.len() * 2 * PIXELS);
            let is_dark = |x: usize, y: usize| !is_light(x / PIXELS, y / PIXELS);
            let mut picture = rqrr::PreparedImage::prepare_from_bitmap(width, height, is_dark);
            let read: Vec<String> = picture.detect_grids().iter().map(|grid| grid.decode().unwrap().1).collect();
            assert_eq!(read, [link]);
        }
    }

    #[test]
    fn a_code_is_a_square_with_its_quiet_zone_in_half_blocks() {
        let code = qr_code("https://login.microsoftonline.com/device").unwrap();
        let lines: Vec<_> = code
            .lines()
            .map(|line| line.strip_prefix(LIGHT_ON_DARK).unwrap().strip_suffix(AS_BEFORE).unwrap())
            .collect();
        // Version 3 has 29 modules, and 4 more on each side (ISO/IEC 18004): 37, in lines of two.
        assert_eq!(lines.len(), 19);
        assert!(lines.iter().all(|line| line.chars().count() == 37));
        assert!(lines.iter().flat_map(|line| line.chars()).all(|cell| "█▀▄ ".contains(cell)));
        assert!(lines[0].chars().all(|cell| cell == '█'), "the quiet zone is light");
    }
}
