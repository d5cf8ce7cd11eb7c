//! A grid: every encoder with every decoder, at every resolution, under every
//! image policy, but for what is excluded.
//!
//! A cell is a recipe made of two others: encoder, its arguments, its image
//! policy and its weights' place are one's, decoder and prompt the other's.

use serde::{Deserialize, Serialize};
use vlmbench_backends::anyres::Tiling;
use vlmbench_backends::backend::Precision;
use vlmbench_backends::image::ImagePolicy;
use vlmbench_backends::recipe::{RecipeFile, Weights};
use vlmbench_backends::reduce::Reduce;

use super::{ConfigError, ConfigKind, Configs};

/// A grid as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Names under `configs/models/` of recipes whose encoder is taken.
    pub encoders: Vec<String>,
    /// Names of recipes whose decoder is taken; none: the encoders alone.
    #[serde(default)]
    pub decoders: Vec<String>,
    /// Input sides in pixels; empty: each encoder's own.
    #[serde(default)]
    pub resolutions: Vec<usize>,
    /// What becomes of images; empty: what each encoder's recipe says.
    #[serde(default)]
    pub images: Vec<ImageChoice>,
    /// How visual tokens become fewer; empty: as each encoder's recipe says.
    #[serde(default)]
    pub reductions: Vec<Reduction>,
    /// Projector between them.
    #[serde(default = "mlp2x_gelu")]
    pub projector: String,
    /// Cells that are left out.
    #[serde(default)]
    pub exclude: Vec<Exclusion>,
}

fn mlp2x_gelu() -> String {
    "mlp2x_gelu".into()
}

/// An image policy of a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageChoice {
    /// Part of the names of its cells.
    pub name: String,
    /// In place of the encoder's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImagePolicy>,
    /// Tiles that a large image is cut into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<Tiling>,
}

/// A token reduction of a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduction {
    /// Part of the names of its cells.
    pub name: String,
    /// How; all tokens are kept if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce: Option<Reduce>,
}

/// Cells that are left out: those that have all that is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// Recipe of the encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// Recipe of the decoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<String>,
    /// Input side in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<usize>,
    /// Name of the image policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Name of the token reduction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduction: Option<String>,
    /// Precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// One cell of a grid before resolution and engine are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Recipe of the encoder.
    pub encoder: String,
    /// Recipe of the decoder.
    pub decoder: Option<String>,
    /// Name of the image policy.
    pub image: Option<String>,
    /// Name of the token reduction.
    pub reduction: Option<String>,
}

/// What else tells the cases of a cell apart.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Input side in pixels.
    pub resolution: Option<usize>,
    /// Engine.
    pub backend: &'a str,
    /// Device.
    pub device: &'a str,
    /// Precision.
    pub precision: Precision,
}

impl Cell {
    /// Name of its model: its parts, one after another.
    pub fn name(&self) -> String {
        let parts = [
            Some(&self.encoder),
            self.image.as_ref(),
            self.reduction.as_ref(),
            self.decoder.as_ref(),
        ];
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        parts.join("-")
    }
}

impl Exclusion {
    fn is_empty(&self) -> bool {
        *self == Exclusion::default()
    }

    fn covers(&self, cell: &Cell, at: Setting<'_>) -> bool {
        fn fits<T: PartialEq + ?Sized>(wanted: Option<&T>, given: Option<&T>) -> bool {
            wanted.is_none() || wanted == given
        }
        fits(self.encoder.as_ref(), Some(&cell.encoder))
            && fits(self.decoder.as_ref(), cell.decoder.as_ref())
            && fits(self.image.as_ref(), cell.image.as_ref())
            && fits(self.reduction.as_ref(), cell.reduction.as_ref())
            && fits(self.resolution.as_ref(), at.resolution.as_ref())
            && fits(self.precision.as_ref(), Some(&at.precision))
            && fits(self.backend.as_deref(), Some(at.backend))
            && fits(self.device.as_deref(), Some(at.device))
    }
}

impl Grid {
    /// Whether a case is left out.
    pub fn excludes(&self, cell: &Cell, at: Setting<'_>) -> bool {
        self.exclude
            .iter()
            .any(|exclusion| exclusion.covers(cell, at))
    }

