//! Attention by query blocks: the scores of a block of queries against all
//! keys fit the cache, so nothing of size tokens x tokens reaches memory.
//!
//! Queries, keys and values are read in place from packed rows (encoder) or
//! from the KV cache (decoder); grouped-query heads share keys without copies.
//! Half precision is widened once per call.

use std::borrow::Cow;

use rayon::prelude::*;

use super::element::Element;
use super::math::exp;
use super::product::product;
use super::simd::{Kernel, Simd, dispatch};
use super::{Output, produce, with_scratch};
use crate::ops::Heads;

/// Queries of a block.
const BLOCK: usize = 64;

/// Rows of a matrix inside a larger one: row `i` starts at `offset + i * stride`.
#[derive(Clone, Copy)]
pub struct View<'a, T> {
    /// Storage.
    pub data: &'a [T],
    /// First scalar of row 0.
    pub offset: usize,
    /// Scalars from row to row.
    pub stride: usize,
}

/// One sequence's attention problem.
pub struct Sequence<'a, T> {
    /// Query rows, all heads side by side.
    pub q: View<'a, T>,
    /// Key rows, all key/value heads side by side.
    pub k: View<'a, T>,
    /// Value rows, all key/value heads side by side.
    pub v: View<'a, T>,
    /// Number of queries.
    pub queries: usize,
    /// Number of keys.
    pub keys: usize,
}

/// The same rows as f32.
struct Rows<'a> {
    data: Cow<'a, [f32]>,
    offset: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    fn of<T: Element>(view: View<'a, T>, rows: usize, width: usize) -> Rows<'a> {
        if let Some(data) = T::as_f32(view.data) {
            return Rows {
                data: Cow::Borrowed(data),
                offset: view.offset,
                stride: view.stride,
            };
        }
        let mut dense = vec![0.0; rows * width];
        dense
            .par_chunks_exact_mut(width)
            .enumerate()
            .for_each(|(i, dst)| {
                let at = view.offset + i * view.stride;
                T::widen(&view.data[at..at + width], dst);
            });
        Rows {
            data: Cow::Owned(dense),
            offset: 0,
            stride: width,
        }
    }

    /// Scalars from row `row`, column `col` to the end of `rows` rows.
    fn from(&self, row: usize, col: usize, rows: usize, cols: usize) -> &[f32] {
        let at = self.offset + row * self.stride + col;
        &self.data[at..at + (rows - 1) * self.stride + cols]
    }
}

/// `softmax(q k^T / sqrt(head_dim)) v` for every sequence and head; output
/// `(sequences, queries, heads * head_dim)`. When `causal`, the last query
/// sees all keys and each earlier one sees one key less.
pub fn attention<T: Element>(sequences: &[Sequence<'_, T>], heads: Heads, causal: bool) -> Vec<T> {
    let width = heads.width();
    let kv_width = heads.kv_heads * heads.head_dim;
    let total: usize = sequences.iter().map(|s| s.queries).sum();
    produce(total * width, |out| {
        let mut first = 0;
        for s in sequences {
            let problem = Problem {
                q: Rows::of(s.q, s.queries, width),
                k: Rows::of(s.k, s.keys, kv_width),
                v: Rows::of(s.v, s.keys, kv_width),
                queries: s.queries,
                keys: s.keys,
                heads,
                causal,
            };
            let blocks = s.queries.div_ceil(BLOCK);
            (0..heads.heads * blocks).into_par_iter().for_each(|task| {
                problem.block(task / blocks, task % blocks, out, first);
            });
            first += s.queries;
        }
    })
}

struct Problem<'a> {
    q: Rows<'a>,
    k: Rows<'a>,
    v: Rows<'a>,
    queries: usize,
    keys: usize,
    heads: Heads,
    causal: bool,
}

impl Problem<'_> {
    fn block<T: Element>(&self, head: usize, block: usize, out: &Output<T>, first: usize) {
        let d = self.heads.head_dim;
        let kv = head / (self.heads.heads / self.heads.kv_heads) * d;
        let start = block * BLOCK;
        let n = BLOCK.min(self.queries - start);
        // Keys that the last query of the block sees.
        let seen = if self.causal {
            self.keys - self.queries + start + n
        } else {
            self.keys
        };
        with_scratch(n * seen + n * d, |scratch| {
            let (scores, mixed) = scratch.split_at_mut(n * seen);
            let q = self.q.from(start, head * d, n, d);
            let k = self.k.from(0, kv, seen, d);
            let v = self.v.from(0, kv, seen, d);
            product(
                (scores, seen),
                (q, self.q.stride, 1),
                (k, 1, self.k.stride),
                (n, seen, d),
            );
            let scale = 1.0 / (d as f32).sqrt();
            for (i, row) in scores.chunks_exact_mut(seen).enumerate() {
                let visible = if self.causal {
                    seen - (n - 1 - i)
                } else {
                    seen
                };
                dispatch(Softmax(row, visible, scale));
            }
            product(
                (mixed, d),
                (scores, seen, 1),
                (v, self.v.stride, 1),
                (n, d, seen),
            );
            for (i, row) in mixed.chunks_exact(d).enumerate() {
                let at = (first + start + i) * self.heads.width() + head * d;
                // SAFETY: blocks and heads do not overlap.
                T::narrow(row, unsafe { out.slice(at, d) });
            }
        });
    }
}

