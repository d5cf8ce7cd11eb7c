//! What of a named network a recipe changes.

use serde::{Deserialize, Serialize};

use super::Encoder;
use crate::error::{Error, Result};
use crate::nets::sva::{Samplers, SvaTower};
use crate::nets::{
    DecoderConfig, EncoderConfig, MultiScaleConfig, Pooling, SvaConfig, Tower, VitConfig,
};

/// Numbers that replace those of a named encoder; the names are timm's
/// `model_args`. A key that the encoder's family does not have is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderArgs {
    /// Blocks per stage (FastViT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Channels per stage (FastViT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed_dims: Option<Vec<usize>>,
    /// Feed-forward expansion per stage (FastViT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlp_ratios: Option<Vec<f64>>,
    /// `repmixer` or `attention` per stage (FastViT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_mixers: Option<Vec<String>>,
    /// Squeeze and excitation per downsampling (FastViT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub se_downsamples: Option<Vec<bool>>,
    /// Conditional position encoding per stage (FastViT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pos_embs: Option<Vec<bool>>,
    /// Width of the final convolution over the last stage's (FastViT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cls_ratio: Option<f64>,
    /// Activation after the large-kernel convolution (FastViT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lkc_use_act: Option<bool>,
    /// Blocks per stage (ConvNeXt), per convolutional stage (ViTamin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depths: Option<Vec<usize>>,
    /// Channels per stage (ConvNeXt), per convolutional stage (ViTamin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dims: Option<Vec<usize>>,
    /// Channels of the stem (ViTamin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem_width: Option<usize>,
    /// Width (ViT, ViTamin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<usize>,
    /// Layers of the published network (ViT, ViTamin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_hidden_layers: Option<usize>,
    /// Layer whose output is read, counted as transformers' `hidden_states`
    /// (-1 is the last layer, -2 the one before) (ViT, ViTamin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_layer: Option<i64>,
    /// Whether the last norm is applied to what is read (ViT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_norm: Option<bool>,
    /// Attention heads (ViT, ViTamin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_attention_heads: Option<usize>,
    /// Hidden width of the MLP (ViT, ViTamin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<usize>,
    /// Patch side (ViT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_size: Option<usize>,
    /// Side for which positions were learned (ViT, ViTamin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
}

