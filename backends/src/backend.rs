//! The seam between the harness and the engines: what to load on what, and
//! what a loaded model can do.
//!
//! An engine implements [`Backend`] and [`LoadedModel`]; everything built from
//! them (the request loop, marks, stop rules) is in [`crate::generate`], once.
//! A device or precision that was asked for and cannot be had is an error,
//! never a quiet fallback.

use std::any::Any;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::anyres::Placement;
pub use crate::candle::kernels::simd::Level;
use crate::error::{Error, Result};
use crate::image::Pixels;
use crate::nets::registry::{one_of, unknown};
use crate::nets::{DecoderConfig, EncoderConfig};
use crate::onnxruntime::OnnxRuntimeBackend;
use crate::onnxruntime::library::Library;
pub use crate::onnxruntime::{Optimization, Settings};
use crate::recipe::Recipe;
use crate::text::PromptTokens;
use crate::trace::Observer;
use crate::weights::{Inventory, Part, WeightSource, WeightsInfo};

/// Precision of weights and activations.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// IEEE half precision, accumulated in f32.
    F16,
    /// bfloat16, accumulated in f32.
    Bf16,
    /// As bf16, but the decoder's matrices are held in llama.cpp's Q8_0 blocks
    /// ([`crate::blocks`]).
    #[serde(rename = "q8_0")]
    Q8_0,
    /// As bf16, but the decoder's matrices are held in the blocks of
    /// llama.cpp's Q4_K_M mix ([`crate::blocks::mix`]).
    #[serde(rename = "q4_k_m")]
    Q4KM,
}

impl Precision {
    /// All precisions.
    pub const ALL: [Precision; 5] = [
        Precision::F32,
        Precision::F16,
        Precision::Bf16,
        Precision::Q8_0,
        Precision::Q4KM,
    ];

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
            Precision::Q8_0 => "q8_0",
            Precision::Q4KM => "q4_k_m",
        }
    }

    /// Bytes of one scalar, where it is not in a block: activations, the KV
    /// cache, and all weights but a quantised decoder's matrices.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::F16 | Precision::Bf16 | Precision::Q8_0 | Precision::Q4KM => 2,
        }
    }

    /// Whether a decoder's matrices are held in blocks.
    pub fn is_quantised(self) -> bool {
        matches!(self, Precision::Q8_0 | Precision::Q4KM)
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(s: &str) -> Result<Precision> {
        one_of("precision", s, Precision::ALL, Precision::name)
    }
}

/// What an engine is asked to run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// `cpu`, `cuda:0`, ...
    pub device: String,
    /// Precision of weights and activations.
    pub precision: Precision,
    /// Worker threads on the host.
    pub threads: usize,
    /// Instruction set of the engine's own CPU kernels; the machine's best if
    /// `None`.
    pub simd: Option<Level>,
    /// Settings of ONNX Runtime's sessions, if that is the engine.
    pub onnxruntime: Settings,
}

impl EngineOptions {
    /// An engine's options with everything else as by default.
    pub fn new(device: &str, precision: Precision, threads: usize) -> EngineOptions {
        EngineOptions {
            device: device.to_owned(),
            precision,
            threads,
            simd: None,
            onnxruntime: Settings::default(),
        }
    }
}

/// What an engine really uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineFacts {
    /// Registry name.
    pub engine: &'static str,
    /// Version of the engine's library.
    pub version: String,
    /// Device in use.
    pub device: String,
    /// Precision in use.
    pub precision: Precision,
    /// Host threads in use.
    pub threads: usize,
    /// Instruction set that the engine's own kernels chose.
    pub simd: String,
    /// The library that was loaded at run time, for an engine that is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<Library>,
    /// Settings of ONNX Runtime's sessions, if that is the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnxruntime: Option<Settings>,
}

/// What to prepare a model for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Positions of the KV cache: the longest prompt plus its answer.
    pub context: usize,
}

