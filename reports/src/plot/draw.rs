//! From a [`ParetoPlot`] to SVG and PNG, by one layout.

use plotters::{
    prelude::DrawingBackend,
    style::{
        BLACK, RGBColor, TextStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    ParetoPlot, PlotPoint,
    canvas::{Canvas, Drawn, Paint, Shape, faint, pale},
    font,
    labels::{self, Rect, Request},
    layout::{
        CAP, Fonts, GRID, HEART_RADIUS, INK, Layout, MARK_RADIUS, REFERENCE_RADIUS, SOFT_INK,
        dashes, encoders, line_of, obstacles, style_of, sweeps,
    },
    picture::Picture,
    scale::{rounded, time_label},
    text,
};

/// Width of a picture in pixels.
pub const WIDTH: u32 = 1600;
/// Height of a picture in pixels.
pub const HEIGHT: u32 = 1000;

const FRONT: RGBColor = RGBColor(60, 60, 60);

impl Picture for ParetoPlot {
    fn size(&self) -> (u32, u32) {
        (WIDTH, HEIGHT)
    }

    fn render<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B> {
        let fonts = Fonts::new();
        let layout = Layout::new(self, &fonts);
        axes(self, canvas, &fonts, &layout)?;
        text::heading(canvas, &fonts, &self.title, &self.subtitle)?;
        text::caption(canvas, &fonts, &self.caption, layout.plot.bottom + 92.0)?;
        legend(self, canvas, &fonts, &layout)?;
        lines(self, canvas, &layout)?;
        references(self, canvas, &layout)?;
        points(self, canvas, &layout)?;
        point_labels(self, canvas, &fonts, &layout)
    }
}

fn axes<B: DrawingBackend>(
    plot: &ParetoPlot,
    canvas: &Canvas<'_, B>,
    fonts: &Fonts,
    layout: &Layout,
) -> Drawn<B> {
    let area = layout.plot;
    for tick in layout.x.ticks() {
        let x = layout.x.pixel(tick);
        canvas.line(&[(x, area.top), (x, area.bottom)], faint(GRID, 1.0), 1.0)?;
        let below = Pos::new(HPos::Center, VPos::Top);
        canvas.text(
            &time_label(tick),
            &fonts.tick,
            (x, area.bottom + 10.0),
            below,
        )?;
    }
    for tick in layout.y.ticks() {
        let y = layout.y.pixel(tick);
        canvas.line(&[(area.left, y), (area.right, y)], faint(GRID, 1.0), 1.0)?;
        let left = Pos::new(HPos::Right, VPos::Center);
        canvas.text(&rounded(tick), &fonts.tick, (area.left - 12.0, y), left)?;
    }
    let corner = [
        (area.left, area.top),
        (area.left, area.bottom),
        (area.right, area.bottom),
    ];
    canvas.line(&corner, faint(INK, 1.0), 1.6)?;
    let middle = (area.left + area.right) / 2.0;
    let centred = Pos::new(HPos::Center, VPos::Top);
    canvas.text(
        &plot.x_title,
        &fonts.axis,
        (middle, area.bottom + 46.0),
        centred,
    )?;
    canvas.upward_text(
        &plot.y_title,
        &fonts.axis,
        (34.0, (area.top + area.bottom) / 2.0),
    )
}

/// The paint of a mark.
pub(super) fn solid(color: RGBColor) -> Paint {
    Paint {
        fill: faint(color, 1.0),
        outline: faint(WHITE, 1.0),
        outline_width: 1.5,
    }
}

fn hollow(color: RGBColor) -> Paint {
    Paint {
        fill: faint(WHITE, 1.0),
        outline: pale(color, 0.5),
        outline_width: 2.0,
    }
}

fn legend<B: DrawingBackend>(
    plot: &ParetoPlot,
    canvas: &Canvas<'_, B>,
    fonts: &Fonts,
    layout: &Layout,
) -> Drawn<B> {
    let y = layout.plot.top - 32.0;
    let mut x = layout.plot.left + 10.0;
    let left = Pos::new(HPos::Left, VPos::Center);
    let mut entry = |text: &str, room: f64| {
        let at = x;
        x += room + font::width(text, &fonts.label) + 34.0;
        (at, canvas.text(text, &fonts.label, (at + room, y), left))
    };
    for (name, (color, shape)) in encoders(plot) {
        let (at, drawn) = entry(name, 18.0);
        drawn?;
        canvas.mark(shape, (at, y), MARK_RADIUS, solid(color))?;
    }
    for (index, name) in plot.lines.iter().enumerate() {
        let (at, drawn) = entry(name, 18.0);
        drawn?;
        point_mark(canvas, Shape::Circle, (at, y), SOFT_INK, index)?;
    }
    let (at, drawn) = entry("Pareto front", 44.0);
    drawn?;
    canvas.line(&[(at - 8.0, y), (at + 34.0, y)], faint(FRONT, 1.0), 3.0)?;
    if let Some(reference) = &plot.reference {
        let (at, drawn) = entry(&format!("TTFT {}", reference.title), 18.0);
        drawn?;
        canvas.mark(Shape::Circle, (at, y), REFERENCE_RADIUS, hollow(BLACK))?;
    }
    Ok(())
}

/// Resolution sweeps of each encoder, and the front above them.
fn lines<B: DrawingBackend>(
    plot: &ParetoPlot,
    canvas: &Canvas<'_, B>,
    layout: &Layout,
) -> Drawn<B> {
    for sweep in sweeps(plot) {
        let path: Vec<(f64, f64)> = sweep
            .iter()
            .map(|p| layout.at(p.ttft_ms, p.accuracy))
            .collect();
        let (color, _) = style_of(plot, &sweep[0].encoder);
        if line_of(plot, sweep[0]) == 0 {
            canvas.line(&path, faint(color, 0.35), 2.0)?;
        } else {
            for dash in dashes(&path) {
                canvas.line(&dash, faint(color, 0.45), 2.0)?;
            }
        }
    }
    canvas.line(&layout.staircase(plot), faint(FRONT, 0.85), 3.0)
}

fn references<B: DrawingBackend>(
    plot: &ParetoPlot,
    canvas: &Canvas<'_, B>,
    layout: &Layout,
) -> Drawn<B> {
    for point in plot
        .reference
        .iter()
        .flat_map(|reference| &reference.points)
    {
        let (color, shape) = style_of(plot, &point.encoder);
        let at = layout.at(point.ttft_ms, point.accuracy);
        canvas.mark(shape, at, REFERENCE_RADIUS, hollow(color))?;
    }
    Ok(())
}

fn points<B: DrawingBackend>(
    plot: &ParetoPlot,
    canvas: &Canvas<'_, B>,
    layout: &Layout,
) -> Drawn<B> {
    for point in &plot.points {
        let (color, shape) = style_of(plot, &point.encoder);
        let (x, y) = layout.at(point.ttft_ms, point.accuracy);
        let bar = faint(color, 0.9);
        if let Some(interval) = point.ttft_interval {
            let (low, high) = (layout.x.pixel(interval.low), layout.x.pixel(interval.high));
            canvas.line(&[(low, y), (high, y)], bar, 2.0)?;
            for end in [low, high] {
                canvas.line(&[(end, y - CAP), (end, y + CAP)], bar, 2.0)?;
            }
        }
        if let Some(interval) = point.accuracy_interval {
            let (low, high) = (layout.y.pixel(interval.low), layout.y.pixel(interval.high));
            canvas.line(&[(x, low), (x, high)], bar, 2.0)?;
            for end in [low, high] {
                canvas.line(&[(x - CAP, end), (x + CAP, end)], bar, 2.0)?;
            }
        }
        point_mark(canvas, shape, (x, y), color, line_of(plot, point))?;
    }
    Ok(())
}

/// The mark of a point: under the conditions of the first line solid, of the second with a white
/// heart, of the third with a dark one.
pub(super) fn point_mark<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    shape: Shape,
    at: (f64, f64),
    color: RGBColor,
    line: usize,
) -> Drawn<B> {
    canvas.mark(shape, at, MARK_RADIUS, solid(color))?;
    let heart = match line {
        0 => return Ok(()),
        1 => WHITE,
        _ => INK,
    };
    canvas.mark(Shape::Circle, at, HEART_RADIUS, solid(heart))
}