impl EncoderArgs {
    /// Replaces the numbers given here in `config`.
    pub fn apply(&self, config: EncoderConfig) -> Result<EncoderConfig> {
        use crate::nets::fastvit::Mixer;
        const FASTVIT: &[&str] = &["FastViT"];
        const CONVNEXT: &[&str] = &["ConvNeXt", "ViTamin"];
        const VIT: &[&str] = &["ViT", "ViTamin"];
        let given = [
            ("layers", self.layers.is_some(), FASTVIT),
            ("embed_dims", self.embed_dims.is_some(), FASTVIT),
            ("mlp_ratios", self.mlp_ratios.is_some(), FASTVIT),
            ("token_mixers", self.token_mixers.is_some(), FASTVIT),
            ("se_downsamples", self.se_downsamples.is_some(), FASTVIT),
            ("pos_embs", self.pos_embs.is_some(), FASTVIT),
            ("cls_ratio", self.cls_ratio.is_some(), FASTVIT),
            ("lkc_use_act", self.lkc_use_act.is_some(), FASTVIT),
            ("depths", self.depths.is_some(), CONVNEXT),
            ("dims", self.dims.is_some(), CONVNEXT),
            ("stem_width", self.stem_width.is_some(), &["ViTamin"]),
            ("hidden_size", self.hidden_size.is_some(), VIT),
            ("num_hidden_layers", self.num_hidden_layers.is_some(), VIT),
            ("feature_layer", self.feature_layer.is_some(), VIT),
            ("post_norm", self.post_norm.is_some(), VIT),
            (
                "num_attention_heads",
                self.num_attention_heads.is_some(),
                VIT,
            ),
            ("intermediate_size", self.intermediate_size.is_some(), VIT),
            ("patch_size", self.patch_size.is_some(), &["ViT"]),
            ("image_size", self.image_size.is_some(), VIT),
        ];
        let family = match &config {
            EncoderConfig::FastVit(_) => "FastViT",
            EncoderConfig::ConvNext(_) => "ConvNeXt",
            EncoderConfig::Vit(_) => "ViT",
            EncoderConfig::Vitamin(_) => "ViTamin",
            EncoderConfig::MultiScale(_) => "multi-scale",
            EncoderConfig::Towers(_) => "several",
        };
        let other = |of: &[&str]| !of.contains(&family);
        if let Some((what, ..)) = given.iter().find(|(_, given, of)| *given && other(of)) {
            return Err(Error::Config {
                what: format!("encoder_args.{what}"),
                value: "(given)".into(),
                problem: format!("is not an argument of {family} encoders"),
            });
        }
        match config {
            EncoderConfig::ConvNext(mut c) => {
                c.depths = self.depths.clone().unwrap_or(c.depths);
                c.dims = self.dims.clone().unwrap_or(c.dims);
                c.check()?;
                Ok(EncoderConfig::ConvNext(c))
            }
            EncoderConfig::FastVit(mut c) => {
                fn set<T: Clone>(to: &mut T, from: &Option<T>) {
                    if let Some(v) = from {
                        *to = v.clone();
                    }
                }
                set(&mut c.layers, &self.layers);
                set(&mut c.embed_dims, &self.embed_dims);
                set(&mut c.mlp_ratios, &self.mlp_ratios);
                set(&mut c.se_downsamples, &self.se_downsamples);
                set(&mut c.position_encodings, &self.pos_embs);
                set(&mut c.cls_ratio, &self.cls_ratio);
                set(&mut c.large_kernel_act, &self.lkc_use_act);
                if let Some(mixers) = &self.token_mixers {
                    c.mixers = mixers
                        .iter()
                        .map(|m| match m.as_str() {
                            "repmixer" => Ok(Mixer::Rep),
                            "attention" => Ok(Mixer::Attention),
                            other => Err(Error::Config {
                                what: "encoder_args.token_mixers".into(),
                                value: other.into(),
                                problem: "is neither `repmixer` nor `attention`".into(),
                            }),
                        })
                        .collect::<Result<_>>()?;
                }
                c.check()?;
                Ok(EncoderConfig::FastVit(c))
            }
            EncoderConfig::Vit(c) => self.apply_to_vit(c).map(EncoderConfig::Vit),
            EncoderConfig::Vitamin(mut c) => {
                c.stem = self.stem_width.unwrap_or(c.stem);
                c.depths = self.depths.clone().unwrap_or(c.depths);
                c.dims = self.dims.clone().unwrap_or(c.dims);
                c.vit = self.apply_to_vit(c.vit)?;
                c.vit.patch = c.stride();
                c.check()?;
                Ok(EncoderConfig::Vitamin(c))
            }
            // Arguments are the network's, before its stages are read.
            config @ (EncoderConfig::MultiScale(_) | EncoderConfig::Towers(_)) => Ok(config),
        }
    }

    fn apply_to_vit(&self, mut c: VitConfig) -> Result<VitConfig> {
        let skipped = (c.layers - c.layers_run) as i64;
        c.hidden = self.hidden_size.unwrap_or(c.hidden);
        c.layers = self.num_hidden_layers.unwrap_or(c.layers);
        c.heads = self.num_attention_heads.unwrap_or(c.heads);
        c.mlp = self.intermediate_size.unwrap_or(c.mlp);
        c.patch = self.patch_size.unwrap_or(c.patch);
        c.image = self.image_size.unwrap_or(c.image);
        let layer = self.feature_layer.unwrap_or(-1 - skipped);
        c.layers_run = hidden_state(c.layers, layer)?;
        c.post_norm = self.post_norm.unwrap_or(c.post_norm);
        if c.heads == 0 || !c.hidden.is_multiple_of(c.heads) {
            return Err(Error::Config {
                what: "encoder_args.num_attention_heads".into(),
                value: c.heads.to_string(),
                problem: format!("must divide the width {}", c.hidden),
            });
        }
        Ok(c)
    }
}

/// Layers to run so that the output is transformers' `hidden_states[index]`
/// (index 0 is the embedding, -1 the last layer).
pub fn hidden_state(layers: usize, index: i64) -> Result<usize> {
    let states = layers as i64 + 1;
    let run = if index < 0 { states + index } else { index };
    if (0..states).contains(&run) {
        return Ok(run as usize);
    }
    Err(Error::Config {
        what: "feature_layer".into(),
        value: index.to_string(),
        problem: format!("is outside the {states} hidden states of {layers} layers"),
    })
}

/// Which of an encoder's stages are read besides its features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureStages {
    /// Stages before the last, from 0.
    pub stages: Vec<usize>,
    /// How their outputs are pooled to the last one's grid.
    pub pool: Pooling,
}

