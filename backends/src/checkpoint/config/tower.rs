//! The vision towers that LLaVA's own configurations name.

use std::path::Path;

use super::super::files::TOWER;
use super::super::json;
use super::image;
use super::vision::{FEATURE_LAYER, clip, convnext, named, siglip, timm_entry, with_model_args};
use super::{Context, Vision, tiles};
use crate::error::Result;
use crate::image::ImagePolicy;
use crate::image::policy::Geometry;
use crate::nets::EncoderConfig;
use crate::nets::registry::ENCODERS;
use crate::recipe::hidden_state;

/// The tower that LLaVA's own configs name in `mm_vision_tower`. Small variants
/// are described by an extension of ours: `model_args` beside it, in timm's
/// names, for FastViTHD; `vision_config`, as transformers writes it, for CLIP and
/// SigLIP.
pub(super) fn llava_tower(c: &Context) -> Result<Vision> {
    let tower = c.config.get("mm_vision_tower");
    let path = tower.str()?;
    let name = path.rsplit('/').next().unwrap_or(path);
    let beside = c.files.folder().join(TOWER).join("config.json");
    let mut vision = if beside.is_file() {
        saved_tower(c, &beside)?
    } else if let Some(side) = name.strip_prefix("mobileclip_l_") {
        // The name carries the input side after its last underscore.
        let side = side
            .parse()
            .map_err(|_| tower.error("the input side must follow the last underscore"))?;
        let entry = timm_entry(&tower, "fastvithd")?;
        let preprocessing = image::of_processor(c, ImagePolicy::fastvlm_crop())?;
        Vision {
            resolution: side,
            image: preprocessing.policy,
            tiles: None,
            encoder: named(with_model_args(
                (entry.config)(),
                &c.config.get("model_args"),
            )?),
        }
    } else if name.starts_with("clip-vit-large-patch14") {
        let feature = c.config.get("mm_vision_select_feature");
        if feature.present() && feature.str()? != "patch" {
            return Err(feature
                .error("only `patch` (without the class token) is supported")
                .into());
        }
        let layer = match c.config.get("mm_vision_select_layer").optional() {
            Some(node) => node.i64()?,
            None => FEATURE_LAYER,
        };
        let described = c.config.get("vision_config");
        if described.present() {
            clip(c, &described, Some(layer))?
        } else {
            let side = if name.ends_with("-336") { 336 } else { 224 };
            registered(
                c,
                &format!("clip-vit-l-14-{side}"),
                layer,
                ImagePolicy::clip(),
            )?
        }
    } else if name == "siglip-so400m-patch14-384" {
        // The number of the layer is not looked at there.
        let described = c.config.get("vision_config");
        if described.present() {
            siglip(c, &described, Some(FEATURE_LAYER))?
        } else {
            let name = "siglip-so400m-14-384";
            registered(c, name, FEATURE_LAYER, ImagePolicy::siglip())?
        }
    } else {
        let known = "known: mobileclip_l_<side>, clip-vit-large-patch14, clip-vit-large-patch14-336, siglip-so400m-patch14-384, \
                     and a ConvNeXt in a folder vision_tower";
        return Err(tower
            .error(format!("no reader for this vision tower; {known}"))
            .into());
    };
    vision.tiles = tiles::of_llava(c, vision.resolution)?;
    let aspect = c.config.get("image_aspect_ratio");
    match aspect
        .clone()
        .optional()
        .map(|node| node.str())
        .transpose()?
    {
        None | Some("square") => {}
        // One of several images is padded.
        Some(_) if vision.tiles.is_some() => vision.image.geometry = Geometry::PadMean,
        // Without a mean, the mean colour is black.
        Some("pad") if vision.image.mean == [0.0; 3] => vision.image.geometry = Geometry::PadBlack,
        Some("pad") => vision.image.geometry = Geometry::PadMean,
        Some(_) => {
            let known = "only `pad`, `square`, `anyres` and `anyres_max_<tiles>` are supported";
            return Err(aspect.error(known).into());
        }
    }
    Ok(vision)
}

/// A ConvNeXt that ConvLLaVA's code saves in a folder of its own, with its fifth
/// stage in its configuration.
fn saved_tower(c: &Context, path: &Path) -> Result<Vision> {
    let config = json::read(path)?;
    let own = Context {
        config: config.root(),
        preprocessor: image::preprocessor(&c.files.folder().join(TOWER))?,
        files: c.files,
    };
    let model = own.config.get("model_type");
    if model.str()? != "convnext" {
        return Err(model
            .error("only `convnext` is supported beside a language model")
            .into());
    }
    let mut vision = convnext(&own, &own.config)?;
    if let EncoderConfig::ConvNext(tower) = &mut vision.encoder.config {
        let layer = c.config.get("mm_vision_select_layer");
        match layer
            .clone()
            .optional()
            .map(|node| node.i64())
            .transpose()?
        {
            None | Some(-1) => {}
            // The last block is taken off there.
            Some(-2) => *tower.depths.last_mut().unwrap_or(&mut 0) -= 1,
            Some(_) => return Err(layer.error("only -1 and -2 are supported").into()),
        }
        tower.check()?;
    }
    if let Some(side) = c.config.get("mm_vision_resolution").optional() {
        vision.resolution = side.usize()?;
    }
    Ok(vision)
}

/// The published vision transformer `name`, read at `layer`.
fn registered(c: &Context, name: &str, layer: i64, image: ImagePolicy) -> Result<Vision> {
    let entry = crate::nets::registry::find("vision encoder", ENCODERS, name)?;
    let config = match (entry.config)() {
        EncoderConfig::Vit(mut config) => {
            config.layers_run = hidden_state(config.layers, layer)?;
            EncoderConfig::Vit(config)
        }
        other => other,
    };
    let preprocessing = image::of_processor(c, image)?;
    Ok(Vision {
        resolution: entry.resolution,
        image: preprocessing.policy,
        tiles: None,
        encoder: named(config),
    })
}
