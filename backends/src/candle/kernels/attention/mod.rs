//! Attention without materialised scores: those of a block of queries fit the
//! cache, so nothing of size tokens x tokens reaches memory.
//!
//! Queries, keys and values are read from packed rows (encoder) or from the KV
//! cache (decoder); grouped-query heads share keys without copies. Many queries
//! are matrix products (`blocks`); a few (decode) read each key and value
//! once (`few`).

mod blocks;
mod few;

use super::element::Element;
use super::math::exp;
use super::produce;
use super::product::Arithmetic;
use super::simd::{LANES, Simd, Vector};
use crate::ops::Heads;

/// Up to this many queries keys and values are not worth packing.
const FEW: usize = 4;

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

impl<'a, T> View<'a, T> {
    /// Scalars `col .. col + len` of row `row`.
    fn row(&self, row: usize, col: usize, len: usize) -> &'a [T] {
        &self.data[self.offset + row * self.stride + col..][..len]
    }
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

/// `softmax(q k^T / sqrt(head_dim)) v` for every sequence and head; output
/// `(sequences, queries, heads * head_dim)`. When `causal`, the last query
/// sees all keys and each earlier one sees one key less.
pub fn attention<T: Element>(sequences: &[Sequence<'_, T>], heads: Heads, causal: bool) -> Vec<T> {
    let width = heads.width();
    let total: usize = sequences.iter().map(|s| s.queries).sum();
    produce(total * width, |out| {
        let mut first = 0;
        for sequence in sequences {
            let problem = Problem {
                sequence,
                heads,
                causal,
                first: first * width,
            };
            if sequence.queries <= FEW {
                problem.few(out);
            } else {
                problem.blocks(out);
            }
            first += sequence.queries;
        }
    })
}

/// A sequence and where its output begins.
struct Problem<'a, T> {
    sequence: &'a Sequence<'a, T>,
    heads: Heads,
    causal: bool,
    first: usize,
}

impl<T> Problem<'_, T> {
    /// Keys that a query sees.
    fn seen(&self, query: usize) -> usize {
        let Sequence { queries, keys, .. } = *self.sequence;
        if self.causal {
            keys - (queries - 1 - query)
        } else {
            keys
        }
    }

    /// Column of a head's keys and values among all.
    fn kv_column(&self, head: usize) -> usize {
        head / (self.heads.heads / self.heads.kv_heads) * self.heads.head_dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.heads.head_dim as f32).sqrt()
    }
}

/// Replaces the scores of a row by `exp((score - max) * scale)`; returns their
/// sum. The row is whole vectors, of which the scores are the first `seen`; the
/// rest become 0. Stored as a left operand of `X`.
#[inline(always)]
fn exponents<S: Simd, X: Arithmetic<S>>(row: &mut [f32], seen: usize, scale: f32) -> f32 {
    row[seen..].fill(f32::NEG_INFINITY);
    let mut max = S::Vector::splat(f32::NEG_INFINITY);
    for scores in row.chunks_exact(LANES) {
        max = max.max(S::Vector::load(scores));
    }
    let max = S::Vector::splat(max.largest());
    let scale = S::Vector::splat(scale);
    let mut sum = S::Vector::splat(0.0);
    for at in (0..row.len()).step_by(LANES) {
        let score = S::Vector::load(&row[at..]);
        let mut e = exp::<S>(score.sub(max).mul(scale));
        if at + LANES > seen {
            // exp is never quite 0.
            let mut lanes = e.lanes();
            lanes[seen.saturating_sub(at).min(LANES)..].fill(0.0);
            e = S::Vector::load(&lanes);
        }
        sum = sum.add(e);
        // SAFETY: no scalar is wider than the score whose place it takes.
        unsafe { X::keep(e, row.as_mut_ptr(), at) }
    }
    sum.sum()
}

#[cfg(test)]
mod tests {
    use super::super::simd::at_every_level;
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
        let wide = Heads {
            heads: 2,
            kv_heads: 1,
            head_dim: 80,
        };
        at_every_level(|_| {
            for heads in [full, Heads::full(2, 32), grouped, wide] {
                for n in [1, 3, 5, 64, 150] {
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
        });
    }

    #[test]
    fn half_precision_has_f32_sums() {
        let heads = Heads::full(2, 8);
        let exact = numbers(31 * heads.packed(), 3);
        let qkv: Vec<bf16> = exact.iter().map(|v| bf16::from_f32(*v)).collect();
        let rounded: Vec<f32> = qkv.iter().map(|v| v.to_f32()).collect();
        at_every_level(|_| {
            let got = attention(&[packed(&qkv, heads)], heads, true);
            for (g, e) in got.iter().zip(reference(&rounded, heads, true)) {
                assert!((g.to_f32() - e).abs() < 1e-2);
            }
        });
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
