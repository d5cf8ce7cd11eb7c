//! From an experiment to its cases, before anything is loaded.
//!
//! A case is one cell of the experiment: workload, model at a resolution,
//! engine, device and precision. What can be known without weights is known
//! here: visual tokens, FLOPs per stage, parameters, memory. A case that
//! cannot run (a missing folder, a resolution that the encoder does not admit)
//! stays in the plan with its reason; a misspelt name is an error.

mod case;
mod cost;

pub use case::{Case, CaseId, CaseState, QualityCase, Ready, SuiteSelection, Workload};
pub use cost::{CaseCost, NOMINAL_IMAGE, NOMINAL_QUESTION_TOKENS, PartParams, StageFigures};

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use vlmbench_backends::backend::{BACKENDS, EngineOptions, Precision};
use vlmbench_backends::hub::{Download, HubOptions};
use vlmbench_backends::recipe::{Recipe, Weights};
use vlmbench_reports::claims::Claim;
use vlmbench_reports::published::Series;
use vlmbench_suites::{Suite, SuiteSpec};

use crate::config::experiment::ModelEntry;
use crate::config::grid::{Cell, Setting, each};
use crate::config::{ConfigError, ConfigKind, Configs, Experiment, nearest, pack};
use crate::data_ref::DataRef;
use crate::error::{Failure, chain};
use crate::model_ref::{self, Definition};

/// What an experiment comes to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Cases in the order of execution: latency first, then suite by suite.
    pub cases: Vec<Case>,
    /// Published series to copy into the run, the main one first.
    pub published: Vec<Series>,
    /// What the experiment's names mean.
    pub definitions: Definitions,
}

/// What the names in an experiment mean, for the manifest: an experiment is
/// the same only if its recipes and profiles are.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Definitions {
    /// Models that were found.
    pub models: BTreeMap<String, Definition>,
    /// Suites.
    pub suites: BTreeMap<String, SuiteSpec>,
    /// Claims with the cases that are measured for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
}

/// What planning reads besides the experiment.
pub struct Sources<'a> {
    /// Recipes, suites, published tables.
    pub configs: &'a Configs,
    /// Hub and its cache; offline here means that planning fetches nothing.
    pub hub: &'a HubOptions,
}

impl Plan {
    /// Expands an experiment. Hub checkpoints named by id are fetched for
    /// their configuration unless `sources.hub` is offline.
    ///
    /// # Errors
    /// Names that exist nowhere, two cases with one id, an empty plan.
    pub fn build(
        experiment: &Experiment,
        sources: &Sources<'_>,
        observe: &mut dyn FnMut(Download<'_>),
    ) -> Result<Plan, Failure> {
        for backend in &experiment.backends {
            known_backend(backend)?;
        }
        let published = published(experiment, sources.configs)?;
        let mut definitions = Definitions::default();
        let suites = suites(experiment, sources.configs, &mut definitions)?;
        let models = models(experiment, sources, &mut definitions, observe)?;

        let mut cases = claimed(experiment, sources, &mut definitions, observe)?;
        let workloads = experiment.latency.iter().map(Asked::Latency);
        let blind = experiment.quality.as_ref().is_some_and(|q| q.blind);
        let suites = suites.iter().flat_map(|suite| {
            let ways = [false].into_iter().chain(blind.then_some(true));
            ways.map(move |blind| Asked::Suite { suite, blind })
        });
        for asked in workloads.chain(suites) {
            for (model, variants) in &models {
                for variant in asked.variants(variants) {
                    for engine in engines(experiment) {
                        if excluded(experiment, variant, engine) {
                            continue;
                        }
                        cases.push(case::build(&asked, experiment, model, variant, engine));
                    }
                }
            }
        }
        if cases.is_empty() {
            return Err(Failure::NothingSelected {
                what: format!("experiment `{}`", experiment.name),
                hint: "add `latency: {}` or `quality: {suites: [...]}`".into(),
            });
        }
        unique(&cases, experiment)?;
        Ok(Plan {
            cases,
            published,
            definitions,
        })
    }

    /// The experiment as it goes into the manifest: with what its names mean.
    pub fn manifest_experiment(&self, experiment: &Experiment) -> Result<Value, Failure> {
        let internal = |e: serde_json::Error| Failure::Internal(e.to_string());
        let mut value = serde_json::to_value(experiment).map_err(internal)?;
        value["definitions"] = serde_json::to_value(&self.definitions).map_err(internal)?;
        Ok(value)
    }

    /// Cases that are measured together, by index: those of a latency workload
    /// that differ in nothing but the engine, and the two of a claim, alternately;
    /// every other alone.
    pub fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (index, case) in self.cases.iter().enumerate() {
            let group = groups
                .iter_mut()
                .find(|group| self.cases[group[0]].rivals(case));
            match group {
                Some(group) => group.push(index),
                None => groups.push(vec![index]),
            }
        }
        groups
    }

