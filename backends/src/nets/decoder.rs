//! The Llama-style decoder: Qwen2 (biased query/key/value projections) and
//! Llama (none) are one network.
//!
//! It runs from embeddings, so that visual and text tokens can be mixed, and
//! computes logits for the last position only. The KV cache belongs to the
//! interpreter and is addressed by layer.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::ops::{Act, Embedding, Heads, Linear, Norm, Ops, Take};
use crate::reduce::Fastv;

/// Largest head dimension: that of the buffer in which a head is rotated.
pub const MAX_HEAD_DIM: usize = 512;

/// Numbers of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Width.
    pub hidden: usize,
    /// Hidden width of the SwiGLU feed-forward network.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Dimension of one head.
    pub head_dim: usize,
    /// Vocabulary rows of the embedding table.
    pub vocab: usize,
    /// RoPE base.
    pub rope_theta: f32,
    /// RMS norm epsilon.
    pub rms_eps: f32,
    /// Whether the output head is the embedding table.
    pub tied: bool,
    /// Whether the query/key/value projections have biases.
    pub qkv_bias: bool,
    /// Positions the model was made for.
    pub max_positions: usize,
    /// Where visual tokens are dropped.
    pub fastv: Option<Fastv>,
}

/// What the KV cache holds. Layers differ where tokens were dropped between them;
/// positions, by which rotary embedding turns, are counted for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Positions of the sequence so far.
    pub positions: usize,
    /// Of them those that later layers do not hold.
    pub dropped: usize,
    /// The first of these layers.
    pub after: usize,
}

impl Past {
    /// Positions that `layer` holds.
    pub fn at(&self, layer: usize) -> usize {
        match layer < self.after {
            true => self.positions,
            false => self.positions.saturating_sub(self.dropped),
        }
    }
}

impl From<usize> for Past {
    /// As many positions in every layer.
    fn from(positions: usize) -> Past {
        Past {
            positions,
            ..Past::default()
        }
    }
}

impl DecoderConfig {
    /// Head layout of the packed projection.
    pub fn head_layout(&self) -> Heads {
        Heads {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
        }
    }

    /// What the KV cache holds after `positions` positions, images of so many visual
    /// tokens among them.
    pub fn past(&self, positions: usize, images: impl IntoIterator<Item = usize>) -> Past {
        match &self.fastv {
            Some(fastv) => Past {
                positions,
                dropped: fastv.dropped(images),
                after: fastv.after,
            },
            None => positions.into(),
        }
    }

    /// Elements of keys and values that the KV cache holds, all layers.
    pub fn kv_elements(&self, past: Past) -> usize {
        let held: usize = (0..self.layers).map(|layer| past.at(layer)).sum();
        2 * self.kv_heads * self.head_dim * held
    }

    /// The embedding table.
    pub fn embedding(&self) -> Embedding {
        Embedding {
            name: "embed".into(),
            vocab: self.vocab,
            dim: self.hidden,
        }
    }

    /// Checks the numbers against each other.
    pub fn check(&self) -> Result<()> {
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::Config {
                what: "num_key_value_heads".into(),
                value: self.kv_heads.to_string(),
                problem: format!("must divide the {} query heads", self.heads),
            });
        }
        if !self.head_dim.is_multiple_of(2) || self.head_dim > MAX_HEAD_DIM {
            return Err(Error::Config {
                what: "head_dim".into(),
                value: self.head_dim.to_string(),
                problem: format!("must be even for rotary embedding, and at most {MAX_HEAD_DIM}"),
            });
        }
        Ok(())
    }
}

/// `theta^(-2i / head_dim)` for every pair `i` of a head, computed in f32 as
/// transformers does.
pub fn rotary_frequencies(theta: f32, head_dim: usize) -> Vec<f32> {
    (0..head_dim / 2)
        .map(|i| 1.0 / theta.powf(2.0 * i as f32 / head_dim as f32))
        .collect()
}

