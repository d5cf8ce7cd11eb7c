//! The small rest: channel means, channel gates, SwiGLU.

use rayon::prelude::*;

use super::element::Element;
use super::math::activate;
use super::simd::{Kernel, Simd, dispatch};
use super::{produce, with_scratch};
use crate::ops::Act;

/// Rows handled by one task.
const ROWS: usize = 64;

/// Mean over the `rows` rows of each image of a channels-last map; one row of
/// `channels` per image.
pub fn row_mean<T: Element>(x: &[T], rows: usize, channels: usize) -> Vec<T> {
    let images = x.len() / (rows * channels);
    produce(images * channels, |out| {
        for image in 0..images {
            let x = &x[image * rows * channels..][..rows * channels];
            let partial: Vec<Vec<f32>> = x
                .par_chunks(ROWS * channels)
                .map(|rows| dispatch(SumRows(rows, channels)))
                .collect();
            // Summed in a fixed order, whatever the number of threads.
            let mut total = vec![0.0_f32; channels];
            for sums in partial {
                for (t, s) in total.iter_mut().zip(sums) {
                    *t += s;
                }
            }
            for t in &mut total {
                *t /= rows as f32;
            }
            // SAFETY: images do not overlap.
            T::narrow(&total, unsafe { out.slice(image * channels, channels) });
        }
    })
}

struct SumRows<'a, T>(&'a [T], usize);

impl<T: Element> Kernel for SumRows<'_, T> {
    type Out = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<f32> {
        let mut sums = vec![0.0; self.1];
        for row in self.0.chunks_exact(self.1) {
            for (s, v) in sums.iter_mut().zip(row) {
                *s += v.get();
            }
        }
        sums
    }
}

/// `act(x * gate)`: every row of an image times the image's gate row.
pub fn gate<T: Element>(x: &[T], gate: &[T], channels: usize, act: Act) -> Vec<T> {
    struct Gate<'a, T>(&'a [T], &'a [T], Act, &'a mut [f32], &'a mut [T]);
    impl<T: Element> Kernel for Gate<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self) {
            let Gate(x, gate, act, line, dst) = self;
            for (x, dst) in x
                .chunks_exact(gate.len())
                .zip(dst.chunks_exact_mut(gate.len()))
            {
                T::widen(x, line);
                for (v, g) in line.iter_mut().zip(gate) {
                    *v *= g.get();
                }
                activate::<S>(act, line);
                T::narrow(line, dst);
            }
        }
    }
    let images = gate.len() / channels;
    let per_image = x.len() / images;
    produce(x.len(), |out| {
        let tasks = per_image.div_ceil(ROWS * channels);
        (0..images * tasks).into_par_iter().for_each(|task| {
            let (image, part) = (task / tasks, task % tasks);
            let start = image * per_image + part * ROWS * channels;
            let len = (ROWS * channels).min((image + 1) * per_image - start);
            // SAFETY: tasks write disjoint rows.
            let dst = unsafe { out.slice(start, len) };
            let gate = &gate[image * channels..][..channels];
            with_scratch(channels, |line| {
                dispatch(Gate(&x[start..start + len], gate, act, line, dst));
            });
        });
    })
}

/// `silu(gate) * up` of rows `[gate | up]`, each `width` long.
pub fn swiglu<T: Element>(x: &[T], width: usize) -> Vec<T> {
    struct Swiglu<'a, T>(&'a [T], &'a mut [f32], &'a mut [T]);
    impl<T: Element> Kernel for Swiglu<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self) {
            let width = self.2.len();
            let (gate, up) = self.1.split_at_mut(width);
            T::widen(&self.0[..width], gate);
            T::widen(&self.0[width..], up);
            activate::<S>(Act::Silu, gate);
            for (g, u) in gate.iter_mut().zip(up.iter()) {
                *g *= u;
            }
            T::narrow(gate, self.2);
        }
    }
    let rows = x.len() / (2 * width);
    produce(rows * width, |out| {
        (0..rows).into_par_iter().for_each(|r| {
            // SAFETY: rows do not overlap.
            let dst = unsafe { out.slice(r * width, width) };
            with_scratch(2 * width, |line| {
                dispatch(Swiglu(&x[r * 2 * width..][..2 * width], line, dst));
            });
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_gates_and_swiglu_agree_with_their_formulas() {
        let x: Vec<f32> = (0..2 * 100 * 3).map(|i| (i % 17) as f32 - 8.0).collect();
        let mean = row_mean(&x, 100, 3);
        for image in 0..2 {
            for c in 0..3 {
                let sum: f32 = (0..100).map(|r| x[(image * 100 + r) * 3 + c]).sum();
                assert!((mean[image * 3 + c] - sum / 100.0).abs() < 1e-5);
            }
        }
        let gated = gate(&x, &[1.0, 2.0, 3.0, -1.0, 0.0, 0.5], 3, Act::Relu);
        assert_eq!(gated[4], (x[4] * 2.0).max(0.0));
        assert_eq!(gated[300], (-x[300]).max(0.0));
        assert_eq!(gated[599], (x[599] * 0.5).max(0.0));
        let y = swiglu(&[1.0_f32, -2.0, 3.0, 4.0], 2);
        assert!((y[0] - 0.731_058_6 * 3.0).abs() < 1e-5);
        assert!((y[1] + 2.0 * 0.119_202_92 * 4.0).abs() < 1e-5);
    }
}
