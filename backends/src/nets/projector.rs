//! Projectors: visual features to the decoder's embedding space.

use crate::error::Result;
use crate::ops::{Act, Linear, Ops};

/// LLaVA's `mlp{depth}x_gelu`: `depth` linear layers with exact GELU between.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectorConfig {
    /// Width of the visual features.
    pub d_in: usize,
    /// Width of the decoder.
    pub d_out: usize,
    /// Number of linear layers; 2 for `mlp2x_gelu`.
    pub depth: usize,
}

/// Features `(b, n, d_in)` to embeddings `(b, n, d_out)`. Layer `i` is
/// parameter `i`.
pub fn forward<O: Ops>(o: &mut O, c: &ProjectorConfig, x: &O::V) -> Result<O::V> {
    o.stage("layers");
    let mut x = x.clone();
    for i in 0..c.depth {
        let last = i + 1 == c.depth;
        let p = Linear {
            name: i.to_string(),
            d_in: if i == 0 { c.d_in } else { c.d_out },
            d_out: c.d_out,
            bias: true,
            act: if last { Act::None } else { Act::Gelu },
        };
        x = o.linear(&x, &p, None)?;
    }
    Ok(x)
}
