//! A recipe: which encoder, image policy, projector, decoder and prompt make a
//! model, and where its weights are.
//!
//! [`RecipeFile`] is what people write (YAML under `configs/models/`, parsed by
//! the harness); [`Recipe`] is what it means, with every number resolved. A
//! published checkpoint's own `config.json` becomes a [`Recipe`] as well, in
//! [`crate::checkpoint::config`].

mod args;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::anyres::{self, EncodeTiles, Placement, Tiling};
use crate::error::{Error, Result};
use crate::image::{ImagePolicy, Pixels, Rgb8};
use crate::mix::Mix;
use crate::nets::registry::{self, DECODERS, ENCODERS};
use crate::nets::{
    DecoderConfig, EncoderConfig, ProjectorConfig, ProjectorKind, Tower, TowersConfig,
};
use crate::reduce::Reduce;
use crate::text::PromptTemplate;

pub use args::{DecoderArgs, EncoderArgs, FeatureStages, SvaArgs, hidden_state};

/// Where a model's weights are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Weights {
    /// No files: right shapes, values drawn from this seed. Latency only.
    Seeded(u64),
    /// A trained checkpoint that the program carries, by name.
    Shipped(String),
    /// A checkpoint folder.
    Folder(PathBuf),
    /// A decoder in a GGUF file of llama.cpp.
    Gguf {
        /// The file.
        decoder: PathBuf,
        /// Checkpoint folder that encoder and projector are taken from, whatever
        /// its own decoder; absent for a bare decoder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rest: Option<PathBuf>,
    },
    /// A Hugging Face hub model.
    Hub {
        /// `organisation/name`.
        id: String,
        /// Pinned revision.
        #[serde(default = "main_revision")]
        revision: String,
    },
}

fn main_revision() -> String {
    "main".into()
}

/// A recipe as written in YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    /// One line for listings.
    pub about: String,
    /// Name of a vision encoder; absent for a bare decoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// Numbers that differ from the named encoder's.
    #[serde(default)]
    pub encoder_args: EncoderArgs,
    /// Stages that are read besides the encoder's features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureStages>,
    /// Several encoders in place of one, for the projector `sva`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub towers: Vec<TowerFile>,
    /// Input side in pixels; the encoder's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<usize>,
    /// How an image becomes the encoder's input; required with an encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImagePolicy>,
    /// How a large image becomes several inputs (AnyRes); one input if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<Tiling>,
    /// How visual tokens become fewer; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce: Option<Reduce>,
    /// `mlp2x_gelu`, or another depth; absent for a bare encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<String>,
    /// Numbers that differ from Cambrian-1's aggregator, if that is the projector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sva: Option<SvaArgs>,
    /// Name of a decoder; absent for a bare encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<String>,
    /// Numbers that differ from the named decoder's.
    #[serde(default)]
    pub decoder_args: DecoderArgs,
    /// Prompt template name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Where the weights are.
    pub weights: Weights,
}

/// One of several encoders, as written in YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerFile {
    /// Name of a vision encoder.
    pub encoder: String,
    /// Numbers that differ from the named encoder's.
    #[serde(default)]
    pub encoder_args: EncoderArgs,
    /// Input side in pixels; the encoder's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<usize>,
    /// How an image becomes its input.
    pub image: ImagePolicy,
    /// Features along a side that the aggregator sees, resized bilinearly.
    pub grid: usize,
    /// Whether it sees the outputs of all stages, one behind the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stages: bool,
    /// Where its weights are, if the recipe's are not seeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
}

/// What a recipe knows of one of several encoders besides its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct TowerInput {
    /// How an image becomes its input.
    pub image: ImagePolicy,
    /// Where its weights are, if the recipe's are not seeded.
    pub weights: Option<Weights>,
}

/// A vision encoder of a recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoder {
    /// Name as papers print it.
    pub label: String,
    /// Numbers.
    pub config: EncoderConfig,
}

/// A decoder of a recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoder {
    /// Name as papers print it.
    pub label: String,
    /// Numbers.
    pub config: DecoderConfig,
}

