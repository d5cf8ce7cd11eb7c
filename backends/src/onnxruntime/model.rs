//! A recipe's graphs in ONNX Runtime.
//!
//! Of our own graphs encoder, projector, embedding table and decoder are
//! sessions of their own, so that every phase of a request ends where it does
//! on every engine. Published graphs have the projector in the encoder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ort::session::SessionInputValue;
use ort::value::DynValue;

use super::graph::{Floats, Graph};
use super::session::Loader;
use crate::anyres::Placement;
use crate::backend::{
    Features, LoadOptions, LoadedModel, ModelFacts, input_sides, prompt_positions, within,
};
use crate::error::{Error, Result};
use crate::image::Pixels;
use crate::mix::Mix;
use crate::nets::projector::NEWLINE;
use crate::nets::{DecoderConfig, EncoderConfig};
use crate::onnx::parts::{CLUE, cache_names};
use crate::onnx::{self, GraphBuilder, Storage, Target};
use crate::recipe::Recipe;
use crate::reduce;
use crate::text::{PromptTokens, Segment};
use crate::weights::{Inventory, Part, WeightSource};

/// Names of the graphs, in files and messages.
const VISION: &str = "vision_encoder";
const EMBED: &str = "embed_tokens";
const DECODER: &str = "decoder_model_merged";
const PROJECTOR: &str = "projector";

/// The output of the first and the last.
const FEATURES: &str = "image_features";

/// The loaded graphs of a recipe.
pub struct OnnxRuntimeModel {
    recipe: Recipe,
    facts: ModelFacts,
    vision: Option<Graph>,
    /// `None` as well where the encoder's graph has it inside.
    projector: Option<Graph>,
    /// The vector that ends rows of visual tokens. Between graphs, features are
    /// on the host, where they are put in order as well.
    newline: Option<Vec<f32>>,
    decoder: Option<Decoder>,
}

/// A decoder's graphs and its cache.
struct Decoder {
    config: DecoderConfig,
    embed: Graph,
    forward: Graph,
    /// Of every cache input and the output that follows it, in order.
    cache_names: Vec<(String, String)>,
    /// Keys and values of every layer, as the last run left them.
    cache: Vec<DynValue>,
    len: usize,
    context: usize,
}

impl Loader<'_> {
    fn vision(&self, path: &Path, outputs: &[&str]) -> Result<Graph> {
        let graph = Graph::open(self, path, &["pixel_values"], &[], outputs)?;
        graph.expect("pixel_values", &[None, Some(3), None, None])?;
        Ok(graph)
    }

    fn decoder(
        &self,
        embed: &Path,
        forward: &Path,
        config: &DecoderConfig,
        context: usize,
    ) -> Result<Decoder> {
        let embed = Graph::open(self, embed, &["input_ids"], &[], &["inputs_embeds"])?;
        let names: Vec<[String; 4]> = cache_names(config.layers).collect();
        let cache_names: Vec<(String, String)> = (names.into_iter())
            .flat_map(|[k, v, new_k, new_v]| [(k, new_k), (v, new_v)])
            .collect();
        let mut inputs = vec!["inputs_embeds", "attention_mask"];
        inputs.extend(cache_names.iter().map(|(past, _)| past.as_str()));
        let mut outputs = vec!["logits"];
        outputs.extend(cache_names.iter().map(|(_, present)| present.as_str()));
        let forward = Graph::open(self, forward, &inputs, &["position_ids"], &outputs)?;
        forward.expect("inputs_embeds", &[None, None, Some(config.hidden)])?;
        let (heads, dim) = (Some(config.kv_heads), Some(config.head_dim));
        for (past, _) in &cache_names {
            forward.expect(past, &[None, heads, None, dim])?;
        }
        Ok(Decoder {
            config: config.clone(),
            embed,
            forward,
            cache_names,
            cache: Vec::new(),
            len: 0,
            context,
        })
    }
}

/// Bytes of a model's file and of those beside it that hold its weights.
fn file_bytes(model: &Path) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    size(model) + size(&onnx::weights_beside(model))
}

