//! Stages under the roof of a machine: FLOP/s against FLOPs per byte, both logarithmic.

use plotters::{
    prelude::DrawingBackend,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    HEIGHT, WIDTH,
    canvas::{Canvas, Drawn, faint},
    draw::solid,
    font,
    labels::{self, Obstacles, Rect, Request},
    layout::{Fonts, GRID, INK, MARK_RADIUS, SOFT_INK, STYLES, dashes},
    picture::Picture,
    scale::{Scale, rounded},
    text,
};
use crate::breakdown::Roof;

/// A roofline picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Roofline {
    /// Heading.
    pub title: String,
    /// Second line.
    pub subtitle: String,
    /// Roofs with their names, such as precisions.
    pub roofs: Vec<(String, Roof)>,
    /// Names of the kinds of points; the place in the list chooses shape and colour.
    pub kinds: Vec<String>,
    /// The points.
    pub points: Vec<RooflinePoint>,
    /// Paragraphs below.
    pub caption: Vec<String>,
}

/// One stage of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct RooflinePoint {
    /// Its kind, by position.
    pub kind: usize,
    /// Label; left out where there is no room.
    pub label: String,
    /// FLOPs per byte.
    pub intensity: f64,
    /// FLOP/s.
    pub flops: f64,
}

impl Picture for Roofline {
    fn size(&self) -> (u32, u32) {
        (WIDTH, HEIGHT)
    }

    fn render<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B> {
        let fonts = Fonts::new();
        let (width, height) = (f64::from(WIDTH), f64::from(HEIGHT));
        text::heading(canvas, &fonts, &self.title, &self.subtitle)?;
        let area = Rect {
            left: 140.0,
            top: 158.0,
            right: width - 45.0,
            bottom: height - 112.0 - text::height(&self.caption, &fonts),
        };
        text::caption(canvas, &fonts, &self.caption, area.bottom + 92.0)?;
        let ridges = self
            .roofs
            .iter()
            .map(|(_, roof)| roof.flops / roof.bandwidth);
        let intensities = self.points.iter().map(|point| point.intensity);
        let x = Scale::log(intensities.chain(ridges), (area.left, area.right));
        let rates = self.points.iter().map(|point| point.flops);
        let peaks = self.roofs.iter().map(|(_, roof)| roof.flops);
        let y = Scale::log(rates.chain(peaks), (area.bottom, area.top));
        axes(canvas, &fonts, area, &x, &y)?;
        self.legend(canvas, &fonts, area)?;
        let mut obstacles = Obstacles::default();
        self.roofs(canvas, &fonts, area, (&x, &y), &mut obstacles)?;
        let place = |point: &RooflinePoint| (x.pixel(point.intensity), y.pixel(point.flops));
        let mut requests = Vec::new();
        for point in &self.points {
            let at = place(point);
            let (color, shape) = STYLES[point.kind % STYLES.len()];
            canvas.mark(shape, at, MARK_RADIUS, solid(color))?;
            let reach = MARK_RADIUS + 2.0;
            obstacles.marks.push(Rect::around(at.0, at.1, reach, reach));
            let size = font::width(&point.label, &fonts.reference) + 4.0;
            requests.push(Request {
                anchor: at,
                size: (size, fonts.reference.font.get_size()),
                optional: true,
            });
        }
        let places = labels::place(&requests, &obstacles, area);
        for (point, place) in self.points.iter().zip(places) {
            let Some(place) = place else { continue };
            let at = (place.left + 2.0, (place.top + place.bottom) / 2.0);
            let left = Pos::new(HPos::Left, VPos::Center);
            canvas.text(&point.label, &fonts.reference, at, left)?;
        }
        Ok(())
    }
}

