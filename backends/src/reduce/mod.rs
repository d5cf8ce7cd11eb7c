//! Visual tokens made fewer by looking at attention.
//!
//! Which tokens are kept, and what the others add to them, depends on the image,
//! so it is decided on the host: a [`Reducer`] looks at the packed projection of
//! one attention layer and says the rest as a [`Mix`]. A network asks for it with
//! [`crate::ops::Ops::reduce_tokens`]. Each method is written here once, as its
//! authors' code has it; M3, which looks at nothing, is the projector's
//! ([`crate::nets::ProjectorConfig::pooled`]).

pub mod fastv;
pub mod prumerge;
pub mod visionzip;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::mix::Mix;
use crate::nets::{EncoderConfig, ProjectorKind, VitConfig};
use crate::ops::Heads;
use crate::recipe::Recipe;
pub use fastv::Fastv;
pub use prumerge::Prumerge;
pub use visionzip::Visionzip;

/// How a model's visual tokens become fewer: what is written in a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reduce {
    /// Projected tokens, averaged to so many (Matryoshka Multimodal Models, arXiv
    /// 2405.17430).
    M3(usize),
    /// See [`Prumerge`].
    Prumerge(Budget),
    /// [`Prumerge`] with as many evenly spaced tokens as pruned ones.
    PrumergePlus(Budget),
    /// See [`Visionzip`].
    Visionzip(Visionzip),
    /// See [`Fastv`]. All visual tokens are in the prompt.
    Fastv(Fastv),
}

/// How many tokens are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Tokens that the decoder sees of an image.
    pub tokens: usize,
}

impl Reduce {
    /// Name as papers print it.
    fn label(&self) -> &'static str {
        match self {
            Reduce::M3(_) => "M3",
            Reduce::Prumerge(_) => "PruMerge",
            Reduce::PrumergePlus(_) => "PruMerge+",
            Reduce::Visionzip(_) => "VisionZip",
            Reduce::Fastv(_) => "FastV",
        }
    }

    /// `recipe` with fewer visual tokens, or an error saying what does not fit.
    pub fn apply(&self, mut recipe: Recipe) -> Result<Recipe> {
        match *self {
            Reduce::M3(tokens) => match &mut recipe.projector {
                Some(c) if !matches!(c.kind, ProjectorKind::Sva(_)) => c.pooled = Some(tokens),
                _ => return Err(self.misfit("needs a projector (not `sva`), after which it pools")),
            },
            Reduce::Prumerge(budget) => {
                self.look(&mut recipe, Looking::Prumerge(Prumerge::new(budget)?))?;
            }
            Reduce::PrumergePlus(budget) => {
                self.look(&mut recipe, Looking::Prumerge(Prumerge::plus(budget)?))?;
            }
            Reduce::Visionzip(by) => self.look(&mut recipe, Looking::Visionzip(by))?,
            Reduce::Fastv(by) => match (&recipe.encoder, &mut recipe.decoder) {
                // Samplers look up from where visual tokens are.
                (Some(e), Some(d)) if !matches!(e.config, EncoderConfig::Towers(_)) => {
                    d.config.fastv = Some(by);
                }
                _ => {
                    return Err(
                        self.misfit("needs an encoder (not several `towers`) and a decoder, in which tokens are dropped")
                    );
                }
            },
        }
        if let Some(encoder) = &mut recipe.encoder {
            // Not the published encoder's: what is known of that is not known of this.
            encoder.label = format!("{} {}", encoder.label, self.label());
        }
        recipe.check_vision()?;
        Ok(recipe)
    }

    /// Has the encoder reduce its tokens by what it looks at.
    fn look(&self, recipe: &mut Recipe, by: Looking) -> Result<()> {
        if recipe.tiles.is_some() {
            return Err(self.misfit("is for images that are one encoder input; remove `tiles`"));
        }
        match recipe.encoder.as_mut().map(|e| &mut e.config) {
            Some(EncoderConfig::Vit(c)) if by.fits(c) => {
                c.reduce = Some(by);
                Ok(())
            }
            _ => Err(self.misfit(
                "needs a vision transformer with a class token whose features are those of a layer before the last, \
                 such as clip-vit-l-14-336",
            )),
        }
    }

    fn misfit(&self, problem: &str) -> Error {
        Error::Config {
            what: "reduce".into(),
            value: self.label().into(),
            problem: problem.into(),
        }
    }
}

/// An error about a budget.
fn refused(what: &str, value: impl ToString, problem: String) -> Error {
    Error::Config {
        what: format!("reduce.{what}"),
        value: value.to_string(),
        problem,
    }
}

/// A method inside of a vision transformer: token 0 is the class token, the others
/// are patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looking {
    /// At the layer after the features.
    Prumerge(Prumerge),
    /// At the layer that makes the features.
    Visionzip(Visionzip),
}

impl Looking {
    /// The layer whose packed projection is looked at, where `layers_run` layers
    /// make the features.
    pub fn layer(&self, layers_run: usize) -> usize {
        match self {
            Looking::Prumerge(_) => layers_run,
            Looking::Visionzip(_) => layers_run.saturating_sub(1),
        }
    }

    fn fits(&self, c: &VitConfig) -> bool {
        c.class_token && !c.post_norm && c.layers_run > 0 && self.layer(c.layers_run) < c.layers
    }

