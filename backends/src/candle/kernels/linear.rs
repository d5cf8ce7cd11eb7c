//! Linear layers, pointwise and dense convolutions: a matrix product with a
//! packed weight whose bias, activation and residual are applied to each tile
//! as it leaves the registers.
//!
//! A task is a block of rows that fits the second-level cache by a group of
//! panels; the inner dimension is cut so that a panel fits beside it. One row
//! (decode) takes the same path: it reads the weight once, forwards.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::element::Element;
use super::math::activate_vector;
use super::packed::Packing;
use super::product::{
    Arithmetic, Bf16Pairs, Left, Right, Sums, TILE_FLOATS, Widening, tile, tile_rows,
};
use super::simd::{Kernel, LANES, Simd, Vector, dispatch};
use super::{Output, Scratch, produce};
use crate::ops::Act;

/// Most rows of a task.
const BLOCK_ROWS: usize = 120;
/// Bytes of the inner dimension between two visits to the sums.
const BLOCK_BYTES: usize = 3072;
/// Most columns of a task, where the inner dimension is cut and partial sums
/// wait for the rest.
const BLOCK_COLS: usize = 512;
/// Tasks per thread, for balance.
const TASKS: usize = 8;
/// Multiplications that outweigh starting a task.
const TASK_WORK: usize = 1 << 19;

/// Where the rows of the left operand come from.
pub trait Rows<T>: Sync {
    /// Row length.
    fn width(&self) -> usize;

    /// All rows as one contiguous slice, if they are stored so.
    fn contiguous(&self) -> Option<&[T]>;

    /// Writes scalars `from .. from + dst.len()` of a row.
    fn fill(&self, row: usize, from: usize, dst: &mut [T]);
}

/// Rows stored one after another.
pub struct Dense<'a, T> {
    /// `rows * width` scalars.
    pub data: &'a [T],
    /// Row length.
    pub width: usize,
}

impl<T: Element> Rows<T> for Dense<'_, T> {
    fn width(&self) -> usize {
        self.width
    }

    fn contiguous(&self) -> Option<&[T]> {
        Some(self.data)
    }

    fn fill(&self, row: usize, from: usize, dst: &mut [T]) {
        let at = row * self.width + from;
        dst.copy_from_slice(&self.data[at..at + dst.len()]);
    }
}

/// Patches of a channels-last map `(b, h, w, c)`, a row per output pixel in
/// the order `(ky, kx, c)`, zero outside the map.
pub struct Patches<'a, T> {
    /// The map.
    pub data: &'a [T],
    /// Height, width and channels of the map.
    pub input: (usize, usize, usize),
    /// Height and width of the output.
    pub output: (usize, usize),
    /// Square kernel size.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Zero padding.
    pub padding: usize,
}

impl<T: Element> Rows<T> for Patches<'_, T> {
    fn width(&self) -> usize {
        self.kernel * self.kernel * self.input.2
    }

    fn contiguous(&self) -> Option<&[T]> {
        None
    }

    fn fill(&self, row: usize, from: usize, dst: &mut [T]) {
        let (h, w, c) = self.input;
        let (oh, ow) = self.output;
        let (image, rest) = (row / (oh * ow), row % (oh * ow));
        let top = rest / ow * self.stride;
        let left = rest % ow * self.stride;
        // A kernel row is a run of the map, cut where it leaves the map.
        let run = self.kernel * c;
        let image = &self.data[image * h * w * c..][..h * w * c];
        let (mut ky, mut x) = if from == 0 {
            (0, 0)
        } else {
            (from / run, from % run)
        };
        let mut rest = dst;
        while !rest.is_empty() {
            let n = (run - x).min(rest.len());
            let (out, after) = rest.split_at_mut(n);
            rest = after;
            let y = (top + ky).wrapping_sub(self.padding);
            let start = (left * c + x).wrapping_sub(self.padding * c);
            if y >= h {
                out.fill(T::ZERO);
            } else if start < w * c && start + n <= w * c {
                out.copy_from_slice(&image[y * w * c + start..][..n]);
            } else {
                let line = &image[y * w * c..][..w * c];
                for (i, out) in out.iter_mut().enumerate() {
                    *out = line.get(start.wrapping_add(i)).copied().unwrap_or(T::ZERO);
                }
            }
            (ky, x) = (ky + 1, 0);
        }
    }
}

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
    assert_eq!(packing, Packing::of::<T>(), "packed for another level");
    assert_eq!(weight.data.len(), packing.len(cols, width));
    assert!(x.contiguous().is_none_or(|x| x.len() >= rows * width));
    assert!(epilogue.bias.is_none_or(|b| b.len() == cols));
    assert!(epilogue.residual.is_none_or(|r| r.len() == rows * cols));
    let panels = packing.panels(cols);
    let wanted = (rows * cols * width / TASK_WORK).clamp(1, TASKS * rayon::current_num_threads());
    let blocks = rows.div_ceil(BLOCK_ROWS).max(1);
    // Equal blocks of whole tiles, so that no task is left with a remainder.
    let block = rows.div_ceil(blocks).next_multiple_of(12).min(rows.max(1));
    let blocks = rows.div_ceil(block);
    let cut = width * size_of::<T>() > BLOCK_BYTES;
    let fewest = if cut { cols.div_ceil(BLOCK_COLS) } else { 1 };
    let groups = wanted.div_ceil(blocks.max(1)).max(fewest).min(panels);
    let group = panels.div_ceil(groups);
    let groups = panels.div_ceil(group);
    produce(rows * cols, |out| {
        (0..blocks * groups).into_par_iter().for_each(|task| {
            let (row, panel) = (task / groups * block, task % groups * group);
            dispatch(Task {
                x,
                weight: *weight,
                epilogue,
                out,
                rows: row..(row + block).min(rows),
                panels: panel..(panel + group).min(panels),
            });
        });
    })
}