impl FeatureStages {
    /// `encoder` with these features.
    pub fn apply(&self, encoder: Encoder) -> Result<Encoder> {
        Ok(Encoder {
            // Not the published one's: what is known of that is not known of this.
            label: format!("{}, multi-scale ({})", encoder.label, self.pool.name()),
            config: MultiScaleConfig::around(encoder.config, &self.stages, self.pool)?,
        })
    }
}

/// Numbers of Cambrian-1's aggregator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SvaArgs {
    /// Width of queries and keys.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Queries along a side.
    pub side: usize,
    /// Layers before the decoder.
    pub depth: usize,
    /// Samplers in the decoder; 0 for none.
    pub samplers: usize,
    /// Decoder layer after which the first one stands.
    pub start: usize,
    /// Layers from one to the next.
    pub stride: usize,
}

impl Default for SvaArgs {
    /// Those of Cambrian-1 8B.
    fn default() -> SvaArgs {
        SvaArgs {
            width: 1024,
            heads: 16,
            side: 24,
            depth: 3,
            samplers: 10,
            start: 0,
            stride: 3,
        }
    }
}

impl SvaArgs {
    /// The aggregator over `towers`; an error unless the grids fit.
    pub(super) fn over(&self, towers: &[Tower]) -> Result<SvaConfig> {
        let wrong = |what: &str, value: usize, problem: String| Error::Config {
            what: what.into(),
            value: value.to_string(),
            problem,
        };
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            let problem = format!("must divide the width {}", self.width);
            return Err(wrong("sva.heads", self.heads, problem));
        }
        let side = self.side.max(1);
        if let Some(tower) = towers
            .iter()
            .find(|t| t.grid == 0 || !t.grid.is_multiple_of(side))
        {
            let problem = format!("must be a multiple of the aggregator's side {side}");
            return Err(wrong("towers.grid", tower.grid, problem));
        }
        let seen = |tower: &Tower| SvaTower {
            dim: tower.feature_dim(),
            window: tower.grid / side,
        };
        Ok(SvaConfig {
            width: self.width,
            heads: self.heads,
            side,
            depth: self.depth,
            towers: towers.iter().map(seen).collect(),
            samplers: (self.samplers > 0).then_some(Samplers {
                start: self.start,
                stride: self.stride,
                count: self.samplers,
            }),
        })
    }
}

/// Numbers that replace those of a named decoder; the names are those of
/// Hugging Face configs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderArgs {
    /// Width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<usize>,
    /// Hidden width of the feed-forward network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<usize>,
    /// Layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_hidden_layers: Option<usize>,
    /// Query heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_attention_heads: Option<usize>,
    /// Key/value heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// Head dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Vocabulary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// RoPE base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f32>,
    /// RMS norm epsilon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rms_norm_eps: Option<f32>,
    /// Tied output head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tie_word_embeddings: Option<bool>,
    /// Positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_position_embeddings: Option<usize>,
}

impl DecoderArgs {
    /// Replaces the numbers given here in `config`. The head dimension follows
    /// width and heads unless given.
    pub fn apply(&self, mut c: DecoderConfig) -> DecoderConfig {
        let resized = self.hidden_size.is_some() || self.num_attention_heads.is_some();
        c.hidden = self.hidden_size.unwrap_or(c.hidden);
        c.heads = self.num_attention_heads.unwrap_or(c.heads);
        c.kv_heads = self.num_key_value_heads.unwrap_or(c.kv_heads);
        c.head_dim = match self.head_dim {
            Some(d) => d,
            None if resized => c.hidden / c.heads.max(1),
            None => c.head_dim,
        };
        c.intermediate = self.intermediate_size.unwrap_or(c.intermediate);
        c.layers = self.num_hidden_layers.unwrap_or(c.layers);
        c.vocab = self.vocab_size.unwrap_or(c.vocab);
        c.rope_theta = self.rope_theta.unwrap_or(c.rope_theta);
        c.rms_eps = self.rms_norm_eps.unwrap_or(c.rms_eps);
        c.tied = self.tie_word_embeddings.unwrap_or(c.tied);
        c.max_positions = self.max_position_embeddings.unwrap_or(c.max_positions);
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_states_count_as_transformers_does() {
        assert_eq!(hidden_state(24, -2).unwrap(), 23);
        assert_eq!(hidden_state(24, -1).unwrap(), 24);
        assert_eq!(hidden_state(24, 0).unwrap(), 0);
        assert!(hidden_state(24, -26).is_err());
    }
}
