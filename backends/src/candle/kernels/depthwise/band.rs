//! One task's part of a depthwise convolution.
//!
//! It is walked from top to bottom with a rolling window of input rows, packed
//! as f32 with their zero padding into `(blocks, rows, columns, LANES)`. A
//! tile of outputs, two rows high, is accumulated in registers: an input is
//! read once for all outputs of the tile in both rows.

use std::ops::Range;

use super::super::Output;
use super::super::element::Element;
use super::super::math::activate_vector;
use super::super::simd::{Kernel, LANES, Level, Simd, Vector};
use super::Geometry;
use crate::ops::Act;

/// Input rows of the window: those that two output rows reach.
pub(super) fn window_rows(g: &Geometry) -> usize {
    g.kernel + g.stride
}

/// Input columns of the window, those that `columns` outputs reach.
pub(super) fn window_columns(g: &Geometry, columns: usize) -> usize {
    (columns - 1) * g.stride + g.kernel
}

/// Rows of the window of a kernel that tiles are compiled for, at most.
const MAX_ROWS: usize = 9;

pub(super) struct Band<'a, T> {
    /// One image.
    pub x: &'a [T],
    /// See [`super::pack_weight`].
    pub packed: &'a [f32],
    pub bias: &'a [T],
    pub act: Act,
    pub g: &'a Geometry,
    /// Row `y` of the padded input is in row `y % window_rows` of each block.
    pub window: &'a mut [f32],
    pub out: &'a Output<T>,
    /// Where the image's output starts.
    pub image: usize,
    /// Output width.
    pub width: usize,
    /// Output channels.
    pub channels: usize,
    /// Output rows of this part.
    pub rows: Range<usize>,
    /// Output columns of this part.
    pub columns: Range<usize>,
    /// Blocks of output channels of this part.
    pub blocks: Range<usize>,
}

impl<T: Element> Kernel for Band<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        match (self.g.kernel, self.g.stride) {
            (3, 1) => self.convolve::<S, 3, 1>(),
            (3, 2) => self.convolve::<S, 3, 2>(),
            (7, 1) => self.convolve::<S, 7, 1>(),
            (7, 2) => self.convolve::<S, 7, 2>(),
            _ => self.convolve_any::<S>(),
        }
    }
}

/// Repeats its body for every number below a limit known at compile time: a
/// loop that is certain to be unrolled, so that sums stay in registers.
macro_rules! unrolled {
    ($i:ident < $limit:expr, $body:block: $($n:literal)*) => {
        $(
            if $n < $limit {
                let $i: usize = $n;
                $body
            }
        )*
    };
}

/// Adds what one input row gives to `N` neighbouring outputs.
///
/// # Safety
/// `input` must be readable for `(N - 1) * STRIDE + K` vectors, `taps`, a
/// kernel row, for `K`.
#[inline(always)]
unsafe fn add_row<S: Simd, const K: usize, const STRIDE: usize, const N: usize>(
    sums: &mut [S::Vector; N],
    input: *const f32,
    taps: *const f32,
) {
    for kx in 0..K {
        // SAFETY: the caller's.
        unsafe {
            let w = S::Vector::read(taps.add(kx * LANES));
            for (n, sum) in sums.iter_mut().enumerate() {
                let v = S::Vector::read(input.add((n * STRIDE + kx) * LANES));
                *sum = v.mul_add(w, *sum);
            }
        }
    }
}

/// Adds what one input row gives to the outputs of two rows, which it reaches
/// with different kernel rows.
///
/// # Safety
/// As [`add_row`].
#[inline(always)]
unsafe fn add_to_both<S: Simd, const K: usize, const STRIDE: usize, const N: usize>(
    [upper, lower]: &mut [[S::Vector; N]; 2],
    input: *const f32,
    taps: [*const f32; 2],
) {
    let mut a = [S::Vector::splat(0.0); K];
    let mut b = [S::Vector::splat(0.0); K];
    for kx in 0..K {
        // SAFETY: the caller's.
        unsafe {
            a[kx] = S::Vector::read(taps[0].add(kx * LANES));
            b[kx] = S::Vector::read(taps[1].add(kx * LANES));
        }
    }
    unrolled!(ix < (N - 1) * STRIDE + K, {
        // SAFETY: the caller's.
        let v = unsafe { S::Vector::read(input.add(ix * LANES)) };
        for n in 0..N {
            let kx = ix.wrapping_sub(n * STRIDE);
            if kx < K {
                upper[n] = v.mul_add(a[kx], upper[n]);
                lower[n] = v.mul_add(b[kx], lower[n]);
            }
        }
    }: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20);
}

