//! The networks, each written once over [`Ops`], and the
//! registries that name their published sizes.
//!
//! A network is a configuration (plain numbers) and one function. It knows the
//! inference form only; which checkpoint layouts map onto its canonical
//! parameter names is the business of [`crate::checkpoint`].

pub mod convnext;
pub mod decoder;
pub mod fastvit;
pub mod projector;
pub mod registry;
pub mod vit;

use crate::error::Result;
use crate::ops::{Ops, Shape};

pub use convnext::ConvNextConfig;
pub use decoder::DecoderConfig;
pub use fastvit::FastVitConfig;
pub use projector::{ProjectorConfig, ProjectorKind};
pub use vit::VitConfig;

/// A vision encoder with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum EncoderConfig {
    /// A plain vision transformer.
    Vit(VitConfig),
    /// A FastViT-family hybrid.
    FastVit(FastVitConfig),
    /// A ConvNeXt.
    ConvNext(ConvNextConfig),
}

impl EncoderConfig {
    /// Channels of the features handed to the projector.
    pub fn feature_dim(&self) -> usize {
        match self {
            EncoderConfig::Vit(c) => c.hidden,
            EncoderConfig::FastVit(c) => c.feature_dim(),
            EncoderConfig::ConvNext(c) => c.feature_dim(),
        }
    }

    /// Visual tokens for an input of `height` x `width` pixels, or an error
    /// naming the sizes that the network admits.
    pub fn visual_tokens(&self, height: usize, width: usize) -> Result<usize> {
        match self {
            EncoderConfig::Vit(c) => c.visual_tokens(height, width),
            EncoderConfig::FastVit(c) => c.visual_tokens(height, width),
            EncoderConfig::ConvNext(c) => c.visual_tokens(height, width),
        }
    }

    /// Runs the encoder on pixels `(b, 3, h, w)`; features `(b, tokens, dim)`.
    pub fn forward<O: Ops>(&self, o: &mut O, pixels: &O::V) -> Result<O::V> {
        if let Shape::Map { h, w, .. } = o.shape(pixels) {
            self.visual_tokens(h, w)?;
        }
        match self {
            EncoderConfig::Vit(c) => vit::forward(o, c, pixels),
            EncoderConfig::FastVit(c) => fastvit::forward(o, c, pixels),
            EncoderConfig::ConvNext(c) => convnext::forward(o, c, pixels),
        }
    }
}
