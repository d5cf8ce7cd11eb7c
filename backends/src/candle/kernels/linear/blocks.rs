//! Linear layers whose weight is held in blocks.
//!
//! Many rows (prefill) multiply with panels that a task has written out at the
//! activations' precision just before: a weight is dequantised once for all
//! rows, and the product is that of any other layer. A few rows (decode) read
//! the blocks themselves, whose bytes are all that must come from memory: a
//! vector of columns at a time, with f32 products of the exact scalars.

use std::ops::Range;

use rayon::prelude::*;

use super::super::blocks::visit::{RUNS, Visitor, visit};
use super::super::blocks::{BlockMatrix, Columns};
use super::super::element::Element;
use super::super::math::activate_vector;
use super::super::packed::Packing;
use super::super::simd::{Kernel, LANES, Simd, Vector, dispatch};
use super::super::{Output, Scratch, produce};
use super::product::{Place, Product};
use super::{Dense, Epilogue, TASKS, Task, Weight, row_block};

/// Rows that are multiplied with the blocks themselves.
const FEW: usize = 4;
/// Bytes of the panels that a task writes out: they and a block of rows stay
/// in the second-level cache.
const PANEL_BYTES: usize = 512 * 1024;
/// Bytes of blocks that outweigh starting a task.
const TASK_BYTES: usize = 32 * 1024;
/// Steps whose sum the offsets of a run are multiplied by.
const SUMMED: usize = 16;

/// `act(x W^T + bias) + residual` for `rows` rows of `x`; returns
/// `rows * cols` scalars.
pub fn linear_blocks<T: Element>(
    x: &[T],
    rows: usize,
    matrix: &BlockMatrix,
    epilogue: &Epilogue<'_, T>,
) -> Vec<T> {
    let (width, cols) = (matrix.width, matrix.cols);
    assert_eq!(x.len(), rows * width);
    assert!(epilogue.bias.is_none_or(|b| b.len() == cols));
    assert!(epilogue.residual.is_none_or(|r| r.len() == rows * cols));
    produce(rows * cols, |out| {
        if rows <= FEW {
            few(x, matrix, epilogue, out);
        } else {
            many(x, rows, matrix, epilogue, out);
        }
    })
}

/// Equal runs of at most `most` of a matrix's panels, by type, in multiples of
/// `unit`.
fn tasks(
    matrix: &BlockMatrix,
    unit: usize,
    most: impl Fn(&Columns) -> usize,
) -> Vec<(&Columns, Range<usize>)> {
    let mut tasks = Vec::new();
    for columns in &matrix.columns {
        let panels = columns.panels();
        let runs = panels.div_ceil(most(columns).max(1)).max(1);
        let run = panels.div_ceil(runs).next_multiple_of(unit).max(1);
        let starts = (0..panels).step_by(run);
        tasks.extend(starts.map(|start| (columns, start..(start + run).min(panels))));
    }
    tasks
}

/// The product with panels that are written out.
fn many<T: Element>(
    x: &[T],
    rows: usize,
    matrix: &BlockMatrix,
    epilogue: &Epilogue<'_, T>,
    out: &Output<T>,
) {
    let (width, packing) = (matrix.width, Packing::of::<T>());
    let vectors = packing.panel / LANES;
    let panel_bytes = packing.panel_len(width) * size_of::<T>();
    let share = matrix
        .cols
        .div_ceil(TASKS * rayon::current_num_threads() * packing.panel);
    let most = (PANEL_BYTES / panel_bytes.max(1)).clamp(1, share.max(1));
    let block = row_block::<T>(rows, width);
    let x = Dense { data: x, width };
    tasks(matrix, vectors, |_| most * vectors)
        .into_par_iter()
        .for_each(|(columns, panels)| {
            let first = panels.start * LANES;
            let cols = columns.count.min(panels.end * LANES) - first;
            let len = packing.len(cols, width);
            let mut scratch = Scratch::take((len * size_of::<T>()).div_ceil(size_of::<f32>()));
            // SAFETY: the scratch holds `len` scalars, for which any bits are
            // valid; it is aligned for floats.
            let data =
                unsafe { std::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast::<T>(), len) };
            dispatch(WriteOut {
                columns,
                panels,
                width,
                packing,
                data: &mut *data,
            });
            let before = columns.first + first;
            let epilogue = Epilogue {
                bias: epilogue.bias.map(|b| &b[before..before + cols]),
                ..*epilogue
            };
            for row in (0..rows).step_by(block) {
                let product = Product {
                    rows: block.min(rows - row),
                    width,
                    weight: Weight {
                        data: &*data,
                        cols,
                        packing,
                    },
                    panels: 0..packing.panels(cols),
                    epilogue: &epilogue,
                    out,
                    place: Place {
                        row,
                        col: 0,
                        before,
                        stride: matrix.cols,
                    },
                };
                dispatch(Task {
                    x: &x,
                    first: row,
                    product,
                });
            }
        });
}

/// Writes panels of blocks out as a packed matrix.
struct WriteOut<'a, T> {
    columns: &'a Columns,
    panels: Range<usize>,
    width: usize,
    packing: Packing,
    data: &'a mut [T],
}

