//! Row norms: layer norm and RMS norm over the last axis.

use std::ops::Range;

use rayon::prelude::*;

use super::element::Element;
use super::math::activate_vector;
use super::simd::{Kernel, LANES, Simd, Vector, dispatch};
use super::{produce, rows_per_task};
use crate::ops::Act;

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `(x - mean) / sqrt(var + eps) * w + b`, biased variance.
    Layer,
    /// `x / sqrt(mean(x^2) + eps) * w`.
    Rms,
}

/// Normalises and activates every row of `x` (`rows * weight.len()` scalars).
pub fn norm<T: Element>(
    x: &[T],
    (weight, bias): (&[T], Option<&[T]>),
    kind: Kind,
    eps: f32,
    act: Act,
) -> Vec<T> {
    let d = weight.len();
    let len = rows_per_task(x.len() / d) * d;
    produce(x.len(), |out| {
        x.par_chunks(len).enumerate().for_each(|(task, x)| {
            dispatch(NormRows {
                x,
                weight,
                bias,
                kind,
                eps,
                act,
                // SAFETY: tasks write disjoint rows.
                dst: unsafe { out.slice(task * len, x.len()) },
            });
        });
    })
}

struct NormRows<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    bias: Option<&'a [T]>,
    kind: Kind,
    eps: f32,
    act: Act,
    dst: &'a mut [T],
}

/// The sum of `x - mean`, or of its squares, in several independent sums,
/// which hide the latency of addition.
#[inline(always)]
fn sum<S: Simd, T: Element, const SQUARED: bool>(x: &[T], mean: f32) -> f32 {
    const SUMS: usize = 4;
    let mut sums = [S::Vector::splat(0.0); SUMS];
    let center = S::Vector::splat(mean);
    let runs = x.chunks_exact(SUMS * LANES);
    let vectors = runs.remainder().chunks_exact(LANES);
    let mut total = 0.0;
    for v in vectors.remainder() {
        let v = v.get() - mean;
        total += if SQUARED { v * v } else { v };
    }
    for run in runs {
        for (i, sum) in sums.iter_mut().enumerate() {
            let v = T::load::<S::Vector>(&run[i * LANES..]).sub(center);
            *sum = if SQUARED {
                v.mul_add(v, *sum)
            } else {
                sum.add(v)
            };
        }
    }
    for vector in vectors {
        let v = T::load::<S::Vector>(vector).sub(center);
        sums[0] = if SQUARED {
            v.mul_add(v, sums[0])
        } else {
            sums[0].add(v)
        };
    }
    let [a, b, c, d] = sums;
    total + a.add(b).add(c.add(d)).sum()
}

impl<T: Element> Kernel for NormRows<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        let d = self.weight.len();
        let whole = d / LANES * LANES;
        for first in (0..self.x.len()).step_by(d) {
            let row = &self.x[first..first + d];
            let mean = match self.kind {
                Kind::Layer => sum::<S, T, false>(row, 0.0) / d as f32,
                Kind::Rms => 0.0,
            };
            let square = sum::<S, T, true>(row, mean) / d as f32;
            let scale = 1.0 / (square + self.eps).sqrt();
            let by = (S::Vector::splat(mean), S::Vector::splat(scale));
            for i in (0..whole).step_by(LANES) {
                self.finish::<S>(first, i..i + LANES, by);
            }
            if whole < d {
                self.finish::<S>(first, whole..d, by);
            }
        }
    }
}

impl<T: Element> NormRows<'_, T> {
    /// Writes at most a vector of the row that starts at `first`.
    #[inline(always)]
    fn finish<S: Simd>(
        &mut self,
        first: usize,
        at: Range<usize>,
        (mean, scale): (S::Vector, S::Vector),
    ) {
        let here = first + at.start..first + at.end;
        let w = T::load(&self.weight[at.clone()]);
        let v = T::load::<S::Vector>(&self.x[here.clone()]);
        let v = v.sub(mean).mul(scale);
        let v = match self.bias {
            Some(bias) => v.mul_add(w, T::load(&bias[at])),
            None => v.mul(w),
        };
        T::store(activate_vector::<S>(self.act, v), &mut self.dst[here]);
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::simd::at_every_level;
    use super::super::test_numbers::{numbers, stored};
    use super::*;

    fn check<T: Element>(rows: usize, d: usize, tolerance: f64) {
        let x: Vec<f32> = numbers(rows * d, 1).iter().map(|v| 3.0 * v + 1.0).collect();
        let x = stored::<T>(&x);
        let w = stored::<T>(&numbers(d, 2));
        let b = stored::<T>(&numbers(d, 3));
        let layer = norm(&x, (&w, Some(&b)), Kind::Layer, 1e-5, Act::None);
        let active = norm(&x, (&w, Some(&b)), Kind::Layer, 1e-5, Act::Relu);
        let rms = norm(&x, (&w, None), Kind::Rms, 1e-6, Act::None);
        for at in 0..rows * d {
            let wide = |v: &[T], i: usize| f64::from(v[i].get());
            let row = &x[at / d * d..][..d];
            let mean = |f: &dyn Fn(f64) -> f64| {
                row.iter().map(|v| f(f64::from(v.get()))).sum::<f64>() / d as f64
            };
            let m = mean(&|v| v);
            let var = mean(&|v| (v - m).powi(2));
            let i = at % d;
            let l = (wide(&x, at) - m) / (var + 1e-5).sqrt() * wide(&w, i) + wide(&b, i);
            let r = wide(&x, at) / (mean(&|v| v * v) + 1e-6).sqrt() * wide(&w, i);
            for (got, expected) in [(&layer, l), (&active, l.max(0.0)), (&rms, r)] {
                let off = (wide(got, at) - expected).abs();
                assert!(
                    off < tolerance * (1.0 + expected.abs()),
                    "{d}: off by {off}"
                );
            }
        }
    }

    #[test]
    fn norms_agree_with_their_formulas_at_every_level() {
        at_every_level(|_| {
            for d in [1, 15, 16, 70, 129] {
                check::<f32>(5, d, 2e-6);
                check::<bf16>(5, d, 4e-3);
            }
        });
    }
}