impl OnnxRuntimeModel {
    /// Records the recipe's graphs, writes them with their weights to a
    /// temporary folder, from where the runtime maps them, and loads them.
    pub(super) fn record(
        recipe: &Recipe,
        inventory: &Inventory,
        source: &dyn WeightSource,
        options: LoadOptions,
        loader: &Loader<'_>,
    ) -> Result<OnnxRuntimeModel> {
        if let Some(variant) = &loader.settings.variant {
            return Err(Error::Config {
                what: "graph variant".into(),
                value: variant.clone(),
                problem: "is one of several graphs in a folder; this model has weights, from which graphs are \
                          recorded in the precision asked for"
                    .into(),
            });
        }
        if let Some(EncoderConfig::Towers(_)) = recipe.encoder.as_ref().map(|e| &e.config) {
            return Err(Error::Unavailable {
                what: "several encoders and samplers in the decoder".into(),
                why: "no graph is recorded for them; use the candle engine".into(),
            });
        }
        let target = Target {
            precision: loader.precision,
            operators: loader.settings.operators,
        };
        let folder = tempfile::tempdir().map_err(|source| Error::Write {
            path: std::env::temp_dir(),
            source,
        })?;
        let write = |name: &str, graph: GraphBuilder| -> Result<PathBuf> {
            let path = folder.path().join(format!("{name}.onnx"));
            onnx::write(graph, source, &path, Storage::Beside)?;
            Ok(path)
        };
        let mut vision = None;
        if recipe.encoder.is_some() {
            let graph = onnx::vision(recipe, inventory, target, false)?;
            let outputs = features_and_clue(recipe);
            vision = Some(loader.vision(&write(VISION, graph)?, outputs)?);
        }
        let mut projector = None;
        if recipe.projector.is_some() {
            let graph = onnx::projector(recipe, inventory, target)?;
            let path = write(PROJECTOR, graph)?;
            projector = Some(Graph::open(loader, &path, &["features"], &[], &[FEATURES])?);
        }
        let newline = (inventory.iter())
            .find(|(part, spec)| *part == Part::Projector && spec.name == NEWLINE)
            .map(|(part, spec)| source.get(part, spec).map(|t| t.data.to_f32().into_owned()))
            .transpose()?;
        let mut decoder = None;
        if let Some(d) = &recipe.decoder {
            let context = options.positions(&d.config)?;
            let graph = onnx::embed_tokens(recipe, inventory, target)?;
            let embed = write(EMBED, graph)?;
            let forward = write(DECODER, onnx::decoder(recipe, inventory, target)?)?;
            decoder = Some(loader.decoder(&embed, &forward, &d.config, context)?);
        }
        let mut facts = facts(inventory, source, decoder.as_ref(), loader);
        let parameters: u64 = facts.params.iter().map(|(_, n)| n).sum();
        facts.param_bytes = parameters * loader.precision.bytes() as u64;
        Ok(OnnxRuntimeModel {
            recipe: recipe.clone(),
            facts,
            vision,
            projector,
            newline,
            decoder,
        })
    }

    /// Loads the graphs that are in `folder` under their published names.
    pub(super) fn published(
        recipe: &Recipe,
        inventory: &Inventory,
        source: &dyn WeightSource,
        folder: &Path,
        options: LoadOptions,
        loader: &Loader<'_>,
    ) -> Result<OnnxRuntimeModel> {
        if recipe.is_reduced() {
            return Err(Error::Unavailable {
                what: "reducing visual tokens (`reduce`) in graphs that others made".into(),
                why: "these hold encoder and projector as one; use a checkpoint with weights"
                    .into(),
            });
        }
        let own = onnx::suffix(loader.precision);
        let suffix = match &loader.settings.variant {
            Some(variant) => format!("_{variant}"),
            None => own.to_owned(),
        };
        let file = |name: &str| folder.join(format!("{name}{suffix}.onnx"));
        let found = |name: &str| match file(name) {
            path if path.is_file() => Ok(path),
            path => Err(Error::NoGraph {
                found: listed(folder),
                path,
            }),
        };
        let mut bytes = 0;
        let mut vision = None;
        if recipe.encoder.is_some() {
            let path = found(VISION)?;
            vision = Some(loader.vision(&path, &[FEATURES])?);
            bytes += file_bytes(&path);
        }
        let mut decoder = None;
        if let Some(d) = &recipe.decoder {
            let context = options.positions(&d.config)?;
            let (embed, forward) = (found(EMBED)?, found(DECODER)?);
            decoder = Some(loader.decoder(&embed, &forward, &d.config, context)?);
            bytes += file_bytes(&embed) + file_bytes(&forward);
        }
        let mut facts = facts(inventory, source, decoder.as_ref(), loader);
        facts.param_bytes = bytes;
        facts.projects_in_encode = recipe.projector.is_some();
        Ok(OnnxRuntimeModel {
            recipe: recipe.clone(),
            facts,
            vision,
            projector: None,
            newline: None,
            decoder,
        })
    }
}

