//! What must agree before cases of one name are called the same recipe, and their times set side by side.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    claims::Claim,
    record::{CaseFacts, Run, Weights, Workload, experiment_digest},
};

/// What people call a case by; the same on all machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity<'a> {
    model: &'a str,
    encoder: &'a str,
    decoder: Option<&'a str>,
    resolution: u32,
    precision: &'a str,
    workload: Workload,
}

impl<'a> Identity<'a> {
    pub fn of(facts: &'a CaseFacts) -> Self {
        let labels = &facts.labels;
        Self {
            model: &labels.model,
            encoder: &labels.encoder,
            decoder: labels.decoder.as_deref(),
            resolution: labels.resolution,
            precision: &labels.precision,
            workload: facts.workload,
        }
    }

    /// In words.
    pub fn label(&self) -> String {
        let side = match self.resolution {
            0 => String::new(),
            side => format!(" {side} px"),
        };
        format!("{}{side}, {}", self.model, self.precision)
    }
}

/// What decides a case's work and the meaning of its figures, by name. Cases are compared only if all of it is equal.
pub(super) type Terms = BTreeMap<String, String>;

/// The terms of a case.
pub(super) fn of(run: &Run, facts: &CaseFacts) -> Terms {
    let manifest = &run.manifest;
    let latency = settings(run, &facts.case);
    let mut terms = Terms::new();
    let mut add = |name: &str, value: String| terms.insert(name.to_owned(), value);
    add("tool version", manifest.tool.version.clone());
    add("format version", manifest.format_version.to_string());
    add("element type", facts.used.dtype.clone());
    add("weights", weights(&facts.weights));
    for (name, tokens) in [
        ("visual tokens", facts.visual_tokens),
        ("prompt tokens", facts.prompt_tokens),
    ] {
        if let Some(tokens) = tokens {
            add(name, tokens.to_string());
        }
    }
    let image = &latency["image"];
    if let (Some(width), Some(height)) = (image["width"].as_u64(), image["height"].as_u64()) {
        add("image", format!("{width}x{height}"));
    }
    if let (Workload::EndToEndLatency, Some(n)) =
        (facts.workload, latency["decode_tokens"].as_u64())
    {
        add("decode tokens", n.to_string());
    }
    for (part, component) in &facts.components {
        add(
            &format!("parameters of {part}"),
            component.parameters.to_string(),
        );
    }
    for (stage, cost) in &facts.stages {
        add(&format!("FLOPs of {stage}"), cost.flops.to_string());
        if let Some(bytes) = cost.bytes {
            add(&format!("bytes of {stage}"), bytes.to_string());
        }
    }
    for (key, value) in definition(run, &facts.labels.model) {
        add(&format!("recipe: {key}"), value.to_string());
    }
    terms
}

/// The latency settings of a case as the manifest has them: its claim's, or the experiment's.
fn settings<'a>(run: &'a Run, case: &str) -> &'a Value {
    let experiment = &run.manifest.experiment;
    let is_side = |claim: &Claim| [&claim.baseline, &claim.contender].map(|s| s.case == case);
    let own = (Claim::of(run).into_iter()).find(|claim| is_side(claim).contains(&true));
    let claims = experiment["claims"].as_array();
    let of_claim = own.and_then(|own| claims?.iter().find(|c| c["claim"] == own.claim.as_str()));
    of_claim.map_or(&experiment["latency"], |claim| &claim["latency"])
}

/// Where the values come from. Files may lie elsewhere on another machine, so checkpoints are told by their digests.
fn weights(weights: &Weights) -> String {
    match weights {
        Weights::Seeded { seed } => format!("seed {seed}"),
        Weights::Checkpoint { origin, digests } if digests.is_empty() => origin.clone(),
        Weights::Checkpoint { digests, .. } => {
            let mut values: Vec<&String> = digests.values().collect();
            values.sort();
            let digest = experiment_digest(&json!(values));
            format!("files {}", &digest.trim_start_matches("sha256:")[..12])
        }
    }
}

/// What the manifest says that a model's name means; nothing for checkpoints, whose files say it.
fn definition<'a>(run: &'a Run, model: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let models = &run.manifest.experiment["definitions"]["models"];
    let file = models[model]["recipe"]["file"].as_object();
    // Where the weights lie decides nothing, and what is said of a model even less.
    let decides = |key: &str| key != "weights" && key != "about";
    (file.into_iter().flatten()).filter(move |(key, _)| decides(key))
}
