//! Values of several lines for the same rows, as dots beside each other, one panel for each unit.

use plotters::{
    prelude::DrawingBackend,
    style::{
        RGBColor,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    WIDTH,
    canvas::{Canvas, Drawn, Shape, faint},
    draw::point_mark,
    font,
    labels::Rect,
    layout::{CAP, CAPTION_LINE, Fonts, GRID, INK, STYLES},
    picture::Picture,
    scale::{Scale, rounded, time_label},
    text::{self, MARGIN},
};
use crate::stats::Interval;

const TOP: f64 = 118.0;
/// Height of a line of the legend, and of a line within a row.
const LINE: f64 = 26.0;
/// Room between rows.
const GAP: f64 = 14.0;
/// Room for a panel's title above it, and for its ticks below.
const TITLE: f64 = 48.0;
const TICKS: f64 = 62.0;
/// Room between panels.
const BETWEEN: f64 = 60.0;
/// The first panel is so many times as wide as the others.
const FIRST: f64 = 1.6;
/// Names of rows take at most this.
const NAMES: f64 = 460.0;
/// Room between the labels of ticks.
const LABEL_GAP: f64 = 12.0;

/// Rows of dots.
#[derive(Debug, Clone, PartialEq)]
pub struct DotPlot {
    /// Heading.
    pub title: String,
    /// Second line.
    pub subtitle: String,
    /// Paragraphs below.
    pub caption: Vec<String>,
    /// Names of the rows, from the top.
    pub rows: Vec<String>,
    /// Names of the lines, each with a colour and shape of its own.
    pub lines: Vec<String>,
    /// Panels, from the left.
    pub panels: Vec<DotPanel>,
}

/// One axis of values.
#[derive(Debug, Clone, PartialEq)]
pub struct DotPanel {
    /// Written above it.
    pub title: String,
    /// What the values are in.
    pub unit: DotUnit,
    /// The values.
    pub dots: Vec<Dot>,
}

/// Unit of a [`DotPanel`], which decides its scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DotUnit {
    /// Milliseconds, logarithmic.
    Milliseconds,
    /// Per cent, linear from zero.
    Percent,
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dot {
    /// Row, by position.
    pub row: usize,
    /// Line, by position.
    pub line: usize,
    /// The value.
    pub value: f64,
    /// Its interval.
    pub interval: Option<Interval>,
}

impl DotPlot {
    fn row_height(&self) -> f64 {
        LINE * self.lines.len() as f64 + GAP
    }

    /// Where the panels begin and end.
    fn heights(&self) -> (f64, f64) {
        let top = TOP + LINE * self.lines.len() as f64 + TITLE;
        (top, top + self.row_height() * self.rows.len() as f64)
    }

    /// The panels' areas.
    fn areas(&self, fonts: &Fonts) -> Vec<Rect> {
        let names = self.rows.iter().map(|row| font::width(row, &fonts.label));
        let left = MARGIN + names.fold(0.0, f64::max).min(NAMES) + 18.0;
        let right = f64::from(WIDTH) - MARGIN;
        let others = self.panels.len().saturating_sub(1) as f64;
        let unit = (right - left - BETWEEN * others) / (FIRST + others);
        let (top, bottom) = self.heights();
        let mut at = left;
        let widths = (0..self.panels.len()).map(|index| if index == 0 { FIRST } else { 1.0 });
        let area = |share: f64| {
            let left = at;
            let right = left + share * unit;
            at = right + BETWEEN;
            Rect {
                left,
                top,
                right,
                bottom,
            }
        };
        widths.map(area).collect()
    }
}

impl Picture for DotPlot {
    fn size(&self) -> (u32, u32) {
        let caption = text::height(&self.caption, &Fonts::new());
        let (_, bottom) = self.heights();
        (WIDTH, (bottom + TICKS + caption + 24.0) as u32)
    }

    fn render<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B> {
        let fonts = Fonts::new();
        text::heading(canvas, &fonts, &self.title, &self.subtitle)?;
        let middle_left = Pos::new(HPos::Left, VPos::Center);
        for (index, line) in self.lines.iter().enumerate() {
            let y = TOP + LINE * (index as f64 + 0.5);
            mark(canvas, index, (MARGIN + 10.0, y))?;
            canvas.text(line, &fonts.label, (MARGIN + 30.0, y), middle_left)?;
        }
        let areas = self.areas(&fonts);
        let (top, bottom) = self.heights();
        let left = areas.first().map_or(MARGIN, |area| area.left);
        let middle_right = Pos::new(HPos::Right, VPos::Center);
        for (index, row) in self.rows.iter().enumerate() {
            let y = top + self.row_height() * index as f64;
            let ends = [(MARGIN, y), (f64::from(WIDTH) - MARGIN, y)];
            canvas.line(&ends, faint(GRID, 1.0), 1.0)?;
            let lines = name_lines(row, &fonts);
            let middle = y + self.row_height() / 2.0;
            for (line, text) in lines.iter().enumerate() {
                let down = CAPTION_LINE * (line as f64 - (lines.len() - 1) as f64 / 2.0);
                canvas.text(
                    text,
                    &fonts.label,
                    (left - 18.0, middle + down),
                    middle_right,
                )?;
            }
        }
        for (panel, area) in self.panels.iter().zip(areas) {
            panel.render(canvas, &fonts, area, self)?;
        }
        text::caption(canvas, &fonts, &self.caption, bottom + TICKS)
    }
}

impl DotPanel {
    fn scale(&self, area: Rect) -> Scale {
        let values = self.dots.iter().flat_map(|dot| {
            let interval = dot.interval.map(|i| [i.low, i.high]);
            std::iter::once(dot.value).chain(interval.into_iter().flatten())
        });
        let pixels = (area.left, area.right);
        match self.unit {
            DotUnit::Milliseconds => Scale::log(values, pixels),
            // Room for the mark of the largest.
            DotUnit::Percent => Scale::from_zero(1.08 * values.fold(1.0, f64::max), pixels),
        }
    }

    /// Pixel, label and its width of each tick.
    fn ticks(&self, scale: &Scale, fonts: &Fonts) -> Vec<(f64, String, f64)> {
        let tick = |value: f64| {
            let label = match self.unit {
                DotUnit::Milliseconds => time_label(value),
                DotUnit::Percent => format!("{} %", rounded(value)),
            };
            let width = font::width(&label, &fonts.tick);
            (scale.pixel(value), label, width)
        };
        scale.ticks().into_iter().map(tick).collect()
    }

    fn render<B: DrawingBackend>(
        &self,
        canvas: &Canvas<'_, B>,
        fonts: &Fonts,
        area: Rect,
        plot: &DotPlot,
    ) -> Drawn<B> {
        let scale = self.scale(area);
        let above = Pos::new(HPos::Left, VPos::Bottom);
        let title = (area.left, area.top - 10.0);
        canvas.text(&self.title, &fonts.label, title, above)?;
        let below = Pos::new(HPos::Center, VPos::Top);
        let ticks = self.ticks(&scale, fonts);
        let step = step(&ticks);
        for (index, (x, label, _)) in ticks.iter().enumerate() {
            canvas.line(&[(*x, area.top), (*x, area.bottom)], faint(GRID, 1.0), 1.0)?;
            if index % step == 0 {
                canvas.text(label, &fonts.tick, (*x, area.bottom + 10.0), below)?;
            }
        }
        let axis = [
            (area.left, area.top),
            (area.left, area.bottom),
            (area.right, area.bottom),
        ];
        canvas.line(&axis, faint(INK, 1.0), 1.6)?;
        for dot in &self.dots {
            let row = area.top + plot.row_height() * dot.row as f64;
            let y = row + GAP / 2.0 + LINE * (dot.line as f64 + 0.5);
            let (color, _) = style(dot.line);
            if let Some(interval) = dot.interval {
                let ends = [interval.low, interval.high].map(|value| scale.pixel(value));
                let bar = faint(color, 0.9);
                canvas.line(&ends.map(|x| (x, y)), bar, 2.0)?;
                for x in ends {
                    canvas.line(&[(x, y - CAP), (x, y + CAP)], bar, 2.0)?;
                }
            }
            mark(canvas, dot.line, (scale.pixel(dot.value), y))?;
        }
        Ok(())
    }
}

/// Every so many ticks have room for their labels.
fn step(ticks: &[(f64, String, f64)]) -> usize {
    let fits = |step: &usize| {
        let shown: Vec<&(f64, String, f64)> = ticks.iter().step_by(*step).collect();
        let apart = |a: &(f64, String, f64), b: &(f64, String, f64)| {
            b.0 - a.0 >= (a.2 + b.2) / 2.0 + LABEL_GAP
        };
        shown.windows(2).all(|two| apart(two[0], two[1]))
    };
    (1..=ticks.len()).find(fits).unwrap_or(1)
}

/// The name of a row in lines that fit; what is too long for one is cut.
fn name_lines(row: &str, fonts: &Fonts) -> Vec<String> {
    let fitting = |line: String| match font::width(&line, &fonts.label) > NAMES {
        true => font::cut(&line, &fonts.label, NAMES).unwrap_or(line),
        false => line,
    };
    let lines = font::wrap(row, &fonts.label, NAMES).into_iter();
    lines.map(fitting).collect()
}

/// Colour and shape of a line.
fn style(line: usize) -> (RGBColor, Shape) {
    STYLES[line % STYLES.len()]
}

/// The mark of a line; a heart tells apart those beyond the palette.
fn mark<B: DrawingBackend>(canvas: &Canvas<'_, B>, line: usize, at: (f64, f64)) -> Drawn<B> {
    let (color, shape) = style(line);
    point_mark(canvas, shape, at, color, line / STYLES.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_ticks_are_left_out_evenly_until_they_fit() {
        let ticks = |apart: f64| -> Vec<(f64, String, f64)> {
            let tick = |i| (apart * f64::from(i), String::new(), 50.0);
            (0..7).map(tick).collect()
        };
        assert_eq!(step(&ticks(70.0)), 1);
        assert_eq!(step(&ticks(50.0)), 2);
        assert_eq!(step(&ticks(21.0)), 3);
        assert_eq!(step(&[]), 1);
    }

    #[test]
    fn a_long_name_keeps_what_tells_it_apart() {
        let fonts = Fonts::new();
        assert_eq!(
            name_lines("short 256 px, f32", &fonts),
            ["short 256 px, f32"]
        );
        let long = format!("{} 256 px, f32", "name-without-end-".repeat(6));
        let lines = name_lines(&long, &fonts);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with('…'), "{lines:?}");
        assert_eq!(lines[1], "256 px, f32");
        let fit = |line: &String| font::width(line, &fonts.label) <= NAMES;
        assert!(lines.iter().all(fit));
    }
}
