//! Depthwise convolution on channels-last maps, the operation that FastViT
//! networks are mostly made of and that candle would split into one
//! convolution per channel.
//!
//! Work is cut into blocks of [`LANES`] channels and bands of output rows. A block's
//! input band is first packed, zero padding included, into a dense
//! `(rows, width, 16)` buffer; the taps are then accumulated in registers for
//! several neighbouring outputs at once, all bounds resolved by the packing.

use rayon::prelude::*;

use super::element::Element;
use super::math::activate;
use super::simd::{Kernel, LANES, Simd, Vector, dispatch, fma};
use super::{Output, produce, with_scratch};
use crate::ops::Act;

/// Neighbouring outputs accumulated together.
const RUN: usize = 8;
/// Floats a packed band should not exceed, to stay in the second-level cache.
const BAND_FLOATS: usize = 64 * 1024;

/// Geometry of a depthwise convolution with padding `kernel / 2`.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Batch size.
    pub batch: usize,
    /// Input height.
    pub height: usize,
    /// Input width.
    pub width: usize,
    /// Input channels.
    pub channels: usize,
    /// Outputs per input channel.
    pub multiplier: usize,
    /// Square, odd kernel size.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
}

impl Geometry {
    /// Output channels.
    pub fn out_channels(&self) -> usize {
        self.channels * self.multiplier
    }

    /// Output side of an input side.
    pub fn out_side(&self, side: usize) -> usize {
        (side + 2 * (self.kernel / 2) - self.kernel) / self.stride + 1
    }
}

/// Reorders a `(channels, 1, k, k)` kernel for [`depthwise`]: blocks of
/// [`LANES`] channels, then taps, then channels, zero-filled at the end.
pub fn pack_weight<T: Element>(weight: &[T], channels: usize, kernel: usize) -> Vec<f32> {
    let taps = kernel * kernel;
    let blocks = channels.div_ceil(LANES);
    let mut packed = vec![0.0; blocks * taps * LANES];
    for c in 0..channels {
        for tap in 0..taps {
            packed[(c / LANES * taps + tap) * LANES + c % LANES] = weight[c * taps + tap].get();
        }
    }
    packed
}

/// `act(conv(x) + bias)` of a channels-last map `(batch, height, width,
/// channels)` with a kernel from [`pack_weight`]; channels-last output.
pub fn depthwise<T: Element>(
    x: &[T],
    packed: &[f32],
    bias: &[T],
    act: Act,
    g: &Geometry,
) -> Vec<T> {
    let (oh, ow, oc) = (g.out_side(g.height), g.out_side(g.width), g.out_channels());
    let blocks = oc.div_ceil(LANES);
    let padded_width = g.width + 2 * (g.kernel / 2) + g.stride;
    let fitting = BAND_FLOATS / (padded_width * LANES);
    let band = (fitting.saturating_sub(g.kernel) / g.stride + 1).clamp(4, oh.max(4));
    let bands = oh.div_ceil(band);
    produce(g.batch * oh * ow * oc, |out| {
        (0..g.batch * bands * blocks)
            .into_par_iter()
            .for_each(|task| {
                let (image, rest) = (task / (bands * blocks), task % (bands * blocks));
                let (band_index, block) = (rest / blocks, rest % blocks);
                let first = band_index * band;
                let rows = band.min(oh - first);
                let in_rows = (rows - 1) * g.stride + g.kernel;
                let taps = g.kernel * g.kernel * LANES;
                let mut bias_lanes = [0.0; LANES];
                let lanes = LANES.min(oc - block * LANES);
                for (b, v) in bias_lanes.iter_mut().zip(&bias[block * LANES..][..lanes]) {
                    *b = v.get();
                }
                with_scratch(in_rows * padded_width * LANES + ow * LANES, |scratch| {
                    let (input, line) = scratch.split_at_mut(in_rows * padded_width * LANES);
                    dispatch(Band {
                        x: &x[image * g.height * g.width * g.channels..],
                        kernel: &packed[block * taps..][..taps],
                        bias: &bias_lanes,
                        act,
                        g,
                        input,
                        line,
                        padded_width,
                        out,
                        out_image: image * oh * ow * oc,
                        first,
                        rows,
                        in_rows,
                        ow,
                        channel: block * LANES,
                        lanes,
                    });
                });
            });
    })
}