impl LoadOptions {
    /// The positions asked for, if the decoder was made for so many.
    pub fn positions(&self, decoder: &DecoderConfig) -> Result<usize> {
        within(self.context, 0, decoder.max_positions)?;
        Ok(self.context)
    }
}

/// Errors unless `new` positions after `tokens` fit a context.
pub(crate) fn within(tokens: usize, new: usize, context: usize) -> Result<()> {
    match tokens + new <= context {
        true => Ok(()),
        false => Err(Error::ContextOverflow {
            tokens,
            new,
            context,
        }),
    }
}

/// Positions of a prompt, of which there must be some and all must fit.
pub(crate) fn prompt_positions(prompt: &PromptTokens, context: usize) -> Result<usize> {
    match prompt.total_len() {
        0 => Err(Error::ContextOverflow {
            tokens: 0,
            new: 0,
            context,
        }),
        tokens => within(tokens, 0, context).map(|()| tokens),
    }
}

/// Sides of inputs that an encoder is to take at once, of which there must be
/// some, all of one size that the recipe's encoder admits; one for each of
/// several encoders, of its own size.
pub(crate) fn input_sides(recipe: &Recipe, inputs: &[Pixels]) -> Result<(usize, usize)> {
    let sides = |p: &Pixels| (p.height, p.width);
    let first = inputs.first().map(sides);
    if let EncoderConfig::Towers(c) = &recipe.encoder()?.config {
        let wanted: Vec<_> = c.towers.iter().map(|t| (t.side, t.side)).collect();
        let given: Vec<_> = inputs.iter().map(sides).collect();
        return match wanted == given {
            true => Ok((c.side(), c.side())),
            false => Err(Error::Shape {
                op: "encode",
                name: "inputs".into(),
                expected: format!("an input for each encoder: {wanted:?}"),
                got: format!("{given:?}"),
            }),
        };
    }
    match first {
        Some((height, width)) if inputs.iter().all(|p| sides(p) == (height, width)) => {
            recipe.encoder()?.config.visual_tokens(height, width)?;
            Ok((height, width))
        }
        _ => Err(Error::Shape {
            op: "encode",
            name: "inputs".into(),
            expected: "at least one input, and all of one size".into(),
            got: format!("{:?}", inputs.iter().map(sides).collect::<Vec<_>>()),
        }),
    }
}

/// Errors if an engine is to have no thread at all.
pub(crate) fn some_threads(threads: usize) -> Result<()> {
    match threads {
        0 => Err(Error::Config {
            what: "threads".into(),
            value: "0".into(),
            problem: "must be at least 1".into(),
        }),
        _ => Ok(()),
    }
}

/// An engine on a device.
pub trait Backend {
    /// What is in use.
    fn facts(&self) -> &EngineFacts;

    /// Bytes that are free on a device with memory of its own.
    fn free_device_memory(&self) -> Option<u64> {
        None
    }

    /// Loads the parts that the recipe has.
    fn load(
        &self,
        recipe: &Recipe,
        inventory: &Inventory,
        source: &dyn WeightSource,
        options: LoadOptions,
    ) -> Result<Box<dyn LoadedModel>>;
}

/// Static facts of a loaded model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelFacts {
    /// Parameters by part.
    pub params: Vec<(Part, u64)>,
    /// Bytes of the parameters as held.
    pub param_bytes: u64,
    /// Whether [`LoadedModel::encode`] gives projected features, because the
    /// engine cannot run the projector apart.
    pub projects_in_encode: bool,
    /// Nodes of recorded graphs by the execution provider that runs them;
    /// empty for an engine without them.
    pub nodes: BTreeMap<String, usize>,
    /// Positions of the KV cache; 0 without a decoder.
    pub context: usize,
    /// Where the weights came from.
    pub weights: WeightsInfo,
}

