//! Short measurements of small networks with the layers of large ones, which
//! rates are fitted to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use vlmbench_backends::backend::EngineOptions;
use vlmbench_backends::hub::HubOptions;
use vlmbench_backends::image::ImagePolicy;
use vlmbench_backends::nets::EncoderConfig;
use vlmbench_backends::recipe::{Recipe, RecipeFile};
use vlmbench_reports::record::StageTimes;
use vlmbench_reports::stats::quantile;

use super::fit::{Point, Rates};
use crate::config::latency::Latency;
use crate::error::{Failure, chain};
use crate::measure::clock::Clock;
use crate::measure::latency::Workload as Inputs;
use crate::measure::memory;
use crate::measure::session::{Load, Session, affordable};
use crate::plan::CaseCost;

/// Timed repetitions of a probe, after one that warms up.
const REPETITIONS: usize = 3;

/// Work that runs at rates of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Encoders of attention and matrix products.
    VisionTransformer,
    /// Encoders with convolutions.
    Convolutional,
    /// Many positions of a decoder, and the projector.
    Prefill,
    /// One position of a decoder.
    Decode,
}

impl Kind {
    /// The kind of an encoder; of several, that of most of Cambrian-1's work.
    pub fn of(encoder: &EncoderConfig) -> Kind {
        match encoder {
            EncoderConfig::Vit(_) => Kind::VisionTransformer,
            EncoderConfig::FastVit(_)
            | EncoderConfig::ConvNext(_)
            | EncoderConfig::Vitamin(_)
            | EncoderConfig::MultiScale(_)
            | EncoderConfig::Towers(_) => Kind::Convolutional,
        }
    }

    /// As the plan prints it.
    pub fn label(self) -> &'static str {
        match self {
            Kind::VisionTransformer => "vision transformers",
            Kind::Convolutional => "convolutional encoders",
            Kind::Prefill => "prefill",
            Kind::Decode => "decode",
        }
    }
}

/// What an engine does on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fitted {
    /// Rates by kind of work.
    pub rates: BTreeMap<Kind, Rates>,
    /// Seconds to make and load a byte of weights.
    pub load_seconds_per_byte: f64,
    /// Seconds to decode and resize an image, for each of its pixels.
    pub preprocess_seconds_per_pixel: f64,
}

/// A network, and the prompts it is run with.
struct Probe {
    recipe: Recipe,
    prompts: &'static [usize],
}

/// The probes for some kinds of work: layers enough that their weights fill
/// more than most caches, few enough to be made and run in a second.
fn probes(kinds: &BTreeSet<Kind>) -> Result<Vec<Probe>, Failure> {
    let transformer = json!({
        "encoder": "clip-vit-l-14-336",
        "encoder_args": {"num_hidden_layers": 3, "feature_layer": -1},
    });
    let convolutional = json!({"encoder": "fastvithd", "resolution": 512});
    // Wide layers run at higher rates than narrow ones; a fit to both is between them.
    let decoder = |name, layers| {
        json!({
            "decoder": name,
            "decoder_args": {"num_hidden_layers": layers, "vocab_size": 16000},
        })
    };
    let mut probes = Vec::new();
    let mut add = |mut recipe: serde_json::Value, prompts| -> Result<(), Failure> {
        recipe["about"] = json!("a probe");
        recipe["weights"] = json!({"seeded": 0});
        if recipe["encoder"].is_string() {
            recipe["image"] = json!(ImagePolicy::mobileclip());
        }
        let file: RecipeFile =
            serde_json::from_value(recipe).map_err(|e| Failure::Internal(e.to_string()))?;
        let recipe = Recipe::from_file("probe", &file)?;
        probes.push(Probe { recipe, prompts });
        Ok(())
    };
    if kinds.contains(&Kind::VisionTransformer) {
        add(transformer, &[0])?;
    }
    if kinds.contains(&Kind::Convolutional) {
        add(convolutional, &[0])?;
    }
    if kinds.contains(&Kind::Prefill) || kinds.contains(&Kind::Decode) {
        add(decoder("qwen2-0.5b", 6), &[48, 240])?;
        add(decoder("qwen2-7b", 1), &[48, 240])?;
    }
    Ok(probes)
}

/// What the probes have taken so far.
#[derive(Default)]
struct Taken {
    points: BTreeMap<Kind, Vec<Point>>,
    loading: Duration,
    weight_bytes: u64,
    preprocessing: f64,
    pixels: f64,
}

