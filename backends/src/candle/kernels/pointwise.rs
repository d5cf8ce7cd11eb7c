//! The small rest: channel means, channel gates, learned positions, gated units.

use rayon::prelude::*;

use super::element::Element;
use super::math::activate_vector;
use super::simd::{Kernel, LANES, Simd, Vector, dispatch};
use super::{produce, rows_per_task};
use crate::ops::Act;

/// Channels of one task of a mean: whole cache lines.
const CHANNELS: usize = 4 * LANES;
/// Rows summed before they are added to the total, which keeps long sums exact.
const ROWS: usize = 64;

/// Mean over the `rows` rows of each image of a channels-last map; one row of
/// `channels` per image.
pub fn row_mean<T: Element>(x: &[T], rows: usize, channels: usize) -> Vec<T> {
    let images = x.len() / (rows * channels);
    let parts = channels.div_ceil(CHANNELS);
    produce(images * channels, |out| {
        (0..images * parts).into_par_iter().for_each(|task| {
            let (image, first) = (task / parts, task % parts * CHANNELS);
            let count = CHANNELS.min(channels - first);
            dispatch(Mean {
                x: &x[image * rows * channels..][..rows * channels],
                channels,
                first,
                // SAFETY: tasks write disjoint channels.
                dst: unsafe { out.slice(image * channels + first, count) },
            });
        });
    })
}

/// Means of the channels from `first` on, as many as `dst` holds.
struct Mean<'a, T> {
    x: &'a [T],
    channels: usize,
    first: usize,
    dst: &'a mut [T],
}

impl<T: Element> Kernel for Mean<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let scale = S::Vector::splat(self.channels as f32 / self.x.len() as f32);
        for (i, dst) in self.dst.chunks_mut(LANES).enumerate() {
            let channel = self.first + i * LANES;
            let mut total = S::Vector::splat(0.0);
            for rows in self.x.chunks(ROWS * self.channels) {
                let mut sum = S::Vector::splat(0.0);
                for row in rows.chunks_exact(self.channels) {
                    sum = sum.add(T::load(&row[channel..]));
                }
                total = total.add(sum);
            }
            T::store(total.mul(scale), dst);
        }
    }
}

/// `act(x * gate)`: every row of an image times the image's gate row.
pub fn gate<T: Element>(x: &[T], gate: &[T], channels: usize, act: Act) -> Vec<T> {
    struct Gate<'a, T>(&'a [T], &'a [T], Act, &'a mut [T]);
    impl<T: Element> Kernel for Gate<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self) {
            let Gate(x, gate, act, dst) = self;
            let channels = gate.len();
            for (x, dst) in x.chunks_exact(channels).zip(dst.chunks_exact_mut(channels)) {
                for (i, dst) in dst.chunks_mut(LANES).enumerate() {
                    let v = T::load::<S::Vector>(&x[i * LANES..]);
                    let v = v.mul(T::load(&gate[i * LANES..]));
                    T::store(activate_vector::<S>(act, v), dst);
                }
            }
        }
    }
    let images = gate.len() / channels;
    let per_image = x.len() / images;
    let len = rows_per_task(per_image / channels) * channels;
    let tasks = per_image.div_ceil(len);
    produce(x.len(), |out| {
        (0..images * tasks).into_par_iter().for_each(|task| {
            let (image, part) = (task / tasks, task % tasks);
            let start = image * per_image + part * len;
            let x = &x[start..(image + 1) * per_image];
            let x = &x[..len.min(x.len())];
            let gate = &gate[image * channels..][..channels];
            // SAFETY: tasks write disjoint rows.
            dispatch(Gate(x, gate, act, unsafe { out.slice(start, x.len()) }));
        });
    })
}

/// `x + table` for every image of `x`, each as long as the table.
pub fn add_table<T: Element>(x: &[T], table: &[T]) -> Vec<T> {
    struct Add<'a, T>(&'a [T], &'a [T], &'a mut [T]);
    impl<T: Element> Kernel for Add<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self) {
            let Add(x, table, dst) = self;
            for (i, dst) in dst.chunks_mut(LANES).enumerate() {
                let v = T::load::<S::Vector>(&x[i * LANES..]);
                T::store(v.add(T::load(&table[i * LANES..])), dst);
            }
        }
    }
    /// Scalars of a task.
    const RUN: usize = 1 << 14;
    let (len, tasks) = (table.len(), table.len().div_ceil(RUN));
    produce(x.len(), |out| {
        (0..x.len() / len * tasks).into_par_iter().for_each(|task| {
            let (image, first) = (task / tasks, task % tasks * RUN);
            let table = &table[first..len.min(first + RUN)];
            let start = image * len + first;
            let x = &x[start..][..table.len()];
            // SAFETY: tasks write disjoint runs.
            dispatch(Add(x, table, unsafe { out.slice(start, x.len()) }));
        });
    })
}