/// Angles of `positions` positions, `(positions, head_dim / 2)`.
pub fn rotary_angles(theta: f32, head_dim: usize, positions: usize) -> Vec<f32> {
    let frequencies = rotary_frequencies(theta, head_dim);
    (0..positions)
        .flat_map(|p| frequencies.iter().map(move |f| p as f32 * f))
        .collect()
}

/// Embeddings of token ids, `(1, ids, hidden)`.
pub fn embed<O: Ops>(o: &mut O, c: &DecoderConfig, ids: &[u32]) -> Result<O::V> {
    o.stage("embed");
    o.embed(ids, &c.embedding())
}

/// Embeddings `(b, n, hidden)` of new positions to logits `(b, 1, vocab)` of
/// the last one.
pub fn forward<O: Ops>(o: &mut O, c: &DecoderConfig, embeddings: &O::V) -> Result<O::V> {
    forward_with(o, c, embeddings, &[], |_, _, x| Ok(x))
}

/// As [`forward`]; visual tokens are dropped of the `images` among the positions,
/// which are the first of their sequence if there are any, and `after` changes the
/// hidden states `(b, n, hidden)` after each layer.
pub fn forward_with<O: Ops>(
    o: &mut O,
    c: &DecoderConfig,
    embeddings: &O::V,
    images: &[Range<usize>],
    mut after: impl FnMut(&mut O, usize, O::V) -> Result<O::V>,
) -> Result<O::V> {
    c.check()?;
    let mut x = embeddings.clone();
    for i in 0..c.layers {
        o.stage("layers");
        let qkv = projections(o, c, i, &x)?;
        x = layer(o, c, i, &x, &qkv)?;
        x = after(o, i, x)?;
        if let Some(fastv) = &c.fastv
            && fastv.after == i + 1
            && !images.is_empty()
        {
            o.stage("reduce");
            x = o.reduce_tokens(&x, &qkv, c.head_layout(), &fastv.among(images))?;
        }
    }
    o.stage("head");
    let x = o.take_tokens(&x, Take::Last(1))?;
    let x = o.rms_norm(&x, &norm(c, "norm".into()))?;
    let name = if c.tied { "embed" } else { "head" };
    o.linear(&x, &linear(name.into(), c.hidden, c.vocab, false), None)
}

fn norm(c: &DecoderConfig, name: String) -> Norm {
    Norm {
        name,
        dim: c.hidden,
        eps: c.rms_eps,
        act: Act::None,
    }
}

fn linear(name: String, d_in: usize, d_out: usize, bias: bool) -> Linear {
    Linear {
        name,
        d_in,
        d_out,
        bias,
        act: Act::None,
    }
}

/// The packed query, key and value of layer `i`, rotated.
fn projections<O: Ops>(o: &mut O, c: &DecoderConfig, i: usize, x: &O::V) -> Result<O::V> {
    let p = format!("layers.{i}");
    let heads = c.head_layout();
    let h = o.rms_norm(x, &norm(c, format!("{p}.norm1")))?;
    let qkv = linear(format!("{p}.qkv"), c.hidden, heads.packed(), c.qkv_bias);
    let h = o.linear(&h, &qkv, None)?;
    o.rotary(&h, heads, c.rope_theta)
}

/// Layer `i`, whose projections of `x` are `qkv`.
fn layer<O: Ops>(o: &mut O, c: &DecoderConfig, i: usize, x: &O::V, qkv: &O::V) -> Result<O::V> {
    let p = format!("layers.{i}");
    let heads = c.head_layout();

    let h = o.cached_attention(qkv, heads, i)?;
    let out = linear(format!("{p}.out"), heads.width(), c.hidden, false);
    let x = o.linear(&h, &out, Some(x))?;

    let h = o.rms_norm(&x, &norm(c, format!("{p}.norm2")))?;
    let gate_up = linear(format!("{p}.gate_up"), c.hidden, 2 * c.intermediate, false);
    let h = o.linear(&h, &gate_up, None)?;
    let h = o.glu(&h, Act::Silu)?;
    let down = linear(format!("{p}.down"), c.intermediate, c.hidden, false);
    o.linear(&h, &down, Some(&x))
}
