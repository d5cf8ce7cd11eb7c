//! Row norms: layer norm and RMS norm over the last axis.

use rayon::prelude::*;

use super::element::Element;
use super::simd::{Kernel, Simd, dispatch, fma};
use super::{produce, with_scratch};

/// Rows handled by one task.
const ROWS: usize = 32;

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `(x - mean) / sqrt(var + eps) * w + b`, biased variance.
    Layer,
    /// `x / sqrt(mean(x^2) + eps) * w`.
    Rms,
}

/// Normalises every row of `x` (`rows * weight.len()` scalars).
pub fn norm<T: Element>(x: &[T], weight: &[T], bias: Option<&[T]>, kind: Kind, eps: f32) -> Vec<T> {
    let d = weight.len();
    let rows = x.len() / d;
    produce(x.len(), |out| {
        (0..rows.div_ceil(ROWS)).into_par_iter().for_each(|task| {
            let first = task * ROWS;
            let n = ROWS.min(rows - first);
            // SAFETY: tasks write disjoint rows.
            let dst = unsafe { out.slice(first * d, n * d) };
            with_scratch(d, |line| {
                dispatch(NormRows {
                    x: &x[first * d..(first + n) * d],
                    weight,
                    bias,
                    kind,
                    eps,
                    line,
                    dst,
                });
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
    line: &'a mut [f32],
    dst: &'a mut [T],
}

/// A sum over lanes, so that the compiler may vectorise it.
#[inline(always)]
fn sum(xs: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 32;
    let mut sums = [0.0_f32; LANES];
    let chunks = xs.chunks_exact(LANES);
    let tail: f32 = chunks.remainder().iter().map(|x| f(*x)).sum();
    for chunk in chunks {
        for i in 0..LANES {
            sums[i] += f(chunk[i]);
        }
    }
    sums.iter().sum::<f32>() + tail
}

impl<T: Element> Kernel for NormRows<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let d = self.weight.len();
        for (x, dst) in self.x.chunks_exact(d).zip(self.dst.chunks_exact_mut(d)) {
            let line = &mut self.line[..d];
            T::widen(x, line);
            let mean = match self.kind {
                Kind::Layer => sum(line, |v| v) / d as f32,
                Kind::Rms => 0.0,
            };
            let square = sum(line, |v| (v - mean) * (v - mean)) / d as f32;
            let scale = 1.0 / (square + self.eps).sqrt();
            for (v, w) in line.iter_mut().zip(self.weight) {
                *v = (*v - mean) * scale * w.get();
            }
            if let Some(bias) = self.bias {
                for (v, b) in line.iter_mut().zip(bias) {
                    *v = fma::<S>(1.0, *v, b.get());
                }
            }
            T::narrow(line, dst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_agree_with_their_formulas() {
        let d = 70;
        let x: Vec<f32> = (0..3 * d).map(|i| ((i * 37) % 101) as f32 / 10.0).collect();
        let w: Vec<f32> = (0..d).map(|i| 0.5 + i as f32 / 100.0).collect();
        let b: Vec<f32> = (0..d).map(|i| i as f32 / 50.0).collect();
        let layer = norm(&x, &w, Some(&b), Kind::Layer, 1e-5);
        let rms = norm(&x, &w, None, Kind::Rms, 1e-6);
        for r in 0..3 {
            let row = &x[r * d..(r + 1) * d];
            let mean = row.iter().sum::<f32>() / d as f32;
            let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / d as f32;
            let ms = row.iter().map(|v| v * v).sum::<f32>() / d as f32;
            for i in 0..d {
                let l = (row[i] - mean) / (var + 1e-5).sqrt() * w[i] + b[i];
                let m = row[i] / (ms + 1e-6).sqrt() * w[i];
                assert!((layer[r * d + i] - l).abs() < 1e-5);
                assert!((rms[r * d + i] - m).abs() < 1e-5);
            }
        }
    }
}
