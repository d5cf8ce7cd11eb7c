//! LLaVA-PruMerge (arXiv 2403.15388): patches that the class token attends to, with
//! what is like them merged in.
//!
//! With `q` and `k` of the layer after the features, unlike in that layer as one
//! head, patch `j` weighs `a_j = softmax(q_class k^T / sqrt(width))_j`. A token of
//! patch `i` is `x_i + sum of a_j x_j` over the 32 patches whose keys are nearest to
//! that of `i` by cosine; one last token is the sum of `a_j x_j` over the patches
//! that were not chosen.
//!
//! The authors' code chooses as many patches as have outlying attention, which
//! differs by image; here the number is given (their `if_adaptive=False`).

use rayon::prelude::*;

use super::{Budget, Clue, Reducer, dot, normalized, refused, top};
use crate::error::Result;
use crate::mix::Mix;
use crate::ops::Heads;

/// Patches that are merged into each chosen one.
const MERGED: usize = 32;

/// The number of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prumerge {
    /// Patches chosen by attention, most attended to first.
    pruned: usize,
    /// Evenly spaced patches, chosen too: none, or as many. One that is both is
    /// there twice.
    spaced: usize,
}

impl Prumerge {
    /// PruMerge: all but the last token are patches by attention.
    pub fn new(budget: Budget) -> Result<Prumerge> {
        match budget.tokens {
            tokens @ 2.. => Ok(Prumerge {
                pruned: tokens - 1,
                spaced: 0,
            }),
            few => Err(refused(
                "prumerge.tokens",
                few,
                "must be at least 2: one of them stands for the rest".into(),
            )),
        }
    }

    /// PruMerge+: half of the tokens but the last are evenly spaced patches.
    pub fn plus(budget: Budget) -> Result<Prumerge> {
        match budget.tokens {
            tokens @ 3.. if tokens % 2 == 1 => Ok(Prumerge {
                pruned: tokens / 2,
                spaced: tokens / 2,
            }),
            tokens => Err(refused(
                "prumerge_plus.tokens",
                tokens,
                "must be odd and at least 3: as many patches by attention as evenly spaced ones, and one token for the rest"
                    .into(),
            )),
        }
    }

    /// Tokens made of `patches` patches.
    pub(super) fn check(&self, patches: usize) -> Result<usize> {
        let tokens = self.tokens(patches);
        if self.spaced > 0 && 3 * self.spaced > patches {
            let problem = format!(
                "must be at most {}, so that a third of the {patches} patches is spaced evenly",
                2 * (patches / 3) + 1
            );
            return Err(refused("prumerge_plus.tokens", tokens, problem));
        }
        if self.pruned >= patches {
            let problem = format!("must be at most the {patches} patches of the encoder");
            return Err(refused("prumerge.tokens", tokens, problem));
        }
        Ok(tokens)
    }

    /// Patches chosen, in the order of their tokens.
    fn chosen(&self, attention: &[f32]) -> Vec<usize> {
        let mut chosen = top(attention, self.pruned);
        if let Some(step) = attention.len().checked_div(self.spaced) {
            chosen.extend((step / 2..).step_by(step).take(self.spaced));
        }
        chosen
    }
}

impl Reducer for Prumerge {
    fn tokens(&self, _: usize) -> usize {
        self.pruned + self.spaced + 1
    }

    fn flops(&self, n: usize, heads: Heads) -> usize {
        let similarities = (self.pruned + self.spaced) * (n - 2);
        2 * (n + similarities) * heads.width()
    }

    fn mix(&self, clue: &Clue<'_>) -> Mix {
        let patches = clue.len() - 1;
        let attention = &clue.attention(0)[1..];
        let keys: Vec<Vec<f32>> = (0..patches).map(|i| clue.keys(1 + i).to_vec()).collect();
        let keys = normalized(keys);
        let chosen = self.chosen(attention);
        let free = (0..patches).filter(|i| !chosen.contains(i));
        // For each patch that is chosen twice, the published code loses one of the rest.
        let distinct = patches - free.clone().count();
        let rest: Vec<usize> = free.skip(chosen.len() - distinct).collect();

        let weighed = |patch: usize| (1 + patch, attention[patch]);
        let merged = |at: usize| {
            let others = || chosen[..at].iter().chain(&chosen[at + 1..]).chain(&rest);
            let likeness: Vec<f32> = others()
                .map(|j| dot(&keys[chosen[at]], &keys[*j]))
                .collect();
            let others: Vec<usize> = others().copied().collect();
            let nearest = top(&likeness, MERGED);
            let taps = nearest.into_iter().map(|place| weighed(others[place]));
            [(1 + chosen[at], 1.0)].into_iter().chain(taps).collect()
        };
        let tokens: Vec<Vec<(usize, f32)>> =
            (0..chosen.len()).into_par_iter().map(merged).collect();
        let mut mix = Mix::default();
        tokens.into_iter().for_each(|taps| mix.push(taps));
        mix.push(rest.into_iter().map(weighed));
        mix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_counts_of_tokens_that_the_patches_must_allow() {
        let new = |tokens| Prumerge::new(Budget { tokens });
        let plus = |tokens| Prumerge::plus(Budget { tokens });
        assert_eq!(new(40).unwrap().check(576).ok(), Some(40));
        assert_eq!(plus(145).unwrap().check(576).ok(), Some(145));
        for (refused, with) in [
            (new(1).map(drop), "at least 2"),
            (plus(144).map(drop), "odd"),
            (
                new(577 + 1).unwrap().check(576).map(drop),
                "at most the 576",
            ),
            (plus(401).unwrap().check(576).map(drop), "at most 385"),
        ] {
            let e = refused.unwrap_err().to_string();
            assert!(e.contains(with), "{e}");
        }
        assert_eq!(plus(385).unwrap().check(576).ok(), Some(385));
        assert_eq!(new(576).unwrap().check(576).ok(), Some(576));
    }

    #[test]
    fn spaced_patches_are_those_of_the_published_ratio() {
        // torch.arange(4, 575, 8) after the 72 patches of most attention.
        let by = Prumerge::plus(Budget { tokens: 145 }).unwrap();
        let chosen = by.chosen(&vec![0.0; 576]);
        assert_eq!(chosen.len(), 144);
        assert!(chosen[72..].iter().copied().eq((4..575).step_by(8)));
    }
}
