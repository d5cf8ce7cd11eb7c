//! Text in real typefaces, as outlines.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId, OutlineCurve, point};

use super::canvas::{Canvas, Curve, Placement, Rgb};

/// A typeface that ships with this crate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    Amatic,
    Fredoka,
    Hanken,
    HankenSemiBold,
    Manrope,
    SourceSerif,
}

macro_rules! font {
    ($file:literal) => {
        FontRef::try_from_slice(include_bytes!(concat!("../../fonts/", $file)))
            .expect("a font that ships")
    };
}

static FONTS: LazyLock<[FontRef<'static>; 6]> = LazyLock::new(|| {
    [
        font!("AmaticSC-Bold.ttf"),
        font!("FredokaOne-Regular.ttf"),
        font!("HankenGrotesk-Regular.otf"),
        font!("HankenGrotesk-SemiBold.otf"),
        font!("Manrope-Bold.ttf"),
        font!("SourceSerifPro-Regular.ttf"),
    ]
});

/// A text that was written, with where its characters stand.
pub(super) struct Reading {
    /// The text; blanks have a place too.
    pub(super) text: String,
    /// The centre of every character in pixels.
    pub(super) centers: Vec<(f32, f32)>,
    /// Pixels per em.
    pub(super) size: f32,
    /// Colour of the sign it is on.
    pub(super) on: Option<&'static str>,
}

/// A text in one line, measured.
pub(super) struct Line<'a> {
    face: Face,
    text: &'a str,
    size: f32,
    glyphs: Vec<(GlyphId, f32, f32)>,
    /// Its length in pixels.
    pub(super) width: f32,
}

impl<'a> Line<'a> {
    /// Sets a text at `size` pixels per em.
    pub(super) fn new(face: Face, text: &'a str, size: f32) -> Self {
        let font = &FONTS[face as usize];
        let scale = size / font.units_per_em().unwrap_or(1000.0);
        let mut glyphs: Vec<(GlyphId, f32, f32)> = Vec::with_capacity(text.len());
        let mut x = 0.0;
        for c in text.chars() {
            let id = font.glyph_id(c);
            if let Some((before, _, _)) = glyphs.last() {
                x += font.kern_unscaled(*before, id) * scale;
            }
            let advance = font.h_advance_unscaled(id) * scale;
            glyphs.push((id, x, advance));
            x += advance;
        }
        Self {
            face,
            text,
            size,
            glyphs,
            width: x,
        }
    }

    /// Writes it with the start of its baseline at the origin of `place`.
    pub(super) fn write(&self, canvas: &mut Canvas, place: &Placement, ink: Rgb) -> Reading {
        let font = &FONTS[self.face as usize];
        let scale = self.size / font.units_per_em().unwrap_or(1000.0);
        let middle = -0.33 * self.size;
        let mut centers = Vec::with_capacity(self.glyphs.len());
        for (id, x, advance) in &self.glyphs {
            let center = place.apply(point(x + advance / 2.0, middle));
            centers.push((center.x, center.y));
            let Some(outline) = font.outline(*id) else {
                continue;
            };
            let curves: Vec<Curve> = outline
                .curves
                .into_iter()
                .map(|curve| match curve {
                    OutlineCurve::Line(a, b) => Curve::Line(a, b),
                    OutlineCurve::Quad(a, b, c) => Curve::Quad(a, b, c),
                    OutlineCurve::Cubic(a, b, c, d) => Curve::Cubic(a, b, c, d),
                })
                .collect();
            // Fonts have their y axis upwards.
            let glyph = Placement {
                d: -scale,
                ..Placement::scaled(scale, *x, 0.0)
            };
            canvas.fill(&curves, &place.after(&glyph), ink);
        }
        Reading {
            text: self.text.to_owned(),
            centers,
            size: self.size,
            on: None,
        }
    }
}
