//! A recipe's graphs as files, named as the published exports name them.

use std::path::Path;

use super::file::{Storage, Written, write};
use super::graph::Target;
use super::parts;
use crate::backend::Precision;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::weights::{Inventory, WeightSource};

/// Weights up to this many bytes are written into the model's own file, as the
/// published exports of models of this size have them: protobuf, and so that
/// file, ends at 2 GiB.
const LARGEST_FILE: u64 = 2_000_000_000;

/// What file names of a precision end with, before `.onnx`.
pub fn suffix(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "",
        Precision::F16 => "_fp16",
        Precision::Bf16 | Precision::Q8_0 | Precision::Q4KM => "_bf16",
    }
}

/// Writes the graphs of every part of `recipe` to `folder`: encoder and
/// projector as one, embedding table, decoder.
pub fn export(
    recipe: &Recipe,
    inventory: &Inventory,
    source: &dyn WeightSource,
    target: Target,
    folder: &Path,
) -> Result<Vec<Written>> {
    if target.precision.is_quantised() {
        return Err(Error::Unavailable {
            what: format!("a graph in {}", target.precision),
            why: "no graph is recorded with weights in blocks; export in f32, f16 or bf16".into(),
        });
    }
    let mut graphs = Vec::new();
    if recipe.encoder.is_some() {
        let projected = recipe.projector.is_some();
        graphs.push((
            "vision_encoder",
            parts::vision(recipe, inventory, target, projected)?,
        ));
    }
    if recipe.decoder.is_some() {
        graphs.push((
            "embed_tokens",
            parts::embed_tokens(recipe, inventory, target)?,
        ));
        graphs.push((
            "decoder_model_merged",
            parts::decoder(recipe, inventory, target)?,
        ));
    }
    let storage = Storage::Within(LARGEST_FILE);
    (graphs.into_iter())
        .map(|(name, graph)| {
            let path = folder.join(format!("{name}{}.onnx", suffix(target.precision)));
            write(graph, source, &path, storage)
        })
        .collect()
}
