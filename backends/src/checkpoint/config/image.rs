//! Image policies from preprocessor configurations.

use std::path::Path;

use super::super::CheckpointError;
use super::super::json::{self, Document, Node};
use super::Context;
use crate::image::policy::{CropOffset, Geometry};
use crate::image::{ImagePolicy, Interpolation};

/// From this side on, transformers' ConvNeXt processor does not crop.
const CONVNEXT_SQUASHED: usize = 384;

/// The image side and policy that a checkpoint asks for, where it says so.
pub(super) struct Preprocessing {
    /// Side in pixels.
    pub(super) side: Option<usize>,
    /// How an image gets there.
    pub(super) policy: ImagePolicy,
}

/// The preprocessor configuration of a folder, if it has one.
pub(super) fn preprocessor(folder: &Path) -> Result<Option<Document>, CheckpointError> {
    match json::read_optional(&folder.join("preprocessor_config.json"))? {
        Some(document) => Ok(Some(document)),
        None => json::read_optional(&folder.join("processor_config.json")),
    }
}

/// What the folder's image processor does; `default` where it says nothing.
pub(super) fn of_processor(
    c: &Context,
    default: ImagePolicy,
) -> Result<Preprocessing, CheckpointError> {
    let Some(document) = &c.preprocessor else {
        return Ok(Preprocessing {
            side: None,
            policy: default,
        });
    };
    let root = document.root();
    // transformers 5 nests the image processor in the processor's configuration.
    let node = root.get("image_processor").optional().unwrap_or(root);
    let mut policy = default;
    let flag = |key: &str, default: bool| match node.get(key).optional() {
        Some(node) => node.bool(),
        None => Ok(default),
    };
    if flag("do_normalize", true)? {
        if let Some(mean) = node.get("image_mean").optional() {
            policy.mean = mean.triple()?;
        }
        if let Some(std) = node.get("image_std").optional() {
            policy.std = std.triple()?;
        }
    } else {
        (policy.mean, policy.std) = ([0.0; 3], [1.0; 3]);
    }
    if let Some(resample) = node.get("resample").optional() {
        policy.interpolation = match resample.usize()? {
            2 => Interpolation::Bilinear,
            3 => Interpolation::Bicubic,
            _ => return Err(resample.error("only 2 (bilinear) and 3 (bicubic) are supported")),
        };
    }
    if let Some(factor) = node.get("rescale_factor").optional()
        && (factor.f64()? * 255.0 - 1.0).abs() > 1e-6
    {
        return Err(factor.error("only 1/255 is supported"));
    }
    let (crop, size) = (node.get("crop_size"), node.get("size"));
    // Processors that never crop do not mention it.
    let cropped = flag("do_center_crop", policy.geometry == Geometry::CenterCrop)?;
    let (share, edge) = (node.get("crop_pct"), square(&size)?);
    if share.present() && edge.is_some_and(|edge| edge < CONVNEXT_SQUASHED) {
        policy.geometry = Geometry::CenterCrop;
        policy.crop_fraction = share.f64()?;
    } else if share.present() {
        policy.geometry = Geometry::Squash;
    } else if flag("do_pad", false)? {
        policy.geometry = Geometry::PadMean;
    } else if !cropped && size.get("height").present() {
        policy.geometry = Geometry::Squash;
    }
    let side = match square(&crop)? {
        Some(side) if cropped => {
            // The shorter edge may be longer than the crop.
            if let Some(edge) = edge.filter(|edge| *edge != side && *edge > 0) {
                policy.crop_fraction = side as f64 / edge as f64;
            }
            Some(side)
        }
        _ => edge,
    };
    Ok(Preprocessing { side, policy })
}

/// A side given as a number, `{height, width}` or `{shortest_edge}`.
fn square(node: &Node) -> Result<Option<usize>, CheckpointError> {
    if !node.present() {
        return Ok(None);
    }
    if node.value().is_number() {
        return node.usize().map(Some);
    }
    let (height, width) = (node.get("height"), node.get("width"));
    if height.present() && width.present() {
        if height.usize()? != width.usize()? {
            return Err(node.error("only square inputs are supported"));
        }
        return height.usize().map(Some);
    }
    node.get("shortest_edge")
        .optional()
        .map(|node| node.usize())
        .transpose()
}

/// timm's `pretrained_cfg`, or MobileCLIP's preprocessing where it is absent.
pub(super) fn of_timm(pretrained: &Node) -> Result<Preprocessing, CheckpointError> {
    let mut policy = ImagePolicy::mobileclip();
    policy.crop_offset = CropOffset::HalfEven;
    if let Some(mean) = pretrained.get("mean").optional() {
        policy.mean = mean.triple()?;
    }
    if let Some(std) = pretrained.get("std").optional() {
        policy.std = std.triple()?;
    }
    if let Some(filter) = pretrained.get("interpolation").optional() {
        policy.interpolation = interpolation(&filter)?;
    }
    if let Some(share) = pretrained.get("crop_pct").optional() {
        policy.crop_fraction = share.f64()?;
    }
    let side = match pretrained.get("input_size").optional() {
        Some(size) => Some(size.triple()?[1] as usize),
        None => None,
    };
    Ok(Preprocessing { side, policy })
}

/// A filter by name, as timm and OpenCLIP write it.
pub(super) fn interpolation(node: &Node) -> Result<Interpolation, CheckpointError> {
    match node.str()? {
        "bicubic" => Ok(Interpolation::Bicubic),
        "bilinear" => Ok(Interpolation::Bilinear),
        _ => Err(node.error("only `bicubic` and `bilinear` are supported")),
    }
}