/// A block of rows by a group of panels.
struct Task<'a, T, R> {
    x: &'a R,
    weight: Weight<'a, T>,
    epilogue: &'a Epilogue<'a, T>,
    out: &'a Output<T>,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl<T: Element, R: Rows<T>> Kernel for Task<'_, T, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let width = self.x.width();
        let (first, rows) = (self.rows.start, self.rows.len());
        let step = BLOCK_BYTES / size_of::<T>();
        let inner = width
            .div_ceil(width.div_ceil(step).max(1))
            .next_multiple_of(LANES);
        if T::IS_BF16 && S::LEVEL.has_bf16_dot() {
            let whole = self.x.contiguous().filter(|_| width.is_multiple_of(2));
            let stride = if whole.is_some() { width } else { inner };
            let copied = if whole.is_some() { 0 } else { rows * inner };
            let mut scratch = Scratch::take(copied.div_ceil(2));
            self.multiply::<S, Bf16Pairs>(inner, |k| {
                let at: *const T = match whole {
                    Some(x) => x[first * width + k.start..].as_ptr(),
                    None => {
                        // SAFETY: the scratch holds `copied` scalars of
                        // half the size, for which any bits are valid.
                        let copy = unsafe {
                            std::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast::<T>(), copied)
                        };
                        for (row, dst) in copy.chunks_exact_mut(inner).enumerate() {
                            let (dst, rest) = dst.split_at_mut(k.len());
                            self.x.fill(first + row, k.start, dst);
                            rest.fill(T::ZERO);
                        }
                        copy.as_ptr()
                    }
                };
                Left {
                    at: at.cast::<bf16>(),
                    stride,
                }
            });
        } else {
            let whole = self.x.contiguous().and_then(T::as_f32);
            let stride = if whole.is_some() { width } else { inner };
            let copied = if whole.is_some() { 0 } else { rows * inner };
            let mut scratch = Scratch::take(copied);
            let mut line = vec![T::ZERO; if copied == 0 || T::IS_F32 { 0 } else { inner }];
            self.multiply::<S, Widening<T>>(inner, |k| {
                let at = match whole {
                    Some(x) => x[first * width + k.start..].as_ptr(),
                    None => {
                        for (row, dst) in scratch.chunks_exact_mut(inner).enumerate() {
                            let dst = &mut dst[..k.len()];
                            if let Some(dst) = T::as_f32_mut(dst) {
                                self.x.fill(first + row, k.start, dst);
                                continue;
                            }
                            let line = &mut line[..k.len()];
                            self.x.fill(first + row, k.start, line);
                            T::widen(line, dst);
                        }
                        scratch.as_ptr()
                    }
                };
                Left { at, stride }
            });
        }
    }
}