    /// Tokens made of `patches` patches, or an error saying how many could be.
    pub fn check(&self, patches: usize) -> Result<usize> {
        match self {
            Looking::Prumerge(by) => by.check(patches),
            Looking::Visionzip(by) => by.check(patches),
        }
    }

    /// How the projection is divided, and what reduces by it.
    pub fn reducer(&self, c: &VitConfig) -> (Heads, &dyn Reducer) {
        match self {
            // Its attention has one head as wide as all.
            Looking::Prumerge(by) => (Heads::full(1, c.hidden), by),
            Looking::Visionzip(by) => (c.head_layout(), by),
        }
    }
}

/// A way to make few tokens of many.
pub trait Reducer {
    /// Tokens left of `n`.
    fn tokens(&self, n: usize) -> usize;

    /// FLOPs of looking, with `n` tokens; the mixing counts as none.
    fn flops(&self, n: usize, heads: Heads) -> usize;

    /// The tokens left, made of those that `clue` is of.
    fn mix(&self, clue: &Clue<'_>) -> Mix;
}

/// The packed projection of an attention layer, a row a token.
pub struct Clue<'a> {
    rows: &'a [f32],
    heads: Heads,
}

impl<'a> Clue<'a> {
    /// Of rows `(tokens, heads.packed())`.
    pub fn new(rows: &'a [f32], heads: Heads) -> Clue<'a> {
        Clue { rows, heads }
    }

    /// Tokens.
    fn len(&self) -> usize {
        self.rows.len() / self.heads.packed()
    }

    /// Queries of a token, head by head.
    fn queries(&self, token: usize) -> &'a [f32] {
        &self.rows[token * self.heads.packed()..][..self.heads.width()]
    }

    /// Keys of a token, head by head.
    fn keys(&self, token: usize) -> &'a [f32] {
        let start = token * self.heads.packed() + self.heads.width();
        &self.rows[start..][..self.heads.kv_heads * self.heads.head_dim]
    }

    /// Attention of token `query` to every token:
    /// `softmax(q k^T / sqrt(head_dim))`, the mean over heads.
    fn attention(&self, query: usize) -> Vec<f32> {
        let Heads {
            heads,
            kv_heads,
            head_dim,
        } = self.heads;
        let mut mean = vec![0.0; self.len()];
        for (head, q) in self.queries(query).chunks(head_dim).enumerate() {
            let kv = head / (heads / kv_heads) * head_dim;
            let score = |token| dot(q, &self.keys(token)[kv..kv + head_dim]);
            let scale = 1.0 / (head_dim as f32).sqrt();
            let scores: Vec<f32> = (0..self.len()).map(|token| score(token) * scale).collect();
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let shares: Vec<f32> = scores.iter().map(|s| (s - most).exp()).collect();
            let sum = shares.iter().sum::<f32>() * heads as f32;
            for (mean, share) in mean.iter_mut().zip(shares) {
                *mean += share / sum;
            }
        }
        mean
    }
}

/// How each sequence of `n` tokens is reduced: `clue` has their rows, one sequence
/// after another.
pub fn mixes(clue: &[f32], n: usize, heads: Heads, by: &dyn Reducer) -> Vec<Mix> {
    let rows = clue.chunks_exact(n * heads.packed());
    rows.map(|rows| by.mix(&Clue::new(rows, heads))).collect()
}

/// The sum of products, in lanes that the compiler makes vectors of.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    let (whole, rest) = (a.chunks_exact(LANES), a.chunks_exact(LANES).remainder());
    for (a, b) in whole.zip(b.chunks_exact(LANES)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest = rest.iter().zip(&b[a.len() - rest.len()..]);
    sums.iter().sum::<f32>() + rest.map(|(a, b)| a * b).sum::<f32>()
}

/// Rows scaled to length 1.
fn normalized(rows: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let unit = |mut row: Vec<f32>| {
        // As torch's `normalize`: a row of zeros stays one.
        let length = dot(&row, &row).sqrt().max(1e-12);
        row.iter_mut().for_each(|value| *value /= length);
        row
    };
    rows.into_par_iter().map(unit).collect()
}

/// Places of the `k` largest values, largest first; of equal ones the first.
fn top(values: &[f32], k: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..values.len()).collect();
    places.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    places.truncate(k);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_is_a_mean_of_softmaxes_with_shared_keys() {
        // Two query heads on one key head of two values; values are not looked at.
        let heads = Heads {
            heads: 2,
            kv_heads: 1,
            head_dim: 2,
        };
        let ln3 = 3f32.ln() * 2f32.sqrt();
        let rows = [
            [1.0, 0.0, 0.0, 1.0, ln3, 0.0, 9.0, 9.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, ln3, 9.0, 9.0],
        ];
        let rows = rows.concat();
        let clue = Clue::new(&rows, heads);
        assert_eq!(clue.len(), 2);
        // 3/4 and 1/4 by the first head, the other way round by the second.
        let close = |got: Vec<f32>, wanted: [f32; 2]| {
            assert!(
                got.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6),
                "{got:?}"
            );
        };
        close(clue.attention(0), [0.5, 0.5]);
        let rows = [&rows[..2], &[1.0, 0.0], &rows[4..]].concat();
        close(Clue::new(&rows, heads).attention(0), [0.75, 0.25]);
    }

    #[test]
    fn products_and_places() {
        let a: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &a), 2109.0);
        assert_eq!(top(&[1.0, 3.0, 3.0, 2.0], 3), [1, 2, 3]);
    }
}
