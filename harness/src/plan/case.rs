//! One cell of a plan.

use std::fmt;

use serde::Serialize;
use vlmbench_backends::backend::EngineOptions;
use vlmbench_backends::hub::{Download, HubOptions};
use vlmbench_backends::recipe::Recipe;
use vlmbench_suites::{Dataset, OpenOptions, SuiteSpec};

use super::cost::CaseCost;
use super::{Asked, Engine, Variant, is_seeded, missing_device, missing_precision};
use crate::config::experiment::Experiment;
use crate::config::latency::Latency;
use crate::data_ref::DataRef;
use crate::error::{Failure, chain};

/// A stable, readable name, such as
/// `latency/fastvithd-qwen2-0.5b/candle-cpu/f32/1024px`. Runs are resumed and
/// compared by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CaseId(String);

impl CaseId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One cell of a plan.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name, unique in the plan.
    pub id: CaseId,
    /// The model as the experiment names it.
    pub model: String,
    /// Side of the input in pixels; `None` without an encoder, or if neither
    /// the experiment nor a recipe says.
    pub resolution: Option<usize>,
    /// Engine.
    pub backend: String,
    /// What to run the engine on.
    pub options: EngineOptions,
    /// What to do.
    pub workload: Workload,
    /// The claim that it is a side of.
    pub claim: Option<String>,
    /// Whether it can run.
    pub state: CaseState,
}

/// What a case does.
#[derive(Clone, Debug, PartialEq)]
pub enum Workload {
    /// The vision encoder alone, repeated.
    EncoderLatency(Latency),
    /// Image (if the model sees), prompt and a few tokens, repeated.
    EndToEndLatency(Latency),
    /// A pass over a suite.
    Quality(Box<QualityCase>),
}

impl Workload {
    /// Whether it asks with the images withheld.
    pub fn is_blind(&self) -> bool {
        matches!(self, Workload::Quality(quality) if quality.blind)
    }
}

/// A pass over a suite.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityCase {
    /// What to ask.
    pub suite: SuiteSelection,
    /// Generated tokens at most, in place of the profile's limit.
    pub max_new_tokens: Option<u32>,
    /// Positions of the KV cache, never more than the model has.
    pub context: usize,
    /// Samples whose images are decoded ahead of the model.
    pub decode_ahead: usize,
    /// Whether the images are withheld.
    pub blind: bool,
    /// Samples of the case that are kept for reports.
    pub gallery: usize,
}

/// A suite under a profile, with its data.
#[derive(Clone, Debug, PartialEq)]
pub struct SuiteSelection {
    /// Definition.
    pub spec: SuiteSpec,
    /// Profile id, one of the definition's.
    pub profile: String,
    /// Where the samples are.
    pub data: DataRef,
    /// Split; `None` is the suite's own.
    pub split: Option<String>,
    /// Only the first so many samples.
    pub limit: Option<usize>,
}

impl SuiteSelection {
    /// The samples, wherever they are; `observe` hears of downloads.
    pub fn open(
        &self,
        hub: &HubOptions,
        observe: &mut dyn FnMut(Download<'_>),
    ) -> Result<Dataset, Failure> {
        let split = self.split.as_deref();
        let path = self.data.locate(&self.spec, split, hub, observe)?;
        let options = OpenOptions {
            split: self.split.clone(),
            limit: self.limit,
            ..OpenOptions::default()
        };
        Ok(Dataset::open(&self.spec, &path, &options)?)
    }
}

/// Whether a case can run.
#[derive(Clone, Debug)]
pub enum CaseState {
    /// As far as can be known without loading.
    Ready(Box<Ready>),
    /// It cannot; recorded as a failed case.
    Failed {
        /// Why.
        error: String,
    },
    /// It must not; recorded as skipped.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// What a case that can run is made of.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The recipe at the case's resolution.
    pub recipe: Recipe,
    /// Static costs.
    pub cost: CaseCost,
}

impl Case {
    /// The recipe and costs of a case that can run.
    pub fn ready(&self) -> Option<&Ready> {
        match &self.state {
            CaseState::Ready(ready) => Some(ready),
            CaseState::Failed { .. } | CaseState::Skipped { .. } => None,
        }
    }

    /// Whether another case is measured alternately with this one: the other
    /// side of a claim, or the latency of the same thing on another engine.
    pub fn rivals(&self, other: &Case) -> bool {
        if self.claim.is_some() || other.claim.is_some() {
            return self.claim == other.claim;
        }
        let quality = |case: &Case| matches!(case.workload, Workload::Quality(_));
        let asked = |case: &Case| (case.options.device.clone(), case.options.precision);
        !quality(self)
            && self.backend != other.backend
            && self.workload == other.workload
            && (&self.model, self.resolution) == (&other.model, other.resolution)
            && asked(self) == asked(other)
    }