/// A model, resolved to numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Name under which it was asked for.
    pub name: String,
    /// Vision encoder.
    pub encoder: Option<Encoder>,
    /// Input side in pixels; 0 without an encoder.
    pub resolution: usize,
    /// Image preprocessing; `None` without an encoder, or with several.
    pub image: Option<ImagePolicy>,
    /// Of each of several encoders.
    pub towers: Vec<TowerInput>,
    /// Tiling of large images.
    pub tiles: Option<Tiling>,
    /// Projector.
    pub projector: Option<ProjectorConfig>,
    /// Decoder.
    pub decoder: Option<Decoder>,
    /// Prompt template.
    pub prompt: PromptTemplate,
    /// Token id that stands for one visual token in given token sequences.
    pub image_token: Option<u32>,
    /// Where the weights are.
    pub weights: Weights,
}

/// An image as the encoder's inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// One input, or an overview and tiles.
    pub pixels: Vec<Pixels>,
    /// Whether the encoder takes all inputs at once.
    pub batched: bool,
    /// How the image is laid out in them.
    pub place: Placement,
}

impl Inputs {
    /// The inputs as the encoder takes them.
    pub fn batches(&self) -> std::slice::Chunks<'_, Pixels> {
        let size = if self.batched { self.pixels.len() } else { 1 };
        self.pixels.chunks(size.max(1))
    }
}

impl Recipe {
    /// The encoder, or an error naming the model that has none.
    pub fn encoder(&self) -> Result<&Encoder> {
        self.encoder
            .as_ref()
            .ok_or_else(|| self.no("vision encoder"))
    }

    /// The projector, or an error naming the model that has none.
    pub fn projector(&self) -> Result<&ProjectorConfig> {
        self.projector.as_ref().ok_or_else(|| self.no("projector"))
    }

    /// The decoder, or an error naming the model that has none.
    pub fn decoder(&self) -> Result<&Decoder> {
        self.decoder.as_ref().ok_or_else(|| self.no("decoder"))
    }

    fn no(&self, part: &'static str) -> Error {
        Error::NoPart {
            model: self.name.clone(),
            part,
        }
    }

    /// Features that the encoder makes of one image at the recipe's resolution.
    pub fn encoder_tokens(&self) -> Result<usize> {
        self.encoder()?
            .config
            .visual_tokens(self.resolution, self.resolution)
    }

    /// Visual tokens of one encoder input at the recipe's resolution: those of an
    /// image, where images are not tiled.
    pub fn input_tokens(&self) -> Result<usize> {
        self.input_tokens_of(self.resolution, self.resolution)
    }

    /// Visual tokens of an encoder input of `height` x `width` pixels.
    pub fn input_tokens_of(&self, height: usize, width: usize) -> Result<usize> {
        let tokens = self.encoder()?.config.visual_tokens(height, width)?;
        match &self.projector {
            Some(projector) => projector.visual_tokens(tokens),
            None => Ok(tokens),
        }
    }

    /// How a prompt's only image of `width` x `height` pixels is laid out.
    pub fn place(&self, width: u32, height: u32) -> Placement {
        match &self.tiles {
            Some(tiles) => tiles.place(width, height, self.resolution),
            None => Placement {
                width,
                height,
                grid: None,
            },
        }
    }

    /// How the tokens of an image's inputs become one sequence; `None` if they
    /// are one already.
    pub fn arrangement(&self, place: &Placement) -> Result<Option<Mix>> {
        match (&self.tiles, &self.projector) {
            (_, Some(c)) if let ProjectorKind::Sva(sva) = &c.kind => {
                Ok(Some(sva.layout(place).mix))
            }
            (Some(tiles), Some(_)) => tiles.arrange(place, self.input_tokens()?).map(Some),
            _ => Ok(None),
        }
    }

    /// Visual tokens of a prompt's only image of `width` x `height` pixels: what
    /// the decoder sees, where there is a projector.
    pub fn visual_tokens(&self, width: u32, height: u32) -> Result<usize> {
        let place = self.place(width, height);
        Ok(match self.arrangement(&place)? {
            Some(mix) => mix.len(),
            None => place.inputs() * self.input_tokens()?,
        })
    }

