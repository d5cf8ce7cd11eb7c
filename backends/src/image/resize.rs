//! Pillow's antialiased resize of 8-bit RGB, bit for bit.
//!
//! The filter is widened when shrinking; weights are normalised in f64, then rounded to 22
//! fractional bits, and each of the two passes rounds and clips to 8 bits (Pillow,
//! `src/libImaging/Resample.c`). `fast_image_resize` 6 was measured in its place: on noise it
//! differs from Pillow in 13% to 30% of the values, by up to 27 levels. A window of the output can
//! be asked for, so that a centre crop does not pay for the pixels it drops.

use std::ops::Range;

use rayon::prelude::*;

use super::{ImageError, Rgb8};

/// Fractional bits of a weight: 32 less 8 for the pixel less 2 for overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// Half a level, so that the shift in [`level`] rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);
/// Image rows that the horizontal pass handles together, one vector lane each.
const LANES: usize = 16;
/// Bytes of a row that the vertical pass sums at a time, small enough for the sums to stay in
/// registers and first cache.
const STRIP: usize = 96;

/// A resampling filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Triangle filter, support 1.
    Bilinear,
    /// Keys' cubic with a = -0.5, support 2.
    Bicubic,
}

impl Interpolation {
    /// Half the filter's width, in source pixels at scale 1.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        // The operations are in Pillow's order, so that the last bit is the same.
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// Which of the two passes runs first. The picture between them has 8 bits, so at hard edges the
/// orders differ by up to a score of levels, and a resize is only reproducible with its order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PassOrder {
    /// Pillow from 13 on: vertical first if the height shrinks, by more than twice as many pixels
    /// as the width does.
    #[default]
    Pillow13,
    /// Pillow before 13: horizontal first. The published scores of FastVLM and LLaVA were computed
    /// with it.
    HorizontalFirst,
}

impl PassOrder {
    /// Whether a resize between these sizes, `(width, height)`, begins with the vertical pass.
    /// Pillow's rule as observed on 19 596 random pairs of sizes (python-pillow/Pillow pull request
    /// 9549 introduced it).
    fn vertical_first(self, from: (u32, u32), to: (u32, u32)) -> bool {
        let shrinks_by = |from: u32, to: u32| i64::from(from) - i64::from(to);
        let (columns, rows) = (shrinks_by(from.0, to.0), shrinks_by(from.1, to.1));
        self == Self::Pillow13 && rows > 0 && rows > 2 * columns
    }
}

/// How a resize computes its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resample {
    /// The filter.
    pub filter: Interpolation,
    /// The order of its passes.
    pub order: PassOrder,
}

impl From<Interpolation> for Resample {
    /// In the order of the newest Pillow.
    fn from(filter: Interpolation) -> Self {
        Self {
            filter,
            order: PassOrder::default(),
        }
    }
}

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Columns left of it.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Resizes to `width x height` pixels. An [`Interpolation`] will do for `how`.
pub fn resize(
    image: &Rgb8,
    width: u32,
    height: u32,
    how: impl Into<Resample>,
) -> Result<Rgb8, ImageError> {
    resize_window(
        image,
        width,
        height,
        Window {
            left: 0,
            top: 0,
            width,
            height,
        },
        how,
    )
}

/// The part `window` of what [`resize`] would return. The window must have pixels and lie inside
/// the output.
pub fn resize_window(
    image: &Rgb8,
    width: u32,
    height: u32,
    window: Window,
    how: impl Into<Resample>,
) -> Result<Rgb8, ImageError> {
    let inside = window
        .left
        .checked_add(window.width)
        .is_some_and(|right| right <= width)
        && window
            .top
            .checked_add(window.height)
            .is_some_and(|bottom| bottom <= height);
    if window.width == 0 || window.height == 0 {
        return Err(ImageError::Empty {
            width: window.width,
            height: window.height,
        });
    }
    if !inside {
        return Err(ImageError::OutsideWindow {
            window,
            width,
            height,
        });
    }
    let Resample { filter, order } = how.into();
    let from = (image.width(), image.height());
    if from == (window.width, window.height) && from == (width, height) {
        return Ok(image.clone());
    }
    let columns = Taps::new(image.width(), width, window.left, window.width, filter);
    let mut rows = Taps::new(image.height(), height, window.top, window.height, filter);

    // Only the source rows that the window depends on take part.
    let stride = 3 * image.width() as usize;
    let used = rows.rebase();
    let source = &image.data()[used.start * stride..used.end * stride];
    let data = if order.vertical_first(from, (width, height)) {
        horizontal(&vertical(source, stride, &rows), stride, &columns)
    } else {
        vertical(
            &horizontal(source, stride, &columns),
            3 * columns.len(),
            &rows,
        )
    };
    Rgb8::new(window.width, window.height, data)
}

/// The source pixels and weights that make up each output pixel along one axis.
struct Taps {
    /// First source pixel of each output pixel.
    starts: Vec<usize>,
    /// Weights of each output pixel, in units of `2^-PRECISION_BITS`; never empty.
    weights: Vec<Vec<i32>>,
}