impl<T: Element> Kernel for WriteOut<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let WriteOut {
            columns,
            panels,
            width,
            packing,
            data,
        } = self;
        let cols = panels.len() * LANES;
        for (index, panel) in panels.enumerate() {
            let col = index * LANES;
            let place = col / packing.panel;
            let stored = packing.stored(place, cols);
            let at = place * packing.panel_len(width) + col % packing.panel * packing.depth;
            let mut write = Write::<S, T> {
                to: data[at..].as_mut_ptr(),
                step: stored * packing.depth,
                steps: width,
                scale: [S::Vector::splat(1.0); RUNS],
                offset: [S::Vector::splat(0.0); RUNS],
            };
            // SAFETY: the panel is whole, and the packed one has a place for
            // each of its steps.
            unsafe {
                visit::<S, _>(
                    columns.kind,
                    columns.panel(panel).as_ptr(),
                    width,
                    &mut write,
                )
            };
        }
    }
}

/// Writes the scalars of [`LANES`] columns into a packed panel.
struct Write<S: Simd, T> {
    to: *mut T,
    /// Scalars from step to step of the panel.
    step: usize,
    /// Scalars of a row.
    steps: usize,
    scale: [S::Vector; RUNS],
    offset: [S::Vector; RUNS],
}

impl<S: Simd, T: Element> Visitor<S> for Write<S, T> {
    #[inline(always)]
    fn begin(&mut self, run: usize, scale: S::Vector, offset: S::Vector) {
        self.scale[run] = scale;
        self.offset[run] = S::Vector::splat(0.0).sub(offset);
    }

    #[inline(always)]
    unsafe fn pair(&mut self, run: usize, step: usize, q: [S::Vector; 2]) {
        let (scale, offset) = (self.scale[run], self.offset[run]);
        let (a, b) = (q[0].mul_add(scale, offset), q[1].mul_add(scale, offset));
        // SAFETY: the steps lie within the panel, which are pairs where bf16 is
        // multiplied natively.
        unsafe {
            if T::IS_BF16 && S::LEVEL.has_bf16_dot() {
                return a.write_bf16_pairs(b, self.to.add(step / 2 * self.step).cast());
            }
            T::write(a, self.to.add(step * self.step));
            if step + 1 < self.steps {
                T::write(b, self.to.add((step + 1) * self.step));
            }
        }
    }

    #[inline(always)]
    unsafe fn end(&mut self, _run: usize, _first: usize, _steps: usize) {}
}

/// The product with the blocks themselves.
fn few<T: Element>(x: &[T], matrix: &BlockMatrix, epilogue: &Epilogue<'_, T>, out: &Output<T>) {
    let padded = matrix.width.next_multiple_of(SUMMED);
    let left: Vec<(Vec<f32>, Vec<f32>)> = x
        .chunks_exact(matrix.width)
        .map(|x| {
            let mut wide = vec![0.0; padded];
            T::widen(x, &mut wide[..x.len()]);
            let sums = wide.chunks_exact(SUMMED).map(|x| x.iter().sum()).collect();
            (wide, sums)
        })
        .collect();
    let share = TASKS * rayon::current_num_threads();
    let bytes = (matrix.bytes() as usize / share).max(TASK_BYTES);
    tasks(matrix, 1, |columns| bytes / columns.panel(0).len())
        .into_par_iter()
        .for_each(|(columns, panels)| {
            dispatch(Few {
                left: &left,
                matrix,
                columns,
                panels,
                epilogue,
                out,
            });
        });
}

/// A few rows by some panels.
struct Few<'a, T> {
    /// Rows, and the sums of their steps.
    left: &'a [(Vec<f32>, Vec<f32>)],
    matrix: &'a BlockMatrix,
    columns: &'a Columns,
    panels: Range<usize>,
    epilogue: &'a Epilogue<'a, T>,
    out: &'a Output<T>,
}

impl<T: Element> Kernel for Few<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Few {
            left,
            matrix,
            columns,
            panels,
            epilogue,
            out,
        } = self;
        for panel in panels {
            let at = columns.panel(panel).as_ptr();
            let col = columns.first + panel * LANES;
            let n = LANES.min(columns.count - panel * LANES);
            let bias = match epilogue.bias {
                Some(bias) => T::load::<S::Vector>(&bias[col..col + n]),
                None => S::Vector::splat(0.0),
            };
            for (row, (x, sums)) in left.iter().enumerate() {
                // SAFETY: the panel is whole, and the row as wide as the
                // matrix, padded to pairs.
                let sum = unsafe { product::<S>(columns.kind, at, matrix.width, x, sums) };
                let mut v = activate_vector::<S>(epilogue.act, sum.add(bias));
                let place = row * matrix.cols + col;
                if let Some(residual) = epilogue.residual {
                    v = v.add(T::load(&residual[place..place + n]));
                }
                // SAFETY: panels do not overlap.
                T::store(v, unsafe { out.slice(place, n) });
            }
        }
    }
}

