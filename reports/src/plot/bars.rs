//! Stages of requests as stacked bars.

use plotters::{
    prelude::DrawingBackend,
    style::{
        RGBColor, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    WIDTH,
    canvas::{Canvas, Drawn, faint},
    font,
    layout::{Fonts, GRID, INK, STYLES},
    picture::Picture,
    scale::{Scale, time_label},
    text,
};

/// Where bars begin from above, and the step from one to the next.
const TOP: f64 = 170.0;
const STEP: f64 = 40.0;
const BAR: f64 = 26.0;
/// Below the last bar, to the caption.
const BELOW: f64 = 70.0;
/// Widest share of the picture for labels of bars.
const LABELS: f64 = 0.42;
/// Room to the right of the longest bar, for its total.
const TOTAL: f64 = 110.0;

/// A picture of bars, each made of the same parts.
#[derive(Debug, Clone, PartialEq)]
pub struct BarPlot {
    /// Heading.
    pub title: String,
    /// Second line.
    pub subtitle: String,
    /// Names of the parts, in the order in which they are stacked.
    pub parts: Vec<String>,
    /// The bars, from above.
    pub bars: Vec<Bar>,
    /// Paragraphs below.
    pub caption: Vec<String>,
}

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it is.
    pub label: String,
    /// Milliseconds of each part; `None` for one that was not measured.
    pub parts: Vec<Option<f64>>,
}

impl Bar {
    fn total(&self) -> f64 {
        self.parts.iter().flatten().sum()
    }
}

impl BarPlot {
    fn bottom(&self) -> f64 {
        TOP + STEP * self.bars.len() as f64
    }
}

impl Picture for BarPlot {
    fn size(&self) -> (u32, u32) {
        let caption = text::height(&self.caption, &Fonts::new());
        (WIDTH, (self.bottom() + BELOW + caption + 16.0) as u32)
    }

    fn render<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B> {
        let fonts = Fonts::new();
        let width = f64::from(WIDTH);
        let above = Pos::new(HPos::Left, VPos::Top);
        let middle = Pos::new(HPos::Left, VPos::Center);
        canvas.text(&self.title, &fonts.title, (45.0, 26.0), above)?;
        canvas.text(&self.subtitle, &fonts.subtitle, (45.0, 72.0), above)?;
        let mut x = 45.0;
        for (name, color) in self.parts.iter().zip(colors()) {
            canvas.rectangle((x, 121.0), (x + 20.0, 141.0), faint(color, 1.0))?;
            canvas.text(name, &fonts.label, (x + 28.0, 131.0), middle)?;
            x += 28.0 + font::width(name, &fonts.label) + 34.0;
        }
        let labels = self
            .bars
            .iter()
            .map(|bar| font::width(&bar.label, &fonts.label));
        let left = 45.0 + labels.fold(0.0, f64::max).min(LABELS * width) + 16.0;
        let longest = self.bars.iter().map(Bar::total).fold(1e-6, f64::max);
        let scale = Scale::from_zero(longest, (left, width - 45.0 - TOTAL));
        let bottom = self.bottom();
        for tick in scale.ticks() {
            let x = scale.pixel(tick);
            canvas.line(&[(x, TOP - 8.0), (x, bottom)], faint(GRID, 1.0), 1.0)?;
            let below = Pos::new(HPos::Center, VPos::Top);
            canvas.text(&time_label(tick), &fonts.tick, (x, bottom + 8.0), below)?;
        }
        for (index, bar) in self.bars.iter().enumerate() {
            let top = TOP + STEP * index as f64 + (STEP - BAR) / 2.0;
            let centre = top + BAR / 2.0;
            let right = Pos::new(HPos::Right, VPos::Center);
            canvas.text(&bar.label, &fonts.label, (left - 14.0, centre), right)?;
            let mut sum = 0.0;
            for (ms, color) in bar.parts.iter().zip(colors()) {
                let Some(ms) = ms else { continue };
                let (from, to) = (scale.pixel(sum), scale.pixel(sum + ms));
                canvas.rectangle((from, top), (to, top + BAR), faint(color, 1.0))?;
                // Neighbours are told apart by an edge too, not by colour alone.
                canvas.line(&[(to, top), (to, top + BAR)], faint(WHITE, 1.0), 1.6)?;
                sum += ms;
            }
            let end = (scale.pixel(sum) + 10.0, centre);
            canvas.text(&time_label(rounded(sum)), &fonts.label, end, middle)?;
        }
        canvas.line(&[(left, TOP - 8.0), (left, bottom)], faint(INK, 1.0), 1.6)?;
        text::caption(canvas, &fonts, &self.caption, bottom + BELOW - 14.0)
    }
}

/// Three significant digits: a total is no more certain than that.
fn rounded(ms: f64) -> f64 {
    let power = 10_f64.powf(2.0 - ms.abs().max(1e-9).log10().floor());
    (ms * power).round() / power
}

fn colors() -> impl Iterator<Item = RGBColor> {
    STYLES.into_iter().map(|(color, _)| color).cycle()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_what_was_measured_of_it() {
        let bar = Bar {
            label: "a".into(),
            parts: vec![Some(1.5), None, Some(2.0)],
        };
        assert_eq!(bar.total(), 3.5);
        assert_eq!(rounded(1234.5), 1230.0);
        assert_eq!(rounded(0.012_345), 0.0123);
    }
}
