//! Lines, marks and text in fractional pixels on any drawing backend, at any scale.

use plotters::{
    coord::Shift,
    drawing::{DrawingArea, DrawingAreaErrorKind},
    element::{Circle, PathElement, Polygon, Rectangle},
    prelude::DrawingBackend,
    style::{
        Color, FontTransform, RGBAColor, RGBColor, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

/// Shape of a mark; each encoder has its own, so that colour is never needed to tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    TriangleUp,
    Diamond,
    TriangleDown,
    Pentagon,
}

impl Shape {
    /// Corners around a centre, sized so that all shapes look about as large as a circle.
    fn corners(self, (x, y): (f64, f64), radius: f64) -> Vec<(f64, f64)> {
        let (count, turn, size) = match self {
            Self::Circle => return Vec::new(),
            Self::Square => (4, 45.0, 1.22),
            Self::TriangleUp => (3, -90.0, 1.35),
            Self::Diamond => (4, 0.0, 1.28),
            Self::TriangleDown => (3, 90.0, 1.35),
            Self::Pentagon => (5, -90.0, 1.15),
        };
        (0..count)
            .map(|corner| {
                let degrees: f64 = turn + 360.0 * f64::from(corner) / f64::from(count);
                let (sin, cos) = degrees.to_radians().sin_cos();
                (x + size * radius * cos, y + size * radius * sin)
            })
            .collect()
    }
}

/// How a mark is painted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    pub fill: RGBAColor,
    pub outline: RGBAColor,
    pub outline_width: f64,
}

/// A drawing area whose unit is `scale` pixels.
pub(super) struct Canvas<'a, B: DrawingBackend> {
    pub area: &'a DrawingArea<B, Shift>,
    pub scale: f64,
    /// How far text has to be lowered, as a share of its size, to look centred on its anchor: each
    /// backend puts the baseline elsewhere.
    pub text_drop: f64,
}

/// Result of drawing on a backend.
pub(super) type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

impl<B: DrawingBackend> Canvas<'_, B> {
    fn pixel(&self, (x, y): (f64, f64)) -> (i32, i32) {
        (
            (x * self.scale).round() as i32,
            (y * self.scale).round() as i32,
        )
    }

    fn stroke(&self, color: RGBAColor, width: f64) -> ShapeStyle {
        ShapeStyle {
            color,
            filled: false,
            stroke_width: (width * self.scale).round().max(1.0) as u32,
        }
    }

    /// A line through points.
    pub fn line(&self, points: &[(f64, f64)], color: RGBAColor, width: f64) -> Drawn<B> {
        let pixels: Vec<(i32, i32)> = points.iter().map(|&point| self.pixel(point)).collect();
        self.area
            .draw(&PathElement::new(pixels, self.stroke(color, width)))
    }

    /// A filled rectangle from corner to corner.
    pub fn rectangle(&self, from: (f64, f64), to: (f64, f64), fill: RGBAColor) -> Drawn<B> {
        let corners = [self.pixel(from), self.pixel(to)];
        self.area.draw(&Rectangle::new(corners, fill.filled()))
    }

    /// A mark.
    pub fn mark(&self, shape: Shape, centre: (f64, f64), radius: f64, paint: Paint) -> Drawn<B> {
        let outline = self.stroke(paint.outline, paint.outline_width);
        if shape == Shape::Circle {
            let centre = self.pixel(centre);
            let radius = (radius * self.scale).round() as i32;
            self.area
                .draw(&Circle::new(centre, radius, paint.fill.filled()))?;
            return self.area.draw(&Circle::new(centre, radius, outline));
        }
        let corners = shape.corners(centre, radius);
        let pixels: Vec<(i32, i32)> = corners.iter().map(|&corner| self.pixel(corner)).collect();
        self.area.draw(&Polygon::new(pixels, paint.fill.filled()))?;
        // Edge by edge: a thick closed path is filled wrongly at sharp corners.
        for (index, &corner) in corners.iter().enumerate() {
            let next = corners[(index + 1) % corners.len()];
            self.line(&[corner, next], paint.outline, paint.outline_width)?;
        }
        Ok(())
    }

    /// Text at an anchor point.
    pub fn text(&self, text: &str, style: &TextStyle<'_>, at: (f64, f64), pos: Pos) -> Drawn<B> {
        let mut style = self.scaled(style);
        style.pos = pos;
        let lowered = (at.0, at.1 + self.drop_of(&style));
        self.area.draw_text(text, &style, self.pixel(lowered))
    }

    /// Text that reads upwards, centred on a point.
    pub fn upward_text(&self, text: &str, style: &TextStyle<'_>, at: (f64, f64)) -> Drawn<B> {
        let mut style = self.scaled(style);
        style.font = style.font.transform(FontTransform::Rotate270);
        style.pos = Pos::new(HPos::Center, VPos::Center);
        // Turned upwards, the foot of the text points to the right.
        let lowered = (at.0 + self.drop_of(&style), at.1);
        self.area.draw_text(text, &style, self.pixel(lowered))
    }

    /// Distance by which scaled text is lowered, in unscaled pixels.
    fn drop_of(&self, scaled: &TextStyle<'_>) -> f64 {
        self.text_drop * scaled.font.get_size() / self.scale
    }

    fn scaled<'b>(&self, style: &TextStyle<'b>) -> TextStyle<'b> {
        let mut scaled = style.clone();
        scaled.font = style.font.resize(style.font.get_size() * self.scale);
        scaled
    }
}

/// A colour with an opacity.
pub(super) fn faint(color: RGBColor, opacity: f64) -> RGBAColor {
    color.mix(opacity)
}

/// A colour as it looks on white with an opacity, itself opaque: strokes may then cross.
pub(super) fn pale(color: RGBColor, opacity: f64) -> RGBAColor {
    let on_white = |channel: u8| (255.0 - opacity * (255.0 - f64::from(channel))).round() as u8;
    RGBColor(on_white(color.0), on_white(color.1), on_white(color.2)).mix(1.0)
}
