//! The figures as a plot: a group of bars for each row of the table.

use plotters::prelude::{
    BLACK, Color as _, DrawingAreaErrorKind, IntoDrawingArea as _, RGBColor, Rectangle, SVGBackend, Text, TextStyle,
    WHITE,
};

use crate::report::{Report, Row, figure};

const WIDTH: u32 = 900;
const MARGIN: i32 = 16;
/// Height of the title of a group, and of a bar.
const TITLE: i32 = 26;
const BAR: i32 = 20;
/// Where bars begin, to the right of the names, and how long the longest is. Its figure stands behind it.
const BARS: i32 = 190;
const LONGEST: f64 = 560.0;
/// From the end of a bar to its figure.
const GAP: i32 = 6;
const FONT: &str = "sans-serif";

/// `entra-mcp`, and all others.
const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb5);
const OTHERS: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);
/// The aim.
const AIM: RGBColor = RGBColor(0xc0, 0x39, 0x2b);

/// The plot as SVG.
pub(crate) fn svg(report: &Report) -> String {
    let height: i32 = 2 * MARGIN + report.rows().iter().map(height).sum::<i32>();
    let mut text = String::new();
    draw(report, &mut text, u32::try_from(height).unwrap()).unwrap();
    text
}

fn height(row: &Row) -> i32 {
    TITLE + MARGIN + BAR * i32::try_from(row.figures().count()).unwrap()
}

/// What can fail when text is written into memory.
type DrawingError = DrawingAreaErrorKind<std::io::Error>;

fn draw(report: &Report, text: &mut String, height_of_all: u32) -> Result<(), DrawingError> {
    let area = SVGBackend::with_string(text, (WIDTH, height_of_all)).into_drawing_area();
    area.fill(&WHITE)?;
    let (title, label) = (TextStyle::from((FONT, 15)), TextStyle::from((FONT, 13)));
    let mut top = MARGIN;
    for row in report.rows() {
        area.draw(&Text::new(row.what.clone(), (MARGIN, top), title.clone()))?;
        let largest = row.figures().map(|(_, value)| value).chain(row.aim).fold(0.0, f64::max);
        let end = |value: f64| BARS + length(value, largest);
        let mut bar = top + TITLE;
        for (contender, value) in row.figures() {
            let color = if contender == crate::servers::Contender::Ours { OURS } else { OTHERS };
            area.draw(&Text::new(contender.name(), (MARGIN, bar), label.clone()))?;
            area.draw(&Rectangle::new([(BARS, bar), (end(value), bar + BAR - 4)], color.filled()))?;
            area.draw(&Text::new(figure(value), (end(value) + GAP, bar), label.clone()))?;
            bar += BAR;
        }
        if let Some(aim) = row.aim {
            area.draw(&Rectangle::new([(end(aim), top + TITLE), (end(aim) + 1, bar)], AIM.filled()))?;
            area.draw(&Text::new(format!("aim {}", figure(aim)), (end(aim) + GAP, top + GAP), label.color(&AIM)))?;
        }
        top += height(row);
    }
    area.draw(&Rectangle::new([(0, 0), (WIDTH.cast_signed() - 1, height_of_all.cast_signed() - 1)], BLACK))?;
    area.present()
}

/// Of a bar, in pixels.
#[allow(clippy::cast_possible_truncation, reason = "some hundreds of pixels")]
fn length(value: f64, largest: f64) -> i32 {
    if largest > 0.0 { (value.max(0.0) / largest * LONGEST) as i32 } else { 0 }
}