/// Fits an engine's rates for `kinds` of work to what its probes take here.
pub fn measure(
    backend: &str,
    options: &EngineOptions,
    kinds: &BTreeSet<Kind>,
    clock: &dyn Clock,
) -> Result<Fitted, Failure> {
    let mut taken = Taken::default();
    for probe in probes(kinds)? {
        taken.add(&probe, backend, options, clock)?;
        memory::release();
    }
    let fit = |(kind, points): (&Kind, &Vec<Point>)| (*kind, Rates::fit(points));
    Ok(Fitted {
        rates: taken.points.iter().map(fit).collect(),
        load_seconds_per_byte: taken.loading.as_secs_f64() / taken.weight_bytes.max(1) as f64,
        preprocess_seconds_per_pixel: taken.preprocessing / taken.pixels.max(1.0),
    })
}

impl Taken {
    fn add(
        &mut self,
        probe: &Probe,
        backend: &str,
        options: &EngineOptions,
        clock: &dyn Clock,
    ) -> Result<(), Failure> {
        let recipe = &probe.recipe;
        let mut loaded: Option<Session> = None;
        // The longest prompt first: it has the largest cache.
        for &prompt_tokens in probe.prompts.iter().rev() {
            let latency = Latency {
                prompt_tokens,
                decode_tokens: 1 + REPETITIONS,
                ..Latency::default()
            };
            let cost = affordable(recipe, &latency, backend, options)?;
            let session = match &mut loaded {
                Some(session) => session,
                empty => {
                    let before = clock.now();
                    let session = open(recipe, backend, options, &cost)?;
                    self.loading += clock.now() - before;
                    self.weight_bytes += cost.weight_bytes;
                    empty.insert(session)
                }
            };
            let inputs = Inputs::new(session, &latency, 0)?;
            let mut times = Vec::new();
            for repetition in 0..=REPETITIONS {
                let (stages, _) = inputs.once(session, clock).map_err(|e| {
                    let error = chain(e.source.as_ref());
                    Failure::Internal(format!("{} of a probe failed: {error}", e.phase.name()))
                })?;
                if repetition > 0 {
                    times.push(stages);
                }
            }
            self.count(recipe, &cost, &latency, &times);
        }
        Ok(())
    }

    /// Takes the medians of a probe's repetitions.
    fn count(&mut self, recipe: &Recipe, cost: &CaseCost, latency: &Latency, times: &[StageTimes]) {
        let encoder = recipe.encoder.as_ref().map(|e| Kind::of(&e.config));
        let encode = median(times, |t| t.encode_ns);
        let prefill = median(times, |t| t.prefill_ns);
        let decode = median(times, |t| t.decode_ns.iter().copied().min());
        // Encoders are held to their operations and decoding to its bytes; a short prefill is both.
        let stages = [
            (encoder, "encode", encode, (1.0, 0.0)),
            (Some(Kind::Prefill), "prefill", prefill, (1.0, 1.0)),
            (Some(Kind::Decode), "decode", decode, (0.0, 1.0)),
        ];
        for (kind, stage, seconds, (flops, bytes)) in stages {
            if let (Some(kind), Some(stage), Some(seconds)) = (kind, cost.stage(stage), seconds) {
                self.points.entry(kind).or_default().push(Point {
                    flops: flops * stage.flops as f64,
                    bytes: bytes * stage.bytes as f64,
                    seconds,
                });
            }
        }
        if let Some(seconds) = median(times, |t| t.preprocess_ns) {
            self.preprocessing += seconds;
            self.pixels += latency.image.pixels();
        }
    }
}

/// Median over the repetitions that have a figure, in seconds.
fn median(times: &[StageTimes], ns: impl Fn(&StageTimes) -> Option<u64>) -> Option<f64> {
    let mut all: Vec<f64> = times
        .iter()
        .filter_map(ns)
        .map(|ns| ns as f64 / 1e9)
        .collect();
    all.sort_by(f64::total_cmp);
    quantile(&all, 0.5)
}

fn open(
    recipe: &Recipe,
    backend: &str,
    options: &EngineOptions,
    cost: &CaseCost,
) -> Result<Session, Failure> {
    let load = Load {
        recipe,
        backend,
        options,
        context: cost.context,
        // Seeded weights are on no hub.
        hub: &HubOptions::new(""),
    };
    Session::open(&load, &mut |_| {})
}
