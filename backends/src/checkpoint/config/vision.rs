//! Vision encoders from CLIP, timm, MobileCLIP, OpenCLIP and LLaVA
//! configurations.

use serde_json::{Map, Value};

use super::super::CheckpointError;
use super::super::json::Node;
use super::image::{self, Preprocessing};
use super::{Context, Vision};
use crate::error::Result;
use crate::image::ImagePolicy;
use crate::nets::fastvit::AttentionNorm;
use crate::nets::registry::{ENCODERS, Entry};
use crate::nets::{ConvNextConfig, EncoderConfig, FastVitConfig, VitConfig, VitaminConfig};
use crate::ops::Act;
use crate::recipe::{Encoder, EncoderArgs, FeatureStages, hidden_state};

/// Layer that LLaVA reads of a CLIP tower, as transformers counts hidden states;
/// of a SigLIP tower, whose last layer it removes, that is the last one left.
pub(super) const FEATURE_LAYER: i64 = -2;
/// Input side of the released FastVLM checkpoints.
const FASTVLM_SIDE: usize = 1024;

/// FastViT, ConvNeXt and ViTamin names in published configurations and their registry names.
const TIMM_NAMES: &[(&str, &str)] = &[
    ("convnext_large", "convnext-l"),
    ("convnext_large_mlp", "convnext-l"),
    ("convnext_xxlarge", "convnext-xxl"),
    ("fastvit_mci0", "fastvit-mci0"),
    ("fastvit_mci1", "fastvit-mci1"),
    ("fastvit_mci2", "fastvit-mci2"),
    ("fastvit_mci3", "fastvithd"),
    ("fastvithd", "fastvithd"),
    ("mci0", "fastvit-mci0"),
    ("mci1", "fastvit-mci1"),
    ("mci2", "fastvit-mci2"),
    ("mci3", "fastvithd"),
    ("vitamin_large_224", "vitamin-l-224"),
    ("vitamin_large_256", "vitamin-l-256"),
    ("vitamin_large_336", "vitamin-l-336"),
    ("vitamin_large_384", "vitamin-l-384"),
];

/// timm arguments that change nothing about inference.
const TRAINING_ARGS: &[&str] = &[
    "drop_path_rate",
    "drop_rate",
    "global_pool",
    "inference_mode",
    "layer_scale_init_value",
    "num_classes",
    "proj_drop_rate",
    "stem_use_scale_branch",
];

/// timm arguments that the network fixes.
const FIXED_ARGS: &[(&str, &str)] = &[
    ("act_layer", "\"gelu\""),
    ("down_patch_size", "7"),
    ("down_stride", "2"),
    ("fork_feat", "false"),
    ("in_chans", "3"),
    ("repmixer_kernel_size", "3"),
];

/// Defaults of transformers' CLIPVisionConfig, from which those of its relatives
/// are told apart.
fn clip_defaults() -> VitConfig {
    VitConfig {
        hidden: 768,
        layers: 12,
        layers_run: 0,
        heads: 12,
        mlp: 3072,
        gated: false,
        mlp_norm: false,
        patch: 32,
        image: 224,
        act: Act::QuickGelu,
        eps: 1e-5,
        class_token: true,
        patch_bias: false,
        pre_norm: true,
        post_norm: false,
        reduce: None,
    }
}

/// A CLIP vision tower read at `layer`.
pub(super) fn clip(c: &Context, node: &Node, layer: Option<i64>) -> Result<Vision> {
    transformer(c, node, layer, clip_defaults(), ImagePolicy::clip())
}

/// A SigLIP vision tower read at `layer`, without the norm and the pooling after it.
pub(super) fn siglip(c: &Context, node: &Node, layer: Option<i64>) -> Result<Vision> {
    // Defaults of transformers' SiglipVisionConfig.
    let defaults = VitConfig {
        patch: 16,
        act: Act::GeluTanh,
        eps: 1e-6,
        class_token: false,
        patch_bias: true,
        pre_norm: false,
        ..clip_defaults()
    };
    transformer(c, node, layer, defaults, ImagePolicy::siglip())
}

