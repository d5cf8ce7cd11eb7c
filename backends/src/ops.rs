//! `Ops`: the operation set every network is written over.
//!
//! A network is one function over [`Ops`]; each interpreter of the trait gives
//! it another meaning (compute it, count it, record it as a graph). Operations
//! stand at the level at which engines differ, so a fused kernel on one engine
//! may be three nodes on another. Parameters are named by their canonical path
//! (see [`crate::params`]); the interpreter owns the tensors behind the names.
//!
//! A value is a feature map, logically `(batch, channels, height, width)`, or a
//! token sequence `(batch, tokens, dim)`. The memory layout is the
//! interpreter's own affair: networks only ever see logical shapes.

use crate::error::{Error, Result};
use crate::mix::Mix;
use crate::reduce::Reducer;

/// The logical shape of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A feature map `(batch, channels, height, width)`.
    Map {
        /// Batch size.
        b: usize,
        /// Channels.
        c: usize,
        /// Height in pixels.
        h: usize,
        /// Width in pixels.
        w: usize,
    },
    /// A token sequence `(batch, tokens, dim)`.
    Tokens {
        /// Batch size.
        b: usize,
        /// Sequence length.
        n: usize,
        /// Feature dimension.
        d: usize,
    },
}

impl Shape {
    /// Number of scalar elements.
    pub fn elements(&self) -> usize {
        match *self {
            Shape::Map { b, c, h, w } => b * c * h * w,
            Shape::Tokens { b, n, d } => b * n * d,
        }
    }

    /// Positions (pixels or tokens) times batch.
    pub fn rows(&self) -> usize {
        match *self {
            Shape::Map { b, h, w, .. } => b * h * w,
            Shape::Tokens { b, n, .. } => b * n,
        }
    }

    /// Channels of a map, feature dimension of a sequence.
    pub fn channels(&self) -> usize {
        match *self {
            Shape::Map { c, .. } => c,
            Shape::Tokens { d, .. } => d,
        }
    }

    /// The same positions with another number of channels.
    pub fn with_channels(self, channels: usize) -> Shape {
        match self {
            Shape::Map { b, h, w, .. } => Shape::Map {
                b,
                c: channels,
                h,
                w,
            },
            Shape::Tokens { b, n, .. } => Shape::Tokens { b, n, d: channels },
        }
    }
}

/// A pointwise activation, fused into the operation that precedes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Identity.
    None,
    /// Exact GELU, `x * Phi(x)` with the error function.
    Gelu,
    /// OpenAI's `x * sigmoid(1.702 x)`, used by CLIP.
    QuickGelu,
    /// GELU's tanh approximation, `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`,
    /// used by SigLIP.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x * sigmoid(x)`.
    Silu,
}

/// A dense 2-D convolution; weight `(out, in, k, k)`, bias `(out)`.
#[derive(Clone, Debug)]
pub struct Conv {
    /// Canonical parameter path without `.weight`/`.bias`.
    pub name: String,
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Square kernel size.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zero padding on every side.
    pub padding: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Activation applied to the result.
    pub act: Act,
}

/// A depthwise 2-D convolution (`groups == channels`) with `multiplier`
/// outputs per input channel; weight `(channels * multiplier, 1, k, k)`, always
/// with bias. Output channel `o` reads input channel `o / multiplier`.
#[derive(Clone, Debug)]
pub struct Depthwise {
    /// Canonical parameter path without `.weight`/`.bias`.
    pub name: String,
    /// Input channels.
    pub channels: usize,
    /// Outputs per input channel.
    pub multiplier: usize,
    /// Square kernel size.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zero padding on every side; half of an odd kernel makes
    /// `ceil(side / stride)` of a side.
    pub padding: usize,
    /// Activation applied to the result.
    pub act: Act,
}

/// A linear map over the last axis (channels of a map); weight `(out, in)`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Canonical parameter path without `.weight`/`.bias`.
    pub name: String,
    /// Input features.
    pub d_in: usize,
    /// Output features.
    pub d_out: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Activation applied to the result, before the residual is added.
    pub act: Act,
}

/// A layer norm or RMS norm over the last axis (channels of a map).
#[derive(Clone, Debug)]
pub struct Norm {
    /// Canonical parameter path without `.weight`/`.bias`.
    pub name: String,
    /// Normalised dimension.
    pub dim: usize,
    /// Added to the (biased) variance or mean square.
    pub eps: f32,
    /// Activation applied to the result.
    pub act: Act,
}

/// A token embedding table `(vocab, dim)`.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// Canonical parameter path without `.weight`.
    pub name: String,
    /// Rows of the table.
    pub vocab: usize,
    /// Embedding dimension.
    pub dim: usize,
}

