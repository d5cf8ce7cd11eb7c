//! VisionZip (arXiv 2412.04467): dominant tokens as they are, the others merged into
//! contextual ones.
//!
//! Dominant are the class token and the patches it attends to most, in the layer
//! that makes the features, summed over heads; they keep their order. Of the
//! remaining patches evenly spaced ones are contextual, and each of the others is
//! given to the contextual one whose key, the mean over heads, is nearest by cosine:
//! a contextual token is `x_t + mean of x_j` over those given to it.

use serde::{Deserialize, Serialize};

use super::{Clue, Reducer, dot, normalized, refused, top};
use crate::error::Result;
use crate::mix::Mix;
use crate::ops::Heads;

/// The numbers of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visionzip {
    /// Dominant tokens, the class token among them.
    pub dominant: usize,
    /// Contextual tokens.
    pub contextual: usize,
}

impl Visionzip {
    /// Tokens made of `patches` patches.
    pub(super) fn check(&self, patches: usize) -> Result<usize> {
        let Visionzip {
            dominant,
            contextual,
        } = *self;
        let tokens = self.tokens(patches);
        if dominant == 0 || contextual == 0 || tokens > patches + 1 {
            let value = format!("{{dominant: {dominant}, contextual: {contextual}}}");
            let problem = format!(
                "must both be at least 1, and together at most the {patches} patches of the encoder and its class token"
            );
            return Err(refused("visionzip", value, problem));
        }
        Ok(tokens)
    }
}

impl Reducer for Visionzip {
    fn tokens(&self, _: usize) -> usize {
        self.dominant + self.contextual
    }

    fn flops(&self, n: usize, heads: Heads) -> usize {
        let merged = n - self.tokens(n);
        2 * (n * heads.width() + merged * self.contextual * heads.head_dim)
    }

    fn mix(&self, clue: &Clue<'_>) -> Mix {
        let mut dominant = top(&clue.attention(0)[1..], self.dominant - 1);
        dominant.iter_mut().for_each(|patch| *patch += 1);
        dominant.push(0);
        dominant.sort_unstable();
        let rest: Vec<usize> = (0..clue.len()).filter(|i| !dominant.contains(i)).collect();

        let step = (rest.len() / self.contextual).max(1);
        let targets: Vec<usize> = (0..rest.len())
            .step_by(step)
            .take(self.contextual)
            .collect();
        let metric = normalized(rest.iter().map(|token| mean_key(clue, *token)).collect());
        let mut given = vec![Vec::new(); targets.len()];
        for place in (0..rest.len()).filter(|place| !targets.contains(place)) {
            let likeness: Vec<f32> = targets
                .iter()
                .map(|t| dot(&metric[place], &metric[*t]))
                .collect();
            given[top(&likeness, 1)[0]].push(rest[place]);
        }

        let mut mix = Mix::default();
        dominant.into_iter().for_each(|token| mix.copy(token));
        for (target, given) in targets.into_iter().zip(given) {
            let share = 1.0 / given.len().max(1) as f32;
            let given = given.into_iter().map(|token| (token, share));
            mix.push([(rest[target], 1.0)].into_iter().chain(given));
        }
        mix
    }
}

/// A token's key, the mean over heads.
fn mean_key(clue: &Clue<'_>, token: usize) -> Vec<f32> {
    let Heads {
        kv_heads, head_dim, ..
    } = clue.heads;
    let keys = clue.keys(token);
    let sum = |at: usize| keys[at..].iter().step_by(head_dim).sum::<f32>();
    (0..head_dim).map(|at| sum(at) / kv_heads as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_goes_into_one_of_those_that_are_left() {
        let heads = Heads::full(2, 4);
        let value = |i: usize| ((i * 7919 % 101) as f32 - 50.0) / 25.0;
        let rows: Vec<f32> = (0..17 * heads.packed()).map(value).collect();
        let by = Visionzip {
            dominant: 4,
            contextual: 3,
        };
        let mix = by.mix(&Clue::new(&rows, heads));
        assert_eq!((mix.len(), mix.taps(0)), (7, &[(0, 1.0)][..]));
        assert!((0..4).all(|i| mix.taps(i).len() == 1));
        let taps = (0..7).flat_map(|i| mix.taps(i));
        let mut sources: Vec<u32> = taps.map(|(source, _)| *source).collect();
        sources.sort_unstable();
        assert!(sources.into_iter().eq(0..17));
        for i in 4..7 {
            let weights: f32 = mix.taps(i)[1..].iter().map(|(_, weight)| weight).sum();
            assert!(mix.taps(i).len() == 1 || (weights - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn there_cannot_be_more_tokens_than_before() {
        let check = |dominant, contextual| {
            let by = Visionzip {
                dominant,
                contextual,
            };
            by.check(16)
        };
        assert_eq!(check(16, 1).ok(), Some(17));
        for (dominant, contextual) in [(16, 2), (0, 4), (4, 0)] {
            let e = check(dominant, contextual).unwrap_err().to_string();
            assert!(e.contains("the 16 patches"), "{e}");
        }
    }
}
