//! What a case costs, counted without weights by the `cost` interpreter.

use serde::Serialize;
use vlmbench_backends::Result;
use vlmbench_backends::backend::Precision;
use vlmbench_backends::blocks::mix::BlockMix;
use vlmbench_backends::cost::{Cost, StageCost};
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::weights::{decoder_cost, encoder_cost, prefill_cost, projector_cost};

use super::case::Workload;
use crate::config::latency::ImageSize;

/// Text tokens that a suite's prompt is taken to have. Prompts of the suites
/// differ by sample; a short question in a chat template is of this order.
pub const NOMINAL_QUESTION_TOKENS: usize = 64;

/// The image that a suite's are taken to be, where the number of tokens depends
/// on it: as large as the common data sets' photographs, no larger than that.
pub const NOMINAL_IMAGE: ImageSize = ImageSize {
    width: 1024,
    height: 768,
};

/// Static costs of a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseCost {
    /// Visual tokens of one image, nominal for a suite on a model that tiles
    /// images; `None` without an encoder.
    pub visual_tokens: Option<usize>,
    /// Those of them that the later layers of the decoder see, where it drops some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visual_tokens_kept: Option<usize>,
    /// Text tokens of the prompt; nominal for a suite, `None` without a
    /// decoder.
    pub prompt_tokens: Option<usize>,
    /// Positions of the KV cache; 0 without a decoder.
    pub context: usize,
    /// Stages that the case has, in order: `encode`, `project`, `prefill`,
    /// `decode` (one step after the prompt).
    pub stages: Vec<StageFigures>,
    /// Parameters by component: `encoder`, `projector`, `decoder`.
    pub params: Vec<PartParams>,
    /// Bytes of all parameters at the case's precision.
    pub weight_bytes: u64,
    /// Largest input plus output of one operation, bytes.
    pub activation_peak_bytes: u64,
    /// Bytes of the KV cache: `2 * kv_heads * head_dim` scalars for every position
    /// that a layer holds, which is `context`, less the tokens that were dropped before it.
    pub kv_cache_bytes: u64,
}

/// Parameters of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartParams {
    /// `encoder`, `projector` or `decoder`.
    pub component: &'static str,
    /// Number of parameters.
    pub params: u64,
    /// Their bytes at the case's precision.
    pub bytes: u64,
}

/// Costs of a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageFigures {
    /// `encode`, `project`, `prefill` or `decode`.
    pub stage: &'static str,
    /// Floating-point operations, a multiply-add as 2.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Largest input plus output of one operation, bytes.
    pub activation_peak_bytes: u64,
    /// The same by the network's own stages.
    pub parts: Vec<StageCost>,
}

impl StageFigures {
    fn new(stage: &'static str, cost: Cost) -> StageFigures {
        StageFigures {
            stage,
            flops: cost.flops(),
            bytes: cost.bytes(),
            activation_peak_bytes: cost.activation_peak(),
            parts: cost.stages,
        }
    }
}

impl CaseCost {
    /// Counts the costs of a workload on a recipe.
    pub fn of(workload: &Workload, recipe: &Recipe, precision: Precision) -> Result<CaseCost> {
        let (text, context) = match workload {
            Workload::EncoderLatency(_) => (0, None),
            // The last token is never fed back, so it needs no position.
            Workload::EndToEndLatency(l) => (l.prompt_tokens, Some(l.decode_tokens - 1)),
            Workload::Quality(_) => (NOMINAL_QUESTION_TOKENS, Some(0)),
        };
        let bytes = precision.bytes();
        let mut stages = Vec::new();
        let mut params = Vec::new();
        let mut add = |stage: &'static str, component: Option<(&'static str, u64)>, cost: Cost| {
            if let Some((component, bytes)) = component {
                params.push(PartParams {
                    component,
                    params: cost.params(),
                    bytes,
                });
            }
            stages.push(StageFigures::new(stage, cost));
        };
        let image = match workload {
            Workload::EncoderLatency(l) | Workload::EndToEndLatency(l) => l.image,
            Workload::Quality(_) => NOMINAL_IMAGE,
        };
        let place = recipe.place(image.width, image.height);
        let mut visual = None;
        if recipe.encoder.is_some() {
            let (cost, _) = encoder_cost(recipe, recipe.resolution, place.inputs(), bytes)?;
            let held = cost.params() * bytes as u64;
            add("encode", Some(("encoder", held)), cost);
            visual = Some(recipe.visual_tokens(image.width, image.height)?);
        }
        if recipe.projector.is_some() {
            let (cost, _) = projector_cost(recipe, &place, bytes)?;
            let held = cost.params() * bytes as u64;
            add("project", Some(("projector", held)), cost);
        }
        let mut kept = None;
        let mut positions = 0;
        let mut kv_cache_bytes = 0;
        if let Some(decoder) = &recipe.decoder {
            let c = &decoder.config;
            let images: Vec<usize> = visual.into_iter().collect();
            let past = |positions| c.past(positions, images.iter().copied());
            let prompt = visual.unwrap_or(0) + text;
            let image = visual.is_some().then_some(&place);
            let (cost, specs) = prefill_cost(recipe, image, text, precision)?;
            let mix = BlockMix::of(precision, c);
            let held = specs.iter().map(|spec| {
                let blocks = mix.as_ref().and_then(|mix| mix.bytes(spec));
                blocks.unwrap_or((spec.elements() * bytes) as u64)
            });
            add("prefill", Some(("decoder", held.sum())), cost);
            let (cost, _) = decoder_cost(recipe, 1, past(prompt), precision)?;
            add("decode", None, cost);
            let dropped = past(prompt).dropped;
            kept = visual.filter(|_| dropped > 0).map(|all| all - dropped);
            positions = match workload {
                Workload::Quality(quality) => quality.context,
                _ => prompt + context.unwrap_or(0),
            };
            kv_cache_bytes = (c.kv_elements(past(positions)) * bytes) as u64;
        }
        let weight_bytes = params.iter().map(|p| p.bytes).sum();
        let peaks = stages.iter().map(|s| s.activation_peak_bytes);
        Ok(CaseCost {
            visual_tokens: visual,
            visual_tokens_kept: kept,
            prompt_tokens: recipe.decoder.is_some().then_some(text),
            context: positions,
            weight_bytes,
            activation_peak_bytes: peaks.max().unwrap_or(0),
            kv_cache_bytes,
            stages,
            params,
        })
    }

    /// Memory that the case needs at least: weights, KV cache and the largest
    /// operation. The process itself comes on top.
    pub fn memory_bytes(&self) -> u64 {
        self.weight_bytes + self.kv_cache_bytes + self.activation_peak_bytes
    }

    /// All parameters.
    pub fn total_params(&self) -> u64 {
        self.params.iter().map(|p| p.params).sum()
    }

    /// A stage's figures, if the case has the stage.
    pub fn stage(&self, name: &str) -> Option<&StageFigures> {
        self.stages.iter().find(|s| s.stage == name)
    }
}
