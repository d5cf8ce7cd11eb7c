//! Choosing blocks for scalars: ggml's reference quantisers of the K types
//! (`quantize_row_q4_K_ref`, `quantize_row_q6_K_ref` in `ggml-quants.c`).
//!
//! Each run of a block tries some scales and keeps the one with the least
//! weighted error. Sixteen runs are tried at once, a run a lane: two blocks of
//! Q4_K, one of Q6_K.

use half::f16;

use super::BlockType;
use crate::candle::kernels::simd::{Kernel, LANES, Simd, Vector, dispatch};

/// Largest scalars that count as zeros.
const NOTHING: f32 = 1e-15;

/// Whole Q4_K blocks of `values`.
pub(super) fn q4_k(values: &[f32], out: &mut [u8]) {
    dispatch(Q4K { values, out });
}

/// Whole Q6_K blocks of `values`.
pub(super) fn q6_k(values: &[f32], out: &mut [u8]) {
    dispatch(Q6K { values, out });
}

/// Runs of `N` scalars, each a lane.
#[inline(always)]
fn lanes<const N: usize>(values: &[f32]) -> [[f32; LANES]; N] {
    let mut lanes = [[0.0; LANES]; N];
    for (run, values) in values.chunks_exact(N).enumerate() {
        for (step, value) in lanes.iter_mut().zip(values) {
            step[run] = *value;
        }
    }
    lanes
}

/// The nearest whole number of `v / step` in a range.
#[inline(always)]
fn nearest(v: f32, step: f32, least: f32, most: f32) -> u8 {
    (v / step).round_ties_even().clamp(least, most) as i32 as u8
}

struct Q4K<'a> {
    values: &'a [f32],
    out: &'a mut [u8],
}

impl Kernel for Q4K<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        const SCALARS: usize = BlockType::Q4K.scalars();
        const BYTES: usize = BlockType::Q4K.bytes();
        let pairs = self.values.chunks(2 * SCALARS);
        for (values, out) in pairs.zip(self.out.chunks_mut(2 * BYTES)) {
            let (scales, mins) = scales_and_mins::<S>(&lanes(values));
            let blocks = values
                .chunks_exact(SCALARS)
                .zip(out.chunks_exact_mut(BYTES));
            for (i, (values, out)) in blocks.enumerate() {
                write_q4_k(values, &scales[i * 8..][..8], &mins[i * 8..][..8], out);
            }
        }
    }
}

