//! AnyRes: a large image as several encoder inputs.
//!
//! LLaVA-NeXT and LLaVA-OneVision cut an image into tiles of the encoder's own
//! side, put the whole image in front as an overview, encode each, and lay the
//! features out again as the image lies (`tokens`). FastVLM does the same
//! with a fixed grid. [`Tiling`] is all of it as data; `tiles` cuts pixels.
//!
//! Arithmetic follows the published code (LLaVA-NeXT's `llava/mm_utils.py` and
//! `llava_arch.py`, transformers' `llava_onevision`), including where it
//! truncates, because a token more or less is another prompt.

mod tiles;
mod tokens;

pub use tiles::inputs;
pub(crate) use tokens::Mosaic;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Columns and rows of tiles; written `[columns, rows]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "[usize; 2]", into = "[usize; 2]")]
pub struct Grid {
    /// Tiles from left to right.
    pub columns: usize,
    /// Tiles from top to bottom.
    pub rows: usize,
}

impl From<[usize; 2]> for Grid {
    fn from([columns, rows]: [usize; 2]) -> Grid {
        Grid { columns, rows }
    }
}

impl From<Grid> for [usize; 2] {
    fn from(grid: Grid) -> [usize; 2] {
        [grid.columns, grid.rows]
    }
}

impl Grid {
    /// Tiles.
    pub fn tiles(self) -> usize {
        self.columns * self.rows
    }
}

/// The grids that an image may be cut into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grids {
    /// These; of two that suit an image equally well the earlier is taken.
    Of(Vec<Grid>),
    /// All with up to so many columns and rows.
    UpTo(Grid),
}

impl Grids {
    /// All grids, in order of preference.
    pub fn iter(&self) -> impl Iterator<Item = Grid> + '_ {
        let (listed, most) = match self {
            Grids::Of(grids) => (grids.as_slice(), [0, 0].into()),
            Grids::UpTo(most) => (&[][..], *most),
        };
        let all = (1..=most.columns)
            .flat_map(move |columns| (1..=most.rows).map(move |rows| Grid { columns, rows }));
        listed.iter().copied().chain(all)
    }
}

/// How the tokens of the tiles follow those of the overview.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// Tile by tile, as LLaVA's `flat`.
    Flat,
    /// Row by row of the whole image, without the padding, a learned vector
    /// (`image_newline`) at the end of each row, as LLaVA's `spatial_unpad`.
    SpatialUnpad,
}

/// How the encoder runs over the tiles of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncodeTiles {
    /// All at once.
    Batched,
    /// One after another; FastVLM's TTFT of AnyRes is so many times one tile's.
    #[default]
    Sequential,
}

/// How an image becomes several encoder inputs, and their features one
/// sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiling {
    /// Grids to choose from.
    pub grids: Grids,
    /// Order of the tokens.
    pub merge: Merge,
    /// Rows and columns of tokens are shrunk bilinearly where there are more
    /// than 1.21 times as many as this number of tiles has: the 9 of
    /// LLaVA-OneVision's `anyres_max_9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrink_above: Option<usize>,
    /// How the encoder runs over them.
    #[serde(default)]
    pub encode: EncodeTiles,
    /// Whether only a prompt's single image is tiled; each of several is then
    /// one encoder input by the recipe's image policy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_image_only: bool,
}

impl Tiling {
    /// Refuses a tiling without a grid, or with a grid without tiles.
    pub fn check(&self) -> Result<()> {
        let problem = |value: String, problem: &str| {
            Err(Error::Config {
                what: "tiles.grids".into(),
                value,
                problem: problem.into(),
            })
        };
        if self.grids.iter().next().is_none() {
            return problem("empty".into(), "must have at least one grid");
        }
        match self.grids.iter().find(|grid| grid.tiles() == 0) {
            Some(grid) => problem(
                format!("[{}, {}]", grid.columns, grid.rows),
                "must have at least one column and one row",
            ),
            None if self.shrink_above == Some(0) => Err(Error::Config {
                what: "tiles.shrink_above".into(),
                value: "0".into(),
                problem: "must be at least 1 tile".into(),
            }),
            None => Ok(()),
        }
    }
}

/// How one image is laid out: what its pixels and its tokens have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Width of the image in pixels.
    pub width: u32,
    /// Height of the image in pixels.
    pub height: u32,
    /// The grid it is cut into; `None` if it is one encoder input.
    pub grid: Option<Grid>,
}

impl Placement {
    /// Encoder inputs: the tiles and the overview.
    pub fn inputs(&self) -> usize {
        1 + self.grid.map_or(0, Grid::tiles)
    }
}
