//! ConvNeXt (arXiv 2201.03545) without its head: the map of the last stage.
//!
//! A stage is blocks of a 7x7 depthwise convolution, a layer norm over channels
//! and an expansion to four times the width and back; between stages a layer
//! norm and a 2x2 convolution of stride 2. ConvLLaVA (arXiv 2405.15738) adds a
//! fifth stage. The scale of a block's output is folded into its last layer.

use crate::error::{Error, Result};
use crate::ops::{Act, Conv, Depthwise, Linear, Norm, Ops};

/// Expansion of a block.
const RATIO: usize = 4;
/// Input pixels along each side of a position after the stem.
const STEM: usize = 4;

/// Numbers of a ConvNeXt.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvNextConfig {
    /// Blocks per stage.
    pub depths: Vec<usize>,
    /// Channels per stage.
    pub dims: Vec<usize>,
    /// Layer norm epsilon.
    pub eps: f32,
}

impl ConvNextConfig {
    /// Channels of the last stage.
    pub fn feature_dim(&self) -> usize {
        self.dims.last().copied().unwrap_or(0)
    }

    /// Input pixels per output pixel: 4 in the stem, 2 per later stage.
    pub fn stride(&self) -> usize {
        STEM << (self.depths.len() - 1)
    }

    /// `floor(h / stride) * floor(w / stride)`: no convolution that reduces is
    /// padded, so that the last pixels may be dropped.
    pub fn visual_tokens(&self, height: usize, width: usize) -> Result<usize> {
        let stride = self.stride();
        if height < stride || width < stride {
            return Err(Error::Config {
                what: "resolution".into(),
                value: format!("{height}x{width}"),
                problem: format!("must be at least {stride}x{stride} pixels"),
            });
        }
        Ok((height / stride) * (width / stride))
    }

    /// Checks that there are stages, each with a width.
    pub fn check(&self) -> Result<()> {
        if self.depths.is_empty() || self.depths.len() != self.dims.len() {
            return Err(Error::Config {
                what: "depths".into(),
                value: format!("{:?}", self.depths),
                problem: format!(
                    "must have one entry for each of the {} widths in `dims`, and at least one",
                    self.dims.len()
                ),
            });
        }
        Ok(())
    }
}

/// Pixels `(b, 3, h, w)` to features, a map of `feature_dim` channels. `seen`
/// gets each stage's output.
pub fn forward<O: Ops>(
    o: &mut O,
    c: &ConvNextConfig,
    pixels: &O::V,
    mut seen: impl FnMut(&mut O, usize, &O::V) -> Result<()>,
) -> Result<O::V> {
    c.check()?;
    o.stage("stem");
    let x = o.conv(pixels, &reducing("stem.conv".into(), 3, c.dims[0], STEM))?;
    let mut x = o.layer_norm(&x, &norm(c, "stem.norm".into(), c.dims[0]))?;
    for stage in 0..c.depths.len() {
        o.stage(&format!("stage{}", stage + 1));
        let p = format!("stages.{stage}");
        if stage > 0 {
            let (before, dim) = (c.dims[stage - 1], c.dims[stage]);
            x = o.layer_norm(&x, &norm(c, format!("{p}.down.norm"), before))?;
            x = o.conv(&x, &reducing(format!("{p}.down.conv"), before, dim, 2))?;
        }
        for index in 0..c.depths[stage] {
            x = block(o, c, &format!("{p}.blocks.{index}"), c.dims[stage], &x)?;
        }
        seen(o, stage, &x)?;
    }
    Ok(x)
}

fn block<O: Ops>(o: &mut O, c: &ConvNextConfig, p: &str, dim: usize, x: &O::V) -> Result<O::V> {
    let conv = Depthwise {
        name: format!("{p}.conv"),
        channels: dim,
        multiplier: 1,
        kernel: 7,
        stride: 1,
        padding: 3,
        act: Act::None,
    };
    let linear = |name: &str, d_in, d_out, act| Linear {
        name: format!("{p}.{name}"),
        d_in,
        d_out,
        bias: true,
        act,
    };
    let h = o.depthwise(x, &conv)?;
    let h = o.layer_norm(&h, &norm(c, format!("{p}.norm"), dim))?;
    let fc1 = linear("fc1", dim, RATIO * dim, Act::Gelu);
    o.mlp(
        &h,
        &fc1,
        &linear("fc2", RATIO * dim, dim, Act::None),
        Some(x),
    )
}

/// A convolution whose windows do not overlap.
fn reducing(name: String, c_in: usize, c_out: usize, side: usize) -> Conv {
    Conv {
        name,
        c_in,
        c_out,
        kernel: side,
        stride: side,
        padding: 0,
        bias: true,
        act: Act::None,
    }
}

fn norm(c: &ConvNextConfig, name: String, dim: usize) -> Norm {
    Norm {
        name,
        dim,
        eps: c.eps,
        act: Act::None,
    }
}