    /// The encoder inputs of one of a prompt's `images` images.
    pub fn prepare(&self, image: &Rgb8, images: usize) -> Result<Inputs> {
        if let EncoderConfig::Towers(c) = &self.encoder()?.config {
            let inputs = c.towers.iter().zip(&self.towers);
            let pixels = inputs.map(|(tower, input)| input.image.apply(image, tower.side as u32));
            return Ok(Inputs {
                pixels: pixels.collect::<std::result::Result<_, _>>()?,
                batched: true,
                place: self.place(image.width(), image.height()),
            });
        }
        let policy = self.image.as_ref().ok_or_else(|| self.no("image policy"))?;
        let side = self.resolution as u32;
        let mut place = self.place(image.width(), image.height());
        let tiles = self.tiles.as_ref();
        if images > 1 && tiles.is_some_and(|tiles| tiles.single_image_only) {
            place.grid = None;
        }
        let pixels = match place.grid {
            Some(grid) => anyres::inputs(policy, image, grid, self.resolution)?,
            None => vec![policy.apply(image, side)?],
        };
        Ok(Inputs {
            pixels,
            batched: tiles.is_some_and(|tiles| tiles.encode == EncodeTiles::Batched),
            place,
        })
    }

    /// Whether there are fewer visual tokens than the published networks make.
    pub fn is_reduced(&self) -> bool {
        let vit = self.encoder.as_ref().and_then(|e| e.config.vit());
        vit.is_some_and(|c| c.reduce.is_some())
            || (self.projector.as_ref()).is_some_and(|c| c.pooled.is_some())
            || (self.decoder.as_ref()).is_some_and(|d| d.config.fastv.is_some())
    }

    /// The same recipe at another input side, if the encoder admits it.
    pub fn at_resolution(mut self, side: usize) -> Result<Recipe> {
        self.resolution = side;
        self.check_vision()?;
        Ok(self)
    }

    /// The encoder `index` of several as a recipe of its own.
    pub fn tower(&self, index: usize) -> Result<Recipe> {
        let encoder = self.encoder()?;
        let found = match &encoder.config {
            EncoderConfig::Towers(c) => c.towers.get(index),
            _ => None,
        };
        let (Some(tower), Some(input)) = (found, self.towers.get(index)) else {
            return Err(self.no("encoder of that number"));
        };
        Ok(Recipe {
            name: format!("{}.towers.{index}", self.name),
            encoder: Some(Encoder {
                label: encoder.label.clone(),
                config: tower.config.clone(),
            }),
            resolution: tower.side,
            image: Some(input.image.clone()),
            towers: Vec::new(),
            tiles: None,
            projector: None,
            decoder: None,
            prompt: self.prompt.clone(),
            image_token: None,
            weights: input
                .weights
                .clone()
                .unwrap_or_else(|| self.weights.clone()),
        })
    }

    /// Errors unless the encoder admits the resolution and its features fit what
    /// comes after it.
    pub(crate) fn check_vision(&self) -> Result<()> {
        let tokens = self.input_tokens()?;
        if let Some(decoder) = &self.decoder
            && let Some(fastv) = &decoder.config.fastv
        {
            fastv.check(decoder.config.layers, tokens)?;
        }
        let Some(tiles) = &self.tiles else {
            return Ok(());
        };
        tiles.check()?;
        let side = self.resolution as u32;
        let whole = tiles.place(side, side, self.resolution);
        tiles.arrange(&whole, tokens).map(|_| ())
    }

