//! Matrices in the order the product reads them.
//!
//! A weight `(cols, width)` is cut into panels of as many columns as a tile
//! has ([`Level::tile_columns`]). A panel holds one step of `width` after
//! another, all its columns side by side, so that the product reads memory
//! strictly forwards. Where bf16 products are instructions of their own, a
//! step is a pair of neighbouring scalars per column.

use rayon::prelude::*;

use super::element::Element;
use super::produce;
use super::simd::{LANES, Level};

/// How a matrix is packed; a property of the level and the precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Columns of a panel.
    pub panel: usize,
    /// Neighbouring scalars of one column in a step: 1 or 2.
    pub depth: usize,
}

impl Packing {
    /// The packing for scalars of type `T` at this thread's level.
    pub fn of<T: Element>() -> Packing {
        let level = Level::current();
        Packing {
            panel: level.tile_columns(),
            depth: if T::IS_BF16 && level.has_bf16_dot() {
                2
            } else {
                1
            },
        }
    }

    /// Steps of a row of `width` scalars.
    pub fn steps(self, width: usize) -> usize {
        width.div_ceil(self.depth)
    }

    /// Scalars of a whole panel.
    pub fn panel_len(self, width: usize) -> usize {
        self.panel * self.steps(width) * self.depth
    }

    /// Number of panels of `cols` columns.
    pub fn panels(self, cols: usize) -> usize {
        cols.div_ceil(self.panel)
    }

    /// Columns that panel `index` stores: whole vectors.
    pub fn stored(self, index: usize, cols: usize) -> usize {
        let left = cols - index * self.panel;
        left.next_multiple_of(LANES).min(self.panel)
    }

    /// Scalars of a packed matrix `(cols, width)`.
    pub fn len(self, cols: usize, width: usize) -> usize {
        cols.next_multiple_of(LANES) * self.steps(width) * self.depth
    }

    /// Packs a matrix whose scalars `from ..` of column `col` (a row of the
    /// weight) `fill(col, from, dst)` writes.
    pub fn pack<T: Element>(
        self,
        cols: usize,
        width: usize,
        fill: impl Fn(usize, usize, &mut [T]) + Sync,
    ) -> Vec<T> {
        produce(self.len(cols, width), |out| {
            (0..self.panels(cols)).into_par_iter().for_each(|panel| {
                let start = panel * self.panel_len(width);
                let len = self.stored(panel, cols) * self.steps(width) * self.depth;
                // SAFETY: panels do not overlap.
                let dst = unsafe { out.slice(start, len) };
                self.pack_panel(cols, width, panel, &fill, dst);
            });
        })
    }

    /// Packs a matrix `(cols, width)` that lies transposed in memory, on this
    /// thread: `fill(i, from, dst)` writes scalar `i` of the columns `from ..`,
    /// or leaves zeros.
    pub fn pack_rows<T: Element>(
        self,
        cols: usize,
        width: usize,
        fill: impl Fn(usize, usize, &mut [T]),
    ) -> Vec<T> {
        let mut packed = vec![T::ZERO; self.len(cols, width)];
        let mut line = vec![T::ZERO; self.panel];
        for panel in 0..self.panels(cols) {
            let (stored, first) = (self.stored(panel, cols), panel * self.panel);
            let line = &mut line[..stored.min(cols - first)];
            let dst = &mut packed[panel * self.panel_len(width)..];
            for (step, dst) in dst
                .chunks_exact_mut(stored * self.depth)
                .take(self.steps(width))
                .enumerate()
            {
                for part in 0..self.depth.min(width - step * self.depth) {
                    if self.depth == 1 {
                        fill(step, first, &mut dst[..line.len()]);
                        continue;
                    }
                    line.fill(T::ZERO);
                    fill(step * self.depth + part, first, line);
                    for (pair, value) in dst.chunks_exact_mut(self.depth).zip(&*line) {
                        pair[part] = *value;
                    }
                }
            }
        }
        packed
    }

    /// Packs one panel into `dst`.
    fn pack_panel<T: Element>(
        self,
        cols: usize,
        width: usize,
        panel: usize,
        fill: &impl Fn(usize, usize, &mut [T]),
        dst: &mut [T],
    ) {
        /// Scalars packed for all columns before the next are begun, so that
        /// what is written stays in the first-level cache.
        const RUN: usize = 64;
        let stored = self.stored(panel, cols);
        let first = panel * self.panel;
        let mut line = [T::ZERO; RUN];
        for (run, dst) in dst.chunks_mut(RUN * stored).enumerate() {
            let from = run * RUN;
            let known = RUN.min(width - from);
            for c in 0..stored {
                if first + c < cols {
                    fill(first + c, from, &mut line[..known]);
                    line[known..].fill(T::ZERO);
                } else {
                    line.fill(T::ZERO);
                }
                let steps = dst.chunks_exact_mut(stored * self.depth);
                for (step, values) in steps.zip(line.chunks_exact(self.depth)) {
                    step[c * self.depth..][..self.depth].copy_from_slice(values);
                }
            }
        }
    }

    /// Writes row `col` of the packed matrix `(cols, width)` into `dst`.
    pub fn unpack_row<T: Element>(self, data: &[T], cols: usize, col: usize, dst: &mut [T]) {
        let panel = col / self.panel;
        let step_len = self.stored(panel, cols) * self.depth;
        let start = panel * self.panel_len(dst.len()) + (col % self.panel) * self.depth;
        for (i, out) in dst.iter_mut().enumerate() {
            *out = data[start + i / self.depth * step_len + i % self.depth];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::at_every_level;
    use super::*;
    use half::bf16;

    fn check<T: Element + PartialEq + std::fmt::Debug>(value: impl Fn(f32) -> T) {
        for (cols, width) in [(1, 1), (7, 5), (16, 33), (33, 70), (80, 64), (100, 131)] {
            let matrix: Vec<T> = (0..cols * width).map(|i| value((i % 251) as f32)).collect();
            let packing = Packing::of::<T>();
            let packed = packing.pack(cols, width, |c, from, dst: &mut [T]| {
                dst.copy_from_slice(&matrix[c * width + from..][..dst.len()]);
            });
            assert_eq!(packed.len(), packing.len(cols, width));
            let transposed = packing.pack_rows(cols, width, |i, from, dst: &mut [T]| {
                for (c, dst) in dst.iter_mut().enumerate() {
                    *dst = matrix[(from + c) * width + i];
                }
            });
            assert_eq!(transposed, packed);
            let mut row = vec![T::ZERO; width];
            for (c, expected) in matrix.chunks_exact(width).enumerate() {
                packing.unpack_row(&packed, cols, c, &mut row);
                assert_eq!(row, expected);
            }
        }
    }

    #[test]
    fn rows_come_back_as_they_were_packed() {
        at_every_level(|_| {
            check::<f32>(|v| v);
            check::<bf16>(bf16::from_f32);
        });
    }
}
