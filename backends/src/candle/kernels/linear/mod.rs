//! Linear layers, pointwise and dense convolutions: a matrix product with a
//! packed weight whose bias, activation and residual are applied to each tile
//! as it leaves the registers.
//!
//! A task is a block of rows that fits the second-level cache by a group of
//! panels; the inner dimension is cut so that a panel fits beside it. One row
//! (decode) takes the same path: it reads the weight once, forwards. Two layers
//! with many rows between are one task per block ([`mlp`]).

mod blocks;
mod mlp;
mod product;
mod rows;

use rayon::prelude::*;

use self::product::{Place, Product, inner};
use super::element::Element;
use super::packed::Packing;
use super::produce;
use super::simd::{Kernel, Level, Simd, dispatch};
use crate::ops::Act;

pub use blocks::linear_blocks;
pub use mlp::mlp;
pub use rows::{Dense, Patches, Rows};

/// Bytes of the inner dimension between two visits to the sums.
const BLOCK_BYTES: usize = 1536;
/// The same for tile registers, which outrun the second-level cache: a panel
/// that long stays in the first.
const TILES_BLOCK_BYTES: usize = 1024;
/// Bytes of a task's left operand between two visits to the sums, which stay
/// in the second-level cache while panels pass by.
const LEFT_BYTES: usize = 384 * 1024;
/// Most columns of a task, where the inner dimension is cut and partial sums
/// wait for the rest.
const BLOCK_COLS: usize = 256;
/// Tasks per thread, for balance.
const TASKS: usize = 8;
/// Multiplications that outweigh starting a task.
const TASK_WORK: usize = 1 << 19;

/// A packed weight `(cols, width)`.
#[derive(Clone, Copy)]
pub struct Weight<'a, T> {
    /// As [`Packing::pack`] leaves it.
    pub data: &'a [T],
    /// Output features.
    pub cols: usize,
    /// How it is packed.
    pub packing: Packing,
}

impl<T: Element> Weight<'_, T> {
    /// Panics unless the weight and its bias have the sizes that kernels read
    /// without looking.
    fn check(&self, width: usize, epilogue: &Epilogue<'_, T>) {
        let Weight { cols, packing, .. } = *self;
        assert_eq!(packing, Packing::of::<T>(), "packed for another level");
        assert_eq!(self.data.len(), packing.len(cols, width));
        assert!(epilogue.bias.is_none_or(|b| b.len() == cols));
    }
}

/// What happens to a product before it is stored.
pub struct Epilogue<'a, T> {
    /// Added to every row.
    pub bias: Option<&'a [T]>,
    /// Applied after the bias.
    pub act: Act,
    /// Added after the activation, `rows * cols`.
    pub residual: Option<&'a [T]>,
}

/// `act(x W^T + bias) + residual` for `rows` rows of `x`; returns
/// `rows * cols` scalars.
pub fn linear<T: Element, R: Rows<T>>(
    x: &R,
    rows: usize,
    weight: &Weight<'_, T>,
    epilogue: &Epilogue<'_, T>,
) -> Vec<T> {
    let (width, cols, packing) = (x.width(), weight.cols, weight.packing);
    assert!(x.contiguous().is_none_or(|x| x.len() >= rows * width));
    weight.check(width, epilogue);
    assert!(epilogue.residual.is_none_or(|r| r.len() == rows * cols));
    let panels = packing.panels(cols);
    let wanted = (rows * cols * width / TASK_WORK).clamp(1, TASKS * rayon::current_num_threads());
    let block = row_block::<T>(rows, width);
    let blocks = rows.div_ceil(block);
    let cut = inner::<T>(width) < width;
    let fewest = if cut { cols.div_ceil(BLOCK_COLS) } else { 1 };
    let groups = wanted.div_ceil(blocks.max(1)).max(fewest).min(panels);
    let group = panels.div_ceil(groups);
    let groups = panels.div_ceil(group);
    produce(rows * cols, |out| {
        (0..blocks * groups).into_par_iter().for_each(|task| {
            let (row, panel) = (task / groups * block, task % groups * group);
            let product = Product {
                rows: block.min(rows - row),
                width,
                weight: *weight,
                panels: panel..(panel + group).min(panels),
                epilogue,
                out,
                place: Place {
                    row,
                    col: 0,
                    before: 0,
                    stride: cols,
                },
            };
            dispatch(Task {
                x,
                first: row,
                product,
            });
        });
    })
}

/// Rows of a task: equal blocks of whole tiles that stay in the second-level
/// cache, so that no task is left with a remainder.
fn row_block<T: Element>(rows: usize, width: usize) -> usize {
    let most = LEFT_BYTES / (inner::<T>(width) * size_of::<T>());
    let blocks = rows.div_ceil(most).max(1);
    let tile = Level::current().tile_rows(T::IS_BF16);
    rows.div_ceil(blocks)
        .next_multiple_of(tile)
        .min(rows.max(1))
}

/// A product with the rows of `x` from `first` on, as a function of its own.
struct Task<'a, T, R> {
    x: &'a R,
    first: usize,
    product: Product<'a, T>,
}