    /// Resolves a recipe file. Relative weight folders are taken from the
    /// process's working directory.
    pub fn from_file(name: &str, file: &RecipeFile) -> Result<Recipe> {
        let encoder = match &file.encoder {
            None => None,
            Some(encoder) => {
                let entry = registry::find("vision encoder", ENCODERS, encoder)?;
                let config = file.encoder_args.apply((entry.config)())?;
                let label = entry.label.to_string();
                let mut encoder = Encoder { label, config };
                if let Some(features) = &file.features {
                    encoder = features.apply(encoder)?;
                }
                Some((encoder, entry.resolution))
            }
        };
        let several = file.towers.iter().map(tower).collect::<Result<Vec<_>>>()?;
        let encoder = match (encoder, several.is_empty()) {
            (Some(_), false) => {
                return Err(Error::Config {
                    what: "towers".into(),
                    value: "(given)".into(),
                    problem: "a recipe has an `encoder` or several `towers`".into(),
                });
            }
            (None, false) => {
                let (labels, towers): (Vec<_>, Vec<_>) = several.into_iter().unzip();
                let config = TowersConfig { towers };
                let side = config.side();
                let encoder = Encoder {
                    label: labels.join(" + "),
                    config: EncoderConfig::Towers(config),
                };
                Some((encoder, side))
            }
            (encoder, true) => encoder,
        };
        let decoder = match &file.decoder {
            None => None,
            Some(decoder) => {
                let entry = registry::find("decoder", DECODERS, decoder)?;
                let config = file.decoder_args.apply((entry.config)());
                config.check()?;
                Some(Decoder {
                    label: entry.label.into(),
                    config,
                })
            }
        };
        let missing = |what: &str, problem: &str| Error::Config {
            what: what.into(),
            value: "(absent)".into(),
            problem: problem.into(),
        };
        if encoder.is_none() && file.features.is_some() {
            return Err(missing("encoder", "is required when there are `features`"));
        }
        if file.towers.is_empty() && encoder.is_some() && file.image.is_none() {
            return Err(missing("image", "is required when there is an encoder"));
        }
        if encoder.is_none() && file.tiles.is_some() {
            return Err(missing("encoder", "is required when there are `tiles`"));
        }
        if encoder.is_none() && file.reduce.is_some() {
            return Err(missing("encoder", "is required when there is `reduce`"));
        }
        let projector = match (&file.projector, &encoder, &decoder) {
            (Some(kind), Some((encoder, _)), Some(decoder)) => {
                let kind = match (kind.as_str(), &encoder.config) {
                    ("sva", EncoderConfig::Towers(c)) => {
                        let args = file.sva.clone().unwrap_or_default();
                        ProjectorKind::Sva(args.over(&c.towers)?)
                    }
                    ("sva", _) => {
                        return Err(missing("towers", "are what the projector `sva` is for"));
                    }
                    (_, EncoderConfig::Towers(_)) => {
                        return Err(missing(
                            "projector",
                            "must be `sva` where there are `towers`",
                        ));
                    }
                    (kind, _) => projector_kind(kind)?,
                };
                let sva = matches!(kind, ProjectorKind::Sva(_));
                Some(ProjectorConfig {
                    d_in: encoder.config.feature_dim(),
                    d_out: decoder.config.hidden,
                    kind,
                    pooled: None,
                    newline: sva || file.tiles.as_ref().is_some_and(Tiling::newline),
                })
            }
            (None, Some(_), Some(_)) => {
                return Err(missing(
                    "projector",
                    "is required between an encoder and a decoder; `mlp2x_gelu` is LLaVA's",
                ));
            }
            (None, ..) => None,
            (Some(_), ..) => {
                return Err(missing(
                    "encoder or decoder",
                    "both are required when there is a projector",
                ));
            }
        };
        if let Weights::Gguf { rest, .. } = &file.weights {
            let fits = match (&encoder, &decoder) {
                (_, None) => Err("needs a `decoder`, the one that the file holds"),
                (Some(_), _) if rest.is_none() => {
                    Err("needs `rest`, the checkpoint folder with encoder and projector")
                }
                (None, _) if rest.is_some() => {
                    Err("has a `rest`, but the recipe has neither encoder nor projector")
                }
                _ => Ok(()),
            };
            fits.map_err(|problem| Error::Config {
                what: "weights".into(),
                value: "gguf".into(),
                problem: problem.into(),
            })?;
        }
        let prompt = file.prompt.clone().unwrap_or_else(|| "plain".into());
        let prompt = PromptTemplate::named(&prompt)?;
        let recipe = Recipe {
            name: name.into(),
            resolution: match &encoder {
                Some((_, side)) => file.resolution.unwrap_or(*side),
                None => 0,
            },
            encoder: encoder.map(|(e, _)| e),
            image: file.image.clone(),
            towers: (file.towers.iter())
                .map(|tower| TowerInput {
                    image: tower.image.clone(),
                    weights: tower.weights.clone(),
                })
                .collect(),
            tiles: file.tiles.clone(),
            projector,
            decoder,
            prompt,
            image_token: None,
            weights: file.weights.clone(),
        };
        if recipe.encoder.is_none() && recipe.decoder.is_none() {
            return Err(missing("encoder", "or `decoder` must be given"));
        }
        if recipe.encoder.is_some() {
            recipe.check_vision()?;
        }
        match &file.reduce {
            Some(reduce) => reduce.apply(recipe),
            None => Ok(recipe),
        }
    }
}