/// A DINOv2 after its last norm, as its users read it.
pub(super) fn dinov2(c: &Context, node: &Node) -> Result<Vision> {
    for (key, only) in [("qkv_bias", true), ("use_mask_token", true)] {
        let flag = node.get(key);
        if flag.present() && flag.bool()? != only {
            return Err(flag.error(format!("only {only} is supported")).into());
        }
    }
    let wide = |key: &str, default: usize| match node.get(key).optional() {
        Some(node) => node.usize(),
        None => Ok(default),
    };
    let gated = node.get("use_swiglu_ffn");
    let gated = gated.present() && gated.bool()?;
    let mlp = wide("hidden_size", 768)? * wide("mlp_ratio", 4)?;
    // Defaults of transformers' Dinov2Config.
    let defaults = VitConfig {
        // Two thirds, rounded up to a multiple of 8, since there are two products.
        mlp: if gated {
            (mlp * 2 / 3).next_multiple_of(8)
        } else {
            mlp
        },
        gated,
        patch: 14,
        image: 518,
        act: if gated { Act::Silu } else { Act::Gelu },
        eps: 1e-6,
        patch_bias: true,
        pre_norm: false,
        post_norm: true,
        ..clip_defaults()
    };
    transformer(c, node, Some(-1), defaults, ImagePolicy::dinov2())
}

/// A vision transformer as transformers describes it.
fn transformer(
    c: &Context,
    node: &Node,
    layer: Option<i64>,
    defaults: VitConfig,
    image: ImagePolicy,
) -> Result<Vision> {
    let number = |key: &str, default: usize| match node.get(key).optional() {
        Some(node) => node.usize(),
        None => Ok(default),
    };
    let layers = number("num_hidden_layers", defaults.layers)?;
    let layer = match (layer, node.get("vision_feature_layer").optional()) {
        (Some(layer), _) => layer,
        (None, Some(node)) => node.i64()?,
        (None, None) => FEATURE_LAYER,
    };
    let act = node.get("hidden_act");
    let eps = node.get("layer_norm_eps");
    let config = VitConfig {
        hidden: number("hidden_size", defaults.hidden)?,
        layers,
        layers_run: hidden_state(layers, layer)?,
        heads: number("num_attention_heads", defaults.heads)?,
        mlp: number("intermediate_size", defaults.mlp)?,
        patch: number("patch_size", defaults.patch)?,
        image: number("image_size", defaults.image)?,
        act: match act.clone().optional().map(|node| node.str()).transpose()? {
            // A gated MLP does not ask.
            _ if defaults.gated => defaults.act,
            None => defaults.act,
            Some("quick_gelu") => Act::QuickGelu,
            Some("gelu") => Act::Gelu,
            Some("gelu_pytorch_tanh") => Act::GeluTanh,
            Some(_) => {
                let known = "only `quick_gelu`, `gelu` and `gelu_pytorch_tanh` are supported";
                return Err(act.error(known).into());
            }
        },
        eps: if eps.present() {
            eps.f64()? as f32
        } else {
            defaults.eps
        },
        ..defaults
    };
    if config.heads == 0 || !config.hidden.is_multiple_of(config.heads) || config.patch == 0 {
        let heads = node.get("num_attention_heads");
        return Err(heads
            .error("must divide hidden_size, and patch_size must not be zero")
            .into());
    }
    let preprocessing = image::of_processor(c, image)?;
    Ok(Vision {
        resolution: config.image,
        image: preprocessing.policy,
        tiles: None,
        encoder: named(EncoderConfig::Vit(config)),
    })
}

/// A ConvNeXt of transformers, whose last norm (after pooling) is not needed.
pub(super) fn convnext(c: &Context, node: &Node) -> Result<Vision> {
    for (key, only) in [("patch_size", 4), ("num_channels", 3)] {
        let value = node.get(key);
        if value.present() && value.usize()? != only {
            return Err(value.error(format!("only {only} is supported")).into());
        }
    }
    let act = node.get("hidden_act");
    if act.present() && act.str()? != "gelu" {
        return Err(act.error("only the exact `gelu` is supported").into());
    }
    // Defaults of transformers' ConvNextConfig.
    let list = |key: &str, default: [usize; 4]| match node.get(key).optional() {
        Some(node) => node.usizes(),
        None => Ok(default.to_vec()),
    };
    let config = ConvNextConfig {
        depths: list("depths", [3, 3, 9, 3])?,
        dims: list("hidden_sizes", [96, 192, 384, 768])?,
        // `layer_norm_eps` is that of the norm after pooling.
        eps: 1e-6,
    };
    config.check()?;
    let preprocessing = image::of_processor(c, ImagePolicy::clip())?;
    let side = node.get("image_size").optional();
    Ok(Vision {
        resolution: match (preprocessing.side, side) {
            (Some(side), _) => side,
            (None, Some(node)) => node.usize()?,
            (None, None) => 224,
        },
        image: preprocessing.policy,
        tiles: None,
        encoder: named(EncoderConfig::ConvNext(config)),
    })
}