/// A row by the panel at `at`.
///
/// # Safety
/// As for [`visit`]; `x` has `width` scalars, padded to pairs, and `sums` one
/// for each [`SUMMED`] of them.
#[inline(always)]
unsafe fn product<S: Simd>(
    kind: crate::blocks::BlockType,
    at: *const u8,
    width: usize,
    x: &[f32],
    sums: &[f32],
) -> S::Vector {
    let zero = S::Vector::splat(0.0);
    let mut dot = Dot::<S> {
        x: x.as_ptr(),
        sums: sums.as_ptr(),
        scale: [zero; RUNS],
        offset: [zero; RUNS],
        run: [[zero; 2]; RUNS],
        total: zero,
    };
    // SAFETY: the caller's.
    unsafe { visit::<S, _>(kind, at, width, &mut dot) };
    dot.total
}

/// Sums the products of a row with [`LANES`] columns.
struct Dot<S: Simd> {
    x: *const f32,
    sums: *const f32,
    scale: [S::Vector; RUNS],
    offset: [S::Vector; RUNS],
    /// Sums of the runs under way, of even and odd steps.
    run: [[S::Vector; 2]; RUNS],
    total: S::Vector,
}

impl<S: Simd> Visitor<S> for Dot<S> {
    #[inline(always)]
    fn begin(&mut self, run: usize, scale: S::Vector, offset: S::Vector) {
        self.scale[run] = scale;
        self.offset[run] = offset;
        self.run[run] = [S::Vector::splat(0.0); 2];
    }

    #[inline(always)]
    unsafe fn pair(&mut self, run: usize, step: usize, q: [S::Vector; 2]) {
        // SAFETY: the steps lie within the row.
        unsafe {
            let (a, b) = (*self.x.add(step), *self.x.add(step + 1));
            self.run[run] = [
                q[0].mul_add(S::Vector::splat(a), self.run[run][0]),
                q[1].mul_add(S::Vector::splat(b), self.run[run][1]),
            ];
        }
    }

    #[inline(always)]
    unsafe fn end(&mut self, run: usize, first: usize, steps: usize) {
        let mut sum = 0.0;
        for i in first / SUMMED..(first + steps) / SUMMED {
            // SAFETY: there is a sum for these steps.
            sum += unsafe { *self.sums.add(i) };
        }
        let products = self.run[run][0].add(self.run[run][1]);
        let total = products.mul_add(self.scale[run], self.total);
        let less = self.offset[run].mul(S::Vector::splat(-sum));
        self.total = total.add(less);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::blocks::quantised;
    use super::super::super::simd::at_every_level;
    use super::super::super::test_numbers::{numbers, stored};
    use super::*;
    use crate::blocks::BlockType;
    use crate::ops::Act;
    use half::bf16;

    fn check<T: Element>(
        rows: usize,
        width: usize,
        segments: &[(BlockType, usize)],
        tolerance: f32,
    ) {
        let cols: usize = segments.iter().map(|s| s.1).sum();
        let matrix = quantised(&numbers(cols * width, 2), width, segments);
        let x = stored::<T>(&numbers(rows * width, 1));
        let bias = stored::<T>(&numbers(cols, 3));
        let residual = stored::<T>(&numbers(rows * cols, 4));
        let got = linear_blocks(
            &x,
            rows,
            &matrix,
            &Epilogue {
                bias: Some(&bias),
                act: Act::Relu,
                residual: Some(&residual),
            },
        );
        let mut weight = vec![0.0; width];
        for c in 0..cols {
            matrix.unpack_row(c, &mut weight);
            for r in 0..rows {
                let products = x[r * width..][..width].iter().zip(&weight);
                let sum: f64 = products
                    .map(|(x, w)| f64::from(x.get()) * f64::from(*w))
                    .sum();
                let expected = (sum as f32 + bias[c].get()).max(0.0) + residual[r * cols + c].get();
                let off = (got[r * cols + c].get() - expected).abs();
                assert!(off < tolerance, "{rows} rows, ({r}, {c}): off by {off}");
            }
        }
    }

    #[test]
    fn agrees_with_the_definition_on_the_dequantised_weight() {
        use BlockType::{Bf16, F16, F32, Q4K, Q5_0, Q6K, Q8_0};
        at_every_level(|_| {
            for rows in [1, 3, 5, 40] {
                check::<f32>(
                    rows,
                    256,
                    &[(Q4K, 37), (Q6K, 16), (Q8_0, 70), (Q5_0, 33)],
                    3e-5,
                );
                check::<f32>(rows, 768, &[(Q6K, 65), (Q4K, 1)], 1e-4);
                check::<f32>(rows, 67, &[(F32, 20), (F16, 5), (Bf16, 33)], 3e-5);
                check::<bf16>(
                    rows,
                    256,
                    &[(Q4K, 48), (Q5_0, 16), (Q6K, 20), (Q8_0, 31)],
                    3e-2,
                );
                check::<bf16>(rows, 67, &[(F16, 40)], 3e-2);
            }
            // Long enough for several runs of the inner dimension.
            check::<bf16>(6, 3328, &[(Q4K, 64), (Q6K, 16)], 1e-1);
            check::<f32>(6, 3328, &[(Q4K, 64), (Q6K, 16)], 5e-4);
        });
    }
}
