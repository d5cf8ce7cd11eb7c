//! A file's metadata as the recipe of a bare decoder.

use std::path::Path;

use super::super::CheckpointError;
use super::super::config::decoder_label;
use super::file::{GgufFile, Value};
use crate::backend::Precision;
use crate::error::Result;
use crate::nets::DecoderConfig;
use crate::recipe::{Decoder, Recipe, Weights};
use crate::text::PromptTemplate;

/// llama.cpp's name of a decoder family, its label, and whether its
/// projections have biases.
const ARCHITECTURES: &[(&str, &str, bool)] = &[("llama", "Llama", false), ("qwen2", "Qwen2", true)];

/// `general.file_type` of what can be read, and the quantised precision it is.
const FILE_TYPES: &[(usize, Option<Precision>)] = &[
    (0, None),
    (1, None),
    (7, Some(Precision::Q8_0)),
    (15, Some(Precision::Q4KM)),
    (32, None),
];

/// The decoder in the file at `path`, alone.
pub fn recipe_from_gguf(path: &Path) -> Result<Recipe> {
    let file = GgufFile::open(path)?;
    let decoder = decoder(&file)?;
    decoder.config.check()?;
    held(&file)?;
    let name = path.file_stem().unwrap_or(path.as_os_str());
    Ok(Recipe {
        name: name.to_string_lossy().into_owned(),
        encoder: None,
        resolution: 0,
        image: None,
        towers: Vec::new(),
        tiles: None,
        projector: None,
        decoder: Some(decoder),
        prompt: PromptTemplate::named("plain")?,
        image_token: None,
        weights: Weights::Gguf {
            decoder: path.to_path_buf(),
            rest: None,
        },
    })
}

/// llama.cpp's name of the file's decoder family.
pub(super) fn architecture(file: &GgufFile) -> Result<&'static str, CheckpointError> {
    family(file).map(|(name, ..)| *name)
}

fn family(file: &GgufFile) -> Result<&'static (&'static str, &'static str, bool), CheckpointError> {
    const KEY: &str = "general.architecture";
    let name = file.text(KEY)?;
    ARCHITECTURES
        .iter()
        .find(|(known, ..)| Some(*known) == name)
        .ok_or_else(|| {
            let known: Vec<&str> = ARCHITECTURES.iter().map(|(name, ..)| *name).collect();
            file.error(
                KEY,
                format!("no such decoder here; known: {}", known.join(", ")),
            )
        })
}

/// The quantised precision that a file holds, if it holds one.
pub(super) fn held(file: &GgufFile) -> Result<Option<Precision>, CheckpointError> {
    const KEY: &str = "general.file_type";
    let number = file.number(KEY)?;
    let found = FILE_TYPES.iter().find(|(known, _)| Some(*known) == number);
    found.map(|(_, held)| *held).ok_or_else(|| {
        file.error(
            KEY,
            "not among 0 (F32), 1 (F16), 7 (Q8_0), 15 (Q4_K_M) and 32 (BF16), which can be read; convert it with \
             llama-quantize",
        )
    })
}

/// The numbers of the decoder.
pub(super) fn decoder(file: &GgufFile) -> Result<Decoder, CheckpointError> {
    let (name, label, qkv_bias) = *family(file)?;
    let key = |leaf: &str| format!("{name}.{leaf}");
    let number = |leaf: &str| file.number(&key(leaf));
    let needed = |leaf: &str| match number(leaf)? {
        Some(n) if n > 0 => Ok(n),
        _ => Err(file.error(&key(leaf), "a number above zero is needed")),
    };
    refuse(file, name)?;
    let (hidden, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
    let head_dim = match number("attention.key_length")? {
        Some(dim) => dim,
        None => hidden / heads,
    };
    for leaf in ["attention.value_length", "rope.dimension_count"] {
        if number(leaf)?.is_some_and(|dim| dim != head_dim) {
            let problem = format!("only a head's whole dimension, {head_dim}, is supported");
            return Err(file.error(&key(leaf), problem));
        }
    }
    let eps = file.float(&key("attention.layer_norm_rms_epsilon"))?;
    let rows = file
        .tensor("token_embd.weight")
        .and_then(|t| t.shape.first());
    let config = DecoderConfig {
        hidden,
        intermediate: needed("feed_forward_length")?,
        layers: needed("block_count")?,
        heads,
        kv_heads: number("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        // Like the head, a matter of the tensors: tables are padded.
        vocab: match rows {
            Some(rows) => *rows,
            None => needed("vocab_size")?,
        },
        rope_theta: file.float(&key("rope.freq_base"))?.unwrap_or(1e4) as f32,
        rms_eps: eps.ok_or_else(|| {
            file.error(
                &key("attention.layer_norm_rms_epsilon"),
                "a number is needed",
            )
        })? as f32,
        tied: file.tensor("output.weight").is_none(),
        qkv_bias,
        max_positions: needed("context_length")?,
        fastv: None,
    };
    Ok(Decoder {
        label: decoder_label(&config, label),
        config,
    })
}

/// What the network does not have.
fn refuse(file: &GgufFile, architecture: &str) -> Result<(), CheckpointError> {
    let scaled = "scaled rotary embeddings are not supported";
    for (leaf, problem) in [
        ("expert_count", "mixtures of experts are not supported"),
        (
            "attention.sliding_window",
            "only full attention is supported",
        ),
        ("rope.scaling.type", scaled),
        ("rope.scale_linear", scaled),
    ] {
        let key = format!("{architecture}.{leaf}");
        let neutral = match file.value(&key) {
            None | Some(Value::Unsigned(0)) => true,
            Some(Value::Text(text)) => text == "none",
            Some(Value::Float(factor)) => *factor == 1.0,
            Some(_) => false,
        };
        if !neutral {
            return Err(file.error(&key, problem));
        }
    }
    Ok(())
}
