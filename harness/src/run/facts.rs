//! What the record says of a case before anything of it is measured.

use std::collections::BTreeMap;

use vlmbench_reports::record::{CaseFacts, Labels, Used, Weights, Workload as RecordedWorkload};

use crate::measure::session::recorded_stages;
use crate::plan::{Case, Ready, Workload};

/// What is known of a case before it is loaded: not its weights, components, or what is really used.
pub(crate) fn planned_facts(case: &Case, ready: &Ready) -> CaseFacts {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (workload, suite) = match &case.workload {
        Workload::EncoderLatency(_) => (RecordedWorkload::EncoderLatency, None),
        Workload::EndToEndLatency(_) => (RecordedWorkload::EndToEndLatency, None),
        Workload::Quality(q) => (RecordedWorkload::Quality, Some(&q.suite)),
    };
    let recipe = &ready.recipe;
    let blind = case.workload.is_blind();
    // Of what the decoder is shown, if there is one and it is shown anything.
    let shown = |tokens: Option<usize>| match recipe.decoder {
        Some(_) if !blind => tokens.map(narrow),
        _ => None,
    };
    CaseFacts {
        case: case.id.to_string(),
        workload,
        labels: Labels {
            model: recipe.name.clone(),
            encoder: recipe.encoder.as_ref().map_or("", |e| &e.label).to_owned(),
            decoder: recipe.decoder.as_ref().map(|d| d.label.clone()),
            suite: suite.map(|s| s.spec.id.clone()),
            profile: suite.map(|s| s.profile.clone()),
            backend: case.backend.clone(),
            device: case.options.device.clone(),
            precision: case.options.precision.to_string(),
            resolution: narrow(recipe.resolution),
            blind,
        },
        weights: Weights::Seeded { seed: 0 },
        visual_tokens: shown(ready.cost.visual_tokens),
        visual_tokens_kept: shown(ready.cost.visual_tokens_kept),
        // A suite's prompts differ by sample.
        prompt_tokens: match suite {
            Some(_) => None,
            None => ready.cost.prompt_tokens.map(narrow),
        },
        components: BTreeMap::new(),
        stages: recorded_stages(&ready.cost),
        activation_peak_bytes: Some(ready.cost.activation_peak_bytes),
        used: Used::default(),
    }
}