/// Softmax of the first `.1` scores of a row times `.2`; the rest become 0.
struct Softmax<'a>(&'a mut [f32], usize, f32);

impl Kernel for Softmax<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        const LANES: usize = 16;
        let Softmax(row, visible, scale) = self;
        let (row, hidden) = row.split_at_mut(visible);
        hidden.fill(0.0);
        let mut max = [f32::NEG_INFINITY; LANES];
        let chunks = row.chunks_exact(LANES);
        let tail = chunks
            .remainder()
            .iter()
            .fold(f32::NEG_INFINITY, |m, v| m.max(*v));
        for chunk in chunks {
            for i in 0..LANES {
                max[i] = if chunk[i] > max[i] { chunk[i] } else { max[i] };
            }
        }
        let max = max.iter().fold(tail, |m, v| m.max(*v));
        for v in row.iter_mut() {
            *v = exp::<S>((*v - max) * scale);
        }
        let mut sums = [0.0_f32; LANES];
        let chunks = row.chunks_exact(LANES);
        let tail: f32 = chunks.remainder().iter().sum();
        for chunk in chunks {
            for i in 0..LANES {
                sums[i] += chunk[i];
            }
        }
        let inverse = 1.0 / (sums.iter().sum::<f32>() + tail);
        for v in row.iter_mut() {
            *v *= inverse;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_numbers::numbers;
    use super::*;
    use half::bf16;

    /// Packed rows `[q | k | v]` as one self-attention problem.
    fn packed<T>(qkv: &[T], heads: Heads) -> Sequence<'_, T> {
        let view = |offset| View {
            data: qkv,
            offset,
            stride: heads.packed(),
        };
        let n = qkv.len() / heads.packed();
        Sequence {
            q: view(0),
            k: view(heads.width()),
            v: view(heads.width() + heads.kv_heads * heads.head_dim),
            queries: n,
            keys: n,
        }
    }

    fn reference(qkv: &[f32], heads: Heads, causal: bool) -> Vec<f32> {
        let (d, row) = (heads.head_dim, heads.packed());
        let n = qkv.len() / row;
        let group = heads.heads / heads.kv_heads;
        let mut out = vec![0.0; n * heads.width()];
        for h in 0..heads.heads {
            let k_at = heads.width() + h / group * d;
            let v_at = k_at + heads.kv_heads * d;
            for i in 0..n {
                let seen = if causal { i + 1 } else { n };
                let scores: Vec<f32> = (0..seen)
                    .map(|j| {
                        let dot: f32 = (0..d)
                            .map(|c| qkv[i * row + h * d + c] * qkv[j * row + k_at + c])
                            .sum();
                        (dot / (d as f32).sqrt()).exp()
                    })
                    .collect();
                let sum: f32 = scores.iter().sum();
                for c in 0..d {
                    let mixed: f32 = (0..seen).map(|j| scores[j] * qkv[j * row + v_at + c]).sum();
                    out[i * heads.width() + h * d + c] = mixed / sum;
                }
            }
        }
        out
    }

    #[test]
    fn agrees_with_the_definition() {
        let full = Heads::full(3, 8);
        let grouped = Heads {
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
        };
        for heads in [full, grouped] {
            for n in [1, 5, 64, 150] {
                for causal in [false, true] {
                    let qkv = numbers(n * heads.packed(), 7);
                    let got = attention(&[packed(&qkv, heads)], heads, causal);
                    let expected = reference(&qkv, heads, causal);
                    for (g, e) in got.iter().zip(&expected) {
                        assert!((g - e).abs() < 1e-5, "{g} against {e}");
                    }
                }
            }
        }
    }

    #[test]
    fn half_precision_is_widened() {
        let heads = Heads::full(2, 8);
        let exact = numbers(30 * heads.packed(), 3);
        let qkv: Vec<bf16> = exact.iter().map(|v| bf16::from_f32(*v)).collect();
        let rounded: Vec<f32> = qkv.iter().map(|v| v.to_f32()).collect();
        let got = attention(&[packed(&qkv, heads)], heads, true);
        for (g, e) in got.iter().zip(reference(&rounded, heads, true)) {
            assert!((g.to_f32() - e).abs() < 2e-2);
        }
    }

    #[test]
    fn later_queries_continue_where_the_cache_ends() {
        let heads = Heads::full(2, 8);
        let qkv = numbers(70 * heads.packed(), 5);
        let all = attention(&[packed(&qkv, heads)], heads, true);
        let mut last = packed(&qkv, heads);
        last.q.offset += 66 * heads.packed();
        last.queries = 4;
        let tail = attention(&[last], heads, true);
        for (a, b) in tail.iter().zip(&all[66 * heads.width()..]) {
            assert!((a - b).abs() < 1e-6);
        }
    }
}