impl Taps {
    /// `precompute_coeffs` and `normalize_coeffs_8bpc` for the outputs `first .. first + count` of
    /// `out_size`.
    fn new(in_size: u32, out_size: u32, first: u32, count: u32, filter: Interpolation) -> Self {
        let scale = f64::from(in_size) / f64::from(out_size);
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let inverse = 1.0 / filter_scale;
        let mut starts = Vec::with_capacity(count as usize);
        let mut weights = Vec::with_capacity(count as usize);
        for out in first..first + count {
            let centre = (f64::from(out) + 0.5) * scale;
            // The casts truncate and saturate at zero, as the reference's cast and clamp do.
            let start = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(in_size as usize);
            let raw: Vec<f64> = (start..end)
                .map(|x| filter.weight((x as f64 - centre + 0.5) * inverse))
                .collect();
            let sum: f64 = raw.iter().sum();
            let fixed = |w: &f64| {
                let normalised = if sum == 0.0 { *w } else { w / sum };
                let scaled = normalised * f64::from(1 << PRECISION_BITS);
                (scaled + if normalised < 0.0 { -0.5 } else { 0.5 }) as i32
            };
            starts.push(start);
            weights.push(raw.iter().map(fixed).collect());
        }
        Self { starts, weights }
    }

    fn len(&self) -> usize {
        self.starts.len()
    }

    /// Counts source pixels from the first one that any output reads, and returns the range that is
    /// read.
    fn rebase(&mut self) -> Range<usize> {
        let first = self.starts.iter().copied().min().unwrap_or(0);
        let ends = self
            .starts
            .iter()
            .zip(&self.weights)
            .map(|(start, weights)| start + weights.len());
        let last = ends.max().unwrap_or(0);
        self.starts.iter_mut().for_each(|start| *start -= first);
        first..last
    }
}

/// A sum of weights times levels as a level.
#[inline(always)]
fn level(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Resizes each row of `source`, rows of `stride` bytes, to `taps.len()` pixels.
fn horizontal(source: &[u8], stride: usize, taps: &Taps) -> Vec<u8> {
    let out_stride = 3 * taps.len();
    let mut out = vec![0; source.len() / stride * out_stride];
    let blocks = source
        .par_chunks(LANES * stride)
        .zip(out.par_chunks_mut(LANES * out_stride));
    blocks.for_each(|(source, out)| {
        // Rows become lanes: a source pixel's three channels of all rows in the block lie side by
        // side, so every multiplication is a full vector with one weight.
        let mut lanes = vec![[0; 3 * LANES]; stride / 3];
        for (lane, row) in source.chunks_exact(stride).enumerate() {
            for (pixel, group) in row.chunks_exact(3).zip(&mut lanes) {
                for channel in 0..3 {
                    group[channel * LANES + lane] = pixel[channel];
                }
            }
        }
        sum_pixels(&lanes, taps, out);
    });
    out
}

/// Resizes the columns of `source`, rows of `stride` bytes, to `taps.len()` rows.
fn vertical(source: &[u8], stride: usize, taps: &Taps) -> Vec<u8> {
    let mut out = vec![0; taps.len() * stride];
    out.par_chunks_mut(stride).enumerate().for_each(|(y, out)| {
        sum_rows(&source[taps.starts[y] * stride..], &taps.weights[y], out);
    });
    out
}

/// Compiles a kernel twice, for the target's baseline and for AVX2, and picks by what the processor
/// has. The baseline of x86-64 has no 32-bit vector multiplication, which costs a factor of four
/// here.
macro_rules! for_this_processor {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        fn $name($($arg: $type),*) {
            #[inline(always)]
            fn body($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn with_avx2($($arg: $type),*) {
                    body($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2, as tested on the line above.
                    return unsafe { with_avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

for_this_processor! {
    /// The outputs of a block of rows, `out`, from its source pixels with rows as lanes.
    fn sum_pixels(lanes: &[[u8; 3 * LANES]], taps: &Taps, out: &mut [u8]) {
        let stride = 3 * taps.len();
        for x in 0..taps.len() {
            let mut sums = [HALF; 3 * LANES];
            for (pixel, &weight) in lanes[taps.starts[x]..].iter().zip(&taps.weights[x]) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(value);
                }
            }
            let levels = sums.map(level);
            for (lane, row) in out.chunks_exact_mut(stride).enumerate() {
                for channel in 0..3 {
                    row[3 * x + channel] = levels[channel * LANES + lane];
                }
            }
        }
    }
}

for_this_processor! {
    /// One output row, the weighted sum of as many rows of `out`'s length as there are weights.
    fn sum_rows(rows: &[u8], weights: &[i32], out: &mut [u8]) {
        let stride = out.len();
        for (index, strip) in out.chunks_mut(STRIP).enumerate() {
            let mut sums = [HALF; STRIP];
            for (&weight, row) in weights.iter().zip(rows.chunks_exact(stride)) {
                let values = &row[index * STRIP..][..strip.len()];
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += weight * i32::from(value);
                }
            }
            for (level_out, &sum) in strip.iter_mut().zip(&sums) {
                *level_out = level(sum);
            }
        }
    }
}
