//! ViTamin (arXiv 2404.02132): a stem and stages of inverted bottlenecks (MBConv)
//! before the layers of a vision transformer, whose MLP is gated by GELU and has
//! a layer norm of its own. Numbers and order are those of timm 1.0.31.
//!
//! The features are those of timm's `forward_features`: the last layer's output
//! without a norm, since the published one stands after the pooling.

use super::vit::{self, VitConfig};
use crate::error::{Error, Result};
use crate::ops::{Act, Conv, Depthwise, Linear, Norm, Ops, Pool};

/// Expansion of a block over its output's width.
const RATIO: usize = 4;

/// Numbers of a ViTamin.
#[derive(Clone, Debug, PartialEq)]
pub struct VitaminConfig {
    /// Channels of the stem.
    pub stem: usize,
    /// Blocks per convolutional stage.
    pub depths: Vec<usize>,
    /// Channels per convolutional stage.
    pub dims: Vec<usize>,
    /// The layers after them. Their patch is the stride of what is before.
    pub vit: VitConfig,
}

impl VitaminConfig {
    /// Input pixels per token: 2 in the stem, in each stage and after them.
    pub fn stride(&self) -> usize {
        4 << self.depths.len()
    }

    /// Checks that stages have blocks and a width, and the layers their patch.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str, value: String, problem: String| {
            Err(Error::Config {
                what: what.into(),
                value,
                problem,
            })
        };
        if self.depths.len() != self.dims.len() || self.depths.contains(&0) {
            let (value, stages) = (format!("{:?}", self.depths), self.dims.len());
            let problem = format!("must be above 0 for each of the {stages} widths in `dims`");
            return wrong("depths", value, problem);
        }
        // timm rounds the expanded width to a multiple of 8.
        if self.dims.iter().any(|dim| dim % 2 != 0) {
            let problem = "must be even".into();
            return wrong("dims", format!("{:?}", self.dims), problem);
        }
        if self.vit.patch != self.stride() {
            let problem = format!("must be the stride {}", self.stride());
            return wrong("patch_size", self.vit.patch.to_string(), problem);
        }
        Ok(())
    }
}

/// Pixels `(b, 3, h, w)` to features `(b, tokens, hidden)`.
pub fn forward<O: Ops>(o: &mut O, c: &VitaminConfig, pixels: &O::V) -> Result<O::V> {
    c.check()?;
    o.stage("stem");
    let x = o.conv(pixels, &conv("stem.conv1", 3, c.stem, 2))?;
    let x = o.layer_norm(&x, &norm(c, "stem.norm".into(), c.stem, Act::Gelu))?;
    let mut x = o.conv(&x, &conv("stem.conv2", c.stem, c.stem, 1))?;
    let mut width = c.stem;
    for (stage, (&depth, &dim)) in c.depths.iter().zip(&c.dims).enumerate() {
        o.stage(&format!("stage{}", stage + 1));
        for index in 0..depth {
            let p = format!("stages.{stage}.blocks.{index}");
            x = block(o, c, &p, (width, dim), index == 0, &x)?;
            width = dim;
        }
    }
    o.stage("embed");
    let x = o.layer_norm(&x, &norm(c, "embed.norm".into(), width, Act::None))?;
    let x = o.conv(&x, &conv("embed.conv", width, c.vit.hidden, 2))?;
    vit::encode(o, &c.vit, &x)
}

/// `shortcut(x) + fc2(gelu(dw3(gelu(fc1(norm(x))))))`; where the map is halved,
/// the shortcut is a mean and, to another width, a linear map.
fn block<O: Ops>(
    o: &mut O,
    c: &VitaminConfig,
    p: &str,
    (width, dim): (usize, usize),
    halve: bool,
    x: &O::V,
) -> Result<O::V> {
    let linear = |name: &str, d_in, d_out, act| Linear {
        name: format!("{p}.{name}"),
        d_in,
        d_out,
        bias: true,
        act,
    };
    let stride = if halve { 2 } else { 1 };
    let mut shortcut = x.clone();
    if halve {
        let halving = Pool {
            kernel: 3,
            stride,
            padding: 1,
        };
        shortcut = o.average_pool(x, halving)?;
    }
    if width != dim {
        shortcut = o.linear(&shortcut, &linear("shortcut", width, dim, Act::None), None)?;
    }
    let hidden = RATIO * dim;
    let depthwise = Depthwise {
        name: format!("{p}.conv"),
        channels: hidden,
        multiplier: 1,
        kernel: 3,
        stride,
        padding: 1,
        act: Act::Gelu,
    };
    let h = o.layer_norm(x, &norm(c, format!("{p}.norm"), width, Act::None))?;
    let h = o.linear(&h, &linear("fc1", width, hidden, Act::Gelu), None)?;
    let h = o.depthwise(&h, &depthwise)?;
    o.linear(&h, &linear("fc2", hidden, dim, Act::None), Some(&shortcut))
}

/// A 3x3 convolution that pads.
fn conv(name: &str, c_in: usize, c_out: usize, stride: usize) -> Conv {
    Conv {
        name: name.into(),
        c_in,
        c_out,
        kernel: 3,
        stride,
        padding: 1,
        bias: true,
        act: Act::None,
    }
}

fn norm(c: &VitaminConfig, name: String, dim: usize, act: Act) -> Norm {
    Norm {
        name,
        dim,
        eps: c.vit.eps,
        act,
    }
}
