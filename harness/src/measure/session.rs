//! A model loaded and ready: engine, weights, tokenizer, recipe.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vlmbench_backends::backend::{
    self, EngineFacts, EngineOptions, LoadOptions, LoadedModel, ModelFacts,
};
use vlmbench_backends::checkpoint::{
    CheckpointSource, GgufSource, SeededSource, TowersSource, recipe_from_folder, recipe_from_gguf,
};
use vlmbench_backends::generate::Runner;
use vlmbench_backends::hub::{Download, HubOptions};
use vlmbench_backends::onnx::published::{self, GraphSource};
use vlmbench_backends::recipe::{Recipe, Weights};
use vlmbench_backends::text::{HfTokenizer, PlaceholderTokenizer, Tokenizer};
use vlmbench_backends::weights::{Inventory, Part, WeightSource};
use vlmbench_reports::record::{self, Component, StageCost, Used};

use super::memory;
use super::peak::CPU;
use crate::config::latency::Latency;
use crate::error::Failure;
use crate::machine;
use crate::model_ref::{TOKENIZER, WeightsFolder, weights_folder};
use crate::plan::{CaseCost, Workload};

/// What to load.
pub struct Load<'a> {
    /// The recipe at the resolution to run.
    pub recipe: &'a Recipe,
    /// Engine name.
    pub backend: &'a str,
    /// What the engine is to run on.
    pub options: &'a EngineOptions,
    /// Positions of the KV cache.
    pub context: usize,
    /// The hub, for weights that are there.
    pub hub: &'a HubOptions,
}

/// A recipe with its weights found and checked, nothing loaded yet.
pub struct Weighed {
    /// The recipe, with what only its files know.
    pub recipe: Recipe,
    /// The parameters of its networks.
    pub inventory: Inventory,
    /// Where they come from.
    pub source: Box<dyn WeightSource>,
    /// The folder they lie in, unless they are seeded.
    pub folder: Option<WeightsFolder>,
}

