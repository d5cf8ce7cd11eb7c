//! Tokens made of tokens: pooling, resizing, reordering and merging as one
//! sparse matrix.
//!
//! What AnyRes does to the features of tiles depends on the image, not on the
//! weights. [`Mix`] says it as data, so that one operation
//! ([`crate::ops::Ops::mix_tokens`]) serves all of it on every engine.

use rayon::prelude::*;

use crate::error::{Error, Result};

/// A sparse matrix over the tokens of a sequence: output token `i` is the sum
/// of `weight * token[source]` over its taps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mix {
    /// Where the taps of each output end.
    ends: Vec<usize>,
    taps: Vec<(u32, f32)>,
}

impl Mix {
    /// Appends an output token. No taps make a token of zeros.
    pub fn push(&mut self, taps: impl IntoIterator<Item = (usize, f32)>) {
        let taps = taps.into_iter();
        self.taps
            .extend(taps.map(|(source, weight)| (source as u32, weight)));
        self.ends.push(self.taps.len());
    }

    /// Appends a copy of one token.
    pub fn copy(&mut self, source: usize) {
        self.push([(source, 1.0)]);
    }

    /// Appends the token between neighbours in a grid: taps over rows and over
    /// columns, of which `source` names the token.
    pub fn square(
        &mut self,
        rows: &[(usize, f32)],
        columns: &[(usize, f32)],
        source: impl Fn(usize, usize) -> usize,
    ) {
        for (y, vertical) in rows {
            for (x, horizontal) in columns {
                let weight = vertical * horizontal;
                if weight != 0.0 {
                    self.taps.push((source(*y, *x) as u32, weight));
                }
            }
        }
        self.ends.push(self.taps.len());
    }

    /// Output tokens.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no output token.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The taps of output token `i`: source and weight.
    pub fn taps(&self, i: usize) -> &[(u32, f32)] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.taps[start..self.ends[i]]
    }

    /// Taps of the output token that has most.
    pub fn widest(&self) -> usize {
        (0..self.len())
            .map(|i| self.taps(i).len())
            .max()
            .unwrap_or(0)
    }

    /// Errors unless every source is one of `tokens` tokens.
    pub fn check(&self, tokens: usize) -> Result<()> {
        match self.taps.iter().map(|(source, _)| *source as usize).max() {
            Some(last) if last >= tokens => Err(Error::Shape {
                op: "mix tokens",
                name: String::new(),
                expected: format!("at least {} tokens", last + 1),
                got: tokens.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// The output for a sequence of tokens of `dim` values each, which
    /// [`Mix::check`] has admitted.
    pub fn apply(&self, tokens: &[f32], dim: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.len() * dim];
        let rows = out.par_chunks_mut(dim.max(1)).enumerate();
        rows.for_each(|(i, out)| match self.taps(i) {
            [(source, 1.0)] => out.copy_from_slice(&tokens[*source as usize * dim..][..dim]),
            taps => {
                for (source, weight) in taps {
                    let token = &tokens[*source as usize * dim..][..dim];
                    for (sum, value) in out.iter_mut().zip(token) {
                        *sum += weight * value;
                    }
                }
            }
        });
        out
    }
}

/// Bilinear taps of each of `to` positions over `from`, as torch's `interpolate`
/// computes them with `align_corners=False`.
pub fn bilinear(from: usize, to: usize) -> Vec<[(usize, f32); 2]> {
    let scale = from as f32 / to as f32;
    let position = |i: usize| {
        let at = (scale * (i as f32 + 0.5) - 0.5).max(0.0);
        let low = (at as usize).min(from - 1);
        let share = at - low as f32;
        let high = (low + 1).min(from - 1);
        [(low, 1.0 - share), (high, share)]
    };
    (0..to).map(position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_sums_of_their_taps() {
        let mut mix = Mix::default();
        mix.copy(2);
        mix.push([(0, 0.25), (1, 0.75)]);
        mix.push([]);
        let tokens = [0.0, 4.0, 8.0, 0.0, 5.0, 6.0];
        assert_eq!(mix.apply(&tokens, 2), [5.0, 6.0, 6.0, 1.0, 0.0, 0.0]);
        assert_eq!((mix.len(), mix.widest()), (3, 2));
        assert!(mix.check(3).is_ok());
        assert!(mix.check(2).is_err());
    }

    #[test]
    fn a_bilinear_tap_weighs_by_distance() {
        assert_eq!(bilinear(4, 2), [[(0, 0.5), (1, 0.5)], [(2, 0.5), (3, 0.5)]]);
        let sum: f32 = bilinear(33, 27).iter().flatten().map(|(_, w)| w).sum();
        assert!((sum - 27.0).abs() < 1e-4);
    }
}
