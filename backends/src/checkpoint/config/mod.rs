//! A checkpoint's own `config.json` as a [`Recipe`].
//!
//! One reader a model type, in a table. Values that a config leaves out are
//! the defaults of the configuration class in transformers that wrote it;
//! values that cannot be honoured are errors. Two things are taken from the
//! weight files rather than the config, because published configs are known to
//! be wrong about them: the rows of the embedding table (padded tables) and
//! whether the output head is tied.

mod decoder;
mod image;
mod tiles;
mod tower;
mod vision;

use std::path::Path;

use super::json::{self, Document, Node};
use super::{CheckpointError, WeightFiles};
use crate::anyres::Tiling;
use crate::error::Result;
use crate::image::ImagePolicy;
use crate::nets::{ProjectorConfig, ProjectorKind};
use crate::onnx::published;
use crate::recipe::{self, Decoder, Encoder, Recipe, Weights};
use crate::text::PromptTemplate;
use decoder::Kind;
pub(super) use decoder::label as decoder_label;

/// File names a configuration may have, in order of preference.
const CONFIG_FILES: [&str; 2] = ["config.json", "open_clip_config.json"];

/// Everything a reader looks at.
struct Context<'a> {
    config: Node<'a>,
    preprocessor: Option<Document>,
    files: &'a WeightFiles,
}

/// A vision encoder with the image side and the policy that belong to it.
struct Vision {
    encoder: Encoder,
    resolution: usize,
    image: ImagePolicy,
    tiles: Option<Tiling>,
}

/// What a reader makes; the rest of the recipe follows from it.
#[derive(Default)]
struct Parts {
    vision: Option<Vision>,
    projector: Option<ProjectorKind>,
    decoder: Option<Decoder>,
    prompt: Option<&'static str>,
    image_token: Option<u32>,
}

type Reader = fn(&Context) -> Result<Parts>;

/// Readers by `model_type`, sorted.
const MODEL_TYPES: &[(&str, Reader)] = &[
    ("clip", |c| {
        encoder_only(vision::clip(c, &c.config.get("vision_config"), None)?)
    }),
    ("clip_vision_model", |c| {
        encoder_only(vision::clip(c, &c.config, None)?)
    }),
    ("convnext", |c| {
        encoder_only(vision::convnext(c, &c.config)?)
    }),
    ("dinov2", |c| encoder_only(vision::dinov2(c, &c.config)?)),
    ("fast_vlm", |c| transformers_vlm(c, "qwen_2", -1)),
    ("llama", |c| decoder_only(c, Kind::Llama)),
    ("llava", |c| {
        if c.config.get("mm_vision_tower").present() {
            // LLaVA-OneVision's are not told apart by `model_type`.
            match c.config.get("architectures").value().to_string() {
                names if names.contains("LlavaQwen") => original_llava(c, Kind::Qwen2, "qwen_2"),
                _ => original_llava(c, Kind::Llama, "vicuna_v1"),
            }
        } else {
            transformers_vlm(c, "vicuna_v1", -2)
        }
    }),
    ("llava_llama", |c| {
        original_llava(c, Kind::Llama, "vicuna_v1")
    }),
    ("llava_next", |c| {
        let mut parts = transformers_vlm(c, "vicuna_v1", -2)?;
        tiled(&mut parts, |side| tiles::next(c, side))?;
        Ok(parts)
    }),
    ("llava_onevision", |c| {
        let mut parts = transformers_vlm(c, "qwen_2", -1)?;
        tiled(&mut parts, |side| tiles::onevision(c, side))?;
        Ok(parts)
    }),
    ("llava_qwen", |c| original_llava(c, Kind::Qwen2, "qwen_2")),
    ("llava_qwen2", |c| original_llava(c, Kind::Qwen2, "qwen_2")),
    ("mobilevlm", |c| original_llava(c, Kind::Llama, "vicuna_v1")),
    ("qwen2", |c| decoder_only(c, Kind::Qwen2)),
    ("siglip", |c| {
        encoder_only(vision::siglip(c, &c.config.get("vision_config"), None)?)
    }),
    ("siglip_vision_model", |c| {
        encoder_only(vision::siglip(c, &c.config, None)?)
    }),
    ("timm_wrapper", |c| {
        encoder_only(vision::timm(c, &c.config)?)
    }),
];