impl Weighed {
    /// Finds the weights of `recipe`, fetching them if they are on the hub;
    /// `observe` hears of downloads.
    pub fn open(
        recipe: &Recipe,
        hub: &HubOptions,
        observe: &mut dyn FnMut(Download<'_>),
    ) -> Result<Weighed, Failure> {
        let mut recipe = recipe.clone();
        let folder = weights_folder(&recipe.weights, hub, observe)?;
        match (&recipe.weights, &folder) {
            (Weights::Gguf { decoder, .. }, _) => {
                let own = recipe_from_gguf(decoder)?;
                adopt(&mut recipe, own);
            }
            (_, Some(folder)) => {
                if let Ok(own) = recipe_from_folder(&folder.dir) {
                    adopt(&mut recipe, own);
                }
            }
            (_, None) => {}
        }
        let inventory = Inventory::of(&recipe)?;
        let graphs = folder.as_ref().and_then(|f| published::graphs(&f.dir));
        let source: Box<dyn WeightSource> = match (&recipe.weights, &folder) {
            (Weights::Gguf { decoder, rest }, _) => {
                let rest = rest.as_deref();
                Box::new(GgufSource::open(decoder, rest, &recipe, &inventory)?)
            }
            (_, Some(_)) if let Some(graphs) = graphs => Box::new(GraphSource::new(graphs)),
            (_, Some(folder)) if !recipe.towers.is_empty() => {
                let mut towers = Vec::new();
                for (index, tower) in recipe.towers.iter().enumerate() {
                    let of_tower = match &tower.weights {
                        Some(weights) => weights_folder(weights, hub, observe)?,
                        None => None,
                    };
                    towers.push(of_tower.ok_or_else(|| no_weights(&recipe, index))?);
                }
                let towers: Vec<&Path> = towers.iter().map(|f| f.dir.as_path()).collect();
                Box::new(TowersSource::open(
                    &towers,
                    &folder.dir,
                    &recipe,
                    &inventory,
                )?)
            }
            (_, Some(folder)) => {
                Box::new(CheckpointSource::open(&folder.dir, &recipe, &inventory)?)
            }
            (Weights::Seeded(seed), None) => Box::new(SeededSource::new(*seed)),
            (_, None) => {
                return Err(Failure::Internal(
                    "weights that are not seeded have no folder".into(),
                ));
            }
        };
        Ok(Weighed {
            recipe,
            inventory,
            source,
            folder,
        })
    }
}

/// The error for an encoder whose weights a recipe does not name.
fn no_weights(recipe: &Recipe, index: usize) -> vlmbench_backends::Error {
    vlmbench_backends::Error::Config {
        what: format!("towers[{index}].weights"),
        value: "(absent)".into(),
        problem: format!(
            "must be a folder or a hub id, since the weights of {} are",
            recipe.name
        ),
    }
}

/// A loaded model with all that requests need.
pub struct Session {
    /// The model.
    pub model: Box<dyn LoadedModel>,
    /// Its recipe.
    pub recipe: Recipe,
    /// Its tokenizer; a placeholder for seeded weights.
    pub tokenizer: Box<dyn Tokenizer>,
    /// What the engine really uses.
    pub engine: EngineFacts,
    /// Folder or hub id of the weights; empty for seeded ones.
    origin: String,
    /// The checkpoint folder, if it lacks the tokenizer that its answers need.
    no_tokenizer: Option<PathBuf>,
}

impl Session {
    /// Loads a model; `observe` hears of downloads.
    pub fn open(
        load: &Load<'_>,
        observe: &mut dyn FnMut(Download<'_>),
    ) -> Result<Session, Failure> {
        let engine = backend::open(load.backend, load.options)?;
        let options = LoadOptions {
            context: load.context,
        };
        let weighed = Weighed::open(load.recipe, load.hub, observe)?;
        let (mut recipe, found) = (weighed.recipe, weighed.folder);
        let model = engine.load(
            &recipe,
            &weighed.inventory,
            weighed.source.as_ref(),
            options,
        )?;
        drop(weighed.source);
        let lacks = |f: &&WeightsFolder| !f.dir.join(TOKENIZER).is_file();
        let no_tokenizer = found.as_ref().filter(lacks).map(|f| f.dir.clone());
        let tokenizer: Box<dyn Tokenizer> = match &found {
            Some(folder) if no_tokenizer.is_none() => Box::new(
                HfTokenizer::from_dir(&folder.dir).map_err(vlmbench_backends::Error::from)?,
            ),
            _ => Box::new(
                PlaceholderTokenizer::new(placeholder_vocab(&recipe))
                    .map_err(vlmbench_backends::Error::from)?,
            ),
        };
        recipe.image_token = recipe.image_token.or(tokenizer.special().image);
        Ok(Session {
            model,
            tokenizer,
            engine: engine.facts().clone(),
            origin: found.map(|f| f.origin).unwrap_or_default(),
            no_tokenizer,
            recipe,
        })
    }

    /// Checks that text can become tokens: seeded weights take the placeholder,
    /// a checkpoint needs its own tokenizer. Token ids made elsewhere need none.
    pub fn require_tokenizer(&self) -> Result<(), Failure> {
        match &self.no_tokenizer {
            None => Ok(()),
            Some(folder) => Err(Failure::Input {
                path: folder.join(TOKENIZER),
                problem: "no such file; put the checkpoint's tokenizer.json beside its weights"
                    .into(),
            }),
        }
    }

    /// Runs requests on the model.
    pub fn runner(&mut self) -> Runner<'_> {
        Runner {
            model: self.model.as_mut(),
            recipe: &self.recipe,
            tokenizer: self.tokenizer.as_ref(),
        }
    }

    /// Where the weights came from, for a record.
    pub fn weights(&self, digests: &BTreeMap<String, String>) -> record::Weights {
        match self.recipe.weights {
            Weights::Seeded(seed) => record::Weights::Seeded { seed },
            _ => record::Weights::Checkpoint {
                origin: self.origin.clone(),
                digests: digests.clone(),
            },
        }
    }