/// `act(gate) * up` of rows `[gate | up]`, each `width` long.
pub fn glu<T: Element>(x: &[T], width: usize, act: Act) -> Vec<T> {
    struct Glu<'a, T>(&'a [T], usize, Act, &'a mut [T]);
    impl<T: Element> Kernel for Glu<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self) {
            let Glu(x, width, act, dst) = self;
            for (x, dst) in x.chunks_exact(2 * width).zip(dst.chunks_exact_mut(width)) {
                let (gate, up) = x.split_at(width);
                for (i, dst) in dst.chunks_mut(LANES).enumerate() {
                    // A partial vector of `gate` must not run on into `up`.
                    let at = i * LANES..i * LANES + dst.len();
                    let g = T::load::<S::Vector>(&gate[at.clone()]);
                    let u = T::load::<S::Vector>(&up[at]);
                    T::store(activate_vector::<S>(act, g).mul(u), dst);
                }
            }
        }
    }
    let rows = x.len() / (2 * width);
    let step = rows_per_task(rows);
    produce(rows * width, |out| {
        x.par_chunks(step * 2 * width)
            .enumerate()
            .for_each(|(task, x)| {
                // SAFETY: tasks write disjoint rows.
                let dst = unsafe { out.slice(task * step * width, x.len() / 2) };
                dispatch(Glu(x, width, act, dst));
            });
    })
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::simd::at_every_level;
    use super::super::test_numbers::{numbers, stored};
    use super::*;

    fn close<T: Element>(got: &[T], expected: impl Fn(usize) -> f64, tolerance: f64) {
        for (i, got) in got.iter().enumerate() {
            let (got, expected) = (f64::from(got.get()), expected(i));
            let off = (got - expected).abs();
            assert!(
                off <= tolerance * (1.0 + expected.abs()),
                "{i}: {got}, not {expected}"
            );
        }
    }

    fn check<T: Element>(rows: usize, channels: usize, tolerance: f64) {
        let images = 2;
        let x = stored::<T>(&numbers(images * rows * channels, 1));
        let factors = stored::<T>(&numbers(images * channels, 2));
        let wide = |v: &[T], i: usize| f64::from(v[i].get());

        let means = row_mean(&x, rows, channels);
        assert_eq!(means.len(), images * channels);
        let mean = |i: usize| {
            let first = i / channels * rows * channels + i % channels;
            let column = (0..rows).map(|r| wide(&x, first + r * channels));
            column.sum::<f64>() / rows as f64
        };
        close(&means, mean, tolerance);

        let table = &stored::<T>(&numbers(rows * channels, 3));
        let moved = add_table(&x, table);
        assert_eq!(moved.len(), x.len());
        close(
            &moved,
            |i| wide(&x, i) + wide(table, i % table.len()),
            tolerance,
        );

        let gated = gate(&x, &factors, channels, Act::Relu);
        assert_eq!(gated.len(), x.len());
        let product = |i: usize| {
            let factor = i / (rows * channels) * channels + i % channels;
            (wide(&x, i) * wide(&factors, factor)).max(0.0)
        };
        close(&gated, product, tolerance);

        // The same numbers as rows [gate | up].
        type Formula = fn(f64) -> f64;
        let silu: Formula = |g| g / (1.0 + (-g).exp());
        let relu: Formula = |g| g.max(0.0);
        for (act, formula) in [(Act::Silu, silu), (Act::Relu, relu)] {
            let y = glu(&x, channels, act);
            assert_eq!(y.len(), x.len() / 2);
            let unit = |i: usize| {
                let at = i / channels * 2 * channels + i % channels;
                formula(wide(&x, at)) * wide(&x, at + channels)
            };
            close(&y, unit, tolerance);
        }
    }

    #[test]
    fn means_gates_and_gated_units_agree_with_their_formulas_at_every_level() {
        at_every_level(|_| {
            for (rows, channels) in [(1, 1), (100, 3), (7, 64), (130, 83)] {
                check::<f32>(rows, channels, 1e-6);
                check::<bf16>(rows, channels, 4e-3);
            }
        });
    }
}