/// Scale and minimum of sixteen runs of 32 scalars `scale q - min`, `q` in
/// 0..=15: `make_qkx2_quants` with 21 candidates.
#[inline(always)]
fn scales_and_mins<S: Simd>(x: &[[f32; LANES]; 32]) -> ([f32; LANES], [f32; LANES]) {
    const MOST: f32 = 15.0;
    const CANDIDATES: usize = 21;
    let zero = S::Vector::splat(0.0);
    let mut squares = zero;
    for x in x {
        let x = S::Vector::load(x);
        squares = x.mul_add(x, squares);
    }
    // Larger scalars weigh more.
    let typical = squares.lanes().map(|sum| (sum / 32.0).sqrt());
    let typical = S::Vector::load(&typical);
    let (mut min, mut max) = (zero, S::Vector::splat(f32::NEG_INFINITY));
    let (mut sum_w, mut sum_x) = (zero, zero);
    let mut weights = [[0.0; LANES]; 32];
    for (x, weight) in x.iter().zip(&mut weights) {
        let x = S::Vector::load(x);
        let w = typical.add(x.max(zero.sub(x)));
        w.store(weight);
        (min, max) = (min.min(x), max.max(x));
        (sum_w, sum_x) = (sum_w.add(w), w.mul_add(x, sum_x));
    }
    // Where all scalars are equal, any range that is not empty will do: its
    // scale is dropped below.
    let flat = min.less(max, zero, S::Vector::splat(1.0));
    let range = max.sub(min).add(flat);
    let (mut scale, mut low) = (zero, min);
    let mut least = S::Vector::splat(f32::INFINITY);
    for candidate in 0..=CANDIDATES {
        // The first is the range itself, with its own minimum.
        let steps = match candidate {
            0 => MOST,
            _ => MOST - 1.0 + 0.1 * (candidate - 1) as f32,
        };
        let inverse = S::Vector::splat(steps).div(range);
        let mut quants = [[0.0; LANES]; 32];
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        for ((x, w), quant) in x.iter().zip(&weights).zip(&mut quants) {
            let (x, w) = (S::Vector::load(x), S::Vector::load(w));
            let l = inverse.mul(x.sub(min)).round();
            let l = l.max(zero).min(S::Vector::splat(MOST));
            l.store(quant);
            let wl = w.mul(l);
            sum_l = sum_l.add(wl);
            sum_l2 = wl.mul_add(l, sum_l2);
            sum_xl = wl.mul_add(x, sum_xl);
        }
        let (this_scale, this_min) = if candidate == 0 {
            (range.div(S::Vector::splat(MOST)), min)
        } else {
            let determinant = sum_w.mul(sum_l2).sub(sum_l.mul(sum_l));
            let scale = sum_w.mul(sum_xl).sub(sum_x.mul(sum_l)).div(determinant);
            let min = sum_l2.mul(sum_x).sub(sum_l.mul(sum_xl)).div(determinant);
            // Minimums above zero are not representable.
            let scale = zero.less(min, sum_xl.div(sum_l2), scale);
            (scale, min.min(zero))
        };
        let mut error = zero;
        for ((x, w), quant) in x.iter().zip(&weights).zip(&quants) {
            let (x, w) = (S::Vector::load(x), S::Vector::load(w));
            let off = this_scale.mul_add(S::Vector::load(quant), this_min).sub(x);
            error = w.mul(off).mul_add(off, error);
        }
        // A singular fit is NaN, which is less than nothing.
        scale = error.less(least, this_scale, scale);
        low = error.less(least, this_min, low);
        least = error.less(least, error, least);
    }
    let scale = min.less(max, scale, zero);
    (scale.lanes(), zero.sub(low).lanes())
}

/// A block with eight scales and minimums, in six bits each.
#[inline(always)]
fn write_q4_k(values: &[f32], scales: &[f32], mins: &[f32], out: &mut [u8]) {
    const MOST: f32 = 63.0;
    let largest = |v: &[f32]| v.iter().fold(0.0_f32, |m, v| m.max(*v));
    let (d, dmin) = (largest(scales) / MOST, largest(mins) / MOST);
    let six = |v: f32, d: f32| match d > 0.0 {
        true => nearest(v, d, 0.0, MOST),
        false => 0,
    };
    out.fill(0);
    for run in 0..8 {
        let (scale, min) = (six(scales[run], d), six(mins[run], dmin));
        let packed = &mut out[4..16];
        if run < 4 {
            packed[run] |= scale;
            packed[run + 4] |= min;
        } else {
            packed[run + 4] = scale & 15 | min << 4;
            packed[run - 4] |= scale >> 4 << 6;
            packed[run] |= min >> 4 << 6;
        }
    }
    let (d, dmin) = (f16::from_f32(d), f16::from_f32(dmin));
    out[..2].copy_from_slice(&d.to_le_bytes());
    out[2..4].copy_from_slice(&dmin.to_le_bytes());
    for (run, values) in values.chunks_exact(32).enumerate() {
        let (scale, min) = super::scale_and_min(&out[4..16], run);
        let scale = d.to_f32() * f32::from(scale);
        if scale == 0.0 {
            continue;
        }
        let min = dmin.to_f32() * f32::from(min);
        let quants = &mut out[16 + run / 2 * 32..][..32];
        for (q, v) in quants.iter_mut().zip(values) {
            *q |= nearest(v + min, scale, 0.0, 15.0) << (run % 2 * 4);
        }
    }
}