impl<T: Element, R: Rows<T>> Kernel for Task<'_, T, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        self.product.of::<S, R>(self.x, self.first);
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::at_every_level;
    use super::super::test_numbers::{numbers, stored};
    use super::*;
    use half::{bf16, f16};

    fn pack<T: Element>(w: &[T], cols: usize, width: usize) -> Vec<T> {
        Packing::of::<T>().pack(cols, width, |c, from, dst: &mut [T]| {
            dst.copy_from_slice(&w[c * width + from..][..dst.len()]);
        })
    }

    fn check<T: Element>(rows: usize, k: usize, cols: usize, tolerance: f32) {
        let x = stored::<T>(&numbers(rows * k, 1));
        let w = stored::<T>(&numbers(cols * k, 2));
        let bias = stored::<T>(&numbers(cols, 3));
        let residual = stored::<T>(&numbers(rows * cols, 4));
        let packing = Packing::of::<T>();
        let packed = pack(&w, cols, k);
        let got = linear(
            &Dense { data: &x, width: k },
            rows,
            &Weight {
                data: &packed,
                cols,
                packing,
            },
            &Epilogue {
                bias: Some(&bias),
                act: Act::Relu,
                residual: Some(&residual),
            },
        );
        for r in 0..rows {
            for c in 0..cols {
                let sum: f64 = (0..k)
                    .map(|i| f64::from(x[r * k + i].get()) * f64::from(w[c * k + i].get()))
                    .sum();
                let expected = (sum as f32 + bias[c].get()).max(0.0) + residual[r * cols + c].get();
                let off = (got[r * cols + c].get() - expected).abs();
                assert!(off < tolerance, "({r}, {c}): off by {off}");
            }
        }
    }

    #[test]
    fn agrees_with_the_definition() {
        at_every_level(|_| {
            for rows in [1, 3, 5, 23, 70, 300] {
                check::<f32>(rows, 67, 101, 2e-5);
                check::<f32>(rows, 130, 33, 2e-5);
                check::<bf16>(rows, 67, 33, 2e-2);
            }
            // Long enough for several runs of the inner dimension.
            check::<f32>(14, 1700, 530, 2e-4);
            check::<bf16>(14, 3301, 530, 1e-1);
            check::<f16>(14, 3301, 33, 2e-2);
            // Rows that fall into one set of the first-level cache.
            check::<f32>(29, 1024, 48, 2e-4);
            check::<bf16>(1, 200, 1000, 2e-2);
            check::<f16>(40, 64, 129, 3e-3);
        });
    }

    fn check_mlp<T: Element>(rows: usize, width: usize, hidden: usize, cols: usize) {
        let packing = Packing::of::<T>();
        let x = stored::<T>(&numbers(rows * width, 1));
        let up = pack(&stored::<T>(&numbers(hidden * width, 2)), hidden, width);
        let down = pack(&stored::<T>(&numbers(cols * hidden, 3)), cols, hidden);
        let biases = (
            stored::<T>(&numbers(hidden, 4)),
            stored::<T>(&numbers(cols, 5)),
        );
        let residual = stored::<T>(&numbers(rows * cols, 6));
        let layer = |data, cols| Weight {
            data,
            cols,
            packing,
        };
        let (first, second) = (layer(&up[..], hidden), layer(&down[..], cols));
        let gelu = Epilogue {
            bias: Some(&biases.0[..]),
            act: Act::Gelu,
            residual: None,
        };
        let add = Epilogue {
            bias: Some(&biases.1[..]),
            act: Act::None,
            residual: Some(&residual[..]),
        };
        let x = Dense { data: &x, width };
        let got = mlp(&x, rows, (&first, &gelu), (&second, &add));
        let between = linear(&x, rows, &first, &gelu);
        let between = Dense {
            data: &between,
            width: hidden,
        };
        let expected = linear(&between, rows, &second, &add);
        for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
            let off = (g.get() - e.get()).abs();
            let allowed = if T::IS_F32 { 1e-5 } else { 2e-2 };
            assert!(off <= allowed * e.get().abs().max(1.0), "{i}: {off}");
        }
    }

    #[test]
    fn two_layers_in_one_task_are_two_layers() {
        at_every_level(|_| {
            // Large enough not to fall back, with ends everywhere.
            check_mlp::<f32>(1009, 20, 1100, 17);
            check_mlp::<f32>(2771, 40, 240, 80);
            check_mlp::<bf16>(1501, 21, 1606, 33);
            check_mlp::<f32>(30, 20, 50, 17);
        });
    }

    #[test]
    fn a_dense_convolution_is_a_product_of_patches() {
        let (h, w, c, out) = (7, 6, 3, 5);
        let x = numbers(h * w * c, 5);
        let weight = numbers(out * 9 * c, 6);
        let (oh, ow) = (4, 3);
        let patches = Patches {
            data: &x,
            input: (h, w, c),
            output: (oh, ow),
            kernel: 3,
            stride: 2,
            padding: 1,
        };
        let plain = Epilogue {
            bias: None,
            act: Act::None,
            residual: None,
        };
        let packing = Packing::of::<f32>();
        let packed = pack(&weight, out, 9 * c);
        let weights = Weight {
            data: &packed,
            cols: out,
            packing,
        };
        let got = linear(&patches, oh * ow, &weights, &plain);
        for (i, got) in got.iter().enumerate() {
            let (pixel, o) = (i / out, i % out);
            let mut expected = 0.0;
            for ky in 0..3 {
                for kx in 0..3 {
                    let y = (pixel / ow * 2 + ky) as isize - 1;
                    let xx = (pixel % ow * 2 + kx) as isize - 1;
                    if y < 0 || xx < 0 || y >= h as isize || xx >= w as isize {
                        continue;
                    }
                    for ch in 0..c {
                        expected += x[(y as usize * w + xx as usize) * c + ch]
                            * weight[(o * 9 + ky * 3 + kx) * c + ch];
                    }
                }
            }
            assert!((got - expected).abs() < 1e-5);
        }
    }
}
