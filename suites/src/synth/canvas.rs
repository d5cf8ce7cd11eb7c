//! Pixels, and filled shapes on them.

use ab_glyph_rasterizer::{Point, Rasterizer, point};

use super::dice::Dice;

/// A colour, 8 bits a channel.
pub(super) type Rgb = [u8; 3];

/// A picture, as what was drawn on it: most candidates are thrown away before
/// anyone looks at a pixel.
pub(super) struct Canvas {
    pub(super) width: usize,
    pub(super) height: usize,
    top: Rgb,
    bottom: Rgb,
    strokes: Vec<Stroke>,
}

/// Something drawn on a picture.
enum Stroke {
    /// Lighter and darker patches, `1 << bits` pixels wide, by grid point.
    Mottle { bits: u32, grid: Vec<i32> },
    /// A filled outline, where it lies.
    Fill { outline: Vec<Curve>, color: Rgb },
}

/// A piece of an outline.
#[derive(Clone, Copy)]
pub(super) enum Curve {
    /// A straight line.
    Line(Point, Point),
    /// A quadratic Bézier curve.
    Quad(Point, Point, Point),
    /// A cubic Bézier curve.
    Cubic(Point, Point, Point, Point),
}

/// `(x, y)` to `(a x + b y + e, c x + d y + f)`.
#[derive(Clone, Copy)]
pub(super) struct Placement {
    pub(super) a: f32,
    pub(super) b: f32,
    pub(super) c: f32,
    pub(super) d: f32,
    pub(super) e: f32,
    pub(super) f: f32,
}

impl Placement {
    /// Moves only.
    pub(super) fn at(e: f32, f: f32) -> Self {
        Self::scaled(1.0, e, f)
    }

    /// Scales, then moves.
    pub(super) fn scaled(scale: f32, e: f32, f: f32) -> Self {
        let (a, b, c, d) = (scale, 0.0, 0.0, scale);
        Self { a, b, c, d, e, f }
    }

    /// Where a point goes.
    pub(super) fn apply(&self, p: Point) -> Point {
        point(
            self.a * p.x + self.b * p.y + self.e,
            self.c * p.x + self.d * p.y + self.f,
        )
    }

    /// This one after `first`.
    pub(super) fn after(&self, first: &Self) -> Self {
        let origin = self.apply(point(first.e, first.f));
        Self {
            a: self.a * first.a + self.b * first.c,
            b: self.a * first.b + self.b * first.d,
            c: self.c * first.a + self.d * first.c,
            d: self.c * first.b + self.d * first.d,
            e: origin.x,
            f: origin.y,
        }
    }
}

impl Curve {
    fn placed(&self, place: &Placement) -> Self {
        let at = |p| place.apply(p);
        match *self {
            Self::Line(a, b) => Self::Line(at(a), at(b)),
            Self::Quad(a, b, c) => Self::Quad(at(a), at(b), at(c)),
            Self::Cubic(a, b, c, d) => Self::Cubic(at(a), at(b), at(c), at(d)),
        }
    }

    fn points(&self) -> ([Point; 4], usize) {
        let zero = point(0.0, 0.0);
        match *self {
            Self::Line(a, b) => ([a, b, zero, zero], 2),
            Self::Quad(a, b, c) => ([a, b, c, zero], 3),
            Self::Cubic(a, b, c, d) => ([a, b, c, d], 4),
        }
    }
}

/// A closed polygon.
pub(super) fn polygon(corners: &[(f32, f32)]) -> Vec<Curve> {
    let points: Vec<Point> = corners.iter().map(|(x, y)| point(*x, *y)).collect();
    let next = points.iter().cycle().skip(1);
    let lines = points.iter().zip(next);
    lines.map(|(a, b)| Curve::Line(*a, *b)).collect()
}

/// A rectangle with rounded corners around the origin.
pub(super) fn rounded(width: f32, height: f32, radius: f32) -> Vec<Curve> {
    // Control points of a cubic that is a quarter of a circle to 0.03 %.
    const ARC: f32 = 0.552_284_8;
    let (x, y, r) = (width / 2.0, height / 2.0, radius);
    let k = r * (1.0 - ARC);
    let corner = |sx: f32, sy: f32, clockwise: bool| {
        let (from, to) = (point(sx * x, sy * (y - r)), point(sx * (x - r), sy * y));
        let (out, into) = (point(sx * x, sy * (y - k)), point(sx * (x - k), sy * y));
        match clockwise {
            true => Curve::Cubic(from, out, into, to),
            false => Curve::Cubic(to, into, out, from),
        }
    };
    let curves = [
        corner(1.0, 1.0, true),
        corner(-1.0, 1.0, false),
        corner(-1.0, -1.0, true),
        corner(1.0, -1.0, false),
    ];
    let mut outline = Vec::with_capacity(8);
    for (i, curve) in curves.iter().enumerate() {
        let (points, n) = curve.points();
        let (next, _) = curves[(i + 1) % 4].points();
        outline.push(*curve);
        outline.push(Curve::Line(points[n - 1], next[0]));
    }
    outline
}