    /// Why the case does not run.
    pub fn reason(&self) -> Option<&str> {
        match &self.state {
            CaseState::Ready(_) => None,
            CaseState::Failed { error } => Some(error),
            CaseState::Skipped { reason } => Some(reason),
        }
    }
}

/// Builds the case of one cell. `model` is the experiment's own name for it.
pub(super) fn build(
    asked: &Asked<'_>,
    experiment: &Experiment,
    model: &str,
    variant: &Variant,
    engine: Engine<'_>,
) -> Case {
    let recipe = variant.recipe.as_ref().ok();
    let workload = workload(asked, experiment, recipe);
    let label = recipe.map_or_else(|| last_component(model), |r| r.name.clone());
    let options = engine.options(experiment);
    let claim = match asked {
        Asked::Claim(claim) => Some(claim.claim.clone()),
        _ => None,
    };
    Case {
        id: id(
            claim.as_deref(),
            &workload,
            &label,
            engine,
            variant.resolution,
        ),
        model: model.to_owned(),
        resolution: variant.resolution,
        backend: engine.backend.to_owned(),
        state: state(&workload, variant, engine),
        options,
        workload,
        claim,
    }
}

fn workload(asked: &Asked<'_>, experiment: &Experiment, recipe: Option<&Recipe>) -> Workload {
    let timed = |latency: Latency| match recipe {
        Some(recipe) if recipe.decoder.is_none() => Workload::EncoderLatency(latency),
        _ => Workload::EndToEndLatency(latency),
    };
    match asked {
        Asked::Latency(latency) => timed(Latency::clone(latency)),
        Asked::Claim(claim) => timed(claim.latency.clone()),
        Asked::Suite { suite, blind } => {
            let quality = experiment.quality.as_ref();
            let asked = quality.map_or(1, |q| q.context);
            let decoder = recipe.and_then(|r| r.decoder.as_ref());
            let positions = decoder.map_or(asked, |d| d.config.max_positions);
            Workload::Quality(Box::new(QualityCase {
                suite: (*suite).clone(),
                max_new_tokens: quality.and_then(|q| q.max_new_tokens),
                context: asked.min(positions),
                decode_ahead: quality.map_or(1, |q| q.decode_ahead),
                blind: *blind,
                gallery: quality.map_or(0, |q| q.gallery),
            }))
        }
    }
}

fn state(workload: &Workload, variant: &Variant, engine: Engine<'_>) -> CaseState {
    let failed = |error: String| CaseState::Failed { error };
    let recipe = match &variant.recipe {
        Ok(recipe) => recipe,
        Err(error) => return failed(error.clone()),
    };
    // What no machine has comes before what this one lacks.
    if let Some(why) = missing_precision(engine.backend, engine.precision) {
        return failed(why);
    }
    if let Some(why) = missing_device(engine.backend, engine.device) {
        return failed(why);
    }
    if let Workload::Quality(_) = workload {
        if let Err(e) = recipe.encoder().map(drop).and(recipe.decoder().map(drop)) {
            return failed(chain(&e));
        }
        if is_seeded(recipe) {
            return CaseState::Skipped {
                reason: "seeded weights answer at random: accuracy needs a checkpoint".into(),
            };
        }
    }
    match CaseCost::of(workload, recipe, engine.precision) {
        Err(e) => failed(chain(&e)),
        Ok(cost) => CaseState::Ready(Box::new(Ready {
            recipe: recipe.clone(),
            cost,
        })),
    }
}

fn id(
    claim: Option<&str>,
    workload: &Workload,
    model: &str,
    engine: Engine<'_>,
    side: Option<usize>,
) -> CaseId {
    let what = match workload {
        _ if let Some(claim) = claim => claim.to_owned(),
        Workload::EncoderLatency(_) | Workload::EndToEndLatency(_) => "latency".to_owned(),
        Workload::Quality(quality) => {
            let suite = &quality.suite;
            // The split is named where it is not the one that everybody means.
            let own = suite.spec.hub.split.as_str();
            let split = suite.split.as_deref().filter(|split| *split != own);
            let split = split.map(|split| format!(":{split}")).unwrap_or_default();
            format!("{}.{}{split}", suite.spec.id, suite.profile)
        }
    };
    let Engine {
        backend,
        device,
        precision,
    } = engine;
    let side = match (workload.is_blind(), side) {
        (true, _) => "/blind".to_owned(),
        (false, Some(side)) => format!("/{side}px"),
        (false, None) => String::new(),
    };
    CaseId(format!(
        "{what}/{model}/{backend}-{device}/{precision}{side}"
    ))
}

/// What a model that was not found is called: a hub id whole, a path by its
/// last component, as a folder that was found would be.
fn last_component(model: &str) -> String {
    let (id, _) = crate::model_ref::split_revision(model);
    if vlmbench_backends::hub::is_repo_id(id) {
        return model.to_owned();
    }
    let trimmed = model.trim_end_matches(['/', '\\']);
    let last = trimmed.rsplit(['/', '\\']).next();
    last.unwrap_or(model).to_owned()
}
