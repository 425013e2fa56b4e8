//! Text that strangers write and people read.

/// Takes out what is not seen or changes how the rest is read: control characters, direction marks, and characters
/// without width. A line break is a space.
pub(super) fn visible(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if matches!(c, '\t' | '\n' | '\r') { ' ' } else { c })
        .filter(|c| !is_hidden(*c))
        .collect();
    text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// At most `max` characters; a longer text ends in an ellipsis.
pub(super) fn truncated(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'                        // Soft hyphen.
            | '\u{34f}'                     // Combining grapheme joiner.
            | '\u{61c}'                     // Arabic letter mark.
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers.
            | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'       // Zero width, left-to-right and right-to-left marks.
            | '\u{2028}'..='\u{202e}'       // Separators, embeddings and overrides.
            | '\u{2060}'..='\u{206f}'       // Word joiner, isolates, deprecated controls.
            | '\u{fe00}'..='\u{fe0f}'       // Variation selectors.
            | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}'       // Annotations.
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'     // Tags, further variation selectors.
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_taken_out() {
        for hidden in ["\0", "\u{1b}", "\u{7f}", "\u{85}", "\u{ad}", "\u{200b}", "\u{200f}", "\u{202e}", "\u{2066}"] {
            assert_eq!(visible(&format!("Con{hidden}toso")), "Contoso", "{hidden:?}");
        }
    }

    #[test]
    fn what_is_seen_stays() {
        for text in ["Contoso", "Zoë's Büro <b>", "日本語", "عربي"] {
            assert_eq!(visible(text), text);
        }
    }

    #[test]
    fn space_is_one_space_between_words() {
        assert_eq!(visible("  Contoso\r\n\t  Desktop "), "Contoso Desktop");
        assert_eq!(visible(" \u{200b} \n"), "");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(truncated("äöü", 3), "äöü");
        assert_eq!(truncated("äöüß", 3), "äöü…");
        assert_eq!(truncated("", 3), "");
    }
}
