//! Values over a sequence of runs, one panel under another, with marks where they changed.

use plotters::{
    prelude::DrawingBackend,
    style::{
        RGBColor, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    WIDTH,
    canvas::{Canvas, Drawn, Paint, Shape, faint},
    labels::Rect,
    layout::{Fonts, GRID, INK, STYLES, dashes},
    picture::Picture,
    scale::{Scale, rounded},
    text,
};

const TOP: f64 = 130.0;
const PANEL: f64 = 190.0;
/// Room below a panel's plot, where the next one's title stands.
const GAP: f64 = 50.0;
const BELOW: f64 = 80.0;
/// Free width that a label of the axis needs.
const LABEL: f64 = 118.0;
/// Vermilion and green of the palette, as in [`STYLES`].
const WORSE: RGBColor = RGBColor(213, 94, 0);
const BETTER: RGBColor = RGBColor(0, 158, 115);

/// Panels over a common axis of runs.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesPlot {
    /// Heading.
    pub title: String,
    /// Second line.
    pub subtitle: String,
    /// Paragraphs below.
    pub caption: Vec<String>,
    /// A label for each run, in order. Those without room are left out.
    pub labels: Vec<String>,
    /// Panels, from the top.
    pub panels: Vec<Panel>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What is drawn.
    pub name: String,
    /// Written above it.
    pub title: String,
    /// Lines through values in per cent, by the number of the run from 0.
    pub lines: Vec<Vec<(usize, f64)>>,
    /// Where values changed.
    pub marks: Vec<SeriesMark>,
}

/// A change of a [`Panel`].
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesMark {
    /// Position on the axis of runs, half way before the first run after it.
    pub before: f64,
    /// Its size in words.
    pub label: String,
    /// Whether it is one to the worse.
    pub worse: bool,
}

impl Picture for SeriesPlot {
    fn size(&self) -> (u32, u32) {
        let caption = text::height(&self.caption, &Fonts::new());
        let height = TOP + (PANEL + GAP) * self.panels.len() as f64 + BELOW + caption;
        (WIDTH, height as u32)
    }

    fn render<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B> {
        let fonts = Fonts::new();
        text::heading(canvas, &fonts, &self.title, &self.subtitle)?;
        let mut top = TOP + GAP / 2.0;
        for panel in &self.panels {
            let area = Rect {
                left: 130.0,
                top,
                right: f64::from(WIDTH) - 45.0,
                bottom: top + PANEL,
            };
            panel.render(canvas, &fonts, area, self.labels.len())?;
            top += PANEL + GAP;
        }
        let x = run_scale(self.labels.len(), 130.0, f64::from(WIDTH) - 45.0);
        let room = (f64::from(WIDTH) - 175.0) / LABEL;
        let step = (self.labels.len() as f64 / room).ceil().max(1.0) as usize;
        let centre = Pos::new(HPos::Center, VPos::Top);
        let foot = top - GAP + 12.0;
        for (run, label) in self.labels.iter().enumerate().step_by(step) {
            canvas.text(label, &fonts.reference, (x(run as f64), foot), centre)?;
        }
        text::caption(canvas, &fonts, &self.caption, foot + 50.0)
    }
}

impl Panel {
    fn render<B: DrawingBackend>(
        &self,
        canvas: &Canvas<'_, B>,
        fonts: &Fonts,
        area: Rect,
        runs: usize,
    ) -> Drawn<B> {
        let x = run_scale(runs, area.left, area.right);
        let values = self.lines.iter().flatten().map(|(_, value)| *value);
        let y = Scale::linear(values, (area.bottom, area.top));
        let right = Pos::new(HPos::Right, VPos::Center);
        let ticks = y.ticks();
        let step = ticks.get(1).map_or(1.0, |second| second - ticks[0]);
        // Every second one, zero among them: panels are low.
        let even = |tick: &f64| (tick / step).round() as i64 % 2 == 0;
        for tick in ticks.iter().copied().filter(even) {
            let at = y.pixel(tick);
            canvas.line(&[(area.left, at), (area.right, at)], faint(GRID, 1.0), 1.0)?;
            let label = format!("{} %", rounded(tick));
            canvas.text(&label, &fonts.reference, (area.left - 12.0, at), right)?;
        }
        let axis = [
            (area.left, area.top),
            (area.left, area.bottom),
            (area.right, area.bottom),
        ];
        canvas.line(&axis, faint(INK, 1.0), 1.6)?;
        let above = Pos::new(HPos::Left, VPos::Bottom);
        canvas.text(
            &self.title,
            &fonts.label,
            (area.left, area.top - 6.0),
            above,
        )?;
        for mark in &self.marks {
            let color = if mark.worse { WORSE } else { BETTER };
            let at = x(mark.before);
            for dash in dashes(&[(at, area.top), (at, area.bottom)]) {
                canvas.line(&dash, faint(color, 1.0), 2.5)?;
            }
            let place = (at, area.top - 6.0);
            let centre = Pos::new(HPos::Center, VPos::Bottom);
            canvas.text(&mark.label, &fonts.label, place, centre)?;
        }
        for (index, line) in self.lines.iter().enumerate() {
            // The newest series, the last, has the first style.
            let (color, shape) = STYLES[(self.lines.len() - 1 - index) % STYLES.len()];
            let path: Vec<(f64, f64)> = (line.iter())
                .map(|&(run, value)| (x(run as f64), y.pixel(value)))
                .collect();
            if path.len() > 1 {
                canvas.line(&path, faint(color, 0.5), 2.0)?;
            }
            for at in path {
                point(canvas, shape, at, color)?;
            }
        }
        Ok(())
    }
}

fn point<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    shape: Shape,
    at: (f64, f64),
    color: RGBColor,
) -> Drawn<B> {
    let paint = Paint {
        fill: faint(color, 1.0),
        outline: faint(WHITE, 1.0),
        outline_width: 1.0,
    };
    canvas.mark(shape, at, 4.5, paint)
}

/// From the number of a run to its pixel, half a run of room at both ends.
fn run_scale(runs: usize, left: f64, right: f64) -> impl Fn(f64) -> f64 {
    let step = (right - left) / runs.max(1) as f64;
    move |run| left + step * (run + 0.5)
}
