//! Depthwise convolution on channels-last maps, the operation that FastViT
//! networks are mostly made of and that candle would split into one
//! convolution per channel.
//!
//! The output is cut into parts: a few rows and columns of a few blocks of
//! [`LANES`] channels. `band` computes a part; here is how work is cut and
//! how kernels are stored.

mod band;

use rayon::prelude::*;

use super::element::Element;
use super::simd::{LANES, dispatch};
use super::{Scratch, produce};
use crate::ops::Act;
use band::Band;

/// Geometry of a depthwise convolution.
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
    /// Square kernel size.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Zero padding on every side; less than the kernel.
    pub padding: usize,
}

impl Geometry {
    /// Output channels.
    pub fn out_channels(&self) -> usize {
        self.channels * self.multiplier
    }

    /// Output side of an input side.
    pub fn out_side(&self, side: usize) -> usize {
        (side + 2 * self.padding - self.kernel) / self.stride + 1
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
    let image_in = g.height * g.width * g.channels;
    let blocks = oc.div_ceil(LANES);
    let part = Part::new(g, (oh, ow, blocks));
    let bands = oh.div_ceil(part.rows);
    let strips = ow.div_ceil(part.columns);
    let groups = blocks.div_ceil(part.blocks);
    produce(g.batch * oh * ow * oc, |out| {
        let tasks = g.batch * bands * strips * groups;
        (0..tasks).into_par_iter().for_each(|task| {
            // Channel groups of the same pixels follow each other.
            let (task, group) = (task / groups, task % groups);
            let (task, strip) = (task / strips, task % strips);
            let (image, band) = (task / bands, task % bands);
            let range = |i: usize, step: usize, end: usize| i * step..end.min((i + 1) * step);
            dispatch(Band {
                x: &x[image * image_in..][..image_in],
                packed,
                bias,
                act,
                g,
                window: &mut Scratch::take(part.window_floats(g)),
                out,
                image: image * oh * ow * oc,
                width: ow,
                channels: oc,
                rows: range(band, part.rows, oh),
                columns: range(strip, part.columns, ow),
                blocks: range(group, part.blocks, blocks),
            });
        });
    })
}

/// The size of a task's part of the output.
struct Part {
    rows: usize,
    columns: usize,
    /// Channel blocks.
    blocks: usize,
}

impl Part {
    /// Floats of a window that stays in the second-level cache.
    const WINDOW: usize = 96 * 1024;
    /// Channel blocks that are read together: whole cache lines in a row.
    const BLOCKS: usize = 8;
    /// Columns below which the border that is packed twice costs too much.
    const COLUMNS: usize = 32;
    /// Tasks for each thread, so that none waits long for another.
    const TASKS: usize = 4;

    /// Large parts, as neighbours pack their common inputs twice, but enough
    /// of them for the threads. The result does not depend on it.
    fn new(g: &Geometry, (oh, ow, blocks): (usize, usize, usize)) -> Part {
        let mut part = Part {
            rows: oh,
            columns: ow,
            blocks: blocks.min(Part::BLOCKS),
        };
        while part.window_floats(g) > Part::WINDOW && part.columns > Part::COLUMNS {
            part.columns = part.columns.div_ceil(2).next_multiple_of(8);
        }
        while part.window_floats(g) > Part::WINDOW && part.blocks > 2 {
            part.blocks = part.blocks.div_ceil(2).next_multiple_of(2);
        }
        let wanted = Part::TASKS * rayon::current_num_threads();
        let few = |part: &Part| {
            let parts = oh.div_ceil(part.rows) * ow.div_ceil(part.columns);
            g.batch * parts * blocks.div_ceil(part.blocks) < wanted
        };
        while few(&part) && part.rows > 4 * g.kernel {
            part.rows = part.rows.div_ceil(2).next_multiple_of(2);
        }
        while few(&part) && part.blocks > 2 {
            part.blocks = part.blocks.div_ceil(2).next_multiple_of(2);
        }
        while few(&part) && part.rows > 4 {
            part.rows = part.rows.div_ceil(2).next_multiple_of(2);
        }
        part
    }