    /// What the engine really uses, for a record.
    pub fn used(&self) -> Used {
        let settings = self.engine.onnxruntime.as_ref().map(|s| {
            let variant = s.variant.iter().map(|v| ("variant", v.clone()));
            let optimization = s.optimization.name().to_owned();
            let all = [
                ("graph_optimization", optimization),
                ("operators", s.operators.name().to_owned()),
                ("arena", s.arena.to_string()),
            ];
            let all = all.into_iter().chain(variant);
            let nodes = &self.facts().nodes;
            let total: usize = nodes.values().sum();
            let shares = nodes.iter().map(|(provider, count)| {
                let share = format!("{count} of {total}");
                (format!("nodes_{provider}"), share)
            });
            let all = all.map(|(name, value)| (name.to_owned(), value));
            all.chain(shares).collect()
        });
        Used {
            engine: Some(format!("{} {}", self.engine.engine, self.engine.version)),
            settings: settings.unwrap_or_default(),
            threads: u32::try_from(self.engine.threads).ok(),
            device: self.engine.device.clone(),
            // What a published graph computes in, only its name says.
            dtype: match self.engine.onnxruntime.as_ref().map(|s| &s.variant) {
                Some(Some(variant)) => variant.clone(),
                _ => self.engine.precision.to_string(),
            },
            simd: vec![self.engine.simd.clone()],
        }
    }

    /// Parameters by component, for a record.
    pub fn components(&self) -> BTreeMap<String, Component> {
        let component = |(part, parameters): &(Part, u64)| {
            let name = match part {
                Part::Vision => "encoder",
                Part::Projector => "projector",
                Part::Decoder => "decoder",
            };
            let parameters = *parameters;
            (name.to_owned(), Component { parameters })
        };
        self.facts().params.iter().map(component).collect()
    }

    /// Static facts of the loaded model.
    pub fn facts(&self) -> &ModelFacts {
        self.model.facts()
    }
}

/// The placeholder maps bytes to ids, so it needs 256 of them.
fn placeholder_vocab(recipe: &Recipe) -> usize {
    let vocab = recipe.decoder.as_ref().map(|d| d.config.vocab);
    vocab.unwrap_or(0).max(256)
}

/// What only the files know: whether the output head is a matrix of its own
/// (the flag in published configs is sometimes wrong) and how many rows the
/// vocabulary was padded to. A recipe in YAML takes both from the checkpoint.
fn adopt(recipe: &mut Recipe, own: Recipe) {
    recipe.image_token = recipe.image_token.or(own.image_token);
    if let (Some(decoder), Some(own)) = (&mut recipe.decoder, own.decoder) {
        decoder.config.tied = own.config.tied;
        decoder.config.vocab = own.config.vocab;
    }
}

/// Memory that a model may take where its engine computes; `None` if nobody knows,
/// or if the engine cannot be opened, which loading will say.
pub fn usable_memory(backend: &str, options: &EngineOptions) -> Option<u64> {
    match options.device.as_str() {
        CPU => machine::usable_memory_bytes(),
        _ => backend::open(backend, options).ok()?.free_device_memory(),
    }
}

/// What a latency workload costs on a recipe, if there is memory for it.
pub fn affordable(
    recipe: &Recipe,
    latency: &Latency,
    backend: &str,
    options: &EngineOptions,
) -> Result<CaseCost, Failure> {
    let workload = match recipe.decoder {
        None => Workload::EncoderLatency(latency.clone()),
        Some(_) => Workload::EndToEndLatency(latency.clone()),
    };
    let cost = CaseCost::of(&workload, recipe, options.precision)?;
    let available = usable_memory(backend, options);
    match memory::shortage(cost.memory_bytes(), available) {
        None => Ok(cost),
        Some(why) => Err(Failure::Backend(vlmbench_backends::Error::Unavailable {
            what: format!("memory for {} in {}", recipe.name, options.precision),
            why,
        })),
    }
}

/// The stages of a case's cost, for a record.
pub fn recorded_stages(cost: &CaseCost) -> BTreeMap<String, StageCost> {
    let stage = |s: &crate::plan::StageFigures| {
        let cost = StageCost {
            flops: s.flops,
            bytes: Some(s.bytes),
        };
        (s.stage.to_owned(), cost)
    };
    cost.stages.iter().map(stage).collect()
}