struct Q6K<'a> {
    values: &'a [f32],
    out: &'a mut [u8],
}

impl Kernel for Q6K<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        const SCALARS: usize = BlockType::Q6K.scalars();
        const BYTES: usize = BlockType::Q6K.bytes();
        let blocks = self.values.chunks_exact(SCALARS);
        for (values, out) in blocks.zip(self.out.chunks_exact_mut(BYTES)) {
            write_q6_k(values, &scales::<S>(&lanes(values)), out);
        }
    }
}

/// Scales of sixteen runs of 16 scalars `scale q`, `q` in -32..=31:
/// `make_qx_quants` with 19 candidates, weighted by squares.
#[inline(always)]
fn scales<S: Simd>(x: &[[f32; LANES]; 16]) -> [f32; LANES] {
    let zero = S::Vector::splat(0.0);
    let (mut size, mut largest) = (zero, zero);
    for x in x {
        let x = S::Vector::load(x);
        let own = x.max(zero.sub(x));
        largest = size.less(own, x, largest);
        size = size.max(own);
    }
    let nothing = S::Vector::splat(NOTHING);
    let divisor = size.less(nothing, S::Vector::splat(1.0), largest);
    let (mut scale, mut best) = (zero, zero);
    for candidate in std::iter::once(0).chain(-9..=-1).chain(1..=9) {
        let steps = -(32.0 + 0.1 * candidate as f32);
        let inverse = S::Vector::splat(steps).div(divisor);
        let (mut sum_lx, mut sum_l2) = (zero, zero);
        for x in x {
            let x = S::Vector::load(x);
            let l = inverse.mul(x).round();
            let l = l.max(S::Vector::splat(-32.0)).min(S::Vector::splat(31.0));
            let wl = x.mul(x).mul(l);
            sum_lx = wl.mul_add(x, sum_lx);
            sum_l2 = wl.mul_add(l, sum_l2);
        }
        // What is explained, which must grow.
        let better = best.mul(sum_l2);
        let this = sum_lx.div(sum_l2);
        let explained = sum_lx.mul(sum_lx);
        scale = better.less(explained, this, scale);
        best = better.less(explained, this.mul(sum_lx), best);
    }
    size.less(nothing, zero, scale).lanes()
}

/// A block with sixteen scales, a signed byte each.
#[inline(always)]
fn write_q6_k(values: &[f32], scales: &[f32; LANES], out: &mut [u8]) {
    out.fill(0);
    let larger = |m: f32, v: &f32| if v.abs() > m.abs() { *v } else { m };
    let largest = scales.iter().fold(0.0, larger);
    if largest.abs() < NOTHING {
        return;
    }
    // The largest is -128, whatever its sign.
    let d = largest / -128.0;
    let half = f16::from_f32(d);
    out[208..].copy_from_slice(&half.to_le_bytes());
    for (run, values) in values.chunks_exact(16).enumerate() {
        let scale = nearest(scales[run], d, -128.0, 127.0);
        out[192 + run] = scale;
        let scale = half.to_f32() * f32::from(scale as i8);
        if scale == 0.0 {
            continue;
        }
        let mut quants = [0; 16];
        for (q, v) in quants.iter_mut().zip(values) {
            *q = nearest(*v, scale, -32.0, 31.0).wrapping_add(32);
        }
        // As they are read: see `q6_k` beside.
        let (half, quarter, part) = (run / 8, run % 8 / 2, run % 2 * 16);
        for (l, q) in quants.into_iter().enumerate() {
            let l = part + l;
            out[half * 64 + quarter % 2 * 32 + l] |= (q & 15) << (quarter / 2 * 4);
            out[128 + half * 32 + l] |= q >> 4 << (quarter * 2);
        }
    }
}