impl ModelFacts {
    /// What holds of a model on every engine; the engine knows the rest.
    pub(crate) fn of(inventory: &Inventory, source: &dyn WeightSource) -> ModelFacts {
        let parts = inventory.parts.iter().map(|(part, specs)| {
            let elements = specs.iter().map(|s| s.elements() as u64);
            (*part, elements.sum())
        });
        ModelFacts {
            params: parts.collect(),
            param_bytes: 0,
            projects_in_encode: false,
            nodes: BTreeMap::new(),
            context: 0,
            weights: source.info().clone(),
        }
    }
}

/// Features where the engine keeps them: `(inputs, tokens, dim)`.
pub struct Features {
    /// Encoder inputs that they are of; 1 where they are one sequence.
    pub inputs: usize,
    /// Tokens of each.
    pub tokens: usize,
    /// Feature dimension.
    pub dim: usize,
    /// The engine's own value.
    pub value: Box<dyn Any + Send + Sync>,
}

impl Features {
    /// The features of image `index` of a prompt that has `tokens` visual
    /// tokens for it.
    pub fn of(images: &[Features], index: usize, tokens: usize) -> Result<&Features> {
        let problem = |got: String| Error::Shape {
            op: "prefill",
            name: format!("image {index}"),
            expected: format!("features of {tokens} visual tokens"),
            got,
        };
        match images.get(index) {
            Some(f) if f.inputs == 1 && f.tokens == tokens => Ok(f),
            Some(f) => Err(problem((f.inputs * f.tokens).to_string())),
            None => Err(problem(format!("{} images", images.len()))),
        }
    }

    /// Errors unless these are the features of as many inputs as an image laid
    /// out so has.
    pub(crate) fn check(inputs: &[Features], place: &Placement) -> Result<()> {
        let given: usize = inputs.iter().map(|f| f.inputs).sum();
        match given == place.inputs() {
            true => Ok(()),
            false => Err(Error::Shape {
                op: "project",
                name: "image".into(),
                expected: format!("features of {} inputs", place.inputs()),
                got: given.to_string(),
            }),
        }
    }

    /// The value, which only the engine that made it can read.
    pub(crate) fn value<T: Any>(&self, engine: &str) -> Result<&T> {
        self.value.downcast_ref().ok_or_else(|| Error::Shape {
            op: "features",
            name: "value".into(),
            expected: format!("features of the {engine} engine"),
            got: "another engine's".into(),
        })
    }
}

/// A model ready to run. All methods compute synchronously unless the device
/// is asynchronous; [`LoadedModel::synchronize`] waits for it.
pub trait LoadedModel: Send {
    /// Static facts.
    fn facts(&self) -> &ModelFacts;

    /// Runs the vision encoder on inputs of one size, all at once.
    fn encode(&mut self, inputs: &[Pixels]) -> Result<Features>;

    /// Projects the features of an image's inputs into the decoder's embedding
    /// space, as one sequence.
    fn project(&mut self, inputs: &[Features], place: &Placement) -> Result<Features>;

    /// Forgets the context, then runs a prompt whose image segments are filled
    /// from projected `images`; logits `(vocab)` of the last position.
    fn prefill(&mut self, prompt: &PromptTokens, images: &[Features]) -> Result<Vec<f32>>;

    /// Appends one token to the context; logits of the position after it.
    fn decode(&mut self, token: u32) -> Result<Vec<f32>>;

    /// Copies features to the host, `inputs * tokens * dim` values row by row.
    fn read(&self, features: &Features) -> Result<Vec<f32>>;

    /// Waits until the device has finished everything asked of it. How long the last
    /// computation took by the device's own clock, if it has one: from its first
    /// work to its last, without the host's before and after.
    fn synchronize(&self) -> Result<Option<Duration>>;

    /// Most bytes that were in use on a device with memory of its own since this
    /// model began to load, what else this process has there included.
    fn peak_device_memory(&self) -> Option<u64> {
        None
    }