impl<T: Element, R: Rows<T>> Task<'_, T, R> {
    /// The product in runs of `inner` scalars of the inner dimension, whose
    /// left operand `left` provides.
    #[inline(always)]
    fn multiply<S: Simd, X: Arithmetic<S>>(
        &self,
        inner: usize,
        mut left: impl FnMut(Range<usize>) -> Left<X::Left>,
    ) {
        let width = self.x.width();
        let packing = self.weight.packing;
        let rows = self.rows.len();
        let partial = if inner < width {
            self.panels.len() * rows * packing.panel
        } else {
            0
        };
        let mut scratch = Scratch::take(TILE_FLOATS + partial);
        let (finished, partial) = scratch.split_at_mut(TILE_FLOATS);
        for start in (0..width).step_by(inner) {
            let end = (start + inner).min(width);
            let steps = packing.steps(end - start);
            let left = left(start..end);
            let stride_bytes = left.stride * size_of::<X::Left>();
            for (index, panel) in self.panels.clone().enumerate() {
                let columns = packing.stored(panel, self.weight.cols);
                let at = panel * packing.panel_len(width) + start * columns;
                let right = Right {
                    at: self.weight.data[at..].as_ptr().cast::<X::Right>(),
                    stride: columns * X::DEPTH,
                    columns,
                };
                let mut row = 0;
                while row < rows {
                    let n = tile_rows::<S>(rows - row, stride_bytes);
                    let from = (index * rows + row) * packing.panel;
                    let waiting = partial.get_mut(from..).map(<[f32]>::as_mut_ptr);
                    let waiting = waiting.filter(|_| inner < width);
                    let last = end == width;
                    let sums = Sums {
                        from: waiting.filter(|_| start > 0).map(|p| p.cast_const()),
                        to: waiting.filter(|_| !last).unwrap_or(finished.as_mut_ptr()),
                        stride: columns,
                    };
                    // SAFETY: the rows, steps and columns lie within the
                    // operands (asserted by `linear`), and the sums of a
                    // tile within `finished` or its place in `partial`.
                    unsafe {
                        let at = left.at.add(row * left.stride);
                        let left = Left { at, ..left };
                        tile::<S, X>(n, &left, &right, steps, sums);
                    }
                    if last {
                        self.store::<S>(self.rows.start + row, n, panel, columns, finished);
                    }
                    row += n;
                }
            }
        }
    }

    /// Finishes a tile of `rows` rows by `columns` stored columns.
    #[inline(always)]
    fn store<S: Simd>(&self, row: usize, rows: usize, panel: usize, columns: usize, sums: &[f32]) {
        let cols = self.weight.cols;
        let Epilogue {
            bias,
            act,
            residual,
        } = *self.epilogue;
        let first = panel * self.weight.packing.panel;
        for part in (0..columns).step_by(LANES) {
            let col = first + part;
            let n = LANES.min(cols - col);
            let bias = match bias {
                Some(bias) => T::load::<S::Vector>(&bias[col..col + n]),
                None => S::Vector::splat(0.0),
            };
            for i in 0..rows {
                let at = (row + i) * cols + col;
                let sum = S::Vector::load(&sums[i * columns + part..]).add(bias);
                let mut v = activate_vector::<S>(act, sum);
                if let Some(residual) = residual {
                    v = v.add(T::load(&residual[at..at + n]));
                }
                // SAFETY: tiles do not overlap.
                T::store(v, unsafe { self.out.slice(at, n) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::at_every_level;
    use super::super::test_numbers::numbers;
    use super::*;
    use half::{bf16, f16};

    fn check<T: Element>(rows: usize, k: usize, cols: usize, tolerance: f32) {
        let store = |v: &[f32]| {
            produce(v.len(), |o| {
                // SAFETY: one slice over everything.
                T::narrow(v, unsafe { o.slice(0, v.len()) });
            })
        };
        let x = store(&numbers(rows * k, 1));
        let w = store(&numbers(cols * k, 2));
        let bias = store(&numbers(cols, 3));
        let residual = store(&numbers(rows * cols, 4));
        let packing = Packing::of::<T>();
        let packed = packing.pack(cols, k, |c, from, dst: &mut [T]| {
            dst.copy_from_slice(&w[c * k + from..][..dst.len()]);
        });
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
        let packed = packing.pack(out, 9 * c, |o, from, dst: &mut [f32]| {
            dst.copy_from_slice(&weight[o * 9 * c + from..][..dst.len()]);
        });
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