impl Embedding {
    /// Errors unless every id is a row of the table.
    pub fn check(&self, ids: &[u32]) -> Result<()> {
        match ids.iter().find(|id| **id as usize >= self.vocab) {
            None => Ok(()),
            Some(id) => Err(Error::Shape {
                op: "embed",
                name: self.name.clone(),
                expected: format!("token ids below {}", self.vocab),
                got: id.to_string(),
            }),
        }
    }
}

/// How the packed projection of an attention layer is divided: per token
/// `[q (heads * head_dim) | k (kv_heads * head_dim) | v (kv_heads * head_dim)]`.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads` (grouped-query attention).
    pub kv_heads: usize,
    /// Dimension of one head.
    pub head_dim: usize,
}

impl Heads {
    /// Multi-head attention with as many key/value heads as query heads.
    pub fn full(heads: usize, head_dim: usize) -> Heads {
        Heads {
            heads,
            kv_heads: heads,
            head_dim,
        }
    }

    /// Width of the attention output, `heads * head_dim`.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the packed query, key and value projection.
    pub fn packed(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}

/// Which tokens of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// All but the first so many.
    After(usize),
    /// The last so many.
    Last(usize),
}

impl Take {
    /// First token and number of tokens out of `n`; an error if there are not
    /// so many.
    pub fn range(self, n: usize) -> Result<(usize, usize)> {
        let range = match self {
            Take::After(first) => n.checked_sub(first).map(|len| (first, len)),
            Take::Last(len) => n.checked_sub(len).map(|first| (first, len)),
        };
        range.ok_or_else(|| Error::Shape {
            op: "take tokens",
            name: String::new(),
            expected: format!("enough tokens for {self:?}"),
            got: n.to_string(),
        })
    }
}

/// Square windows of a map; positions outside of it do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Side of a window.
    pub kernel: usize,
    /// From one window to the next.
    pub stride: usize,
    /// How far the first window reaches over the edge; less than `kernel`.
    pub padding: usize,
}

impl Pool {
    /// Windows of `side` that do not overlap.
    pub fn squares(side: usize) -> Pool {
        Pool {
            kernel: side,
            stride: side,
            padding: 0,
        }
    }

    /// Windows along a side; those that are not whole, padding included, are
    /// left out. An error if there is none.
    pub fn out_side(&self, side: usize) -> Result<usize> {
        match (side + 2 * self.padding).checked_sub(self.kernel) {
            Some(room) if self.stride > 0 => Ok(room / self.stride + 1),
            _ => Err(Error::Shape {
                op: "average pool",
                name: String::new(),
                expected: format!("a map with room for {self:?}"),
                got: format!("a side of {side}"),
            }),
        }
    }

    /// Positions of a side that window `at` holds.
    pub fn window(&self, at: usize, side: usize) -> std::ops::Range<usize> {
        let start = at * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel - self.padding).min(side)
    }
}

/// The operation set. Every method returns a new value; none changes its
/// inputs. Shapes that do not fit are errors naming the operation.
pub trait Ops {
    /// A value of this interpreter.
    type V: Clone;

    /// Logical shape of a value.
    fn shape(&self, x: &Self::V) -> Shape;

    /// Starts a named stage; costs and timings of what follows belong to it
    /// until the next stage starts.
    fn stage(&mut self, _name: &str) {}

    /// Starts a scope: names of parameters, and of stages, are what follows it,
    /// until another one starts. Empty ends it.
    fn scope(&mut self, scope: &str);

    /// Waits until everything asked for is done, for an interpreter that returns
    /// before.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    /// Dense convolution, bias and activation.
    fn conv(&mut self, x: &Self::V, p: &Conv) -> Result<Self::V>;

    /// Depthwise convolution, bias and activation.
    fn depthwise(&mut self, x: &Self::V, p: &Depthwise) -> Result<Self::V>;

    /// `act(x W^T + b) + residual`; a 1x1 convolution when `x` is a map.
    fn linear(&mut self, x: &Self::V, p: &Linear, residual: Option<&Self::V>) -> Result<Self::V>;

    /// `second(first(x)) + residual`: two linear maps, each with its activation,
    /// of which an engine may keep the hidden value out of memory.
    fn mlp(
        &mut self,
        x: &Self::V,
        first: &Linear,
        second: &Linear,
        residual: Option<&Self::V>,
    ) -> Result<Self::V> {
        let hidden = self.linear(x, first, None)?;
        self.linear(&hidden, second, residual)
    }

    /// Layer norm over channels with weight and bias, and activation.
    fn layer_norm(&mut self, x: &Self::V, p: &Norm) -> Result<Self::V>;

    /// RMS norm over channels with weight, and activation:
    /// `act(x / sqrt(mean(x^2) + eps) * w)`.
    fn rms_norm(&mut self, x: &Self::V, p: &Norm) -> Result<Self::V>;

    /// Mean over height and width of a map: tokens `(b, 1, c)`.
    fn global_mean(&mut self, x: &Self::V) -> Result<Self::V>;

