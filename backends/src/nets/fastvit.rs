//! The FastViT family: FastViT MCi0/1/2 (MobileCLIP) and FastViTHD, in their
//! re-parameterised inference form.
//!
//! One network, told apart by numbers: stages of RepMixer or attention blocks,
//! large-kernel downsampling, and a final grouped convolution with squeeze and
//! excitation whose output map is what a vision-language model reads. Every
//! stride-2 convolution pads to `ceil(side / 2)`, so any input side is admitted.

use crate::error::{Error, Result};
use crate::ops::{Act, Conv, Depthwise, Heads, Linear, Norm, Ops, Shape};

/// Dimension of an attention head throughout the family.
pub const HEAD_DIM: usize = 32;
/// Epsilon of the attention blocks' channel layer norm.
const LAYER_NORM_EPS: f32 = 1e-5;

/// The token mixer of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// A 3x3 depthwise convolution (RepMixer, folded with its skip).
    Rep,
    /// Multi-head self-attention.
    Attention,
}

/// The norm before attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionNorm {
    /// A batch norm, folded into the query/key/value projection (MCi0/1/2).
    Batch,
    /// A layer norm over channels (FastViTHD).
    LayerChannel,
}

/// Numbers of a FastViT.
#[derive(Clone, Debug, PartialEq)]
pub struct FastVitConfig {
    /// Blocks per stage.
    pub layers: Vec<usize>,
    /// Channels per stage.
    pub embed_dims: Vec<usize>,
    /// Expansion of the convolutional feed-forward network per stage.
    pub mlp_ratios: Vec<f64>,
    /// Token mixer per stage.
    pub mixers: Vec<Mixer>,
    /// Squeeze and excitation in the downsampling into each stage.
    pub se_downsamples: Vec<bool>,
    /// Conditional position encoding (7x7 depthwise) before each stage.
    pub position_encodings: Vec<bool>,
    /// Whether the large-kernel downsampling convolution is activated.
    pub large_kernel_act: bool,
    /// Norm before attention.
    pub attention_norm: AttentionNorm,
    /// Width of the final convolution over that of the last stage.
    pub cls_ratio: f64,
}

/// Rounds a squeeze width as timm's `make_divisible` does with limit 0:
/// to the nearest multiple of `divisor`, at least one of them.
fn make_divisible(width: f64, divisor: usize) -> usize {
    let d = divisor as f64;
    divisor.max(((width + d / 2.0) / d).floor() as usize * divisor)
}

impl FastVitConfig {
    /// Channels of the final feature map.
    pub fn feature_dim(&self) -> usize {
        let last = self.embed_dims.last().copied().unwrap_or(0);
        (last as f64 * self.cls_ratio) as usize
    }

    /// Input pixels per output pixel: 4 in the stem, 2 per later stage.
    pub fn stride(&self) -> usize {
        4 << (self.layers.len() - 1)
    }

    /// `ceil(h / stride) * ceil(w / stride)`.
    pub fn visual_tokens(&self, height: usize, width: usize) -> Result<usize> {
        if height == 0 || width == 0 {
            return Err(Error::Config {
                what: "resolution".into(),
                value: format!("{height}x{width}"),
                problem: "must be at least 1x1 pixels".into(),
            });
        }
        Ok(height.div_ceil(self.stride()) * width.div_ceil(self.stride()))
    }

    /// Hidden width of the feed-forward network of a stage.
    pub fn hidden(&self, stage: usize) -> usize {
        (self.embed_dims[stage] as f64 * self.mlp_ratios[stage]) as usize
    }

    /// Squeeze width of the downsampling into a stage.
    pub fn downsample_squeeze(&self, stage: usize) -> usize {
        make_divisible(self.embed_dims[stage] as f64 / 4.0, 8)
    }

    /// Squeeze width of the final convolution.
    pub fn head_squeeze(&self) -> usize {
        make_divisible(self.feature_dim() as f64 / 16.0, 1)
    }

