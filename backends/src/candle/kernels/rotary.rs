//! Rotary position embedding, half-split form, angles from an f32 table.

use rayon::prelude::*;

use super::element::Element;
use super::produce;
use crate::nets::decoder::MAX_HEAD_DIM;
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
        let half = head_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| 1.0 / theta.powf(2.0 * i as f32 / head_dim as f32))
            .collect();
        let angles = (0..positions)
            .flat_map(|p| frequencies.iter().map(move |f| p as f32 * f))
            .collect::<Vec<f32>>();
        RotaryTable {
            half,
            cos: angles.iter().map(|a| a.cos()).collect(),
            sin: angles.iter().map(|a| a.sin()).collect(),
        }
    }

    /// Rotates query and key heads of packed rows `(tokens, packed)` whose
    /// first row is position `past`; values are copied.
    pub fn rotate<T: Element>(&self, qkv: &[T], heads: Heads, past: usize) -> Vec<T> {
        let packed = heads.packed();
        let rotated = (heads.heads + heads.kv_heads) * heads.head_dim;
        produce(qkv.len(), |out| {
            qkv.par_chunks_exact(packed).enumerate().for_each(|(n, x)| {
                // SAFETY: rows do not overlap.
                let dst = unsafe { out.slice(n * packed, packed) };
                let row = (past + n) * self.half;
                let cos = &self.cos[row..row + self.half];
                let sin = &self.sin[row..row + self.half];
                let mut line = [0.0_f32; MAX_HEAD_DIM];
                for (x, dst) in x[..rotated]
                    .chunks_exact(heads.head_dim)
                    .zip(dst[..rotated].chunks_exact_mut(heads.head_dim))
                {
                    let (low, high) = x.split_at(self.half);
                    for i in 0..self.half {
                        let (a, b) = (low[i].get(), high[i].get());
                        line[i] = a * cos[i] - b * sin[i];
                        line[i + self.half] = b * cos[i] + a * sin[i];
                    }
                    T::narrow(&line[..heads.head_dim], dst);
                }
                dst[rotated..].copy_from_slice(&x[rotated..]);
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_norms_and_depends_on_the_position_only() {
        let heads = Heads {
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
        };
        let table = RotaryTable::new(1e4, 8, 20);
        let x: Vec<f32> = (0..3 * heads.packed())
            .map(|i| (i % 7) as f32 - 3.0)
            .collect();
        let y = table.rotate(&x, heads, 5);
        let single = table.rotate(&x[heads.packed()..2 * heads.packed()], heads, 6);
        assert_eq!(&y[heads.packed()..2 * heads.packed()], &single[..]);
        let square = |v: &[f32]| v.iter().map(|a| a * a).sum::<f32>();
        assert!((square(&x[..8]) - square(&y[..8])).abs() < 1e-4);
        // Values are not rotated.
        assert_eq!(&x[24..32], &y[24..32]);
        // Position 0 is the identity.
        assert_eq!(table.rotate(&x[..32], heads, 0)[..32], x[..32]);
    }
}