    /// Case ids in order.
    pub fn ids(&self) -> Vec<String> {
        self.cases.iter().map(|c| c.id.to_string()).collect()
    }
}

/// The cases of an experiment's claims, two each, and the claims with them.
fn claimed(
    experiment: &Experiment,
    sources: &Sources<'_>,
    definitions: &mut Definitions,
    observe: &mut dyn FnMut(Download<'_>),
) -> Result<Vec<Case>, Failure> {
    let mut cases = Vec::new();
    for claim in &experiment.claims {
        let mut sides = Vec::new();
        for model in [&claim.baseline, &claim.contender] {
            let entry = ModelEntry {
                model: model.model.clone(),
                resolutions: model.resolution.into_iter().collect(),
            };
            let variants = variants_of(&entry, sources, definitions, observe)?;
            let engine = Engine {
                backend: &experiment.backends[0],
                device: &experiment.devices[0],
                precision: claim.precision,
            };
            let asked = Asked::Claim(claim);
            let case = case::build(&asked, experiment, &entry.model, &variants[0], engine);
            sides.push(model.side(case.id.to_string()));
            cases.push(case);
        }
        let (Some(contender), Some(baseline)) = (sides.pop(), sides.pop()) else {
            continue;
        };
        definitions.claims.push(Claim {
            claim: claim.claim.clone(),
            about: claim.about.clone(),
            figure: claim.figure,
            baseline,
            contender,
            source: claim.source.clone(),
        });
    }
    Ok(cases)
}

/// A workload asked for, with what it needs.
pub(crate) enum Asked<'a> {
    Latency(&'a crate::config::latency::Latency),
    Claim(&'a crate::config::claims::Claim),
    Suite {
        suite: &'a SuiteSelection,
        blind: bool,
    },
}

impl Asked<'_> {
    /// The resolutions that matter: without images one is as good as another.
    fn variants<'v>(&self, all: &'v [Variant]) -> &'v [Variant] {
        match self {
            Asked::Suite { blind: true, .. } => &all[..all.len().min(1)],
            _ => all,
        }
    }
}

/// A model at one resolution, or why it cannot be had.
pub(crate) struct Variant {
    /// Side asked for or the recipe's own; `None` if neither is known.
    pub(crate) resolution: Option<usize>,
    pub(crate) recipe: Result<Recipe, String>,
    /// The cell of the experiment's grid that it is.
    pub(crate) cell: Option<Cell>,
}

/// An engine on a device.
#[derive(Clone, Copy)]
pub(crate) struct Engine<'a> {
    pub(crate) backend: &'a str,
    pub(crate) device: &'a str,
    pub(crate) precision: Precision,
}

impl Engine<'_> {
    pub(crate) fn options(&self, experiment: &Experiment) -> EngineOptions {
        EngineOptions {
            onnxruntime: experiment.onnxruntime.clone().unwrap_or_default(),
            ..EngineOptions::new(self.device, self.precision, experiment.threads)
        }
    }
}

