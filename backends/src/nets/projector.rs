//! Projectors: visual features to the decoder's embedding space.

use super::sva::{self, Seen, SvaConfig};
use crate::anyres::Placement;
use crate::error::{Error, Result};
use crate::mix::Mix;
use crate::ops::{Act, Depthwise, Linear, Ops, Pool, Shape};

/// Tokens along each side that MobileVLM's projector makes.
const LDP_SIDE: usize = 12;

/// Canonical name of the vector that ends rows of visual tokens.
pub const NEWLINE: &str = "newline";

/// Which projector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectorKind {
    /// LLaVA's `mlp{depth}x_gelu`: `depth` linear layers with exact GELU between.
    Mlp {
        /// Number of linear layers; 2 for `mlp2x_gelu`.
        depth: usize,
    },
    /// MobileVLM v2's (arXiv 2402.03766): the two layers of `mlp2x_gelu`, pooled to
    /// 12 x 12 tokens, and a position encoding `x + conv3x3(x)`.
    Ldpv2,
    /// Cambrian-1's spatial vision aggregator, then the two layers of
    /// `mlp2x_gelu`.
    Sva(SvaConfig),
}

/// A projector's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectorConfig {
    /// Width of the visual features.
    pub d_in: usize,
    /// Width of the decoder.
    pub d_out: usize,
    /// Which one.
    pub kind: ProjectorKind,
    /// Tokens that squares of the projected ones are averaged to (M3).
    pub pooled: Option<usize>,
    /// Whether there is a learned vector (`image_newline`) that ends the rows of
    /// an image's tokens.
    pub newline: bool,
}

impl ProjectorConfig {
    /// Linear layers.
    fn depth(&self) -> usize {
        match self.kind {
            ProjectorKind::Mlp { depth } => depth,
            ProjectorKind::Ldpv2 | ProjectorKind::Sva(_) => 2,
        }
    }

    /// Whether the features have to lie in a grid, so that a graph is for one size.
    pub fn pools(&self) -> bool {
        self.kind == ProjectorKind::Ldpv2 || self.pooled.is_some()
    }

    /// Visual tokens made of `tokens` features, or an error naming what is admitted.
    pub fn visual_tokens(&self, tokens: usize) -> Result<usize> {
        let tokens = match &self.kind {
            ProjectorKind::Mlp { .. } => tokens,
            ProjectorKind::Sva(c) => c.queries(),
            ProjectorKind::Ldpv2 => ldp_grid(tokens).map(|_| LDP_SIDE * LDP_SIDE)?,
        };
        match self.pooled {
            Some(pooled) => squares(tokens, pooled).map(|_| pooled),
            None => Ok(tokens),
        }
    }
}

/// The side of a square of `tokens` features that pools to 12 x 12.
fn ldp_grid(tokens: usize) -> Result<usize> {
    let side = tokens.isqrt();
    if side > 0 && side * side == tokens && side.is_multiple_of(LDP_SIDE) {
        return Ok(side);
    }
    Err(Error::Config {
        what: "resolution".into(),
        value: format!("{tokens} features"),
        problem: format!(
            "do not lie in a square whose side is a multiple of {LDP_SIDE}, which the projector ldpnetv2 needs"
        ),
    })
}

/// The side of a square of `tokens` tokens, and that of the squares of them that
/// are averaged to `pooled` ones.
fn squares(tokens: usize, pooled: usize) -> Result<(usize, usize)> {
    let (side, few) = (tokens.isqrt(), pooled.isqrt());
    let square = side * side == tokens && few * few == pooled && few > 0;
    if square && side > 0 && side.is_multiple_of(few) {
        return Ok((side, side / few));
    }
    let fit = (1..=side).filter(|few| side.is_multiple_of(*few));
    let fit: Vec<String> = fit.map(|few| (few * few).to_string()).collect();
    Err(Error::Config {
        what: "reduce.m3".into(),
        value: pooled.to_string(),
        problem: match side * side == tokens {
            true => format!(
                "cannot be averaged of {tokens} tokens; {} can",
                fit.join(", ")
            ),
            false => format!("cannot be averaged of {tokens} tokens, which are no square"),
        },
    })
}