/// A timm configuration: `architecture`, `model_args`, `pretrained_cfg`. As a
/// part of a transformers model, the image processor has the last word. Stages
/// that are read besides are an extension of ours: `features`, as in recipes.
pub(super) fn timm(c: &Context, node: &Node) -> Result<Vision> {
    let architecture = node.get("architecture");
    let name = if architecture.present() {
        architecture.str()?
    } else {
        "fastvit_mci3"
    };
    // Weights are tagged after a dot: `fastvit_mci2.apple_mclip`.
    let entry = timm_entry(&architecture, name.split('.').next().unwrap_or(name))?;
    let mut encoder = named(with_model_args((entry.config)(), &node.get("model_args"))?);
    let features = node.get("features");
    if features.present() {
        let stages: FeatureStages = serde_json::from_value(features.value().clone())
            .map_err(|e| features.error(e.to_string()))?;
        encoder = stages.apply(encoder)?;
    }
    let fallback = if c.config.get("text_config").present() {
        Preprocessing {
            side: Some(FASTVLM_SIDE),
            policy: ImagePolicy::fastvlm_crop(),
        }
    } else {
        image::of_timm(&node.get("pretrained_cfg"))?
    };
    let preprocessing = image::of_processor(c, fallback.policy)?;
    Ok(Vision {
        resolution: preprocessing
            .side
            .or(fallback.side)
            .unwrap_or(entry.resolution),
        image: preprocessing.policy,
        tiles: None,
        encoder,
    })
}

/// MobileCLIP's own configuration: `image_cfg`.
pub(super) fn mobileclip(c: &Context) -> Result<Vision> {
    let image_cfg = c.config.get("image_cfg");
    let model = image_cfg.get("model_name");
    let entry = timm_entry(&model, model.str()?)?;
    let side = image_cfg
        .get("image_size")
        .optional()
        .map(|node| node.usize())
        .transpose()?;
    Ok(Vision {
        resolution: side.unwrap_or(entry.resolution),
        image: ImagePolicy::mobileclip(),
        tiles: None,
        encoder: named(with_model_args(
            (entry.config)(),
            &c.config.get("model_args"),
        )?),
    })
}

/// OpenCLIP's configuration: `model_cfg.vision_cfg` around a timm tower.
pub(super) fn open_clip(c: &Context) -> Result<Vision> {
    let vision = c.config.get("model_cfg").get("vision_cfg");
    let model = vision.get("timm_model_name");
    let entry = timm_entry(&model, model.str()?)?;
    let side = vision
        .get("image_size")
        .optional()
        .map(|node| node.usize())
        .transpose()?;
    let preprocess = c.config.get("preprocess_cfg");
    Ok(Vision {
        resolution: side.unwrap_or(entry.resolution),
        image: image::of_timm(&preprocess)?.policy,
        tiles: None,
        encoder: named(with_model_args(
            (entry.config)(),
            &vision.get("timm_model_args"),
        )?),
    })
}

/// The registry entry of timm's or Apple's name.
pub(super) fn timm_entry(node: &Node, name: &str) -> Result<&'static Entry<EncoderConfig>> {
    let found = TIMM_NAMES.iter().find(|(published, _)| *published == name);
    let Some((_, registered)) = found else {
        let known: Vec<&str> = TIMM_NAMES.iter().map(|(name, _)| *name).collect();
        let problem = format!(
            "no reader for this architecture; known: {}",
            known.join(", ")
        );
        return Err(node.error(problem).into());
    };
    crate::nets::registry::find("vision encoder", ENCODERS, registered)
}