impl Roofline {
    fn legend<B: DrawingBackend>(
        &self,
        canvas: &Canvas<'_, B>,
        fonts: &Fonts,
        area: Rect,
    ) -> Drawn<B> {
        let y = area.top - 32.0;
        let mut x = area.left + 10.0;
        for (kind, name) in self.kinds.iter().enumerate() {
            if !self.points.iter().any(|point| point.kind == kind) {
                continue;
            }
            let (color, shape) = STYLES[kind % STYLES.len()];
            canvas.mark(shape, (x, y), MARK_RADIUS, solid(color))?;
            let left = Pos::new(HPos::Left, VPos::Center);
            canvas.text(name, &fonts.label, (x + 18.0, y), left)?;
            x += 18.0 + font::width(name, &fonts.label) + 34.0;
        }
        Ok(())
    }

    fn roofs<B: DrawingBackend>(
        &self,
        canvas: &Canvas<'_, B>,
        fonts: &Fonts,
        area: Rect,
        (x, y): (&Scale, &Scale),
        obstacles: &mut Obstacles,
    ) -> Drawn<B> {
        for (index, (name, roof)) in self.roofs.iter().enumerate() {
            let ridge = (x.pixel(roof.flops / roof.bandwidth), y.pixel(roof.flops));
            let low = x.value(area.left);
            let start = (area.left, y.pixel(roof.over(low)));
            // The slope enters from below where it is lower than the picture.
            let start = match start.1 > area.bottom {
                true => {
                    let share = (area.bottom - ridge.1) / (start.1 - ridge.1);
                    (ridge.0 + share * (start.0 - ridge.0), area.bottom)
                }
                false => start,
            };
            let path = [start, ridge, (area.right, ridge.1)];
            if index == 0 {
                canvas.line(&path, faint(INK, 0.85), 3.0)?;
            } else {
                for dash in dashes(&path) {
                    canvas.line(&dash, faint(INK, 0.85), 3.0)?;
                }
            }
            let right = Pos::new(HPos::Right, VPos::Bottom);
            let label = format!("{name}: {} GFLOP/s", rounded((roof.flops / 1e9).round()));
            canvas.text(
                &label,
                &fonts.label,
                (area.right - 6.0, ridge.1 - 5.0),
                right,
            )?;
            let width = font::width(&label, &fonts.label);
            obstacles.marks.push(Rect {
                left: area.right - 6.0 - width,
                right: area.right,
                top: ridge.1 - 30.0,
                bottom: ridge.1,
            });
        }
        Ok(())
    }
}

fn axes<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    fonts: &Fonts,
    area: Rect,
    x: &Scale,
    y: &Scale,
) -> Drawn<B> {
    for tick in x.ticks() {
        let at = x.pixel(tick);
        canvas.line(&[(at, area.top), (at, area.bottom)], faint(GRID, 1.0), 1.0)?;
        let below = Pos::new(HPos::Center, VPos::Top);
        canvas.text(&rounded(tick), &fonts.tick, (at, area.bottom + 10.0), below)?;
    }
    for tick in y.ticks() {
        let at = y.pixel(tick);
        canvas.line(&[(area.left, at), (area.right, at)], faint(GRID, 1.0), 1.0)?;
        let left = Pos::new(HPos::Right, VPos::Center);
        canvas.text(
            &rounded(tick / 1e9),
            &fonts.tick,
            (area.left - 12.0, at),
            left,
        )?;
    }
    let corner = [
        (area.left, area.top),
        (area.left, area.bottom),
        (area.right, area.bottom),
    ];
    canvas.line(&corner, faint(SOFT_INK, 1.0), 1.6)?;
    let middle = (area.left + area.right) / 2.0;
    let centred = Pos::new(HPos::Center, VPos::Top);
    let title = "FLOPs per byte of inputs, outputs and weights (log scale)";
    canvas.text(title, &fonts.axis, (middle, area.bottom + 46.0), centred)?;
    let centre = (34.0, (area.top + area.bottom) / 2.0);
    canvas.upward_text("GFLOP/s (log scale)", &fonts.axis, centre)
}
