//! The networks, each written once over [`Ops`], and the
//! registries that name their published sizes.
//!
//! A network is a configuration (plain numbers) and one function. It knows the
//! inference form only; which checkpoint layouts map onto its canonical
//! parameter names is the business of [`crate::checkpoint`].

pub mod convnext;
pub mod decoder;
pub mod fastvit;
pub mod multiscale;
pub mod projector;
pub mod registry;
pub mod sva;
pub mod towers;
pub mod vit;
pub mod vitamin;

use crate::error::Result;
use crate::ops::{Ops, Shape};

pub use convnext::ConvNextConfig;
pub use decoder::{DecoderConfig, Past};
pub use fastvit::FastVitConfig;
pub use multiscale::{MultiScaleConfig, Pooling};
pub use projector::{ProjectorConfig, ProjectorKind};
pub use sva::SvaConfig;
pub use towers::{Tower, TowersConfig};
pub use vit::VitConfig;
pub use vitamin::VitaminConfig;

/// A vision encoder with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum EncoderConfig {
    /// A plain vision transformer.
    Vit(VitConfig),
    /// A vision transformer behind convolutional stages.
    Vitamin(VitaminConfig),
    /// A FastViT-family hybrid.
    FastVit(FastVitConfig),
    /// A ConvNeXt.
    ConvNext(ConvNextConfig),
    /// One with stages, of which several are read.
    MultiScale(MultiScaleConfig),
    /// Several encoders on one image.
    Towers(TowersConfig),
}

impl EncoderConfig {
    /// Channels of the features handed to the projector.
    pub fn feature_dim(&self) -> usize {
        match self {
            EncoderConfig::Vit(c) => c.hidden,
            EncoderConfig::Vitamin(c) => c.vit.hidden,
            EncoderConfig::FastVit(c) => c.feature_dim(),
            EncoderConfig::ConvNext(c) => c.feature_dim(),
            EncoderConfig::MultiScale(c) => c.feature_dim(),
            // Of all of them; the connector takes each apart.
            EncoderConfig::Towers(c) => c.towers.iter().map(Tower::feature_dim).sum(),
        }
    }

    /// Visual tokens for an input of `height` x `width` pixels, or an error
    /// naming the sizes that the network admits.
    pub fn visual_tokens(&self, height: usize, width: usize) -> Result<usize> {
        match self {
            EncoderConfig::Vit(c) => c.visual_tokens(height, width),
            EncoderConfig::Vitamin(c) => c.vit.visual_tokens(height, width),
            EncoderConfig::FastVit(c) => c.visual_tokens(height, width),
            EncoderConfig::ConvNext(c) => c.visual_tokens(height, width),
            EncoderConfig::MultiScale(c) => c.visual_tokens(height, width),
            EncoderConfig::Towers(c) => c.visual_tokens(height, width),
        }
    }

    /// The transformer whose learned positions fix the input's side, if there
    /// is one.
    pub fn vit(&self) -> Option<&VitConfig> {
        match self {
            EncoderConfig::Vit(c) => Some(c),
            EncoderConfig::Vitamin(c) => Some(&c.vit),
            EncoderConfig::FastVit(_)
            | EncoderConfig::ConvNext(_)
            | EncoderConfig::MultiScale(_)
            | EncoderConfig::Towers(_) => None,
        }
    }

    /// The published network: the encoder itself, or that whose stages are read.
    pub fn network(&self) -> &EncoderConfig {
        match self {
            EncoderConfig::MultiScale(c) => c.encoder(),
            other => other,
        }
    }

    /// Runs the encoder on pixels `(b, 3, h, w)`; features `(b, tokens, dim)`.
    pub fn forward<O: Ops>(&self, o: &mut O, pixels: &O::V) -> Result<O::V> {
        if let Shape::Map { h, w, .. } = o.shape(pixels) {
            self.visual_tokens(h, w)?;
        }
        let map = match self {
            EncoderConfig::Vit(c) => return vit::forward(o, c, pixels),
            EncoderConfig::Vitamin(c) => return vitamin::forward(o, c, pixels),
            EncoderConfig::MultiScale(c) => multiscale::forward(o, c, pixels)?,
            EncoderConfig::Towers(_) => return Err(towers::several()),
            EncoderConfig::FastVit(_) | EncoderConfig::ConvNext(_) => {
                self.stages(o, pixels, |_, _, _| Ok(()))?
            }
        };
        o.to_tokens(&map)
    }

    /// Shapes of the inputs of an image, `batch` of each.
    pub fn inputs(&self, side: usize, batch: usize) -> Vec<Shape> {
        let input = |side| Shape::Map {
            b: batch,
            c: 3,
            h: side,
            w: side,
        };
        match self {
            EncoderConfig::Towers(c) => c.towers.iter().map(|t| input(t.side)).collect(),
            _ => vec![input(side)],
        }
    }

    /// Runs the encoder, or all of several, on an image's `inputs`: features
    /// `(b, tokens, dim)` an encoder.
    pub fn encode<O: Ops>(&self, o: &mut O, inputs: &[O::V]) -> Result<Vec<O::V>> {
        match (self, inputs) {
            (EncoderConfig::Towers(c), inputs) => towers::forward(o, c, inputs),
            (encoder, [pixels]) => Ok(vec![encoder.forward(o, pixels)?]),
            _ => Err(towers::several()),
        }
    }

    /// Runs an encoder that has stages on pixels `(b, 3, h, w)`, showing `seen`
    /// the output of each; its features, a map.
    fn stages<O: Ops>(
        &self,
        o: &mut O,
        pixels: &O::V,
        seen: impl FnMut(&mut O, usize, &O::V) -> Result<()>,
    ) -> Result<O::V> {
        match self {
            EncoderConfig::FastVit(c) => fastvit::forward(o, c, pixels, seen),
            EncoderConfig::ConvNext(c) => convnext::forward(o, c, pixels, seen),
            EncoderConfig::Vit(_)
            | EncoderConfig::Vitamin(_)
            | EncoderConfig::MultiScale(_)
            | EncoderConfig::Towers(_) => Err(multiscale::no_stages()),
        }
    }
}
