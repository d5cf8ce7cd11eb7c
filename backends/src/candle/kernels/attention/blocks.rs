//! Attention of many queries as matrix products over packed keys and values.

use half::bf16;
use rayon::prelude::*;

use super::super::element::Element;
use super::super::packed::Packing;
use super::super::product::{
    Arithmetic, Bf16Pairs, Left, Right, Sums, TILE_FLOATS, Widening, tile, tile_rows,
};
use super::super::simd::{Kernel, LANES, Level, Simd, Vector, dispatch};
use super::super::{Output, Scratch};
use super::{Problem, Sequence, exponents};

/// Most queries of a block: whole tiles at every level.
const BLOCK: usize = 96;
/// Floats of a block's scores that leave room in the second-level cache.
const SCORES: usize = 128 * 1024;

/// Keys that the mix of values runs over, where they are packed in pairs: whole
/// tile registers, so that their number need not divide by anything.
fn padded(packing: Packing, keys: usize) -> usize {
    match packing.depth {
        1 => keys,
        _ => keys.next_multiple_of(2 * LANES),
    }
}

/// The keys and values of one key/value head.
struct Packed<T> {
    /// `(keys, head_dim)`: a column per key.
    keys: Vec<T>,
    /// `(head_dim, keys)`: a column per dimension.
    values: Vec<T>,
}

impl<T: Element> Problem<'_, T> {
    /// One task per head and block of queries.
    pub(super) fn blocks(&self, out: &Output<T>) {
        let Sequence {
            k,
            v,
            queries,
            keys,
            ..
        } = *self.sequence;
        let d = self.heads.head_dim;
        let packing = Packing::of::<T>();
        let packed: Vec<Packed<T>> = (0..self.heads.kv_heads)
            .into_par_iter()
            .map(|head| Packed {
                keys: packing.pack(keys, d, |key, from, dst: &mut [T]| {
                    dst.copy_from_slice(k.row(key, head * d + from, dst.len()));
                }),
                values: packing.pack_rows(d, padded(packing, keys), |key, from, dst: &mut [T]| {
                    if key < keys {
                        dst.copy_from_slice(v.row(key, head * d + from, dst.len()));
                    }
                }),
            })
            .collect();
        let tile = Level::current().tile_rows(T::IS_BF16);
        let block = (SCORES / keys.next_multiple_of(LANES)).clamp(tile, BLOCK);
        let block = queries
            .div_ceil(queries.div_ceil(block))
            .next_multiple_of(tile);
        let count = queries.div_ceil(block);
        // Later blocks of a causal problem see more keys: they go first.
        (0..count * self.heads.heads)
            .into_par_iter()
            .for_each(|task| {
                let (index, head) = (count - 1 - task / self.heads.heads, task % self.heads.heads);
                let first = index * block;
                dispatch(Block {
                    problem: self,
                    packing,
                    packed: &packed[self.kv_column(head) / d],
                    head,
                    first,
                    rows: block.min(queries - first),
                    out,
                });
            });
    }
}

struct Block<'a, T> {
    problem: &'a Problem<'a, T>,
    packing: Packing,
    packed: &'a Packed<T>,
    head: usize,
    first: usize,
    rows: usize,
    out: &'a Output<T>,
}

impl<T: Element> Kernel for Block<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Problem {
            sequence, heads, ..
        } = self.problem;
        let d = heads.head_dim;
        // Queries are copied: a packed row is often a multiple of 4 KiB, and
        // rows that far apart push each other out of the first-level cache.
        let mut copy = Scratch::take(self.rows * d);
        if T::IS_BF16 && S::LEVEL.has_bf16_dot() && d.is_multiple_of(2) {
            let at = copy.as_mut_ptr().cast::<T>();
            for i in 0..self.rows {
                let row = sequence.q.row(self.first + i, self.head * d, d);
                // SAFETY: the scratch holds `rows * d` scalars of twice the size.
                unsafe { at.add(i * d).copy_from_nonoverlapping(row.as_ptr(), d) }
            }
            return self.compute::<S, Bf16Pairs>(Left {
                at: at.cast_const().cast::<bf16>(),
                stride: d,
            });
        }
        assert_eq!(self.packing.depth, 1, "bf16 heads have even dimensions");
        for (i, dst) in copy.chunks_exact_mut(d).enumerate() {
            T::widen(sequence.q.row(self.first + i, self.head * d, d), dst);
        }
        self.compute::<S, Widening<T>>(Left {
            at: copy.as_ptr(),
            stride: d,
        });
    }
}

