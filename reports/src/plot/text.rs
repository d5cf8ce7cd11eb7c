//! What stands around a picture: title and subtitle above, paragraphs below.

use plotters::{
    prelude::DrawingBackend,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    WIDTH,
    canvas::{Canvas, Drawn},
    font,
    layout::{CAPTION_LINE, Fonts},
};

/// Free space at both sides.
pub(super) const MARGIN: f64 = 45.0;

/// Title and subtitle.
pub(super) fn heading<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    fonts: &Fonts,
    title: &str,
    subtitle: &str,
) -> Drawn<B> {
    let left = Pos::new(HPos::Left, VPos::Top);
    canvas.text(title, &fonts.title, (MARGIN, 26.0), left)?;
    canvas.text(subtitle, &fonts.subtitle, (MARGIN, 72.0), left)
}

/// Paragraphs as lines that fit.
pub(super) fn lines(paragraphs: &[String], fonts: &Fonts) -> Vec<String> {
    let room = f64::from(WIDTH) - 2.0 * MARGIN;
    (paragraphs.iter())
        .flat_map(|text| font::wrap(text, &fonts.caption, room))
        .collect()
}

/// Height of paragraphs.
pub(super) fn height(paragraphs: &[String], fonts: &Fonts) -> f64 {
    CAPTION_LINE * lines(paragraphs, fonts).len() as f64
}

/// Paragraphs from `top` on.
pub(super) fn caption<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    fonts: &Fonts,
    paragraphs: &[String],
    top: f64,
) -> Drawn<B> {
    let left = Pos::new(HPos::Left, VPos::Top);
    let mut y = top;
    for line in lines(paragraphs, fonts) {
        canvas.text(&line, &fonts.caption, (MARGIN, y), left)?;
        y += CAPTION_LINE;
    }
    Ok(())
}