    /// Checks that every per-stage list names as many stages as `layers`.
    pub fn check(&self) -> Result<()> {
        let stages = self.layers.len();
        let lists = [
            ("embed_dims", self.embed_dims.len()),
            ("mlp_ratios", self.mlp_ratios.len()),
            ("token_mixers", self.mixers.len()),
            ("se_downsamples", self.se_downsamples.len()),
            ("pos_embs", self.position_encodings.len()),
        ];
        for (what, got) in lists {
            if got != stages {
                return Err(Error::Config {
                    what: what.into(),
                    value: format!("{got} entries"),
                    problem: format!("must have one entry for each of the {stages} stages"),
                });
            }
        }
        if stages == 0 {
            return Err(Error::Config {
                what: "layers".into(),
                value: "[]".into(),
                problem: "must name at least one stage".into(),
            });
        }
        for (stage, (&dim, mixer)) in self.embed_dims.iter().zip(&self.mixers).enumerate() {
            if *mixer == Mixer::Attention && dim % HEAD_DIM != 0 {
                return Err(Error::Config {
                    what: format!("embed_dims[{stage}]"),
                    value: dim.to_string(),
                    problem: format!("must be a multiple of the head dimension {HEAD_DIM}"),
                });
            }
        }
        Ok(())
    }
}

/// Pixels `(b, 3, h, w)` to features, a map of `feature_dim` channels. `seen`
/// gets each stage's output.
pub fn forward<O: Ops>(
    o: &mut O,
    c: &FastVitConfig,
    pixels: &O::V,
    mut seen: impl FnMut(&mut O, usize, &O::V) -> Result<()>,
) -> Result<O::V> {
    c.check()?;
    let mut x = stem(o, c.embed_dims[0], pixels)?;
    for stage in 0..c.layers.len() {
        o.stage(&format!("stage{}", stage + 1));
        let p = format!("stages.{stage}");
        if stage > 0 {
            x = downsample(o, c, stage, &p, &x)?;
        }
        if c.position_encodings[stage] {
            x = o.depthwise(
                &x,
                &depthwise(&p, "cpe", c.embed_dims[stage], 1, 7, 1, Act::None),
            )?;
        }
        for block in 0..c.layers[stage] {
            let p = format!("{p}.blocks.{block}");
            x = match c.mixers[stage] {
                Mixer::Rep => o.depthwise(
                    &x,
                    &depthwise(&p, "mixer", c.embed_dims[stage], 1, 3, 1, Act::None),
                )?,
                Mixer::Attention => attention(o, c, c.embed_dims[stage], &p, &x)?,
            };
            x = conv_ffn(o, c.embed_dims[stage], c.hidden(stage), &p, &x)?;
        }
        seen(o, stage, &x)?;
    }
    o.stage("head");
    head(o, c, &x)
}

fn depthwise(
    prefix: &str,
    name: &str,
    channels: usize,
    multiplier: usize,
    kernel: usize,
    stride: usize,
    act: Act,
) -> Depthwise {
    Depthwise {
        name: format!("{prefix}.{name}"),
        channels,
        multiplier,
        kernel,
        stride,
        padding: kernel / 2,
        act,
    }
}

fn linear(prefix: &str, name: &str, d_in: usize, d_out: usize, act: Act) -> Linear {
    Linear {
        name: format!("{prefix}.{name}"),
        d_in,
        d_out,
        bias: true,
        act,
    }
}

fn stem<O: Ops>(o: &mut O, dim: usize, pixels: &O::V) -> Result<O::V> {
    o.stage("stem");
    let x = o.conv(
        pixels,
        &Conv {
            name: "stem.0".into(),
            c_in: 3,
            c_out: dim,
            kernel: 3,
            stride: 2,
            padding: 1,
            bias: true,
            act: Act::Gelu,
        },
    )?;
    let x = o.depthwise(&x, &depthwise("stem", "1", dim, 1, 3, 2, Act::Gelu))?;
    o.linear(&x, &linear("stem", "2", dim, dim, Act::Gelu), None)
}