/// One of several encoders with its label.
fn tower(file: &TowerFile) -> Result<(String, Tower)> {
    let entry = registry::find("vision encoder", ENCODERS, &file.encoder)?;
    let tower = Tower {
        config: file.encoder_args.apply((entry.config)())?,
        side: file.resolution.unwrap_or(entry.resolution),
        grid: file.grid,
        stages: file.stages,
    };
    tower.check()?;
    Ok((entry.label.into(), tower))
}

/// The projector that LLaVA's configurations call so: `linear`,
/// `mlp{n}x_gelu` or `ldpnetv2`.
pub fn projector_kind(name: &str) -> Result<ProjectorKind> {
    match name {
        "linear" => return Ok(ProjectorKind::Mlp { depth: 1 }),
        "ldpnetv2" => return Ok(ProjectorKind::Ldpv2),
        _ => {}
    }
    name.strip_prefix("mlp")
        .and_then(|k| k.strip_suffix("x_gelu"))
        .and_then(|n| n.parse().ok())
        .filter(|n| *n >= 1)
        .map(|depth| ProjectorKind::Mlp { depth })
        .ok_or_else(|| Error::Config {
            what: "projector".into(),
            value: name.into(),
            problem: "is not `linear`, `mlp{n}x_gelu` or `ldpnetv2`".into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_widen_an_encoder_and_give_it_another_label() {
        let recipe = |encoder: Option<&str>, stages: &[usize]| {
            let file = serde_json::json!({
                "about": "-",
                "encoder": encoder,
                "features": {"stages": stages, "pool": "depthwise"},
                "image": encoder.map(|_| ImagePolicy::mobileclip()),
                "projector": encoder.map(|_| "mlp2x_gelu"),
                "decoder": "qwen2-0.5b",
                "weights": {"seeded": 0},
            });
            Recipe::from_file("-", &serde_json::from_value(file).unwrap())
        };
        let scaled = recipe(Some("fastvit-mci2"), &[0, 1, 2]).unwrap();
        // No published value of FastViT alone is this one's.
        let label = &scaled.encoder().unwrap().label;
        assert_eq!(label, "FastViT, multi-scale (depthwise)");
        assert_eq!(scaled.projector().unwrap().d_in, 80 + 160 + 320 + 1280);
        assert_eq!(scaled.input_tokens().unwrap(), 64);
        let e = scaled.at_resolution(250).unwrap_err().to_string();
        assert!(e.contains("multiple of 32"), "{e}");
        let refused = |encoder| recipe(encoder, &[0]).unwrap_err().to_string();
        let e = refused(Some("clip-vit-l-14-336"));
        assert!(e.contains("features") && e.contains("FastViT"), "{e}");
        assert!(refused(None).contains("encoder"));
    }

    #[test]
    fn projector_names() {
        let mlp = |depth| ProjectorKind::Mlp { depth };
        assert_eq!(projector_kind("mlp2x_gelu").unwrap(), mlp(2));
        assert_eq!(projector_kind("linear").unwrap(), mlp(1));
        assert_eq!(projector_kind("ldpnetv2").unwrap(), ProjectorKind::Ldpv2);
        assert!(projector_kind("mlp0x_gelu").is_err());
        assert!(projector_kind("ldp").is_err());
    }
}
