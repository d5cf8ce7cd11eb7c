//! Rotary position embedding, half-split form, angles from an f32 table.

use rayon::prelude::*;

use super::element::Element;
use super::simd::{Kernel, LANES, Simd, Vector, dispatch};
use super::{produce, rows_per_task};
use crate::nets::decoder::rotary_angles;
use crate::ops::Heads;

/// Cosines and sines of `position * theta^(-2i / head_dim)`, computed in f32
/// whatever the model's precision: half precision loses positions beyond a few
/// hundred.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RotaryTable {
    /// A table of `positions` rows.
    pub fn new(theta: f32, head_dim: usize, positions: usize) -> RotaryTable {
        let angles = rotary_angles(theta, head_dim, positions);
        RotaryTable {
            half: head_dim / 2,
            cos: angles.iter().map(|a| a.cos()).collect(),
            sin: angles.iter().map(|a| a.sin()).collect(),
        }
    }

    /// `(positions, head_dim / 2)`.
    pub fn cosines(&self) -> &[f32] {
        &self.cos
    }

    /// As [`RotaryTable::cosines`].
    pub fn sines(&self) -> &[f32] {
        &self.sin
    }

    /// Rotates query and key heads of packed rows `(tokens, packed)` by the position
    /// of each; values are copied.
    pub fn rotate<T: Element>(&self, qkv: &[T], heads: Heads, positions: &[usize]) -> Vec<T> {
        let packed = heads.packed();
        let rows = rows_per_task(qkv.len() / packed);
        produce(qkv.len(), |out| {
            qkv.par_chunks(rows * packed)
                .enumerate()
                .for_each(|(task, x)| {
                    dispatch(Rotate {
                        table: self,
                        heads,
                        positions: &positions[task * rows..],
                        x,
                        // SAFETY: tasks write disjoint rows.
                        dst: unsafe { out.slice(task * rows * packed, x.len()) },
                    });
                });
        })
    }
}

struct Rotate<'a, T> {
    table: &'a RotaryTable,
    heads: Heads,
    /// Of the rows.
    positions: &'a [usize],
    x: &'a [T],
    dst: &'a mut [T],
}

impl<T: Element> Kernel for Rotate<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Rotate { table, heads, .. } = self;
        let (half, packed, dim) = (table.half, heads.packed(), heads.head_dim);
        let rotated = (heads.heads + heads.kv_heads) * dim;
        let rows = self.x.chunks_exact(packed);
        let rows = rows.zip(self.dst.chunks_exact_mut(packed));
        for ((x, dst), position) in rows.zip(self.positions) {
            let row = position * half;
            let cos = &table.cos[row..row + half];
            let sin = &table.sin[row..row + half];
            let pairs = x[..rotated].chunks_exact(dim);
            for (x, dst) in pairs.zip(dst[..rotated].chunks_exact_mut(dim)) {
                let (low, high) = x.split_at(half);
                let (to_low, to_high) = dst.split_at_mut(half);
                for i in (0..half).step_by(LANES) {
                    // A partial vector must not run on into the other half.
                    let end = half.min(i + LANES);
                    let a = T::load::<S::Vector>(&low[i..end]);
                    let b = T::load::<S::Vector>(&high[i..end]);
                    let cos = f32::load::<S::Vector>(&cos[i..end]);
                    let sin = f32::load::<S::Vector>(&sin[i..end]);
                    T::store(a.mul(cos).sub(b.mul(sin)), &mut to_low[i..end]);
                    T::store(b.mul(cos).add(a.mul(sin)), &mut to_high[i..end]);
                }
            }
            dst[rotated..].copy_from_slice(&x[rotated..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::simd::at_every_level;
    use super::super::test_numbers::{numbers, stored};
    use super::*;

    fn check<T: Element>(positions: &[usize], heads: Heads, tolerance: f64) {
        let tokens = positions.len();
        let (packed, dim) = (heads.packed(), heads.head_dim);
        let x = stored::<T>(&numbers(tokens * packed, 1));
        let y = RotaryTable::new(1e4, dim, 30).rotate(&x, heads, positions);
        assert_eq!(y.len(), x.len());
        let rotated = (heads.heads + heads.kv_heads) * dim;
        for (at, got) in y.iter().enumerate() {
            let (i, column) = (at % packed % dim, at % packed);
            let value = |at: usize| f64::from(x[at].get());
            let expected = if column >= rotated {
                value(at)
            } else {
                let exponent = -2.0 * (i % (dim / 2)) as f64 / dim as f64;
                let angle = positions[at / packed] as f64 * 1e4f64.powf(exponent);
                if i < dim / 2 {
                    value(at) * angle.cos() - value(at + dim / 2) * angle.sin()
                } else {
                    value(at) * angle.cos() + value(at - dim / 2) * angle.sin()
                }
            };
            let off = (f64::from(got.get()) - expected).abs();
            assert!(off < tolerance, "{at}: off by {off}");
        }
    }

    #[test]
    fn rotation_agrees_with_its_formula_at_every_level() {
        at_every_level(|_| {
            for head_dim in [2, 8, 34, 64, 80] {
                let heads = Heads {
                    heads: 3,
                    kv_heads: 1,
                    head_dim,
                };
                check::<f32>(&[0, 1, 2, 3, 4, 5, 6, 7, 8], heads, 1e-5);
                check::<f32>(&[3, 4, 17, 29], heads, 1e-5);
                check::<bf16>(&[20, 21, 25], heads, 4e-3);
            }
        });
    }
}
