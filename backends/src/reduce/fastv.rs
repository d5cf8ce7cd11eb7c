//! FastV (arXiv 2403.06764): image tokens that the later layers of the decoder do not
//! see.
//!
//! After so many layers each image keeps the tokens that the prompt's last position
//! attends to most in the last of these layers, the mean over heads. The others leave
//! the sequence: later layers neither compute them nor hold their keys and values.
//! What stays, and what follows, keeps its position in the rotary embedding. The
//! choice is made once, when the prompt is read, as in the authors' code that keeps
//! keys and values; that knows one image, and here each has the budget for itself.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Clue, Reducer, refused, top};
use crate::error::Result;
use crate::mix::Mix;
use crate::ops::Heads;

/// Where tokens are dropped, and how many are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fastv {
    /// Layers that see all tokens (the paper's K).
    pub after: usize,
    /// Visual tokens of an image that the other layers see.
    pub tokens: usize,
}

impl Fastv {
    /// Errors unless a decoder of `layers` layers can drop some of `visual` tokens.
    pub(crate) fn check(&self, layers: usize, visual: usize) -> Result<()> {
        if self.after == 0 || self.after >= layers {
            let problem = format!(
                "must be at least 1, whose attention is looked at, and less than the {layers} layers of the decoder"
            );
            return Err(refused("fastv.after", self.after, problem));
        }
        if self.tokens == 0 || self.tokens > visual {
            let problem =
                format!("must be at least 1 and at most the {visual} visual tokens of an input");
            return Err(refused("fastv.tokens", self.tokens, problem));
        }
        Ok(())
    }

    /// Tokens dropped of images of so many visual tokens.
    pub(crate) fn dropped(&self, images: impl IntoIterator<Item = usize>) -> usize {
        let dropped = |tokens: usize| tokens.saturating_sub(self.tokens);
        images.into_iter().map(dropped).sum()
    }

    /// What drops the tokens of a prompt whose images lie there.
    pub(crate) fn among<'a>(&self, images: &'a [Range<usize>]) -> Among<'a> {
        let by = *self;
        Among { by, images }
    }
}

/// The tokens of a prompt's images.
pub(crate) struct Among<'a> {
    by: Fastv,
    images: &'a [Range<usize>],
}

impl Reducer for Among<'_> {
    fn tokens(&self, n: usize) -> usize {
        n - self.by.dropped(self.images.iter().map(Range::len))
    }

    fn flops(&self, n: usize, heads: Heads) -> usize {
        2 * n * heads.width()
    }

    fn mix(&self, clue: &Clue<'_>) -> Mix {
        let attention = clue.attention(clue.len() - 1);
        let mut kept = vec![true; clue.len()];
        for image in self.images {
            kept[image.clone()].fill(false);
            for place in top(&attention[image.clone()], self.by.tokens) {
                kept[image.start + place] = true;
            }
        }
        let mut mix = Mix::default();
        let kept = kept.into_iter().enumerate().filter(|(_, kept)| *kept);
        kept.for_each(|(token, _)| mix.copy(token));
        mix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_keeps_its_own_most_attended_tokens() {
        // Keys of one value: the last query of 1 attends to the largest.
        let heads = Heads::full(1, 1);
        let keys = [9.0, 1.0, 3.0, 2.0, 9.0, 5.0, 4.0, 6.0, 0.0];
        let rows: Vec<f32> = keys.iter().flat_map(|key| [1.0, *key, 0.0]).collect();
        let by = Fastv {
            after: 1,
            tokens: 2,
        };
        let images = [1..4, 5..8];
        let among = by.among(&images);
        assert_eq!(among.tokens(9), 7);
        let mix = among.mix(&Clue::new(&rows, heads));
        let sources: Vec<u32> = (0..mix.len()).map(|i| mix.taps(i)[0].0).collect();
        assert_eq!(sources, [0, 2, 3, 4, 5, 7, 8]);
        // An image that has no more keeps all.
        assert_eq!(by.dropped([3, 2, 1]), 1);
    }
}
