//! From logits to the next token: greedy, or seeded sampling.

use serde::{Deserialize, Serialize};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampling {
    /// The largest logit; the lowest id among equals.
    #[default]
    Greedy,
    /// Softmax of `logits / temperature`, cut to the smallest set of tokens
    /// that reaches probability `top_p`, drawn with a seeded generator.
    Seeded {
        /// Softmax temperature, above 0.
        temperature: f32,
        /// Nucleus, in (0, 1].
        #[serde(default = "whole")]
        top_p: f32,
        /// Seed; equal seeds and logits give equal tokens.
        seed: u64,
    },
}

fn whole() -> f32 {
    1.0
}

/// A sampler with the state of its generator.
#[derive(Clone, Debug)]
pub struct Sampler {
    how: Sampling,
    state: u64,
}

impl Sampler {
    /// A sampler at its seed.
    pub fn new(how: Sampling) -> Sampler {
        let state = match how {
            Sampling::Greedy => 0,
            Sampling::Seeded { seed, .. } => seed,
        };
        Sampler { how, state }
    }

    /// Chooses the next token; `None` if no logit is finite.
    pub fn sample(&mut self, logits: &[f32]) -> Option<u32> {
        match self.how {
            Sampling::Greedy => argmax(logits),
            Sampling::Seeded {
                temperature, top_p, ..
            } => {
                let draw = self.uniform();
                nucleus(logits, temperature, top_p, draw)
            }
        }
    }

    /// SplitMix64, as a number in [0, 1).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Index of the largest finite logit, the lowest among equals.
pub fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (i, &v) in logits.iter().enumerate() {
        if v.is_finite() && best.is_none_or(|(_, b)| v > b) {
            best = Some((i, v));
        }
    }
    best.map(|(i, _)| i as u32)
}

fn nucleus(logits: &[f32], temperature: f32, top_p: f32, draw: f64) -> Option<u32> {
    let max = logits[argmax(logits)? as usize];
    let mut weights: Vec<(u32, f64)> = logits
        .iter()
        .enumerate()
        .filter(|(_, v)| v.is_finite())
        .map(|(i, v)| {
            (
                i as u32,
                (f64::from(v - max) / f64::from(temperature)).exp(),
            )
        })
        .collect();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let total: f64 = weights.iter().map(|w| w.1).sum();
    let mut kept = 0.0;
    let mut len = 0;
    for (_, w) in &weights {
        kept += w;
        len += 1;
        if kept >= f64::from(top_p) * total {
            break;
        }
    }
    let mut left = draw * kept;
    for (id, w) in &weights[..len] {
        left -= w;
        if left < 0.0 {
            return Some(*id);
        }
    }
    weights[..len].last().map(|w| w.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_skips_nan() {
        assert_eq!(argmax(&[1.0, 3.0, f32::NAN, 3.0]), Some(1));
        assert_eq!(argmax(&[f32::NAN, f32::INFINITY]), None);
    }

    #[test]
    fn sampling_is_repeatable_and_follows_the_distribution() {
        let logits = [0.0, (3.0_f32).ln(), f32::NEG_INFINITY];
        let how = Sampling::Seeded {
            temperature: 1.0,
            top_p: 1.0,
            seed: 7,
        };
        let draw = |n| {
            let mut s = Sampler::new(how);
            (0..n)
                .map(|_| s.sample(&logits).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(100), draw(100));
        let ones = draw(20_000).iter().filter(|t| **t == 1).count();
        assert!((ones as f64 / 20_000.0 - 0.75).abs() < 0.02, "{ones}");
    }

    #[test]
    fn a_nucleus_drops_the_tail() {
        let logits = [5.0, 0.0, 0.0];
        let mut s = Sampler::new(Sampling::Seeded {
            temperature: 1.0,
            top_p: 0.9,
            seed: 1,
        });
        assert!((0..200).all(|_| s.sample(&logits) == Some(0)));
    }
}