impl<T: Element> Band<'_, T> {
    #[inline(always)]
    fn convolve<S: Simd, const K: usize, const STRIDE: usize>(mut self) {
        // Two rows of sums need the registers of AVX-512.
        let pair = S::LEVEL >= Level::V4 && self.rows.len() >= 2;
        let height = 1 + usize::from(pair);
        let mut next = self.rows.start * STRIDE;
        for y in self.rows.clone().step_by(height) {
            // The last pair overlaps the one before if the rows are odd.
            let y = y.min(self.rows.end - height);
            while next < (y + height - 1) * STRIDE + K {
                self.pack::<S>(next);
                next += 1;
            }
            // Few variants, as each is compiled for every level and precision.
            match (S::LEVEL >= Level::V4, pair, self.columns.len()) {
                (true, true, 8..) => self.pairs::<S, K, STRIDE, 8>(y),
                (true, true, 4..) => self.pairs::<S, K, STRIDE, 4>(y),
                (false, _, 4..) => self.singles::<S, K, STRIDE, 4>(y),
                _ => {
                    for y in y..y + height {
                        self.singles::<S, K, STRIDE, 1>(y);
                    }
                }
            }
        }
    }

    /// Floats of a row and of a block of the window.
    #[inline(always)]
    fn strides(&self) -> (usize, usize) {
        let row = window_columns(self.g, self.columns.len()) * LANES;
        (row, window_rows(self.g) * row)
    }

    /// Where the first of the `count` padded input rows from `top` on are in
    /// the window.
    #[inline(always)]
    fn window_rows(&self, top: usize, count: usize) -> [*const f32; MAX_ROWS] {
        let (row, block) = self.strides();
        let mut rows = [self.window.as_ptr(); MAX_ROWS];
        for (i, at) in rows[..count].iter_mut().enumerate() {
            *at = self.window[(top + i) * row % block..].as_ptr();
        }
        rows
    }

    /// Rows `y` and `y + 1`, `N` columns at a time; the last overlap those before.
    #[inline(always)]
    fn pairs<S: Simd, const K: usize, const STRIDE: usize, const N: usize>(&mut self, y: usize) {
        let rows = self.window_rows(y * STRIDE, K + STRIDE);
        let (_, per_block) = self.strides();
        for x in self.columns.clone().step_by(N) {
            let x = x.min(self.columns.end - N);
            let mut at = (x - self.columns.start) * STRIDE * LANES;
            for block in self.blocks.clone() {
                let taps = self.packed[block * K * K * LANES..][..K * K * LANES].as_ptr();
                let bias = T::load::<S::Vector>(&self.bias[block * LANES..]);
                let mut sums = [[bias; N]; 2];
                // SAFETY: the window holds every row that the tile reaches, and
                // each ends with the last tap of the last output.
                unsafe {
                    for (i, row) in rows[..STRIDE].iter().enumerate() {
                        let taps = taps.add(i * K * LANES);
                        add_row::<S, K, STRIDE, N>(&mut sums[0], row.add(at), taps);
                    }
                    for (i, row) in rows[STRIDE..K].iter().enumerate() {
                        let (upper, lower) = ((i + STRIDE) * K * LANES, i * K * LANES);
                        let taps = [taps.add(upper), taps.add(lower)];
                        add_to_both::<S, K, STRIDE, N>(&mut sums, row.add(at), taps);
                    }
                    for (i, row) in rows[K..K + STRIDE].iter().enumerate() {
                        let taps = taps.add((K - STRIDE + i) * K * LANES);
                        add_row::<S, K, STRIDE, N>(&mut sums[1], row.add(at), taps);
                    }
                }
                self.finish::<S, 2, N>((block, y, x), &sums);
                at += per_block;
            }
        }
    }

    /// Row `y`, `N` columns at a time; the last overlap those before.
    #[inline(always)]
    fn singles<S: Simd, const K: usize, const STRIDE: usize, const N: usize>(&mut self, y: usize) {
        let rows = self.window_rows(y * STRIDE, K);
        let (_, per_block) = self.strides();
        for x in self.columns.clone().step_by(N) {
            let x = x.min(self.columns.end - N);
            let mut at = (x - self.columns.start) * STRIDE * LANES;
            for block in self.blocks.clone() {
                let taps = self.packed[block * K * K * LANES..][..K * K * LANES].as_ptr();
                let bias = T::load::<S::Vector>(&self.bias[block * LANES..]);
                let mut sums = [bias; N];
                for (ky, row) in rows[..K].iter().enumerate() {
                    // SAFETY: as in `pairs`.
                    unsafe {
                        let taps = taps.add(ky * K * LANES);
                        add_row::<S, K, STRIDE, N>(&mut sums, row.add(at), taps);
                    }
                }
                self.finish::<S, 1, N>((block, y, x), &[sums]);
                at += per_block;
            }
        }
    }

    /// Any other kernel size or stride.
    #[inline(always)]
    fn convolve_any<S: Simd>(mut self) {
        let (k, stride) = (self.g.kernel, self.g.stride);
        let (row, per_block) = self.strides();
        let mut next = self.rows.start * stride;
        for y in self.rows.clone() {
            while next < y * stride + k {
                self.pack::<S>(next);
                next += 1;
            }
            for (b, block) in self.blocks.clone().enumerate() {
                let taps = &self.packed[block * k * k * LANES..][..k * k * LANES];
                let window = &self.window[b * per_block..][..per_block];
                for x in self.columns.clone() {
                    let left = (x - self.columns.start) * stride;
                    let mut sum = T::load::<S::Vector>(&self.bias[block * LANES..]);
                    for (tap, w) in taps.chunks_exact(LANES).enumerate() {
                        let at = (y * stride + tap / k) * row % per_block;
                        let v = S::Vector::load(&window[at + (left + tap % k) * LANES..]);
                        sum = v.mul_add(S::Vector::load(w), sum);
                    }
                    self.finish::<S, 1, 1>((block, y, x), &[[sum]]);
                }
            }
        }
    }

    /// Activates and writes a tile that starts at row `y` and column `x`.
    #[inline(always)]
    fn finish<S: Simd, const R: usize, const N: usize>(
        &self,
        (block, y, x): (usize, usize, usize),
        sums: &[[S::Vector; N]; R],
    ) {
        let (row, step) = (self.width * self.channels, self.channels);
        let lanes = LANES.min(step - block * LANES);
        let at = self.image + y * row + x * step + block * LANES;
        if lanes == LANES && self.act == Act::None {
            let len = (R - 1) * row + (N - 1) * step + LANES;
            // SAFETY: the parts of different tasks do not overlap, and what
            // lies between the tile's pixels is not touched.
            let dst = unsafe { self.out.slice(at, len) }.as_mut_ptr();
            for (r, sums) in sums.iter().enumerate() {
                for (n, sum) in sums.iter().enumerate() {
                    // SAFETY: within the slice above.
                    unsafe { T::write(*sum, dst.add(r * row + n * step)) };
                }
            }
            return;
        }
        // Through memory, so that the activation is compiled once.
        let mut tile = [[[0.0; LANES]; N]; R];
        for (sums, line) in sums.iter().zip(&mut tile) {
            for (sum, v) in sums.iter().zip(line) {
                sum.store(v);
            }
        }
        for (i, v) in tile.as_flattened().iter().enumerate() {
            let v = activate_vector::<S>(self.act, S::Vector::load(v));
            let at = at + i / N * row + i % N * step;
            // SAFETY: as above.
            T::store(v, unsafe { self.out.slice(at, lanes) });
        }
    }

    /// Packs row `y` of the padded input into the window.
    #[inline(always)]
    fn pack<S: Simd>(&mut self, y: usize) {
        let g = self.g;
        let pad = g.padding;
        let (row, per_block) = self.strides();
        let columns = row / LANES;
        let start = y * row % per_block;
        // Padded columns `left .. left + columns`, of which the input has
        // those from `before` to `end`.
        let left = self.columns.start * g.stride;
        let y = y.wrapping_sub(pad);
        let before = pad.saturating_sub(left).min(columns);
        let end = (pad + g.width - left).clamp(before, columns);
        let end = if y < g.height { end } else { before };
        for at in (0..self.blocks.len()).map(|b| b * per_block + start) {
            self.window[at..][..before * LANES].fill(0.0);
            self.window[at + end * LANES..at + row].fill(0.0);
        }
        if before == end {
            return;
        }
        let pixels = &self.x[(y * g.width + left + before - pad) * g.channels..]
            [..(end - before) * g.channels];
        let at = start + before * LANES;
        let whole = self.blocks.end * LANES <= self.channels;
        let paired = self.blocks.start.is_multiple_of(2) && self.blocks.end.is_multiple_of(2);
        match g.multiplier {
            1 if whole => self.pack_blocks::<S>(pixels, at),
            2 if whole && paired => self.pack_twice::<S>(pixels, at),
            _ => self.pack_any(pixels, at),
        }
    }

    /// Packs whole blocks of channels.
    #[inline(always)]
    fn pack_blocks<S: Simd>(&mut self, pixels: &[T], at: usize) {
        let (_, per_block) = self.strides();
        let (channel, blocks) = (self.blocks.start * LANES, self.blocks.len());
        let count = pixels.len() / self.g.channels;
        let dst = self.window[at..][..(blocks - 1) * per_block + count * LANES].as_mut_ptr();
        for (i, pixel) in pixels.chunks_exact(self.g.channels).enumerate() {
            let src = pixel[channel..][..blocks * LANES].as_ptr();
            for b in 0..blocks {
                // SAFETY: both slices are that long.
                unsafe {
                    let v = T::read::<S::Vector>(src.add(b * LANES));
                    v.write(dst.add(b * per_block + i * LANES));
                }
            }
        }
    }

    /// Packs whole pairs of blocks, each input channel twice.
    #[inline(always)]
    fn pack_twice<S: Simd>(&mut self, pixels: &[T], at: usize) {
        let (_, per_block) = self.strides();
        let (channel, pairs) = (self.blocks.start / 2 * LANES, self.blocks.len() / 2);
        let count = pixels.len() / self.g.channels;
        let dst = self.window[at..][..(2 * pairs - 1) * per_block + count * LANES].as_mut_ptr();
        for (i, pixel) in pixels.chunks_exact(self.g.channels).enumerate() {
            let src = pixel[channel..][..pairs * LANES].as_ptr();
            for pair in 0..pairs {
                // SAFETY: both slices are that long.
                unsafe {
                    let [low, high] = T::read::<S::Vector>(src.add(pair * LANES)).twice();
                    let dst = dst.add(2 * pair * per_block + i * LANES);
                    low.write(dst);
                    high.write(dst.add(per_block));
                }
            }
        }
    }

    /// Packs any channels with any multiplier, zeros after the last channel.
    fn pack_any(&mut self, pixels: &[T], at: usize) {
        let (_, per_block) = self.strides();
        for (b, block) in self.blocks.clone().enumerate() {
            let lanes = LANES.min(self.channels - block * LANES);
            let dst = &mut self.window[at + b * per_block..];
            let pixels = pixels.chunks_exact(self.g.channels);
            for (dst, pixel) in dst.chunks_exact_mut(LANES).zip(pixels) {
                let (dst, rest) = dst.split_at_mut(lanes);
                for (lane, dst) in dst.iter_mut().enumerate() {
                    *dst = pixel[(block * LANES + lane) / self.g.multiplier].get();
                }
                rest.fill(0.0);
            }
        }
    }
}