/// A circle of this radius around the origin.
pub(super) fn circle(radius: f32) -> Vec<Curve> {
    rounded(2.0 * radius, 2.0 * radius, radius)
}

impl Canvas {
    /// One colour at the top that turns into another at the bottom.
    pub(super) fn gradient(width: usize, height: usize, top: Rgb, bottom: Rgb) -> Self {
        Self {
            width,
            height,
            top,
            bottom,
            strokes: Vec::new(),
        }
    }

    /// Makes patches of `1 << bits` pixels lighter or darker by up to `strength`.
    pub(super) fn mottle(&mut self, dice: &mut Dice, bits: u32, strength: i32) {
        let points = ((self.width >> bits) + 2) * ((self.height >> bits) + 2);
        let grid = (0..points).map(|_| dice.between(-strength, strength));
        let grid = grid.collect();
        self.strokes.push(Stroke::Mottle { bits, grid });
    }

    /// Fills a closed outline.
    pub(super) fn fill(&mut self, outline: &[Curve], place: &Placement, color: Rgb) {
        let outline = outline.iter().map(|curve| curve.placed(place)).collect();
        self.strokes.push(Stroke::Fill { outline, color });
    }

    /// The picture as a PNG file.
    pub(super) fn png(&self) -> Vec<u8> {
        let mut pixels = self.ground();
        for stroke in &self.strokes {
            match stroke {
                Stroke::Mottle { bits, grid } => self.mottled(&mut pixels, *bits, grid),
                Stroke::Fill { outline, color } => self.filled(&mut pixels, outline, *color),
            }
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header().expect("memory takes everything");
        writer
            .write_image_data(&pixels)
            .expect("as many pixels as the header says");
        writer.finish().expect("memory takes everything");
        bytes
    }

    fn ground(&self) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(self.width * self.height * 3);
        for y in 0..self.height {
            let row: Rgb = std::array::from_fn(|c| {
                let (top, bottom) = (usize::from(self.top[c]), usize::from(self.bottom[c]));
                let mixed = top * (self.height - y) + bottom * y;
                ((mixed + self.height / 2) / self.height) as u8
            });
            pixels.extend(row.iter().cycle().take(self.width * 3));
        }
        pixels
    }

    fn mottled(&self, pixels: &mut [u8], bits: u32, grid: &[i32]) {
        let columns = (self.width >> bits) + 2;
        let n = 1 << bits;
        let mut edges = vec![0; columns];
        for (y, row) in pixels.chunks_exact_mut(self.width * 3).enumerate() {
            let (upper, fy) = ((y >> bits) * columns, (y & (n - 1)) as i32);
            for (x, edge) in edges.iter_mut().enumerate() {
                *edge = grid[upper + x] * (n as i32 - fy) + grid[upper + columns + x] * fy;
            }
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                let (left, fx) = (x >> bits, (x & (n - 1)) as i32);
                let mixed = edges[left] * (n as i32 - fx) + edges[left + 1] * fx;
                let change = mixed >> (2 * bits);
                for channel in pixel {
                    *channel = (i32::from(*channel) + change).clamp(0, 255) as u8;
                }
            }
        }
    }

    fn filled(&self, pixels: &mut [u8], outline: &[Curve], color: Rgb) {
        let mut low = point(f32::MAX, f32::MAX);
        let mut high = point(f32::MIN, f32::MIN);
        for curve in outline {
            let (points, n) = curve.points();
            for p in &points[..n] {
                low = point(low.x.min(p.x), low.y.min(p.y));
                high = point(high.x.max(p.x), high.y.max(p.y));
            }
        }
        if outline.is_empty() {
            return;
        }
        let origin = point(low.x.floor() - 1.0, low.y.floor() - 1.0);
        let columns = (high.x - origin.x).ceil() as usize + 2;
        let rows = (high.y - origin.y).ceil() as usize + 2;
        let mut raster = Rasterizer::new(columns, rows);
        for curve in outline {
            match *curve {
                Curve::Line(a, b) => raster.draw_line(a - origin, b - origin),
                Curve::Quad(a, b, c) => raster.draw_quad(a - origin, b - origin, c - origin),
                Curve::Cubic(a, b, c, d) => {
                    raster.draw_cubic(a - origin, b - origin, c - origin, d - origin);
                }
            }
        }
        let (left, top) = (origin.x as i64, origin.y as i64);
        raster.for_each_pixel_2d(|x, y, coverage| {
            let alpha = (coverage.min(1.0) * 255.0 + 0.5) as u32;
            if alpha == 0 {
                return;
            }
            let (x, y) = (left + i64::from(x), top + i64::from(y));
            if !(0..self.width as i64).contains(&x) || !(0..self.height as i64).contains(&y) {
                return;
            }
            let at = (y as usize * self.width + x as usize) * 3;
            for (channel, ink) in pixels[at..at + 3].iter_mut().zip(color) {
                let mixed = u32::from(*channel) * (255 - alpha) + u32::from(ink) * alpha;
                *channel = ((mixed + 127) / 255) as u8;
            }
        });
    }
}
