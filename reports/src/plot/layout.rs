//! Where things are in the picture: styles, scales, the staircase of the front, obstacles for labels.

use plotters::style::{RGBColor, TextStyle};

use super::{
    HEIGHT, ParetoPlot, PlotPoint, WIDTH,
    canvas::Shape,
    font,
    labels::{Obstacles, Rect},
    scale::Scale,
    text,
};

/// The palette of Okabe and Ito (2008), told apart with any colour vision, with a shape each.
pub(super) const STYLES: [(RGBColor, Shape); 6] = [
    (RGBColor(0, 114, 178), Shape::Circle),
    (RGBColor(213, 94, 0), Shape::Square),
    (RGBColor(0, 158, 115), Shape::TriangleUp),
    (RGBColor(204, 121, 167), Shape::Diamond),
    (RGBColor(230, 159, 0), Shape::TriangleDown),
    (RGBColor(86, 180, 233), Shape::Pentagon),
];
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const SOFT_INK: RGBColor = RGBColor(95, 95, 95);
/// Lines behind everything.
pub(super) const GRID: RGBColor = RGBColor(228, 228, 228);
pub(super) const MARK_RADIUS: f64 = 8.5;
pub(super) const REFERENCE_RADIUS: f64 = 6.5;
/// Of what is drawn into a mark.
pub(super) const HEART_RADIUS: f64 = 3.2;
/// Lengths of a dash and of the gap after it.
const DASH: (f64, f64) = (9.0, 7.0);
/// Half length of the caps of an interval bar.
pub(super) const CAP: f64 = 5.0;
/// Free space on either side of the middle of the front.
const FRONT_REACH: f64 = 3.0;
/// Free space between the end of an interval bar and a label.
const BAR_ROOM: f64 = 6.0;

/// Text styles of a picture.
pub(super) struct Fonts {
    pub title: TextStyle<'static>,
    pub subtitle: TextStyle<'static>,
    pub axis: TextStyle<'static>,
    pub tick: TextStyle<'static>,
    pub label: TextStyle<'static>,
    pub reference: TextStyle<'static>,
    pub caption: TextStyle<'static>,
}

impl Fonts {
    pub fn new() -> Self {
        Self {
            title: font::text(36.0, true, INK),
            subtitle: font::text(22.0, false, SOFT_INK),
            axis: font::text(24.0, false, INK),
            tick: font::text(22.0, false, INK),
            label: font::text(21.0, false, INK),
            reference: font::text(17.0, false, RGBColor(130, 130, 130)),
            caption: font::text(18.0, false, SOFT_INK),
        }
    }
}

/// Where things are: scales and plot area.
pub(super) struct Layout {
    pub plot: Rect,
    pub x: Scale,
    pub y: Scale,
}

pub(super) const CAPTION_LINE: f64 = 23.0;

impl Layout {
    pub fn new(plot: &ParetoPlot, fonts: &Fonts) -> Self {
        let (width, height) = (f64::from(WIDTH), f64::from(HEIGHT));
        let below = 112.0 + text::height(&plot.caption, fonts);
        let area = Rect {
            left: 120.0,
            top: 158.0,
            right: width - 45.0,
            bottom: height - below,
        };
        let references = || {
            plot.reference
                .iter()
                .flat_map(|reference| &reference.points)
        };
        let times = (plot.points.iter())
            .flat_map(|p| {
                let interval = p.ttft_interval.map(|i| [i.low, i.high]);
                std::iter::once(p.ttft_ms).chain(interval.into_iter().flatten())
            })
            .chain(references().map(|r| r.ttft_ms));
        let accuracies = plot.points.iter().flat_map(|p| {
            let interval = p.accuracy_interval.map(|i| [i.low, i.high]);
            std::iter::once(p.accuracy).chain(interval.into_iter().flatten())
        });
        Self {
            x: Scale::log(times, (area.left, area.right)),
            y: Scale::linear(accuracies, (area.bottom, area.top)),
            plot: area,
        }
    }

    pub fn at(&self, ms: f64, accuracy: f64) -> (f64, f64) {
        (self.x.pixel(ms), self.y.pixel(accuracy))
    }

    /// The front as a staircase: a level holds until the next better point is affordable.
    pub fn staircase(&self, plot: &ParetoPlot) -> Vec<(f64, f64)> {
        let mut steps: Vec<(f64, f64)> = Vec::new();
        for &index in &plot.front {
            let point = &plot.points[index];
            let (x, y) = self.at(point.ttft_ms, point.accuracy);
            if let Some(&(_, level)) = steps.last() {
                steps.push((x, level));
            }
            steps.push((x, y));
        }
        if let Some(&(_, level)) = steps.last() {
            steps.push((self.plot.right, level));
        }
        steps
    }
}