    /// Mean over the positions of each window of a map.
    fn average_pool(&mut self, x: &Self::V, p: Pool) -> Result<Self::V>;

    /// `act(x * gate)`: a map times one factor per channel from tokens `(b, 1, c)`.
    fn gate_channels(&mut self, x: &Self::V, gate: &Self::V, act: Act) -> Result<Self::V>;

    /// A map as tokens `(b, h * w, c)` in row-major order.
    fn to_tokens(&mut self, x: &Self::V) -> Result<Self::V>;

    /// Tokens `(b, h * w, c)` as a map.
    fn to_map(&mut self, x: &Self::V, h: usize, w: usize) -> Result<Self::V>;

    /// Puts the learned vector `name` (`(dim)`) before the tokens.
    fn prepend_token(&mut self, x: &Self::V, name: &str) -> Result<Self::V>;

    /// Adds the learned table `name` (`(tokens, dim)`) to the tokens.
    fn add_positions(&mut self, x: &Self::V, name: &str) -> Result<Self::V>;

    /// Some tokens of a sequence, said so that it holds for every length.
    fn take_tokens(&mut self, x: &Self::V, take: Take) -> Result<Self::V>;

    /// Values of the same positions, the channels of one after those of another.
    fn concat_channels(&mut self, xs: &[Self::V]) -> Result<Self::V>;

    /// Sequences one after another.
    fn concat_tokens(&mut self, xs: &[Self::V]) -> Result<Self::V>;

    /// The same tokens in `batch` sequences: `(b, n, d)` to `(batch, b * n / batch, d)`.
    fn regroup(&mut self, x: &Self::V, batch: usize) -> Result<Self::V>;

    /// Tokens made of tokens: `(b, n, d)` to `(b, mix.len(), d)`.
    fn mix_tokens(&mut self, x: &Self::V, mix: &Mix) -> Result<Self::V>;

    /// Fewer tokens of each sequence `(b, n, d)`, made as `by` says of `clue`, the
    /// packed projection `(b, n, packed)` of an attention layer: `(b, by.tokens(n), d)`.
    /// An interpreter that computes nothing itself may hand out both instead.
    fn reduce_tokens(
        &mut self,
        x: &Self::V,
        clue: &Self::V,
        heads: Heads,
        by: &dyn Reducer,
    ) -> Result<Self::V>;

    /// Rows of an embedding table, tokens `(1, ids, dim)`.
    fn embed(&mut self, ids: &[u32], p: &Embedding) -> Result<Self::V>;

    /// Rotates the query and key parts of a packed projection by their
    /// absolute positions (half-split form), angles computed in f32.
    fn rotary(&mut self, qkv: &Self::V, heads: Heads, theta: f32) -> Result<Self::V>;

    /// Bidirectional attention over a packed projection, scale
    /// `1 / sqrt(head_dim)`; `(b, n, packed) -> (b, n, heads * head_dim)`.
    fn attention(&mut self, qkv: &Self::V, heads: Heads) -> Result<Self::V>;

    /// Attention of queries `(b, n, d)` to the keys `(b, m, d)` of several
    /// sources at once, batch by batch, scale `1 / sqrt(d / heads)`. Keys that are
    /// `hidden` (`b * sum of m`) are not looked at; each batch has one that is not.
    fn cross_attention(
        &mut self,
        q: &Self::V,
        keys: &[Self::V],
        values: &[Self::V],
        heads: usize,
        hidden: Option<&[bool]>,
    ) -> Result<Self::V>;

    /// Causal attention of new positions over all positions so far; appends
    /// the new keys and values to the cache of `layer`.
    fn cached_attention(&mut self, qkv: &Self::V, heads: Heads, layer: usize) -> Result<Self::V>;

    /// Gated linear unit: `act(gate) * up` of a packed `[gate | up]` projection.
    fn glu(&mut self, gate_up: &Self::V, act: Act) -> Result<Self::V>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_tokens_lie_within_the_sequence() {
        assert_eq!(Take::After(1).range(5).ok(), Some((1, 4)));
        assert_eq!(Take::Last(1).range(5).ok(), Some((4, 1)));
        assert_eq!(Take::Last(5).range(5).ok(), Some((0, 5)));
        assert_eq!(Take::After(6).range(5).ok(), None);
        assert_eq!(Take::Last(6).range(5).ok(), None);
    }

    #[test]
    fn windows_lie_within_the_map() {
        let p = Pool {
            kernel: 3,
            stride: 2,
            padding: 1,
        };
        let windows = |side| (0..p.out_side(side).unwrap()).map(move |at| p.window(at, side));
        assert!(windows(4).eq([0..2, 1..4]));
        assert!(windows(5).eq([0..2, 1..4, 3..5]));
        assert_eq!(Pool::squares(4).out_side(11).ok(), Some(2));
        assert_eq!(Pool::squares(4).window(1, 11), 4..8);
        assert!(Pool::squares(4).out_side(3).is_err());
    }
}
