//! Multi-scale features: outputs of an encoder's stages, pooled to the grid of
//! the last, beside its features (FastVLM, arXiv 2412.13303, Table 2).
//!
//! The paper leaves open how they are pooled. Here windows do not overlap: kernel
//! and stride are the ratio of the grids, such as 8, 4 and 2. Channels are those
//! of the stages in their order, then those of the features.

use serde::{Deserialize, Serialize};

use super::EncoderConfig;
use crate::error::{Error, Result};
use crate::ops::{Act, Depthwise, Ops, Pool};

/// How a stage's output becomes smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// By means.
    Average,
    /// By a learned depthwise convolution with bias.
    Depthwise,
}

impl Pooling {
    /// Name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Average => "average",
            Pooling::Depthwise => "depthwise",
        }
    }
}

/// An encoder of which several stages are read.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiScaleConfig {
    encoder: Box<EncoderConfig>,
    stages: Vec<usize>,
    pool: Pooling,
}

impl MultiScaleConfig {
    /// `encoder` with the outputs of `stages` (from 0) beside its features; an
    /// error unless it has stages and these are some before the last, in order.
    pub fn around(
        encoder: EncoderConfig,
        stages: &[usize],
        pool: Pooling,
    ) -> Result<EncoderConfig> {
        let (dims, _) = staged(&encoder)?;
        let last = dims.len() - 1;
        let ordered = stages.windows(2).all(|pair| pair[0] < pair[1]);
        if stages.is_empty() || !ordered || stages.iter().any(|stage| *stage >= last) {
            return Err(Error::Config {
                what: "features.stages".into(),
                value: format!("{stages:?}"),
                problem: format!("must be some of the stages 0 to {}, in order", last - 1),
            });
        }
        Ok(EncoderConfig::MultiScale(MultiScaleConfig {
            encoder: Box::new(encoder),
            stages: stages.to_vec(),
            pool,
        }))
    }

    /// The encoder.
    pub fn encoder(&self) -> &EncoderConfig {
        &self.encoder
    }

    /// How stages' outputs are pooled.
    pub fn pool(&self) -> Pooling {
        self.pool
    }

    /// Channels of the stages and of the features.
    pub fn feature_dim(&self) -> usize {
        let dims = staged(&self.encoder).map_or(&[][..], |(dims, _)| dims);
        let scales: usize = self.stages.iter().map(|stage| dims[*stage]).sum();
        scales + self.encoder.feature_dim()
    }

    /// Visual tokens; sides must be multiples of the last grid's stride, so that
    /// every stage's windows fill its map.
    pub fn visual_tokens(&self, height: usize, width: usize) -> Result<usize> {
        let (_, stride) = staged(&self.encoder)?;
        let fits = |side: usize| side > 0 && side.is_multiple_of(stride);
        if !fits(height) || !fits(width) {
            return Err(Error::Config {
                what: "resolution".into(),
                value: format!("{height}x{width}"),
                problem: format!(
                    "has no whole windows for multi-scale features; use a multiple of {stride}"
                ),
            });
        }
        self.encoder.visual_tokens(height, width)
    }
}

/// Channels of an encoder's stages, and input pixels per position of the last.
pub(super) fn staged(encoder: &EncoderConfig) -> Result<(&[usize], usize)> {
    match encoder {
        EncoderConfig::FastVit(c) => Ok((&c.embed_dims, c.stride())),
        EncoderConfig::ConvNext(c) => Ok((&c.dims, c.stride())),
        EncoderConfig::Vit(_)
        | EncoderConfig::Vitamin(_)
        | EncoderConfig::MultiScale(_)
        | EncoderConfig::Towers(_) => Err(no_stages()),
    }
}

/// The error for an encoder without stages.
pub(super) fn no_stages() -> Error {
    Error::Config {
        what: "features".into(),
        value: "(given)".into(),
        problem: "needs an encoder whose stages have a grid each: FastViT, FastViTHD or ConvNeXt"
            .into(),
    }
}

/// Pixels `(b, 3, h, w)` to features, a map of `feature_dim` channels.
pub fn forward<O: Ops>(o: &mut O, c: &MultiScaleConfig, pixels: &O::V) -> Result<O::V> {
    let (dims, _) = staged(&c.encoder)?;
    let last = dims.len() - 1;
    let mut maps = Vec::new();
    // Each is pooled where it is made, so that no large map is kept.
    let features = c.encoder.stages(o, pixels, |o, stage, x| {
        if c.stages.contains(&stage) {
            o.stage("scales");
            maps.push(pooled(
                o,
                c.pool,
                stage,
                dims[stage],
                1 << (last - stage),
                x,
            )?);
        }
        Ok(())
    })?;
    maps.push(features);
    o.stage("scales");
    o.concat_channels(&maps)
}

/// A stage's output, `ratio` times smaller.
fn pooled<O: Ops>(
    o: &mut O,
    pool: Pooling,
    stage: usize,
    channels: usize,
    ratio: usize,
    x: &O::V,
) -> Result<O::V> {
    let learned = Depthwise {
        name: format!("scales.{stage}"),
        channels,
        multiplier: 1,
        kernel: ratio,
        stride: ratio,
        padding: 0,
        act: Act::None,
    };
    match pool {
        Pooling::Average => o.average_pool(x, Pool::squares(ratio)),
        Pooling::Depthwise => o.depthwise(x, &learned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::registry::{ENCODERS, find};

    fn around(encoder: &str, stages: &[usize]) -> Result<EncoderConfig> {
        let config = (find("encoder", ENCODERS, encoder).unwrap().config)();
        MultiScaleConfig::around(config, stages, Pooling::Average)
    }

    #[test]
    fn stages_must_be_there_before_the_last_and_in_order() {
        for stages in [&[][..], &[0, 3], &[1, 0], &[1, 1]] {
            let e = around("fastvit-mci2", stages).unwrap_err().to_string();
            assert!(e.contains("stages 0 to 2"), "{e}");
        }
        for encoder in ["clip-vit-l-14-336", "vitamin-l-384"] {
            let e = around(encoder, &[0]).unwrap_err().to_string();
            assert!(e.contains("FastViTHD or ConvNeXt"), "{e}");
        }
    }

    #[test]
    fn widths_add_up_and_sides_are_multiples_of_the_stride() {
        let hd = around("fastvithd", &[0, 1, 2, 3]).unwrap();
        assert_eq!(hd.feature_dim(), 96 + 192 + 384 + 768 + 3072);
        assert_eq!(hd.visual_tokens(1024, 1024).ok(), Some(256));
        let e = hd.visual_tokens(1000, 1024).unwrap_err().to_string();
        assert!(e.contains("multiple of 64"), "{e}");
        let convnext = around("convnext-l", &[2]).unwrap();
        assert_eq!(convnext.feature_dim(), 768 + 1536);
    }
}
