//! A block of rows by a group of panels, from the left operand to the stored
//! result.

use std::ops::Range;

use half::bf16;

use super::super::element::Element;
use super::super::math::activate_vector;
use super::super::product::{
    Arithmetic, Bf16Pairs, Left, Right, Sums, TILE_FLOATS, Widening, on_tile_registers, tile,
    tile_rows,
};
use super::super::simd::{LANES, Level, Simd, Vector, prefetch};
use super::super::{Output, Scratch};
use super::{BLOCK_BYTES, Epilogue, Rows, TILES_BLOCK_BYTES, Weight};

/// Scalars of the inner dimension between two visits to the sums: equal runs
/// of whole steps.
pub(super) fn inner<T: Element>(width: usize) -> usize {
    let bytes = match T::IS_BF16 && Level::current().has_bf16_tiles() {
        true => TILES_BLOCK_BYTES,
        false => BLOCK_BYTES,
    };
    let runs = width.div_ceil(bytes / size_of::<T>()).max(1);
    width.div_ceil(runs).next_multiple_of(LANES)
}

/// Where a product's first row and column are in its output, and in the
/// residual.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Row of the output.
    pub(super) row: usize,
    /// Output feature that is the output's first.
    pub(super) col: usize,
    /// Scalars of an output row before the weight's first column.
    pub(super) before: usize,
    /// Scalars from row to row of the output.
    pub(super) stride: usize,
}

/// `rows` rows by the panels `panels` of a weight.
pub(super) struct Product<'a, T> {
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) weight: Weight<'a, T>,
    pub(super) panels: Range<usize>,
    pub(super) epilogue: &'a Epilogue<'a, T>,
    pub(super) out: &'a Output<T>,
    pub(super) place: Place,
}

impl<T: Element> Product<'_, T> {
    /// Computes it for the rows of `x` from `first` on.
    #[inline(always)]
    pub(super) fn of<S: Simd, R: Rows<T>>(&self, x: &R, first: usize) {
        let Product { rows, width, .. } = *self;
        let inner = inner::<T>(width);
        if T::IS_BF16 && S::LEVEL.has_bf16_dot() {
            let whole = x.contiguous().filter(|_| width.is_multiple_of(2));
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
                            x.fill(first + row, k.start, dst);
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
            let whole = x.contiguous().and_then(T::as_f32);
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
                                x.fill(first + row, k.start, dst);
                                continue;
                            }
                            let line = &mut line[..k.len()];
                            x.fill(first + row, k.start, line);
                            T::widen(line, dst);
                        }
                        scratch.as_ptr()
                    }
                };
                Left { at, stride }
            });
        }
    }

    /// The product in runs of `inner` scalars of the inner dimension, whose
    /// left operand `left` provides.
    #[inline(always)]
    pub(super) fn multiply<S: Simd, X: Arithmetic<S>>(
        &self,
        inner: usize,
        mut left: impl FnMut(Range<usize>) -> Left<X::Left>,
    ) {
        let Product { width, rows, .. } = *self;
        let packing = self.weight.packing;
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
                // The panel that comes next is asked for, a part of it before
                // each tile, unless it is read only once anyway or the tiles
                // are done sooner than their loads.
                let ahead = rows > S::LEVEL.tile_rows(X::PAIRS) && !on_tile_registers::<S, X>();
                let bytes = steps * right.stride * size_of::<X::Right>();
                let next = right.at.wrapping_add(packing.panel_len(width)).cast::<u8>();
                let mut row = 0;
                while row < rows {
                    let n = tile_rows::<S, X>(rows - row, stride_bytes);
                    if ahead {
                        prefetch(next.wrapping_add(bytes * row / rows), bytes * n / rows);
                    }
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
                    // operands (asserted by the callers), and the sums of a
                    // tile within `finished` or its place in `partial`.
                    unsafe {
                        let at = left.at.add(row * left.stride);
                        let left = Left { at, ..left };
                        tile::<S, X>(n, &left, &right, steps, sums);
                    }
                    if last {
                        self.store::<S>(row, n, panel, columns, finished);
                    }
                    row += n;
                }
            }
        }
    }

    /// Finishes a tile of `rows` rows by `columns` stored columns.
    #[inline(always)]
    fn store<S: Simd>(&self, row: usize, rows: usize, panel: usize, columns: usize, sums: &[f32]) {
        let Epilogue {
            bias,
            act,
            residual,
        } = *self.epilogue;
        let first = panel * self.weight.packing.panel;
        for part in (0..columns).step_by(LANES) {
            let col = first + part;
            let n = LANES.min(self.weight.cols - col);
            let bias = match bias {
                Some(bias) => T::load::<S::Vector>(&bias[col..col + n]),
                None => S::Vector::splat(0.0),
            };
            for i in 0..rows {
                let at = (self.place.row + row + i) * self.place.stride + self.place.before + col
                    - self.place.col;
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