/// Applies timm's `model_args`: those that describe the network replace its
/// numbers, those of training are ignored, any other is an error.
pub(super) fn with_model_args(mut config: EncoderConfig, node: &Node) -> Result<EncoderConfig> {
    if !node.present() {
        return Ok(config);
    }
    let mut network = Map::new();
    for (key, value) in node.entries()? {
        if TRAINING_ARGS.contains(&key) || !value.present() {
            continue;
        }
        let EncoderConfig::FastVit(config) = &mut config else {
            network.insert(key.into(), value.value().clone());
            continue;
        };
        if let Some((_, only)) = FIXED_ARGS.iter().find(|(fixed, _)| *fixed == key) {
            let allowed: Value = serde_json::from_str(only).expect("the table holds JSON");
            if *value.value() != allowed {
                return Err(value.error(format!("only {only} is supported")).into());
            }
            continue;
        }
        match key {
            "downsamples" => check_downsamples(&value)?,
            "norm_layer" => config.attention_norm = attention_norm(&value)?,
            // timm gives a module or None per stage.
            "pos_embs" => {
                let stages = value.value().as_array().into_iter().flatten();
                let given = stages
                    .map(|stage| Value::Bool(!matches!(stage, Value::Null | Value::Bool(false))));
                network.insert(key.into(), given.collect());
            }
            _ => {
                network.insert(key.into(), value.value().clone());
            }
        }
    }
    let args: EncoderArgs =
        serde_json::from_value(Value::Object(network)).map_err(|e| node.error(e.to_string()))?;
    if let (EncoderConfig::FastVit(config), Some(layers)) = (&mut config, &args.layers) {
        keep_stages(config, layers.len());
    }
    args.apply(config)
}

/// timm reads as many entries of its per-stage defaults as `layers` has.
fn keep_stages(config: &mut FastVitConfig, stages: usize) {
    config.embed_dims.truncate(stages);
    config.mlp_ratios.truncate(stages);
    config.mixers.truncate(stages);
    config.se_downsamples.truncate(stages);
    config.position_encodings.truncate(stages);
}

/// The network halves the map before every stage but the first.
fn check_downsamples(node: &Node) -> Result<(), CheckpointError> {
    let flags = node.value().as_array();
    let usual = flags.is_some_and(|flags| {
        flags
            .iter()
            .enumerate()
            .all(|(i, f)| f.as_bool() == Some(i > 0))
    });
    if usual {
        Ok(())
    } else {
        Err(node.error("only false, then true for every later stage is supported"))
    }
}

fn attention_norm(node: &Node) -> Result<AttentionNorm, CheckpointError> {
    match node.str()?.to_ascii_lowercase().as_str() {
        "batchnorm2d" => Ok(AttentionNorm::Batch),
        "layernorm2d" => Ok(AttentionNorm::LayerChannel),
        _ => Err(node.error("only `batchnorm2d` and `layernorm2d` are supported")),
    }
}

/// The encoder with its published name where its numbers are published ones,
/// else with its family's and its layers and width, such as `ViT (5 x 192)`.
pub(super) fn named(config: EncoderConfig) -> Encoder {
    // At whichever side and read at whichever layer.
    let read_as = |published: VitConfig, as_here: &VitConfig| VitConfig {
        image: as_here.image,
        layers_run: as_here.layers_run,
        ..published
    };
    let published = ENCODERS
        .iter()
        .find(|entry| match ((entry.config)(), &config) {
            (EncoderConfig::FastVit(a), EncoderConfig::FastVit(b)) => a == *b,
            (EncoderConfig::ConvNext(a), EncoderConfig::ConvNext(b)) => a == *b,
            (EncoderConfig::Vit(a), EncoderConfig::Vit(b)) => read_as(a, b) == *b,
            (EncoderConfig::Vitamin(a), EncoderConfig::Vitamin(b)) => {
                let vit = read_as(a.vit, &b.vit);
                VitaminConfig { vit, ..a } == *b
            }
            _ => false,
        });
    let own = || match &config {
        EncoderConfig::Vit(c) => format!("ViT ({} x {})", c.layers, c.hidden),
        EncoderConfig::Vitamin(c) => format!("ViTamin ({} x {})", c.vit.layers, c.vit.hidden),
        EncoderConfig::ConvNext(c) => {
            let blocks: usize = c.depths.iter().sum();
            format!("ConvNeXt ({blocks} x {})", c.feature_dim())
        }
        EncoderConfig::MultiScale(c) => format!("multi-scale ({})", c.pool().name()),
        EncoderConfig::Towers(c) => format!("{} encoders", c.towers.len()),
        EncoderConfig::FastVit(c) => {
            let family = match c.layers.len() {
                5.. => "FastViTHD",
                _ => "FastViT",
            };
            let layers: usize = c.layers.iter().sum();
            let width = c.embed_dims.last().copied().unwrap_or_default();
            format!("{family} ({layers} x {width})")
        }
    };
    let label = published.map_or_else(own, |entry| entry.label.into());
    Encoder { label, config }
}