fn point_labels<B: DrawingBackend>(
    plot: &ParetoPlot,
    canvas: &Canvas<'_, B>,
    fonts: &Fonts,
    layout: &Layout,
) -> Drawn<B> {
    for label in placed_labels(plot, fonts, layout) {
        let ((x, y), place) = (label.anchor, label.place);
        let near = (
            x.clamp(place.left, place.right),
            y.clamp(place.top, place.bottom),
        );
        let distance = (near.0 - x).hypot(near.1 - y);
        if distance > 26.0 {
            // Far from its point: a thin line says which one it belongs to.
            let start = 11.0 / distance;
            let from = (x + start * (near.0 - x), y + start * (near.1 - y));
            canvas.line(&[from, near], faint(SOFT_INK, 0.7), 1.0)?;
        }
        let middle = (place.top + place.bottom) / 2.0;
        let left = Pos::new(HPos::Left, VPos::Center);
        canvas.text(&label.text, label.style, (place.left + 2.0, middle), left)?;
    }
    Ok(())
}

/// A label that found a place.
struct Label<'a> {
    text: String,
    style: &'a TextStyle<'static>,
    anchor: (f64, f64),
    place: Rect,
}

fn placed_labels<'a>(plot: &ParetoPlot, fonts: &'a Fonts, layout: &Layout) -> Vec<Label<'a>> {
    let mut texts: Vec<(String, &TextStyle<'_>)> = Vec::new();
    let mut requests = Vec::new();
    let mut ask = |text: String, style, anchor, optional| {
        let size = (font::width(&text, style) + 4.0, style.font.get_size());
        requests.push(Request {
            anchor,
            size,
            optional,
        });
        texts.push((text, style));
    };
    for (index, point) in plot.points.iter().enumerate() {
        let at = layout.at(point.ttft_ms, point.accuracy);
        // The legend tells the others of this label apart.
        let named = |p: &PlotPoint| p.label == point.label && p.accuracy == point.accuracy;
        if plot.lines.is_empty() || !plot.points[..index].iter().any(named) {
            ask(point.label.clone(), &fonts.label, at, false);
        }
    }
    for point in plot
        .reference
        .iter()
        .flat_map(|reference| &reference.points)
    {
        let at = layout.at(point.ttft_ms, point.accuracy);
        ask(
            format!("{} px", point.resolution),
            &fonts.reference,
            at,
            true,
        );
    }
    let places = labels::place(&requests, &obstacles(plot, layout), layout.plot);
    let labels = texts.into_iter().zip(requests).zip(places);
    let placed = labels.filter_map(|(((text, style), request), place)| {
        Some(Label {
            text,
            style,
            anchor: request.anchor,
            place: place?,
        })
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pareto, stats::Interval};

    /// A case of the quickstart: encoder, side, milliseconds up to, per cent between.
    type Case = (&'static str, u32, [f64; 2], [f64; 3]);

    /// Points that leave a label hardly a place.
    const CROWDED: [Case; 8] = [
        ("ViT (4 x 192)", 128, [4.55, 6.2], [52.1, 49.0, 55.0]),
        ("ViT (4 x 192)", 256, [15.5, 20.9], [74.0, 70.7, 77.0]),
        ("ViT (4 x 192)", 384, [36.6, 42.2], [80.5, 77.5, 83.2]),
        ("ViT (4 x 192)", 512, [74.6, 75.0], [73.8, 70.8, 76.6]),
        ("FastViTHD (8 x 256)", 128, [2.23, 2.34], [32.9, 30.3, 35.5]),
        ("FastViTHD (8 x 256)", 256, [5.0, 5.85], [51.6, 48.5, 54.4]),
        ("FastViTHD (8 x 256)", 384, [9.44, 10.9], [54.9, 51.6, 57.9]),
        ("FastViTHD (8 x 256)", 512, [16.0, 17.8], [42.7, 39.0, 46.2]),
    ];

    fn crowded() -> ParetoPlot {
        let interval = |low, high| {
            let confidence = 0.95;
            Some(Interval {
                low,
                high,
                confidence,
            })
        };
        let points = CROWDED.map(
            |(encoder, side, [ms, most], [accuracy, low, high])| PlotPoint {
                case: String::new(),
                encoder: encoder.into(),
                line: String::new(),
                resolution: side,
                label: format!("{encoder} {side} px · {} tok", side / 2),
                ttft_ms: ms,
                ttft_interval: interval(ms, most),
                accuracy,
                accuracy_interval: interval(low, high),
            },
        );
        let places: Vec<(f64, f64)> = points.iter().map(|p| (p.ttft_ms, p.accuracy)).collect();
        ParetoPlot {
            title: String::new(),
            subtitle: String::new(),
            x_title: String::new(),
            y_title: String::new(),
            encoders: vec!["ViT (4 x 192)".into(), "FastViTHD (8 x 256)".into()],
            lines: Vec::new(),
            front: pareto::front(&places),
            points: points.into(),
            reference: None,
            caption: Vec::new(),
        }
    }

    #[test]
    fn no_label_is_crossed_by_the_front() {
        let (plot, fonts) = (crowded(), Fonts::new());
        let layout = Layout::new(&plot, &fonts);
        let labels = placed_labels(&plot, &fonts, &layout);
        assert_eq!(labels.len(), plot.points.len());
        let front = layout.staircase(&plot);
        assert!(front.len() > 8, "{front:?}");
        for label in labels {
            for step in front.windows(2) {
                let line = Rect::along(step[0], step[1], 1.0);
                let over = label.place.overlap(&line);
                assert_eq!(over, 0.0, "{} on {step:?}", label.text);
            }
        }
    }
}