/// Readers of configurations without `model_type`, by a key that only they have.
const MARKED: &[(&str, Reader)] = &[
    ("architecture", |c| {
        encoder_only(vision::timm(c, &c.config)?)
    }),
    ("image_cfg", |c| encoder_only(vision::mobileclip(c)?)),
    ("model_cfg", |c| encoder_only(vision::open_clip(c)?)),
];

/// Reads the configuration of the checkpoint in `folder`.
pub fn recipe_from_folder(folder: &Path) -> Result<Recipe> {
    let name = folder.file_name().map_or_else(
        || folder.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let Some(path) = CONFIG_FILES
        .iter()
        .map(|file| folder.join(file))
        .find(|path| path.is_file())
    else {
        return Err(CheckpointError::NoConfig {
            path: folder.join(CONFIG_FILES[0]),
        }
        .into());
    };
    let config = json::read(&path)?;
    // Graphs in place of weights: nothing to look into but the configuration.
    let files = match published::graphs(folder) {
        Some(_) => WeightFiles::none(folder),
        None => WeightFiles::open(folder)?,
    };
    let context = Context {
        config: config.root(),
        preprocessor: image::preprocessor(folder)?,
        files: &files,
    };
    let parts = reader(&config.root())?(&context)?;
    assemble(name, folder, parts)
}

fn reader(config: &Node) -> Result<Reader, CheckpointError> {
    let model_type = config.get("model_type");
    if model_type.present() {
        let given = model_type.str()?;
        let found = MODEL_TYPES.iter().find(|(name, _)| *name == given);
        return found.map(|(_, reader)| *reader).ok_or_else(|| {
            let known: Vec<&str> = MODEL_TYPES.iter().map(|(name, _)| *name).collect();
            model_type.error(format!(
                "no reader for this model type; known: {}",
                known.join(", ")
            ))
        });
    }
    let found = MARKED.iter().find(|(key, _)| config.get(key).present());
    found.map(|(_, reader)| *reader).ok_or_else(|| {
        let keys: Vec<&str> = MARKED.iter().map(|(key, _)| *key).collect();
        model_type.error(format!(
            "needed to know the model, or one of the keys {}",
            keys.join(", ")
        ))
    })
}

fn assemble(name: String, folder: &Path, parts: Parts) -> Result<Recipe> {
    let projector = match (&parts.vision, parts.projector, &parts.decoder) {
        (Some(vision), Some(kind), Some(decoder)) => Some(ProjectorConfig {
            d_in: vision.encoder.config.feature_dim(),
            d_out: decoder.config.hidden,
            kind,
            pooled: None,
            newline: vision.tiles.as_ref().is_some_and(Tiling::newline),
        }),
        _ => None,
    };
    let resolution = parts.vision.as_ref().map_or(0, |vision| vision.resolution);
    let (encoder, image, tiles) = match parts.vision {
        Some(vision) => (Some(vision.encoder), Some(vision.image), vision.tiles),
        None => (None, None, None),
    };
    let recipe = Recipe {
        name,
        encoder,
        resolution,
        image,
        towers: Vec::new(),
        tiles,
        projector,
        decoder: parts.decoder,
        prompt: PromptTemplate::named(parts.prompt.unwrap_or("plain"))?,
        image_token: parts.image_token,
        weights: Weights::Folder(folder.to_path_buf()),
    };
    if recipe.encoder.is_some() {
        recipe.check_vision()?;
    }
    if let Some(decoder) = &recipe.decoder {
        decoder.config.check()?;
    }
    Ok(recipe)
}

fn encoder_only(vision: Vision) -> Result<Parts> {
    Ok(Parts {
        vision: Some(vision),
        ..Parts::default()
    })
}

fn decoder_only(c: &Context, kind: Kind) -> Result<Parts> {
    Ok(Parts {
        decoder: Some(decoder::read(c, &c.config, kind)?),
        ..Parts::default()
    })
}

/// `llava` and `fast_vlm` of transformers: nested `vision_config` and
/// `text_config`.
fn transformers_vlm(c: &Context, prompt: &'static str, default_layer: i64) -> Result<Parts> {
    let (vision_config, text_config) = (c.config.get("vision_config"), c.config.get("text_config"));
    let layer = match c.config.get("vision_feature_layer").optional() {
        Some(node) => node.i64()?,
        None => default_layer,
    };
    let vision_type = vision_config
        .get("model_type")
        .optional()
        .map(|node| node.str())
        .transpose()?;
    let vision = match (vision_type, default_layer) {
        (Some("timm_wrapper"), _) | (None, -1) => vision::timm(c, &vision_config)?,
        (Some("clip_vision_model") | None, _) => {
            selects(c, "default", "(without the class token) is supported")?;
            vision::clip(c, &vision_config, Some(layer))?
        }
        (Some("siglip_vision_model"), _) => {
            let why = "is supported: this vision tower has no class token to drop";
            selects(c, "full", why)?;
            vision::siglip(c, &vision_config, Some(layer))?
        }
        (Some(_), _) => {
            let problem = "no reader for this vision tower; known: clip_vision_model, siglip_vision_model, timm_wrapper";
            return Err(vision_config.get("model_type").error(problem).into());
        }
    };
    let kind = match text_config.get("model_type").optional() {
        Some(node) => Kind::named(&node)?,
        None if default_layer == -1 => Kind::Qwen2,
        None => Kind::Llama,
    };
    let act = c.config.get("projector_hidden_act");
    if act.present() && act.str()? != "gelu" {
        return Err(act.error("only the exact `gelu` is supported").into());
    }
    let bias = c.config.get("multimodal_projector_bias");
    if bias.present() && !bias.bool()? {
        return Err(bias
            .error("a projector without bias is not supported")
            .into());
    }
    Ok(Parts {
        vision: Some(vision),
        projector: Some(ProjectorKind::Mlp { depth: 2 }),
        decoder: Some(decoder::read(c, &text_config, kind)?),
        prompt: Some(if kind == Kind::Qwen2 {
            "qwen_2"
        } else {
            prompt
        }),
        image_token: image_token(c)?.or(Some(if kind == Kind::Qwen2 { 151_646 } else { 32_000 })),
    })
}

/// Gives the vision of `parts` the tiling that `read` finds for its side.
fn tiled(parts: &mut Parts, read: impl Fn(usize) -> Result<Tiling>) -> Result<()> {
    if let Some(vision) = &mut parts.vision {
        vision.tiles = Some(read(vision.resolution)?);
    }
    Ok(())
}

/// Errors unless the features of a vision tower are selected as `only` says, or
/// nothing is said.
fn selects(c: &Context, only: &str, why: &str) -> Result<(), CheckpointError> {
    let strategy = c.config.get("vision_feature_select_strategy");
    if strategy.present() && strategy.str()? != only {
        return Err(strategy.error(format!("only `{only}` {why}")));
    }
    Ok(())
}

/// LLaVA's own configs, FastVLM's among them: flat, with `mm_*` keys.
fn original_llava(c: &Context, kind: Kind, prompt: &'static str) -> Result<Parts> {
    let projector = c.config.get("mm_projector_type");
    let wanted = match projector.clone().optional() {
        Some(node) => recipe::projector_kind(node.str()?).map_err(|e| node.error(e.to_string()))?,
        None => ProjectorKind::Mlp { depth: 1 },
    };
    let vision = tower::llava_tower(c)?;
    let width = c.config.get("mm_hidden_size");
    let features = vision.encoder.config.feature_dim();
    if width.present() && width.usize()? != features {
        let problem = format!(
            "the vision tower has {features} channels; a variant is described by timm's names under `model_args`"
        );
        return Err(width.error(problem).into());
    }
    let decoder = decoder::read(c, &c.config, kind)?;
    // Ids prepared by transformers' port of FastVLM repeat this one, which
    // Qwen2 has no other use for in a prompt.
    let of_port = (kind == Kind::Qwen2 && decoder.config.vocab > 151_646).then_some(151_646);
    Ok(Parts {
        vision: Some(vision),
        projector: Some(wanted),
        decoder: Some(decoder),
        prompt: Some(prompt),
        image_token: image_token(c)?.or(of_port),
    })
}

/// The token that stands for a visual token. LLaVA's own code has none: it
/// splits the prompt text at `<image>` instead.
fn image_token(c: &Context) -> Result<Option<u32>, CheckpointError> {
    let node = c.config.first(&["image_token_index", "image_token_id"]);
    // LLaVA writes its sentinel -200 into some configs; it is no row of the table.
    let Some(node) = node
        .optional()
        .filter(|node| node.value().as_i64() != Some(-200))
    else {
        return Ok(None);
    };
    u32::try_from(node.usize()?)
        .map(Some)
        .map_err(|_| node.error("is too large for a token id"))
}