fn engines(experiment: &Experiment) -> Vec<Engine<'_>> {
    let mut engines = Vec::new();
    for backend in &experiment.backends {
        for device in &experiment.devices {
            for &precision in &experiment.precisions {
                engines.push(Engine {
                    backend,
                    device,
                    precision,
                });
            }
        }
    }
    engines
}

/// Why an engine cannot run on a device, if it cannot.
pub(crate) fn missing_device(backend: &str, device: &str) -> Option<String> {
    let entry = BACKENDS.iter().find(|b| b.name == backend)?;
    let devices = (entry.devices)();
    match devices.iter().find(|d| d.name == device) {
        Some(found) => {
            let why = found.missing.as_ref()?;
            Some(format!("device `{device}` is not available: {why}"))
        }
        None => {
            let known: Vec<&str> = devices.iter().map(|d| d.name.as_str()).collect();
            Some(format!(
                "backend `{backend}` has no device `{device}`; it has {}",
                known.join(", ")
            ))
        }
    }
}

/// Why an engine has no such precision, if it has none.
pub(crate) fn missing_precision(backend: &str, precision: Precision) -> Option<String> {
    let entry = BACKENDS.iter().find(|b| b.name == backend)?;
    entry.has_precision(precision).err().map(|e| chain(&e))
}

fn known_backend(name: &str) -> Result<(), ConfigError> {
    let known: Vec<&str> = BACKENDS.iter().map(|b| b.name).collect();
    if known.contains(&name) {
        return Ok(());
    }
    Err(ConfigError::UnknownName {
        kind: "backend",
        name: name.into(),
        nearest: nearest(name, known.iter().copied()).map(str::to_owned),
        known: known.into_iter().map(str::to_owned).collect(),
    })
}

type Models = Vec<(String, Vec<Variant>)>;