/// What holds of a model whoever made its graphs.
fn facts(
    inventory: &Inventory,
    source: &dyn WeightSource,
    decoder: Option<&Decoder>,
    loader: &Loader<'_>,
) -> ModelFacts {
    ModelFacts {
        nodes: loader.nodes.borrow().clone(),
        context: decoder.map_or(0, |d| d.context),
        ..ModelFacts::of(inventory, source)
    }
}

/// Names of the graphs in a folder.
fn listed(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| n.ends_with(".onnx")).collect();
    names.sort();
    names.join(", ")
}

/// What the features are here.
fn rows(f: &Features) -> Result<&Vec<f32>> {
    f.value("onnxruntime")
}

/// An output `(inputs, tokens, dim)` as features.
fn features(what: &str, (shape, rows): Floats) -> Result<Features> {
    let of = |inputs, tokens, dim, rows| Features {
        inputs,
        tokens,
        dim,
        value: Box::new(rows),
    };
    match shape[..] {
        [inputs, tokens, dim] => Ok(of(inputs, tokens, dim, rows)),
        [tokens, dim] => Ok(of(1, tokens, dim, rows)),
        _ => Err(Error::Shape {
            op: "features",
            name: what.into(),
            expected: "(inputs, tokens, dim)".into(),
            got: format!("{shape:?}"),
        }),
    }
}

/// Outputs of the encoder's graph.
fn features_and_clue(recipe: &Recipe) -> &'static [&'static str] {
    let vit = recipe.encoder.as_ref().and_then(|e| e.config.vit());
    match vit.is_some_and(|c| c.reduce.is_some()) {
        true => &[FEATURES, CLUE],
        false => &[FEATURES],
    }
}

/// Runs a graph of one output.
fn run_one(graph: &mut Graph, input: super::graph::Fed<'_>, output: &str) -> Result<Floats> {
    let outputs = graph.run(vec![input], &[output])?;
    graph.read(&outputs[0])
}

impl Decoder {
    /// A cache of no positions.
    fn clear(&mut self) -> Result<()> {
        let shape = [1, self.config.kv_heads, 0, self.config.head_dim];
        self.len = 0;
        let names = self.cache_names.iter();
        let empty = names.map(|(past, _)| self.forward.empty(past, &shape));
        self.cache = empty.collect::<Result<_>>()?;
        Ok(())
    }

    /// Embeddings of token ids, row by row.
    fn embed(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.config.embedding().check(ids)?;
        let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
        let input = self.embed.integers("input_ids", &[1, ids.len()], &ids)?;
        let outputs = self.embed.run(vec![input], &["inputs_embeds"])?;
        Ok(self.embed.read(&outputs[0])?.1)
    }

    /// Runs new positions and returns the last one's logits.
    fn forward(&mut self, embeddings: &[f32]) -> Result<Vec<f32>> {
        let n = embeddings.len() / self.config.hidden;
        within(self.len, n, self.context)?;
        let total = self.len + n;
        let mask = vec![1; total];
        let positions: Vec<i64> = (self.len as i64..total as i64).collect();
        let graph = &self.forward;
        let shape = [1, n, self.config.hidden];
        let mut inputs = Vec::with_capacity(3 + self.cache.len());
        inputs.push(graph.floats("inputs_embeds", &shape, embeddings)?);
        inputs.push(graph.integers("attention_mask", &[1, total], &mask)?);
        if graph.takes("position_ids") {
            inputs.push(graph.integers("position_ids", &[1, n], &positions)?);
        }
        for ((past, _), value) in self.cache_names.iter().zip(&self.cache) {
            inputs.push((past.into(), SessionInputValue::from(value)));
        }
        let mut outputs = vec!["logits"];
        outputs.extend(self.cache_names.iter().map(|(_, present)| present.as_str()));
        let mut values = self.forward.run(inputs, &outputs)?;
        self.cache = values.split_off(1);
        self.len = total;
        let (_, mut logits) = self.forward.read(&values[0])?;
        // Graphs that give the logits of every position: the last ones.
        Ok(logits.split_off(logits.len().saturating_sub(self.config.vocab)))
    }
}

