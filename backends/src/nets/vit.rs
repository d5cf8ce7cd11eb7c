//! The vision transformer of CLIP, SigLIP and DINOv2, up to the layer whose
//! output a vision-language model reads.
//!
//! LLaVA reads `hidden_states[-2]` without the class token: the output of the
//! last layer but one. The layers after it are not part of this network: they
//! are neither loaded nor run.

use crate::error::{Error, Result};
use crate::ops::{Act, Conv, Heads, Linear, Norm, Ops, Take};
use crate::reduce::Looking;

/// Numbers of a vision transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfig {
    /// Width.
    pub hidden: usize,
    /// Layers of the published network.
    pub layers: usize,
    /// Layers that are run; `layers - 1` for LLaVA's feature selection.
    pub layers_run: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub mlp: usize,
    /// Whether the MLP is `down(act(a) * b)` of `[a | b] = gate_up(x)` instead
    /// of `fc2(act(fc1(x)))`.
    pub gated: bool,
    /// Whether the MLP begins with a layer norm of its own, after the layer's.
    pub mlp_norm: bool,
    /// Patch side in pixels, also the stride of the patch embedding.
    pub patch: usize,
    /// Side of the square input for which positions were learned, in pixels.
    pub image: usize,
    /// Activation of the MLP.
    pub act: Act,
    /// Layer norm epsilon.
    pub eps: f32,
    /// Whether a class token leads the sequence (it is dropped at the end).
    pub class_token: bool,
    /// Whether the patch embedding has a bias.
    pub patch_bias: bool,
    /// Whether a layer norm stands between the embeddings and the layers.
    pub pre_norm: bool,
    /// Whether a layer norm stands after the layers that are run.
    pub post_norm: bool,
    /// What makes fewer tokens of the features and the class token.
    pub reduce: Option<Looking>,
}

impl VitConfig {
    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image / self.patch
    }

    /// Heads of a layer.
    pub fn head_layout(&self) -> Heads {
        Heads::full(self.heads, self.hidden / self.heads)
    }

    /// Visual tokens. Where the grid is not the one that positions were learned
    /// for, the loader of checkpoints interpolates them.
    pub fn visual_tokens(&self, height: usize, width: usize) -> Result<usize> {
        // The published side need not be a multiple: its last pixels are dropped.
        let fits =
            |side: usize| side == self.image || (side > 0 && side.is_multiple_of(self.patch));
        if !fits(height) || !fits(width) {
            return Err(Error::Config {
                what: "resolution".into(),
                value: format!("{height}x{width}"),
                problem: format!(
                    "is not made of patches of {0} pixels; use a multiple of {0}",
                    self.patch
                ),
            });
        }
        let patches = (height / self.patch) * (width / self.patch);
        match self.reduce {
            Some(by) => by.check(patches),
            None => Ok(patches),
        }
    }

    /// Positions of the learned table.
    pub fn positions(&self) -> usize {
        self.grid() * self.grid() + usize::from(self.class_token)
    }
}

/// Pixels `(b, 3, h, w)` to features `(b, patches, hidden)`.
pub fn forward<O: Ops>(o: &mut O, c: &VitConfig, pixels: &O::V) -> Result<O::V> {
    o.stage("embed");
    let x = o.conv(
        pixels,
        &Conv {
            name: "patch".into(),
            c_in: 3,
            c_out: c.hidden,
            kernel: c.patch,
            stride: c.patch,
            padding: 0,
            bias: c.patch_bias,
            act: Act::None,
        },
    )?;
    encode(o, c, &x)
}

/// A map of embedded patches `(b, hidden, h, w)` to features `(b, h * w, hidden)`, or
/// fewer.
pub fn encode<O: Ops>(o: &mut O, c: &VitConfig, patches: &O::V) -> Result<O::V> {
    let mut x = o.to_tokens(patches)?;
    if c.class_token {
        x = o.prepend_token(&x, "class")?;
    }
    x = o.add_positions(&x, "positions")?;
    if c.pre_norm {
        x = o.layer_norm(&x, &norm(c, "pre_norm".into()))?;
    }
    let looked_at = c.reduce.map(|by| by.layer(c.layers_run));
    let mut clue = None;
    for i in 0..c.layers_run {
        o.stage("layers");
        let qkv = projections(o, c, i, &x)?;
        if looked_at == Some(i) {
            clue = Some(qkv.clone());
        }
        x = layer(o, c, i, &x, &qkv)?;
    }
    if let Some(by) = &c.reduce {
        o.stage("reduce");
        let clue = match clue {
            Some(clue) => clue,
            // Of the layer after the features nothing else is run.
            None => projections(o, c, by.layer(c.layers_run), &x)?,
        };
        let (heads, by) = by.reducer(c);
        x = o.reduce_tokens(&x, &clue, heads, by)?;
    } else if c.class_token {
        x = o.take_tokens(&x, Take::After(1))?;
    }
    if c.post_norm {
        x = o.layer_norm(&x, &norm(c, "post_norm".into()))?;
    }
    Ok(x)
}

fn norm(c: &VitConfig, name: String) -> Norm {
    Norm {
        name,
        dim: c.hidden,
        eps: c.eps,
        act: Act::None,
    }
}

fn linear(name: String, d_in: usize, d_out: usize, act: Act) -> Linear {
    Linear {
        name,
        d_in,
        d_out,
        bias: true,
        act,
    }
}

/// The packed query, key and value of layer `i`.
fn projections<O: Ops>(o: &mut O, c: &VitConfig, i: usize, x: &O::V) -> Result<O::V> {
    let p = format!("layers.{i}");
    let packed = c.head_layout().packed();
    let h = o.layer_norm(x, &norm(c, format!("{p}.norm1")))?;
    let qkv = linear(format!("{p}.qkv"), c.hidden, packed, Act::None);
    o.linear(&h, &qkv, None)
}

/// Layer `i`, whose projections of `x` are `qkv`.
fn layer<O: Ops>(o: &mut O, c: &VitConfig, i: usize, x: &O::V, qkv: &O::V) -> Result<O::V> {
    let p = format!("layers.{i}");
    let linear = |name: &str, d_in, d_out, act| linear(format!("{p}.{name}"), d_in, d_out, act);
    let d = c.hidden;

    let h = o.attention(qkv, c.head_layout())?;
    let x = o.linear(&h, &linear("proj", d, d, Act::None), Some(x))?;

    let mut h = o.layer_norm(&x, &norm(c, format!("{p}.norm2")))?;
    if c.mlp_norm {
        h = o.layer_norm(&h, &norm(c, format!("{p}.mlp_norm")))?;
    }
    if c.gated {
        let h = o.linear(&h, &linear("gate_up", d, 2 * c.mlp, Act::None), None)?;
        let h = o.glu(&h, c.act)?;
        return o.linear(&h, &linear("down", c.mlp, d, Act::None), Some(&x));
    }
    let fc1 = linear("fc1", d, c.mlp, c.act);
    o.mlp(&h, &fc1, &linear("fc2", c.mlp, d, Act::None), Some(&x))
}