/// Encoders that have points, each with its style.
pub(super) fn encoders(plot: &ParetoPlot) -> Vec<(&str, (RGBColor, Shape))> {
    (plot.encoders.iter().map(String::as_str))
        .zip(STYLES.into_iter().cycle())
        .filter(|(name, _)| plot.points.iter().any(|point| point.encoder == *name))
        .collect()
}

/// Style of one encoder's marks and lines.
pub(super) fn style_of(plot: &ParetoPlot, encoder: &str) -> (RGBColor, Shape) {
    let known = encoders(plot)
        .into_iter()
        .find(|(name, _)| *name == encoder);
    known.map_or(STYLES[0], |(_, style)| style)
}

/// Which of the picture's lines a point belongs to; 0 if they are not told apart.
pub(super) fn line_of(plot: &ParetoPlot, point: &PlotPoint) -> usize {
    let found = plot.lines.iter().position(|line| *line == point.line);
    found.unwrap_or(0)
}

/// A path as dashes.
pub(super) fn dashes(path: &[(f64, f64)]) -> Vec<[(f64, f64); 2]> {
    let mut dashes = Vec::new();
    for pair in path.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |distance: f64| {
            let share = (distance / length).min(1.0);
            let between = |a: f64, b: f64| a + share * (b - a);
            (between(from.0, to.0), between(from.1, to.1))
        };
        let mut start = 0.0;
        while start < length {
            dashes.push([at(start), at(start + DASH.0)]);
            start += DASH.0 + DASH.1;
        }
    }
    dashes
}

/// Points of one encoder under the same conditions, by resolution.
pub(super) fn sweeps(plot: &ParetoPlot) -> Vec<Vec<&PlotPoint>> {
    let mut sweeps: Vec<Vec<&PlotPoint>> = Vec::new();
    for point in &plot.points {
        let same = |sweep: &&mut Vec<&PlotPoint>| {
            sweep[0].encoder == point.encoder && sweep[0].line == point.line
        };
        match sweeps.iter_mut().find(same) {
            Some(sweep) => sweep.push(point),
            None => sweeps.push(vec![point]),
        }
    }
    for sweep in &mut sweeps {
        sweep.sort_by_key(|point| point.resolution);
    }
    sweeps
}

/// What labels keep clear of: marks, bars and the front strictly, other lines as far as possible.
pub(super) fn obstacles(plot: &ParetoPlot, layout: &Layout) -> Obstacles {
    let mut obstacles = Obstacles::default();
    for point in &plot.points {
        let (x, y) = layout.at(point.ttft_ms, point.accuracy);
        obstacles
            .marks
            .push(Rect::around(x, y, MARK_RADIUS + 2.0, MARK_RADIUS + 2.0));
        if let Some(interval) = point.ttft_interval {
            obstacles.marks.push(Rect {
                left: layout.x.pixel(interval.low) - BAR_ROOM,
                right: layout.x.pixel(interval.high) + BAR_ROOM,
                top: y - CAP,
                bottom: y + CAP,
            });
        }
        if let Some(interval) = point.accuracy_interval {
            obstacles.marks.push(Rect {
                left: x - CAP,
                right: x + CAP,
                top: layout.y.pixel(interval.high) - BAR_ROOM,
                bottom: layout.y.pixel(interval.low) + BAR_ROOM,
            });
        }
    }
    for point in plot
        .reference
        .iter()
        .flat_map(|reference| &reference.points)
    {
        let (x, y) = layout.at(point.ttft_ms, point.accuracy);
        let reach = REFERENCE_RADIUS + 2.0;
        obstacles.marks.push(Rect::around(x, y, reach, reach));
    }
    for step in layout.staircase(plot).windows(2) {
        let front = Rect::along(step[0], step[1], FRONT_REACH);
        obstacles.marks.push(front);
    }
    for sweep in sweeps(plot) {
        for pair in sweep.windows(2) {
            let from = layout.at(pair[0].ttft_ms, pair[0].accuracy);
            let to = layout.at(pair[1].ttft_ms, pair[1].accuracy);
            thin(from, to, &mut obstacles.lines);
        }
    }
    obstacles
}

/// A line as a row of small squares.
fn thin(from: (f64, f64), to: (f64, f64), out: &mut Vec<Rect>) {
    const SIDE: f64 = 4.0;
    let length = (to.0 - from.0).hypot(to.1 - from.1);
    let count = (length / SIDE).ceil().max(1.0) as usize;
    for index in 0..=count {
        let share = index as f64 / count as f64;
        let x = from.0 + share * (to.0 - from.0);
        let y = from.1 + share * (to.1 - from.1);
        out.push(Rect::around(x, y, SIDE / 2.0, SIDE / 2.0));
    }
}