    /// What cannot be meant: the key, its value, and what is expected.
    pub fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        if self.encoders.is_empty() {
            return Some(("grid.encoders", "empty".into(), "at least one recipe"));
        }
        if self.resolutions.contains(&0) {
            return Some(("grid.resolutions", "0".into(), "at least 1 pixel"));
        }
        if self.exclude.iter().any(Exclusion::is_empty) {
            let expected = "at least one key in each exclusion; an empty one leaves nothing";
            return Some(("grid.exclude", "{}".into(), expected));
        }
        None
    }

    /// Every cell with its recipe.
    ///
    /// # Errors
    /// Names that no recipe has, and recipes without what is taken of them.
    pub fn cells(&self, configs: &Configs) -> Result<Vec<(Cell, RecipeFile)>, ConfigError> {
        let mut cells = Vec::new();
        for encoder in &self.encoders {
            let base = part(configs, encoder, "grid.encoders", |r| r.encoder.is_some())?;
            for image in each(&self.images) {
                for reduction in each(&self.reductions) {
                    for decoder in each(&self.decoders) {
                        let cell = Cell {
                            encoder: encoder.clone(),
                            decoder: decoder.cloned(),
                            image: image.map(|choice| choice.name.clone()),
                            reduction: reduction.map(|choice| choice.name.clone()),
                        };
                        let mut recipe = self.recipe(&base, decoder, configs)?;
                        if let Some(choice) = image {
                            recipe.image = choice.image.clone().or(recipe.image);
                            recipe.tiles = choice.tiles.clone();
                        }
                        if let Some(choice) = reduction {
                            recipe.reduce = choice.reduce;
                        }
                        recipe.about = format!("{}, a cell of a grid, seeded weights", cell.name());
                        cells.push((cell, recipe));
                    }
                }
            }
        }
        Ok(cells)
    }

    /// An encoder's recipe with a decoder.
    fn recipe(
        &self,
        base: &RecipeFile,
        decoder: Option<&String>,
        configs: &Configs,
    ) -> Result<RecipeFile, ConfigError> {
        let mut recipe = RecipeFile {
            weights: Weights::Seeded(0),
            projector: None,
            decoder: None,
            prompt: None,
            ..base.clone()
        };
        if let Some(name) = decoder {
            let other = part(configs, name, "grid.decoders", |r| r.decoder.is_some())?;
            recipe.projector = Some(self.projector.clone());
            recipe.decoder = other.decoder;
            recipe.decoder_args = other.decoder_args;
            recipe.prompt = other.prompt;
        }
        Ok(recipe)
    }
}

/// Each of an axis, or once none if it is empty.
pub(crate) fn each<T>(axis: &[T]) -> impl Iterator<Item = Option<&T>> {
    let none = axis.is_empty().then_some(None);
    none.into_iter().chain(axis.iter().map(Some))
}

/// A recipe that has what is taken of it.
fn part(
    configs: &Configs,
    name: &str,
    key: &str,
    has: fn(&RecipeFile) -> bool,
) -> Result<RecipeFile, ConfigError> {
    let found = configs.find(ConfigKind::Model, name)?;
    let recipe: RecipeFile = found.parse()?;
    match has(&recipe) {
        true => Ok(recipe),
        false => Err(ConfigError::Value {
            file: found.origin,
            key: key.into(),
            value: name.into(),
            problem: "this recipe has no such part".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(text: &str) -> Grid {
        crate::config::yaml::read("x.yaml", text).unwrap()
    }

    fn at(resolution: usize, precision: Precision) -> Setting<'static> {
        Setting {
            resolution: Some(resolution),
            backend: "candle",
            device: "cpu",
            precision,
        }
    }

    #[test]
    fn an_exclusion_covers_what_has_all_that_it_names() {
        let grid = grid(
            "encoders: [fastvithd]\n\
             exclude: [{encoder: fastvithd, resolution: 512}, {decoder: vicuna-7b, precision: f32}]\n",
        );
        let cell = |decoder: Option<&str>| Cell {
            encoder: "fastvithd".into(),
            decoder: decoder.map(str::to_owned),
            image: None,
            reduction: None,
        };
        assert!(grid.excludes(&cell(None), at(512, Precision::Bf16)));
        assert!(!grid.excludes(&cell(None), at(256, Precision::F32)));
        assert!(grid.excludes(&cell(Some("vicuna-7b")), at(256, Precision::F32)));
        assert!(!grid.excludes(&cell(Some("vicuna-7b")), at(256, Precision::Bf16)));
        assert!(grid.problem().is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let problem = |text: &str| grid(text).problem().map(|(key, ..)| key);
        assert_eq!(problem("encoders: []\n"), Some("grid.encoders"));
        assert_eq!(
            problem("encoders: [a]\nexclude: [{}]\n"),
            Some("grid.exclude")
        );
        assert_eq!(
            problem("encoders: [a]\nresolutions: [0]\n"),
            Some("grid.resolutions")
        );
    }

    #[test]
    fn cells_are_named_after_their_parts() {
        let configs = Configs::embedded();
        let grid = grid(
            "encoders: [fastvithd, fastvit-mci2]\n\
             decoders: [qwen2-0.5b]\n\
             images:\n\
             - {name: whole}\n\
             - {name: 2x2, tiles: {grids: {of: [[2, 2]]}, merge: flat}}\n",
        );
        let cells = grid.cells(&configs).unwrap();
        let names: Vec<String> = cells.iter().map(|(cell, _)| cell.name()).collect();
        assert_eq!(names[1], "fastvithd-2x2-qwen2-0.5b");
        assert_eq!(names.len(), 4);
        assert!(cells[0].1.tiles.is_none() && cells[1].1.tiles.is_some());
        let nothing = Grid {
            decoders: vec!["fastvithd".into()],
            ..grid
        };
        let error = nothing.cells(&configs).unwrap_err().to_string();
        assert!(error.contains("grid.decoders"), "{error}");
    }
}
