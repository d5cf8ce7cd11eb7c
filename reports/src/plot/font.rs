//! The font of the pictures, shipped with the crate: DejaVu Sans (licence beside the files).

use std::sync::OnceLock;

use plotters::style::{
    Color, FontDesc, FontFamily, FontStyle, RGBColor, TextStyle, register_font, text_anchor::Pos,
};

/// Family name: also what an SVG viewer reads, so substitutes of similar width follow.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

static REGULAR: &[u8] = include_bytes!("../../fonts/DejaVuSans.ttf");
static BOLD: &[u8] = include_bytes!("../../fonts/DejaVuSans-Bold.ttf");

/// Makes the font known to the drawing library, once per process.
fn register() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        for (style, bytes) in [(FontStyle::Normal, REGULAR), (FontStyle::Bold, BOLD)] {
            // The error type says nothing and has no `Debug`.
            if register_font(FAMILY, style, bytes).is_err() {
                tracing::error!("the shipped font was refused; text will be missing");
            }
        }
    });
}

/// A text style; `size` is the line height in pixels.
pub(super) fn text(size: f64, bold: bool, color: RGBColor) -> TextStyle<'static> {
    register();
    let style = if bold {
        FontStyle::Bold
    } else {
        FontStyle::Normal
    };
    TextStyle {
        font: FontDesc::new(FontFamily::Name(FAMILY), size, style),
        color: color.to_backend_color(),
        pos: Pos::default(),
    }
}

/// Width of a text in pixels.
pub(super) fn width(text: &str, style: &TextStyle<'_>) -> f64 {
    let size = style.font.layout_box(text);
    size.map_or(0.0, |((left, _), (right, _))| f64::from(right - left))
}

/// Fewer letters than this, before the ellipsis, say nothing.
const LEAST_LETTERS: usize = 3;

/// The longest beginning of a text that fits with an ellipsis.
pub(super) fn cut(text: &str, style: &TextStyle<'_>, room: f64) -> Option<String> {
    let letters: Vec<char> = text.chars().collect();
    (LEAST_LETTERS..letters.len())
        .rev()
        .map(|n| format!("{}…", letters[..n].iter().collect::<String>()))
        .find(|text| width(text, style) <= room)
}

/// Breaks a text into lines no wider than `limit`, between words.
pub(super) fn wrap(text: &str, style: &TextStyle<'_>, limit: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), style) <= limit => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use plotters::style::BLACK;

    #[test]
    fn the_shipped_font_measures_text() {
        let style = text(20.0, false, BLACK);
        let narrow = width("iiii", &style);
        let wide = width("WWWW", &style);
        assert!(narrow > 0.0 && wide > 2.0 * narrow, "{narrow} {wide}");
        assert!(width("WWWW", &text(20.0, true, BLACK)) > wide);
    }

    #[test]
    fn wrapping_keeps_every_word_and_the_limit() {
        let style = text(16.0, false, BLACK);
        let long = "every published value carries its table and how it was obtained";
        let lines = wrap(long, &style, 200.0);
        assert!(lines.len() > 1);
        assert!(lines.iter().all(|line| width(line, &style) <= 200.0));
        assert_eq!(lines.join(" "), long);
    }
}
