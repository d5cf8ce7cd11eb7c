//! Decoder numbers from Qwen2 and Llama configurations.

use super::super::CheckpointError;
use super::super::json::Node;
use super::Context;
use crate::nets::DecoderConfig;
use crate::nets::registry::DECODERS;
use crate::recipe::Decoder;

/// The decoder families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Biased query, key and value projections.
    Qwen2,
    /// None.
    Llama,
}

/// Defaults of a configuration class of transformers, which leaves out of
/// `config.json` what equals them.
struct Defaults {
    model_type: &'static str,
    label: &'static str,
    vocab: usize,
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    max_positions: usize,
    rms_eps: f64,
}

const ROPE_THETA: f64 = 1e4;

impl Kind {
    /// The family of a `model_type`.
    pub(super) fn named(node: &Node) -> Result<Kind, CheckpointError> {
        match node.str()? {
            "qwen2" => Ok(Kind::Qwen2),
            "llama" => Ok(Kind::Llama),
            _ => Err(node.error("no reader for this language model; known: llama, qwen2")),
        }
    }

    fn defaults(self) -> Defaults {
        match self {
            Kind::Qwen2 => Defaults {
                model_type: "qwen2",
                label: "Qwen2",
                vocab: 151_936,
                hidden: 4096,
                intermediate: 22_016,
                layers: 32,
                heads: 32,
                max_positions: 32_768,
                rms_eps: 1e-6,
            },
            Kind::Llama => Defaults {
                model_type: "llama",
                label: "Llama",
                vocab: 32_000,
                hidden: 4096,
                intermediate: 11_008,
                layers: 32,
                heads: 32,
                max_positions: 2048,
                rms_eps: 1e-6,
            },
        }
    }
}

/// Reads a decoder from `node`, and from the files what configs get wrong.
pub(super) fn read(c: &Context, node: &Node, kind: Kind) -> Result<Decoder, CheckpointError> {
    let defaults = kind.defaults();
    let number = |key: &str, default: usize| match node.get(key).optional() {
        Some(node) => node.usize(),
        None => Ok(default),
    };
    let real = |node: Node, default: f64| match node.optional() {
        Some(node) => node.f64(),
        None => Ok(default),
    };
    refuse(node, defaults.model_type)?;
    let hidden = number("hidden_size", defaults.hidden)?;
    let heads = number("num_attention_heads", defaults.heads)?;
    if heads == 0 || hidden == 0 {
        return Err(node
            .get("num_attention_heads")
            .error("heads and width must not be zero"));
    }
    let rope = node.get("rope_parameters");
    let theta = if rope.present() {
        rope.get("rope_theta")
    } else {
        node.get("rope_theta")
    };
    let kv_default = if kind == Kind::Llama {
        heads
    } else {
        32.min(heads)
    };
    let config = DecoderConfig {
        hidden,
        intermediate: number("intermediate_size", defaults.intermediate)?,
        layers: number("num_hidden_layers", defaults.layers)?,
        heads,
        kv_heads: number("num_key_value_heads", kv_default)?,
        head_dim: number("head_dim", hidden / heads)?,
        vocab: vocabulary(c, number("vocab_size", defaults.vocab)?),
        rope_theta: real(theta, ROPE_THETA)? as f32,
        rms_eps: real(node.get("rms_norm_eps"), defaults.rms_eps)? as f32,
        tied: tied(c, node)?,
        qkv_bias: kind == Kind::Qwen2,
        max_positions: number("max_position_embeddings", defaults.max_positions)?,
        fastv: None,
    };
    Ok(Decoder {
        label: label(&config, defaults.label),
        config,
    })
}

/// Settings of the configuration classes that the network does not have.
fn refuse(node: &Node, model_type: &str) -> Result<(), CheckpointError> {
    for key in ["use_sliding_window", "mlp_bias"] {
        let flag = node.get(key);
        if flag.present() && flag.bool()? {
            return Err(flag.error(format!("is not supported for {model_type}; only false is")));
        }
    }
    // Qwen2 always has its biases and ignores the flag.
    let bias = node.get("attention_bias");
    if model_type == "llama" && bias.present() && bias.bool()? {
        return Err(bias.error("is not supported for llama; only false is"));
    }
    let act = node.get("hidden_act");
    if act.present() && act.str()? != "silu" {
        return Err(act.error("only `silu` is supported"));
    }
    for rope in [node.get("rope_parameters"), node.get("rope_scaling")] {
        let kind = rope.first(&["rope_type", "type"]);
        if kind.present() && kind.str()? != "default" {
            return Err(kind.error("scaled rotary embeddings are not supported; only `default` is"));
        }
    }
    Ok(())
}

/// Rows of the embedding table: those of the file where it is padded beyond the
/// config's vocabulary.
fn vocabulary(c: &Context, configured: usize) -> usize {
    let table = c.files.keys().find(|key| is_module(key, "embed_tokens"));
    let rows = table
        .and_then(|key| c.files.entry(key))
        .and_then(|entry| entry.shape.first());
    rows.map_or(configured, |&rows| rows.max(configured))
}

/// Whether the output head is the embedding table. A separate head in the files
/// wins over a config that says tied, unless the two are equal. Without one, and
/// if the config leaves it open, LLaVA's own classes on Qwen2 (FastVLM's among
/// them) use the embeddings; transformers' default to a head of their own.
fn tied(c: &Context, node: &Node) -> Result<bool, CheckpointError> {
    let find = |module: &str| c.files.keys().find(|key| is_module(key, module));
    let configured = [
        node.get("tie_word_embeddings"),
        c.config.get("tie_word_embeddings"),
    ]
    .into_iter()
    .find(Node::present)
    .map(|node| node.bool())
    .transpose()?;
    let classes = ["model_type", "architectures"].map(|key| c.config.get(key).value().to_string());
    let llava = classes
        .iter()
        .any(|class| class.contains("llava_qwen") || class.contains("LlavaQwen"));
    Ok(match (find("lm_head"), find("embed_tokens")) {
        (None, _) => configured.unwrap_or(llava),
        (Some(head), Some(table)) => configured == Some(true) && c.files.equal(head, table),
        (Some(_), None) => false,
    })
}

fn is_module(key: &str, module: &str) -> bool {
    key.strip_suffix(".weight")
        .and_then(|path| path.strip_suffix(module))
        .is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
}

/// The published name of a decoder of these proportions, else its family's.
pub(in crate::checkpoint) fn label(config: &DecoderConfig, family: &str) -> String {
    let published = DECODERS.iter().find(|entry| {
        let other = (entry.config)();
        (
            other.hidden,
            other.layers,
            other.heads,
            other.kv_heads,
            other.qkv_bias,
        ) == (
            config.hidden,
            config.layers,
            config.heads,
            config.kv_heads,
            config.qkv_bias,
        ) && other.intermediate == config.intermediate
    });
    match published {
        Some(entry) => entry.label.into(),
        None => format!("{family} ({} x {})", config.layers, config.hidden),
    }
}
