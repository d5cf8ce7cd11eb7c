//! Means over windows of a channels-last map.

use std::ops::Range;

use rayon::prelude::*;

use super::element::Element;
use super::produce;
use super::simd::{Kernel, LANES, Simd, Vector, dispatch};
use crate::ops::Pool;

/// Means over the windows of images `(height, width, channels)`, each of
/// `output` windows down and across; see [`Pool`]. Channels-last output.
pub fn average_pool<T: Element>(
    x: &[T],
    (height, width, channels): (usize, usize, usize),
    (down, across): (usize, usize),
    windows: Pool,
) -> Vec<T> {
    let image = height * width * channels;
    let line = across * channels;
    let lines = x.len() / image * down;
    produce(lines * line, |out| {
        (0..lines).into_par_iter().for_each(|task| {
            dispatch(Line {
                x: &x[task / down * image..][..image],
                width,
                channels,
                windows,
                rows: windows.window(task % down, height),
                // SAFETY: tasks write disjoint lines.
                dst: unsafe { out.slice(task * line, line) },
            });
        });
    })
}

/// One line of windows of an image, which hold its `rows`.
struct Line<'a, T> {
    x: &'a [T],
    width: usize,
    channels: usize,
    windows: Pool,
    rows: Range<usize>,
    dst: &'a mut [T],
}

impl<T: Element> Kernel for Line<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let pixels = self.dst.chunks_exact_mut(self.channels).enumerate();
        for (at, dst) in pixels {
            let columns = self.windows.window(at, self.width);
            let share = 1.0 / (self.rows.len() * columns.len()) as f32;
            for (i, dst) in dst.chunks_mut(LANES).enumerate() {
                let mut sum = S::Vector::splat(0.0);
                for row in self.rows.clone() {
                    for column in columns.clone() {
                        let pixel = (row * self.width + column) * self.channels;
                        sum = sum.add(T::load(&self.x[pixel + i * LANES..]));
                    }
                }
                T::store(sum.mul(S::Vector::splat(share)), dst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::simd::at_every_level;
    use super::super::test_numbers::{numbers, stored};
    use super::*;

    /// Against a plain loop over every tap, those outside of the map left out.
    fn check<T: Element>(
        (height, width, channels): (usize, usize, usize),
        p: Pool,
        tolerance: f32,
    ) {
        let images = 2;
        let x = stored::<T>(&numbers(images * height * width * channels, 1));
        let output = (p.out_side(height).unwrap(), p.out_side(width).unwrap());
        let got = average_pool(&x, (height, width, channels), output, p);
        let (down, across) = output;
        assert_eq!(got.len(), images * down * across * channels);
        for (i, got) in got.iter().enumerate() {
            let (c, pixel) = (i % channels, i / channels);
            let (ox, oy, b) = (pixel % across, pixel / across % down, pixel / across / down);
            let (mut sum, mut count) = (0.0, 0.0);
            for ky in 0..p.kernel {
                for kx in 0..p.kernel {
                    let y = (oy * p.stride + ky).wrapping_sub(p.padding);
                    let xx = (ox * p.stride + kx).wrapping_sub(p.padding);
                    if y < height && xx < width {
                        sum += x[((b * height + y) * width + xx) * channels + c].get();
                        count += 1.0;
                    }
                }
            }
            let off = (got.get() - sum / count).abs();
            assert!(off <= tolerance, "{p:?} at {i}: off by {off}");
        }
    }

    #[test]
    fn means_agree_with_the_definition_at_every_level() {
        let halving = Pool {
            kernel: 3,
            stride: 2,
            padding: 1,
        };
        at_every_level(|_| {
            for map in [(4, 4, 1), (5, 8, 20), (8, 9, 48)] {
                for p in [halving, Pool::squares(2), Pool::squares(4)] {
                    check::<f32>(map, p, 1e-6);
                    check::<bf16>(map, p, 2e-3);
                }
            }
        });
    }
}