fn models(
    experiment: &Experiment,
    sources: &Sources<'_>,
    definitions: &mut Definitions,
    observe: &mut dyn FnMut(Download<'_>),
) -> Result<Models, Failure> {
    let mut models = Vec::new();
    for entry in &experiment.models {
        let variants = variants_of(entry, sources, definitions, observe)?;
        models.push((entry.model.clone(), variants));
    }
    let Some(grid) = &experiment.grid else {
        return Ok(models);
    };
    for (cell, file) in grid.cells(sources.configs)? {
        let name = cell.name();
        let recipe = Recipe::from_file(&name, &file).map_err(|e| chain(&e));
        let asked = each(&grid.resolutions).map(Option::<&usize>::copied);
        let variants = asked.map(|resolution| Variant {
            cell: Some(cell.clone()),
            ..match &recipe {
                Ok(recipe) => variant(recipe, resolution),
                Err(error) => broken(resolution, error.clone()),
            }
        });
        models.push((name.clone(), variants.collect()));
        let definition = Definition::Recipe {
            origin: "grid".into(),
            file: Box::new(file),
        };
        definitions.models.insert(name, definition);
    }
    Ok(models)
}

/// A model that cannot be had.
fn broken(resolution: Option<usize>, error: String) -> Variant {
    Variant {
        resolution,
        recipe: Err(error),
        cell: None,
    }
}

/// Whether the experiment's grid leaves a case out.
fn excluded(experiment: &Experiment, variant: &Variant, engine: Engine<'_>) -> bool {
    let (Some(grid), Some(cell)) = (&experiment.grid, &variant.cell) else {
        return false;
    };
    let at = Setting {
        resolution: variant.resolution,
        backend: engine.backend,
        device: engine.device,
        precision: engine.precision,
    };
    grid.excludes(cell, at)
}

/// A model at each of the resolutions asked for.
fn variants_of(
    entry: &ModelEntry,
    sources: &Sources<'_>,
    definitions: &mut Definitions,
    observe: &mut dyn FnMut(Download<'_>),
) -> Result<Vec<Variant>, Failure> {
    let asked = each(&entry.resolutions).map(Option::<&usize>::copied);
    match model_ref::resolve(&entry.model, sources.configs, sources.hub, observe) {
        Ok(found) => {
            definitions
                .models
                .insert(entry.model.clone(), found.definition);
            let variants = asked.map(|side| variant(&found.recipe, side));
            Ok(variants.collect())
        }
        Err(failure) if model_ref::is_misspelt(&failure) => Err(failure),
        Err(failure) => {
            let variants = asked.map(|side| broken(side, chain(&failure)));
            Ok(variants.collect())
        }
    }
}

fn variant(recipe: &Recipe, side: Option<usize>) -> Variant {
    let own = (recipe.resolution > 0).then_some(recipe.resolution);
    let at = match side {
        None => Ok(recipe.clone()),
        Some(side) => recipe.clone().at_resolution(side),
    };
    Variant {
        resolution: side.or(own),
        recipe: at.map_err(|e| chain(&e)),
        cell: None,
    }
}

fn suites(
    experiment: &Experiment,
    configs: &Configs,
    definitions: &mut Definitions,
) -> Result<Vec<SuiteSelection>, Failure> {
    let mut selections = Vec::new();
    for entry in experiment.quality.iter().flat_map(|q| &q.suites) {
        let spec = suite_spec(&entry.suite, configs)?;
        let profile = match (&entry.profile, spec.profiles.first()) {
            (Some(profile), _) => profile.clone(),
            (None, Some(first)) => first.id.clone(),
            (None, None) => String::new(),
        };
        // Fails on an unknown profile, with the known ones.
        Suite::new(&spec, &profile)?;
        definitions.suites.insert(spec.id.clone(), spec.clone());
        selections.push(SuiteSelection {
            profile,
            data: DataRef::parse(entry.data.as_deref(), &spec),
            split: entry.split.clone(),
            limit: entry.limit,
            spec,
        });
    }
    Ok(selections)
}

/// Reads and checks the definition of a suite.
pub fn suite_spec(name: &str, configs: &Configs) -> Result<SuiteSpec, ConfigError> {
    let found = configs.find(ConfigKind::Suite, name)?;
    let spec: SuiteSpec = found.parse()?;
    spec.check().map_err(|source| ConfigError::Suite {
        file: found.origin,
        source,
    })?;
    Ok(spec)
}

fn published(experiment: &Experiment, configs: &Configs) -> Result<Vec<Series>, ConfigError> {
    let Some(join) = &experiment.published else {
        return Ok(Vec::new());
    };
    let file = pack::published(configs, &join.file)?;
    let pick = |id: &String| {
        let unusable = |source| ConfigError::Published {
            file: join.file.clone(),
            source,
        };
        let mut series = file.series(id).map_err(unusable)?;
        if let Some(metric) = &join.metric {
            let known: BTreeSet<&String> = series
                .points
                .iter()
                .flat_map(|p| p.metrics.keys())
                .collect();
            if !known.contains(metric) {
                return Err(ConfigError::UnknownName {
                    kind: "published metric",
                    name: metric.clone(),
                    nearest: nearest(metric, known.iter().map(|k| k.as_str())).map(str::to_owned),
                    known: known.into_iter().cloned().collect(),
                });
            }
            series.metric = Some(metric.clone());
            series.metric_definition = None;
        }
        Ok(series)
    };
    join.series.iter().map(pick).collect()
}

/// Two cases with one id could not be told apart in the record.
fn unique(cases: &[Case], experiment: &Experiment) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    match cases.iter().find(|case| !seen.insert(case.id.to_string())) {
        None => Ok(()),
        Some(twice) => Err(ConfigError::Value {
            file: experiment.name.clone(),
            key: "models".into(),
            value: format!("planning {} twice", twice.id),
            problem: "list each model, resolution, suite and engine once, and give folders \
                      different names"
                .into(),
        }),
    }
}

/// Whether weights are seeded, so that answers mean nothing.
pub(crate) fn is_seeded(recipe: &Recipe) -> bool {
    matches!(recipe.weights, Weights::Seeded(_))
}

#[cfg(test)]
pub(crate) mod tests;
