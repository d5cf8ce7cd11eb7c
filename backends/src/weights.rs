//! Where parameters come from: the seam between checkpoints and engines.
//!
//! An engine walks a model's inventory and pulls each tensor once, in canonical
//! form, from a [`WeightSource`]; what it keeps (layout, precision, device) is
//! its own affair. Sources check completeness when they are opened, before any
//! tensor is read.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};

use crate::anyres::{EncodeTiles, Placement};
use crate::backend::Precision;
use crate::blocks::Blocks;
use crate::blocks::mix::BlockMix;
use crate::cost::{Cost, CostOps};
use crate::error::Result;
use crate::nets::sva::{self, Seen};
use crate::nets::{EncoderConfig, Past, ProjectorKind, decoder, projector};
use crate::ops::Shape;
use crate::params::ParamSpec;
use crate::recipe::Recipe;

/// The part of a model a parameter belongs to. Canonical names are unique
/// within a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Vision encoder.
    Vision,
    /// Projector.
    Projector,
    /// Language model.
    Decoder,
}

impl Part {
    /// Lower-case name, as used in messages and records.
    pub fn name(self) -> &'static str {
        match self {
            Part::Vision => "vision",
            Part::Projector => "projector",
            Part::Decoder => "decoder",
        }
    }
}

/// Scalars on the host, borrowed from a memory map where no folding was needed.
#[derive(Clone, Debug)]
pub enum HostData<'a> {
    /// 32-bit floats.
    F32(Cow<'a, [f32]>),
    /// IEEE half precision.
    F16(Cow<'a, [f16]>),
    /// bfloat16.
    BF16(Cow<'a, [bf16]>),
    /// Rows in blocks.
    Blocks(Blocks<'a>),
}

impl HostData<'_> {
    /// Number of scalars.
    pub fn len(&self) -> usize {
        match self {
            HostData::F32(x) => x.len(),
            HostData::F16(x) => x.len(),
            HostData::BF16(x) => x.len(),
            HostData::Blocks(x) => x.rows() * x.width,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The scalars as f32, converted if necessary (exactly: both half formats
    /// are subsets of f32, and a block's scalar is a product or two of it).
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self {
            HostData::F32(x) => Cow::Borrowed(x),
            HostData::F16(x) => Cow::Owned(x.iter().map(|v| v.to_f32()).collect()),
            HostData::BF16(x) => Cow::Owned(x.iter().map(|v| v.to_f32()).collect()),
            HostData::Blocks(x) => Cow::Owned(x.to_f32()),
        }
    }
}

/// A canonical parameter on the host.
#[derive(Clone, Debug)]
pub struct HostTensor<'a> {
    /// Shape, equal to the inventory's.
    pub shape: Vec<usize>,
    /// Scalars in row-major order.
    pub data: HostData<'a>,
}

/// A digest of one weight file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FileDigest {
    /// File name without folder.
    pub file: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What is known about where weights came from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WeightsInfo {
    /// `seeded`, `checkpoint` or `gguf`.
    pub source: &'static str,
    /// Seed, or the checkpoint's folder or hub id.
    pub origin: String,
    /// Recognised checkpoint layout, `canonical` when seeded.
    pub layout: String,
    /// Digests of the weight files; empty when seeded or not computed.
    pub files: Vec<FileDigest>,
}

/// A source of canonical parameters.
pub trait WeightSource: Sync {
    /// Where the weights come from.
    fn info(&self) -> &WeightsInfo;

    /// The parameter `spec` of `part`, with exactly the shape asked for.
    fn get(&self, part: Part, spec: &ParamSpec) -> Result<HostTensor<'_>>;

    /// The folder of ONNX graphs that stand in for the parameters, if they do:
    /// then there is nothing to [`get`](WeightSource::get).
    fn graphs(&self) -> Option<&Path> {
        None
    }

    /// The quantised precision whose blocks the decoder's matrices are stored
    /// in, if they are: another one cannot be had of them.
    fn holds(&self) -> Option<Precision> {
        None
    }

    /// Says that the engine has its own copy of `spec` now: memory that only
    /// caches a file may go.
    fn done(&self, _part: Part, _spec: &ParamSpec) {}
}

/// The parameters of every part that a recipe has.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Parts in the order vision, projector, decoder.
    pub parts: Vec<(Part, Vec<ParamSpec>)>,
}

impl Inventory {
    /// Collects the inventory by walking the recipe's networks without weights.
    pub fn of(recipe: &Recipe) -> Result<Inventory> {
        let mut parts = Vec::new();
        let side = recipe.resolution as u32;
        let whole = recipe.place(side, side);
        if recipe.encoder.is_some() {
            let (_, params) = encoder_cost(recipe, recipe.resolution, 1, 4)?;
            parts.push((Part::Vision, params));
        }
        if recipe.projector.is_some() {
            let (_, params) = projector_cost(recipe, &whole, 4)?;
            parts.push((Part::Projector, params));
        }
        if recipe.decoder.is_some() {
            let place = recipe.encoder.is_some().then_some(&whole);
            let (_, params) = prefill_cost(recipe, place, 1, Precision::F32)?;
            parts.push((Part::Decoder, params));
        }
        Ok(Inventory { parts })
    }

    /// Every parameter with its part.
    pub fn iter(&self) -> impl Iterator<Item = (Part, &ParamSpec)> {
        self.parts
            .iter()
            .flat_map(|(part, specs)| specs.iter().map(move |s| (*part, s)))
    }
}

/// Cost and inventory of the vision encoder on `inputs` square inputs of `side`
/// pixels, run as the recipe does.
pub fn encoder_cost(
    recipe: &Recipe,
    side: usize,
    inputs: usize,
    element_bytes: usize,
) -> Result<(Cost, Vec<ParamSpec>)> {
    let mut ops = CostOps::new(element_bytes, 0);
    let tiles = recipe.tiles.as_ref();
    let batched = tiles.is_some_and(|tiles| tiles.encode == EncodeTiles::Batched);
    let (batch, runs) = if batched { (inputs, 1) } else { (1, inputs) };
    let encoder = &recipe.encoder()?.config;
    encoder.encode(&mut ops, &encoder.inputs(side, batch))?;
    let (cost, params) = ops.finish();
    Ok((cost.times(runs), params))
}

/// Cost and inventory of the projector for the features of one image.
pub fn projector_cost(
    recipe: &Recipe,
    place: &Placement,
    element_bytes: usize,
) -> Result<(Cost, Vec<ParamSpec>)> {
    let mut ops = CostOps::new(element_bytes, 0);
    let c = recipe.projector()?;
    if seen(&mut ops, recipe, place)?.is_some() {
        return Ok(ops.finish());
    }
    let x = Shape::Tokens {
        b: place.inputs(),
        n: recipe.encoder_tokens()?,
        d: c.d_in,
    };
    let y = projector::forward(&mut ops, c, &x)?;
    if let Some(mix) = recipe.arrangement(place)? {
        let (n, d) = (y.rows(), y.channels());
        projector::arrange(&mut ops, c, &Shape::Tokens { b: 1, n, d }, &mix)?;
    }
    Ok(ops.finish())
}

/// What samplers in the decoder see of an image, if the recipe has them: the
/// projector's pass over several encoders' features.
fn seen(ops: &mut CostOps, recipe: &Recipe, place: &Placement) -> Result<Option<Seen<Shape>>> {
    let (EncoderConfig::Towers(towers), Some(c)) = (&recipe.encoder()?.config, &recipe.projector)
    else {
        return Ok(None);
    };
    let ProjectorKind::Sva(sva) = &c.kind else {
        return Ok(None);
    };
    let features = towers.towers.iter().map(|tower| Shape::Tokens {
        b: 1,
        n: tower.grid * tower.grid,
        d: tower.feature_dim(),
    });
    let features: Vec<Shape> = features.collect();
    let (_, seen) = projector::aggregate(ops, c, sva, &features, place)?;
    Ok(Some(seen))
}

/// Cost and inventory of the decoder over a prompt of `text` tokens and, if
/// `place` says how it lies, one image.
pub fn prefill_cost(
    recipe: &Recipe,
    place: Option<&Placement>,
    text: usize,
    precision: Precision,
) -> Result<(Cost, Vec<ParamSpec>)> {
    let mut looks = None;
    let mut images = Vec::new();
    if let Some(place) = place {
        images.push(0..recipe.visual_tokens(place.width, place.height)?);
        looks = seen(&mut CostOps::new(precision.bytes(), 0), recipe, place)?;
    }
    let sva = match recipe.projector.as_ref().map(|c| &c.kind) {
        Some(ProjectorKind::Sva(sva)) => looks.as_ref().map(|looks| (sva, looks)),
        _ => None,
    };
    let c = &recipe.decoder()?.config;
    let mut ops = CostOps::new(precision.bytes(), 0).with_mix(BlockMix::of(precision, c));
    let tokens = text + images.iter().map(Range::len).sum::<usize>();
    let x = decoder::embed(&mut ops, c, &vec![0; tokens])?;
    decoder::forward_with(&mut ops, c, &x, &images, |o, layer, x| match sva {
        Some((sva, looks)) => sva::look_after(o, sva, layer, x, &[(0, looks)]),
        None => Ok(x),
    })?;
    Ok(ops.finish())
}

/// Cost and inventory of the decoder for `tokens` new positions of text after
/// `past`: one decode step with `tokens == 1`.
pub fn decoder_cost(
    recipe: &Recipe,
    tokens: usize,
    past: impl Into<Past>,
    precision: Precision,
) -> Result<(Cost, Vec<ParamSpec>)> {
    let c = &recipe.decoder()?.config;
    let mut ops = CostOps::new(precision.bytes(), past).with_mix(BlockMix::of(precision, c));
    let x = decoder::embed(&mut ops, c, &vec![0; tokens])?;
    decoder::forward(&mut ops, c, &x)?;
    Ok(ops.finish())
}