struct Band<'a, T> {
    x: &'a [T],
    kernel: &'a [f32],
    bias: &'a [f32; LANES],
    act: Act,
    g: &'a Geometry,
    input: &'a mut [f32],
    line: &'a mut [f32],
    padded_width: usize,
    out: &'a Output<T>,
    out_image: usize,
    first: usize,
    rows: usize,
    in_rows: usize,
    ow: usize,
    channel: usize,
    lanes: usize,
}

impl<T: Element> Kernel for Band<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        self.pack();
        match (self.g.kernel, self.g.stride) {
            (3, 1) => self.convolve::<S, 3, 1>(),
            (3, 2) => self.convolve::<S, 3, 2>(),
            (7, 1) => self.convolve::<S, 7, 1>(),
            (7, 2) => self.convolve::<S, 7, 2>(),
            _ => self.convolve_any::<S>(),
        }
    }
}

impl<T: Element> Band<'_, T> {
    /// Copies the input band into `(in_rows, padded_width, LANES)` floats.
    #[inline(always)]
    fn pack(&mut self) {
        let g = self.g;
        let pad = g.kernel / 2;
        let row_floats = self.padded_width * LANES;
        let top = self.first * g.stride;
        for r in 0..self.in_rows {
            let dst = &mut self.input[r * row_floats..][..row_floats];
            let y = (top + r).wrapping_sub(pad);
            if y >= g.height {
                dst.fill(0.0);
                continue;
            }
            dst[..pad * LANES].fill(0.0);
            dst[(pad + g.width) * LANES..].fill(0.0);
            let src = &self.x[y * g.width * g.channels..][..g.width * g.channels];
            let body = &mut dst[pad * LANES..(pad + g.width) * LANES];
            let whole = self.lanes == LANES && LANES.is_multiple_of(g.multiplier);
            for (d, s) in body
                .chunks_exact_mut(LANES)
                .zip(src.chunks_exact(g.channels))
            {
                if whole && g.multiplier == 1 {
                    T::widen(&s[self.channel..self.channel + LANES], d);
                } else if whole {
                    let s = &s[self.channel / g.multiplier..];
                    for (d, s) in d.chunks_exact_mut(g.multiplier).zip(s) {
                        d.fill(s.get());
                    }
                } else {
                    d.fill(0.0);
                    for (lane, d) in d[..self.lanes].iter_mut().enumerate() {
                        *d = s[(self.channel + lane) / g.multiplier].get();
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn convolve<S: Simd, const K: usize, const STRIDE: usize>(&mut self) {
        for oy in 0..self.rows {
            let mut ox = 0;
            while ox + RUN <= self.ow {
                self.outputs::<S, K, STRIDE, RUN>(oy, ox);
                ox += RUN;
            }
            while ox < self.ow {
                self.outputs::<S, K, STRIDE, 1>(oy, ox);
                ox += 1;
            }
            self.store::<S>(oy);
        }
    }

    /// `N` neighbouring outputs of one row.
    #[inline(always)]
    fn outputs<S: Simd, const K: usize, const STRIDE: usize, const N: usize>(
        &mut self,
        oy: usize,
        ox: usize,
    ) {
        let bias = S::Vector::load(self.bias);
        let mut sums = [bias; N];
        for ky in 0..K {
            let at = ((oy * STRIDE + ky) * self.padded_width + ox * STRIDE) * LANES;
            let row = &self.input[at..at + ((N - 1) * STRIDE + K) * LANES];
            let taps = &self.kernel[ky * K * LANES..(ky + 1) * K * LANES];
            for kx in 0..K {
                let tap = S::Vector::load(&taps[kx * LANES..]);
                for (n, sum) in sums.iter_mut().enumerate() {
                    let v = S::Vector::load(&row[(n * STRIDE + kx) * LANES..]);
                    *sum = v.mul_add(tap, *sum);
                }
            }
        }
        for (n, sum) in sums.iter().enumerate() {
            sum.store(&mut self.line[(ox + n) * LANES..]);
        }
    }

    /// Any other kernel size or stride.
    #[inline(always)]
    fn convolve_any<S: Simd>(&mut self) {
        let (k, s) = (self.g.kernel, self.g.stride);
        for oy in 0..self.rows {
            for ox in 0..self.ow {
                let mut sum = *self.bias;
                for tap in 0..k * k {
                    let at = (oy * s + tap / k) * self.padded_width + ox * s + tap % k;
                    for (i, sum) in sum.iter_mut().enumerate() {
                        *sum = fma::<S>(
                            self.input[at * LANES + i],
                            self.kernel[tap * LANES + i],
                            *sum,
                        );
                    }
                }
                self.line[ox * LANES..][..LANES].copy_from_slice(&sum);
            }
            self.store::<S>(oy);
        }
    }

    /// Activates a finished row and writes its channels.
    #[inline(always)]
    fn store<S: Simd>(&mut self, oy: usize) {
        activate::<S>(self.act, &mut self.line[..self.ow * LANES]);
        let channels = self.g.out_channels();
        for ox in 0..self.ow {
            let at = self.out_image + ((self.first + oy) * self.ow + ox) * channels + self.channel;
            // SAFETY: bands, blocks and pixels do not overlap.
            let dst = unsafe { self.out.slice(at, self.lanes) };
            T::narrow(&self.line[ox * LANES..][..self.lanes], dst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_numbers::numbers;
    use super::*;

    fn check(g: Geometry) {
        let oc = g.out_channels();
        let x = numbers(g.batch * g.height * g.width * g.channels, 1);
        let w = numbers(oc * g.kernel * g.kernel, 2);
        let bias = numbers(oc, 3);
        let packed = pack_weight(&w, oc, g.kernel);
        let got = depthwise(&x, &packed, &bias, Act::None, &g);
        let (oh, ow, pad) = (g.out_side(g.height), g.out_side(g.width), g.kernel / 2);
        assert_eq!(got.len(), g.batch * oh * ow * oc);
        for (at, got) in got.iter().enumerate() {
            let (c, pixel) = (at % oc, at / oc);
            let (ox, oy, b) = (pixel % ow, pixel / ow % oh, pixel / ow / oh);
            let mut expected = bias[c];
            for ky in 0..g.kernel {
                for kx in 0..g.kernel {
                    let y = (oy * g.stride + ky).wrapping_sub(pad);
                    let xx = (ox * g.stride + kx).wrapping_sub(pad);
                    if y < g.height && xx < g.width {
                        let pixel = (b * g.height + y) * g.width + xx;
                        expected += x[pixel * g.channels + c / g.multiplier]
                            * w[(c * g.kernel + ky) * g.kernel + kx];
                    }
                }
            }
            assert!((got - expected).abs() < 1e-5, "{g:?} at {at}");
        }
    }

    #[test]
    fn agrees_with_the_definition() {
        for (kernel, stride) in [(3, 1), (3, 2), (7, 1), (7, 2), (5, 1)] {
            for multiplier in [1, 2] {
                for (height, width, channels) in [(1, 1, 16), (9, 13, 20), (16, 10, 48)] {
                    check(Geometry {
                        batch: 2,
                        height,
                        width,
                        channels,
                        multiplier,
                        kernel,
                        stride,
                    });
                }
            }
        }
    }

    #[test]
    fn many_bands_join_without_a_seam() {
        check(Geometry {
            batch: 1,
            height: 90,
            width: 150,
            channels: 16,
            multiplier: 1,
            kernel: 7,
            stride: 1,
        });
    }
}