    /// Size of the window that computes such a part.
    fn window_floats(&self, g: &Geometry) -> usize {
        self.blocks * band::window_rows(g) * band::window_columns(g, self.columns) * LANES
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::simd::at_every_level;
    use super::super::test_numbers::{numbers, stored};
    use super::*;

    /// Against a plain loop over the definition, at this thread's level.
    fn check<T: Element>(g: Geometry, act: Act, tolerance: f32) {
        let oc = g.out_channels();
        let x = stored::<T>(&numbers(g.batch * g.height * g.width * g.channels, 1));
        let w = numbers(oc * g.kernel * g.kernel, 2);
        let bias = stored::<T>(&numbers(oc, 3));
        let got = depthwise(&x, &pack_weight(&w, oc, g.kernel), &bias, act, &g);
        let (oh, ow, pad) = (g.out_side(g.height), g.out_side(g.width), g.padding);
        assert_eq!(got.len(), g.batch * oh * ow * oc);
        for (at, got) in got.iter().enumerate() {
            let (c, pixel) = (at % oc, at / oc);
            let (ox, oy, b) = (pixel % ow, pixel / ow % oh, pixel / ow / oh);
            let mut expected = bias[c].get();
            for ky in 0..g.kernel {
                for kx in 0..g.kernel {
                    let y = (oy * g.stride + ky).wrapping_sub(pad);
                    let xx = (ox * g.stride + kx).wrapping_sub(pad);
                    if y < g.height && xx < g.width {
                        let pixel = (b * g.height + y) * g.width + xx;
                        expected += x[pixel * g.channels + c / g.multiplier].get()
                            * w[(c * g.kernel + ky) * g.kernel + kx];
                    }
                }
            }
            if act == Act::Relu {
                expected = expected.max(0.0);
            }
            let got = got.get();
            let off = (got - expected).abs();
            assert!(
                off <= tolerance * (1.0 + expected.abs()),
                "{g:?} at {at}: {got}, not {expected}"
            );
        }
    }

    #[test]
    fn every_level_agrees_with_the_definition() {
        // Sides below, at and above the tiles' two rows and eight columns;
        // channels that leave partial, odd and paired blocks.
        let maps = [
            (1, 1, 16),
            (2, 4, 1),
            (3, 5, 20),
            (4, 4, 32),
            (8, 8, 80),
            (9, 13, 17),
            (16, 10, 48),
        ];
        at_every_level(|_| {
            for (kernel, stride) in [(3, 1), (3, 2), (7, 1), (7, 2), (5, 1), (5, 3)] {
                for multiplier in [1, 2, 3] {
                    for (height, width, channels) in maps {
                        let g = Geometry {
                            batch: 2,
                            height,
                            width,
                            channels,
                            multiplier,
                            kernel,
                            stride,
                            padding: kernel / 2,
                        };
                        check::<f32>(g, Act::None, 1e-5);
                        check::<bf16>(g, Act::Relu, 6e-3);
                    }
                }
            }
        });
    }

    #[test]
    fn windows_side_by_side_need_no_padding() {
        at_every_level(|_| {
            for (kernel, height, width, channels) in [
                (2, 6, 8, 32),
                (4, 8, 4, 20),
                (8, 16, 24, 80),
                // Many parts; the last rows and columns fill no window.
                (8, 203, 331, 48),
                (3, 9, 30, 17),
            ] {
                let g = Geometry {
                    batch: 2,
                    height,
                    width,
                    channels,
                    multiplier: 1,
                    kernel,
                    stride: kernel,
                    padding: 0,
                };
                check::<f32>(g, Act::None, 1e-5);
                check::<bf16>(g, Act::Relu, 6e-3);
            }
        });
    }

    #[test]
    fn many_parts_join_without_a_seam() {
        for (kernel, stride, multiplier) in [(7, 1, 1), (7, 2, 2), (3, 2, 1)] {
            check::<f32>(
                Geometry {
                    batch: 1,
                    height: 75,
                    width: 310,
                    channels: 48,
                    multiplier,
                    kernel,
                    stride,
                    padding: kernel / 2,
                },
                Act::Relu,
                1e-5,
            );
        }
    }

    #[test]
    fn the_result_does_not_depend_on_the_threads() {
        let g = Geometry {
            batch: 1,
            height: 33,
            width: 70,
            channels: 160,
            multiplier: 1,
            kernel: 7,
            stride: 1,
            padding: 3,
        };
        let x = numbers(g.height * g.width * g.channels, 4);
        let packed = pack_weight(&numbers(160 * 49, 5), 160, 7);
        let bias = numbers(160, 6);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.expect("threads can be started");
            pool.install(|| depthwise(&x, &packed, &bias, Act::Gelu, &g))
        };
        assert_eq!(on(1), on(7));
    }
}