fn downsample<O: Ops>(
    o: &mut O,
    c: &FastVitConfig,
    stage: usize,
    p: &str,
    x: &O::V,
) -> Result<O::V> {
    let (c_in, c_out) = (c.embed_dims[stage - 1], c.embed_dims[stage]);
    if c_in == 0 || c_out % c_in != 0 {
        return Err(Error::Config {
            what: format!("embed_dims[{stage}]"),
            value: c_out.to_string(),
            problem: format!("must be a multiple of the width before it, {c_in}"),
        });
    }
    let act = if c.large_kernel_act {
        Act::Gelu
    } else {
        Act::None
    };
    let squeeze = c.se_downsamples[stage].then(|| c.downsample_squeeze(stage));
    let conv_act = if squeeze.is_some() { Act::None } else { act };
    let p = format!("{p}.down");
    let mut x = o.depthwise(
        x,
        &depthwise(&p, "conv", c_in, c_out / c_in, 7, 2, conv_act),
    )?;
    if let Some(squeeze) = squeeze {
        x = squeeze_excite(o, &p, c_out, squeeze, act, &x)?;
    }
    o.linear(&x, &linear(&p, "pointwise", c_out, c_out, Act::Gelu), None)
}

/// Squeeze and excitation, then `act`.
fn squeeze_excite<O: Ops>(
    o: &mut O,
    p: &str,
    dim: usize,
    squeeze: usize,
    act: Act,
    x: &O::V,
) -> Result<O::V> {
    let gate = o.global_mean(x)?;
    let gate = o.linear(
        &gate,
        &linear(p, "se.reduce", dim, squeeze, Act::Relu),
        None,
    )?;
    let gate = o.linear(
        &gate,
        &linear(p, "se.expand", squeeze, dim, Act::Sigmoid),
        None,
    )?;
    o.gate_channels(x, &gate, act)
}

/// `x + proj(attention(qkv(norm(x))))`, layer scale folded into `proj`.
fn attention<O: Ops>(o: &mut O, c: &FastVitConfig, dim: usize, p: &str, x: &O::V) -> Result<O::V> {
    let Shape::Map { h, w, .. } = o.shape(x) else {
        return Err(Error::Shape {
            op: "attention block",
            name: p.into(),
            expected: "a feature map".into(),
            got: format!("{:?}", o.shape(x)),
        });
    };
    let (normed, qkv_bias) = match c.attention_norm {
        AttentionNorm::Batch => (x.clone(), true),
        AttentionNorm::LayerChannel => {
            let norm = Norm {
                name: format!("{p}.norm"),
                dim,
                eps: LAYER_NORM_EPS,
                act: Act::None,
            };
            (o.layer_norm(x, &norm)?, false)
        }
    };
    let tokens = o.to_tokens(&normed)?;
    let qkv = Linear {
        bias: qkv_bias,
        ..linear(p, "qkv", dim, 3 * dim, Act::None)
    };
    let y = o.linear(&tokens, &qkv, None)?;
    let y = o.attention(&y, Heads::full(dim / HEAD_DIM, HEAD_DIM))?;
    let y = o.to_map(&y, h, w)?;
    o.linear(&y, &linear(p, "proj", dim, dim, Act::None), Some(x))
}

/// `x + fc2(gelu(fc1(dw7(x))))`, batch norm folded into the depthwise
/// convolution and layer scale into `fc2`.
fn conv_ffn<O: Ops>(o: &mut O, dim: usize, hidden: usize, p: &str, x: &O::V) -> Result<O::V> {
    let p = format!("{p}.ffn");
    let y = o.depthwise(x, &depthwise(&p, "conv", dim, 1, 7, 1, Act::None))?;
    let fc1 = linear(&p, "fc1", dim, hidden, Act::Gelu);
    let fc2 = linear(&p, "fc2", hidden, dim, Act::None);
    o.mlp(&y, &fc1, &fc2, Some(x))
}

fn head<O: Ops>(o: &mut O, c: &FastVitConfig, x: &O::V) -> Result<O::V> {
    let dim = c.embed_dims[c.embed_dims.len() - 1];
    let out = c.feature_dim();
    let x = o.depthwise(
        x,
        &depthwise("head", "conv", dim, out / dim, 3, 1, Act::None),
    )?;
    squeeze_excite(o, "head", out, c.head_squeeze(), Act::Gelu, &x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squeeze_widths_follow_timm() {
        assert_eq!(make_divisible(80.0, 8), 80);
        assert_eq!(make_divisible(6.0, 8), 8);
        assert_eq!(make_divisible(2.0, 8), 8);
        assert_eq!(make_divisible(20.5, 1), 21);
    }
}