/// Features `(b, n, d_in)` to embeddings `(b, m, d_out)`, where `m` is
/// [`ProjectorConfig::visual_tokens`] of `n`. Layer `i` is parameter `i`.
pub fn forward<O: Ops>(o: &mut O, c: &ProjectorConfig, x: &O::V) -> Result<O::V> {
    let mut x = layers(o, c, c.d_in, x)?;
    if let (ProjectorKind::Ldpv2, Shape::Tokens { n, .. }) = (&c.kind, o.shape(&x)) {
        x = pool(o, c.d_out, ldp_grid(n)?, &x)?;
    }
    match (c.pooled, o.shape(&x)) {
        (Some(pooled), Shape::Tokens { n, .. }) => average(o, squares(n, pooled)?, &x),
        _ => Ok(x),
    }
}

/// The linear layers, from `width` channels.
fn layers<O: Ops>(o: &mut O, c: &ProjectorConfig, width: usize, x: &O::V) -> Result<O::V> {
    o.stage("layers");
    let depth = c.depth();
    let mut x = x.clone();
    for i in 0..depth {
        let last = i + 1 == depth;
        let p = Linear {
            name: i.to_string(),
            d_in: if i == 0 { width } else { c.d_out },
            d_out: c.d_out,
            bias: true,
            act: if last { Act::None } else { Act::Gelu },
        };
        x = o.linear(&x, &p, None)?;
    }
    Ok(x)
}

/// Features of several encoders to an image's visual tokens `(1, m, d_out)`,
/// and what samplers in the decoder see of them.
pub fn aggregate<O: Ops>(
    o: &mut O,
    c: &ProjectorConfig,
    sva: &SvaConfig,
    features: &[O::V],
    place: &Placement,
) -> Result<(O::V, Seen<O::V>)> {
    let layout = sva.layout(place);
    let mix = layout.mix.clone();
    let (x, seen) = sva::aggregate(o, sva, features, layout)?;
    let x = layers(o, c, sva.width, &x)?;
    Ok((arrange(o, c, &x, &mix)?, seen))
}

/// Tokens of a grid of `side` x `side` to the means of squares of `window` x `window`.
fn average<O: Ops>(o: &mut O, (side, window): (usize, usize), x: &O::V) -> Result<O::V> {
    o.stage("reduce");
    let x = o.to_map(x, side, side)?;
    let x = o.average_pool(&x, Pool::squares(window))?;
    o.to_tokens(&x)
}

/// The visual tokens `(1, n, d_out)` of an image's inputs, one input after
/// another, as one sequence `(1, m, d_out)`. With a newline it is token 0 of
/// what is mixed.
pub fn arrange<O: Ops>(o: &mut O, c: &ProjectorConfig, x: &O::V, mix: &Mix) -> Result<O::V> {
    o.stage("arrange");
    match c.newline {
        true => {
            let x = o.prepend_token(x, NEWLINE)?;
            o.mix_tokens(&x, mix)
        }
        false => o.mix_tokens(x, mix),
    }
}

/// Tokens of a grid of `side` x `side` to 12 x 12 with their positions.
fn pool<O: Ops>(o: &mut O, channels: usize, side: usize, x: &O::V) -> Result<O::V> {
    o.stage("pool");
    let x = o.to_map(x, side, side)?;
    let x = o.average_pool(&x, Pool::squares(side / LDP_SIDE))?;
    // The identity is folded into the kernel's middle.
    let position = Depthwise {
        name: "position".into(),
        channels,
        multiplier: 1,
        kernel: 3,
        stride: 1,
        padding: 1,
        act: Act::None,
    };
    let x = o.depthwise(&x, &position)?;
    o.to_tokens(&x)
}