    /// Tells `observer` of every operation from now on; `None` stops it.
    /// Observed operations are computed one after another, each to its end.
    /// An engine that runs a network as a whole cannot be observed.
    fn observe(&mut self, observer: Option<Box<dyn Observer>>) -> Result<()> {
        match observer {
            None => Ok(()),
            Some(_) => Err(Error::Unavailable {
                what: "observing single operations".into(),
                why: "this engine runs networks as a whole; profile with the candle engine".into(),
            }),
        }
    }

    /// Computes on `threads` host threads from now on, with the same weights.
    fn use_threads(&mut self, threads: usize) -> Result<()> {
        Err(Error::Unavailable {
            what: format!("changing to {threads} threads"),
            why: "this engine fixes its threads when it is opened; open it again".into(),
        })
    }
}

/// An engine that this build has.
pub struct BackendEntry {
    /// Name used in experiments and on the command line.
    pub name: &'static str,
    /// One line for listings.
    pub about: &'static str,
    /// Whether it has the quantised precisions.
    pub quantised: bool,
    /// Opens the engine on a device.
    pub open: fn(&EngineOptions) -> Result<Box<dyn Backend>>,
    /// Devices it could run on here, each with why not if it cannot.
    pub devices: fn() -> Vec<DeviceEntry>,
}

/// A device of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceEntry {
    /// Name, as in [`EngineOptions::device`].
    pub name: String,
    /// Why it cannot be used, and how to get it.
    pub missing: Option<String>,
}

/// Engines, sorted by name.
pub const BACKENDS: &[BackendEntry] = &[
    BackendEntry {
        name: "candle",
        about: "candle tensors with vlmbench's own CPU kernels",
        quantised: true,
        open: |options| Ok(Box::new(crate::candle::CandleBackend::open(options)?)),
        devices: crate::candle::backend::devices,
    },
    BackendEntry {
        name: "onnxruntime",
        about: "ONNX Runtime, loaded at run time, on graphs recorded from the same networks",
        quantised: false,
        open: |options| Ok(Box::new(OnnxRuntimeBackend::open(options)?)),
        devices: crate::onnxruntime::device::devices,
    },
];

impl BackendEntry {
    /// Errors if it has no such precision on any device.
    pub fn has_precision(&self, precision: Precision) -> Result<()> {
        if self.quantised || !precision.is_quantised() {
            return Ok(());
        }
        Err(Error::Unavailable {
            what: format!("precision {precision}"),
            why: format!(
                "the {} engine computes nothing on blocks; the candle engine does",
                self.name
            ),
        })
    }
}

/// Opens an engine by name.
pub fn open(name: &str, options: &EngineOptions) -> Result<Box<dyn Backend>> {
    let names: Vec<&str> = BACKENDS.iter().map(|b| b.name).collect();
    let entry = BACKENDS
        .iter()
        .find(|b| b.name == name)
        .ok_or_else(|| unknown("backend", name, &names))?;
    entry.has_precision(options.precision)?;
    (entry.open)(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_sorted_and_described() {
        assert!(BACKENDS.windows(2).all(|w| w[0].name < w[1].name));
        assert!(BACKENDS.iter().all(|b| !b.about.is_empty()));
        assert!(BACKENDS.iter().all(|b| !(b.devices)().is_empty()));
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let on = |device: &str| open("candle", &EngineOptions::new(device, Precision::F32, 1));
        assert!(on("cpu").is_ok());
        for device in ["cuda:0", "tpu"] {
            let Err(e) = on(device) else {
                panic!("{device} opened")
            };
            assert!(e.to_string().contains(device), "{e}");
        }
        assert!("f8".parse::<Precision>().is_err());
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse::<Precision>().unwrap(), precision);
            let entry = BACKENDS.iter().find(|b| b.name == "onnxruntime").unwrap();
            let there = entry.has_precision(precision);
            assert_eq!(there.is_err(), precision.is_quantised(), "{precision}");
        }
    }
}