impl LoadedModel for OnnxRuntimeModel {
    fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    fn encode(&mut self, inputs: &[Pixels]) -> Result<Features> {
        let (height, width) = input_sides(&self.recipe, inputs)?;
        let graph = self.vision.as_mut().expect("a recipe's encoder is loaded");
        let together: Vec<f32>;
        let data = match inputs {
            [one] => &one.data,
            several => {
                together = several.iter().flat_map(|p| &p.data).copied().collect();
                &together
            }
        };
        let shape = [inputs.len(), inputs[0].channels, height, width];
        let input = graph.floats("pixel_values", &shape, data)?;
        let encoded = graph.run(vec![input], features_and_clue(&self.recipe))?;
        let all = features(VISION, graph.read(&encoded[0])?)?;
        let vit = self.recipe.encoder()?.config.vit();
        let Some((c, by)) = vit.and_then(|c| Some((c, c.reduce?))) else {
            return Ok(all);
        };
        let (heads, by) = by.reducer(c);
        let (_, clue) = graph.read(&encoded[1])?;
        let mixes = reduce::mixes(&clue, all.tokens, heads, by);
        let sequences = rows(&all)?.chunks_exact(all.tokens * all.dim);
        let reduced = sequences
            .zip(&mixes)
            .flat_map(|(rows, mix)| mix.apply(rows, all.dim));
        let reduced: Vec<f32> = reduced.collect();
        Ok(Features {
            tokens: mixes.first().map_or(0, Mix::len),
            value: Box::new(reduced),
            ..all
        })
    }

    fn project(&mut self, inputs: &[Features], place: &Placement) -> Result<Features> {
        let c = self.recipe.projector()?.clone();
        Features::check(inputs, place)?;
        let mix = self.recipe.arrangement(place)?;
        let mut tokens = match (&mix, c.newline, &self.newline) {
            (Some(_), true, Some(newline)) => newline.clone(),
            (Some(_), true, None) => {
                return Err(Error::Unavailable {
                    what: "the rows of an image in tiles".into(),
                    why: "graphs do not hold the vector that ends them (image_newline); \
                          use a checkpoint with weights"
                        .into(),
                });
            }
            _ => Vec::new(),
        };
        for features in inputs {
            match &mut self.projector {
                Some(graph) => {
                    let shape = [features.inputs, features.tokens, features.dim];
                    let input = graph.floats("features", &shape, rows(features)?)?;
                    tokens.extend(run_one(graph, input, FEATURES)?.1);
                }
                // The encoder's graph has done it.
                None => tokens.extend(rows(features)?),
            }
        }
        if let Some(mix) = mix {
            mix.check(tokens.len() / c.d_out)?;
            tokens = mix.apply(&tokens, c.d_out);
        }
        Ok(Features {
            inputs: 1,
            tokens: tokens.len() / c.d_out,
            dim: c.d_out,
            value: Box::new(tokens),
        })
    }

    fn prefill(&mut self, prompt: &PromptTokens, images: &[Features]) -> Result<Vec<f32>> {
        self.recipe.decoder()?;
        let d = (self.decoder.as_mut()).expect("a recipe's decoder is loaded");
        let tokens = prompt_positions(prompt, d.context)?;
        d.clear()?;
        let mut embeddings = Vec::with_capacity(tokens * d.config.hidden);
        for segment in prompt.segments() {
            match segment {
                Segment::Text(ids) => embeddings.extend(d.embed(ids)?),
                Segment::Image { index, tokens } => {
                    embeddings.extend(rows(Features::of(images, *index, *tokens)?)?);
                }
            }
        }
        d.forward(&embeddings)
    }

    fn decode(&mut self, token: u32) -> Result<Vec<f32>> {
        self.recipe.decoder()?;
        let d = (self.decoder.as_mut()).expect("a recipe's decoder is loaded");
        let embedding = d.embed(&[token])?;
        d.forward(&embedding)
    }

    fn read(&self, features: &Features) -> Result<Vec<f32>> {
        rows(features).cloned()
    }

    fn synchronize(&self) -> Result<Option<Duration>> {
        Ok(None)
    }
}