impl<T: Element> Block<'_, T> {
    /// Scores, softmax and mix of the block.
    #[inline(always)]
    fn compute<S: Simd, X: Arithmetic<S>>(&self, queries: Left<X::Left>) {
        let Problem {
            sequence, heads, ..
        } = self.problem;
        let (d, rows, packing) = (heads.head_dim, self.rows, self.packing);
        let seen = self.problem.seen(self.first + rows - 1);
        // One more vector, so that rows do not all start in one cache set.
        let stride = seen.next_multiple_of(packing.panel) + LANES;
        let mut scratch = Scratch::take(rows * stride + TILE_FLOATS + BLOCK);
        let (scores, rest) = scratch.split_at_mut(rows * stride);
        let (mixed, inverses) = rest.split_at_mut(TILE_FLOATS);
        for panel in 0..packing.panels(seen) {
            let columns = packing.stored(panel, sequence.keys);
            let right = Right {
                at: self.packed.keys[panel * packing.panel_len(d)..]
                    .as_ptr()
                    .cast::<X::Right>(),
                stride: columns * X::DEPTH,
                columns,
            };
            let to = scores[panel * packing.panel..].as_mut_ptr();
            self.tiles::<S, X>(&queries, &right, packing.steps(d), |row| Sums {
                // SAFETY: `rows` rows of `stride` floats lie there.
                to: unsafe { to.add(row * stride) },
                from: None,
                stride,
            });
        }
        for (i, row) in scores.chunks_exact_mut(stride).enumerate() {
            let visible = self.problem.seen(self.first + i);
            let row = &mut row[..padded(packing, seen).next_multiple_of(LANES)];
            let sum = exponents::<S, X>(row, visible, self.problem.scale());
            inverses[i] = 1.0 / sum;
        }
        let weights = Left {
            at: scores.as_ptr().cast::<X::Left>(),
            stride: stride * size_of::<f32>() / size_of::<X::Left>(),
        };
        for panel in 0..packing.panels(d) {
            let columns = packing.stored(panel, d);
            let at = panel * packing.panel_len(padded(packing, sequence.keys));
            let right = Right {
                at: self.packed.values[at..].as_ptr().cast::<X::Right>(),
                stride: columns * X::DEPTH,
                columns,
            };
            let first = panel * packing.panel;
            let to = mixed.as_mut_ptr();
            let mut row = 0;
            while row < rows {
                let n = tile_rows::<S, X>(rows - row, 4 * stride);
                let sums = Sums {
                    to,
                    from: None,
                    stride: columns,
                };
                // SAFETY: the weights are zero from `visible` to the padded
                // end, and the values packed or checked that far.
                unsafe {
                    let left = Left {
                        at: weights.at.add(row * weights.stride),
                        ..weights
                    };
                    let steps = packing.steps(padded(packing, seen));
                    tile::<S, X>(n, &left, &right, steps, sums);
                }
                for i in 0..n {
                    self.store::<S>(
                        row + i,
                        first,
                        columns,
                        &mixed[i * columns..],
                        inverses[row + i],
                    );
                }
                row += n;
            }
        }
    }

    /// The tiles of all rows with one panel.
    #[inline(always)]
    fn tiles<S: Simd, X: Arithmetic<S>>(
        &self,
        left: &Left<X::Left>,
        right: &Right<X::Right>,
        steps: usize,
        sums: impl Fn(usize) -> Sums,
    ) {
        let mut row = 0;
        while row < self.rows {
            let n = tile_rows::<S, X>(self.rows - row, left.stride * size_of::<X::Left>());
            // SAFETY: the rows were checked against the queries, and a packed
            // panel holds all steps.
            unsafe {
                let left = Left {
                    at: left.at.add(row * left.stride),
                    ..*left
                };
                tile::<S, X>(n, &left, right, steps, sums(row));
            }
            row += n;
        }
    }

    /// Writes part of a finished row.
    #[inline(always)]
    fn store<S: Simd>(&self, row: usize, col: usize, columns: usize, mixed: &[f32], inverse: f32) {
        let heads = self.problem.heads;
        let inverse = S::Vector::splat(inverse);
        let start =
            self.problem.first + (self.first + row) * heads.width() + self.head * heads.head_dim;
        for part in (0..columns).step_by(LANES) {
            let n = LANES.min(heads.head_dim - col - part);
            // SAFETY: rows, heads and panels do not overlap.
            let dst = unsafe { self.out.slice(start + col + part, n) };
            T::store(S::Vector::load(&mixed[part..]).mul(inverse), dst);
        }
    }
}
