//! The tokens of an image's tiles as one sequence.

use super::{Grid, Merge, Placement, Tiling};
use crate::error::{Error, Result};
use crate::mix::{Mix, bilinear};

/// From this factor on in each direction, tokens are shrunk.
const SHRINK_FROM: f64 = 1.1;

impl Tiling {
    /// Whether a learned vector ends every row of tokens.
    pub fn newline(&self) -> bool {
        self.merge == Merge::SpatialUnpad
    }

    /// The sequence of an image whose inputs gave `tokens` tokens each. Token 0
    /// of what is mixed is the vector that ends rows, if there is one; then
    /// come the tokens of the overview and of every tile.
    pub fn arrange(&self, place: &Placement, tokens: usize) -> Result<Mix> {
        let mut mix = Mix::default();
        let first = usize::from(self.newline());
        (first..first + tokens).for_each(|source| mix.copy(source));
        match (place.grid, self.merge) {
            (None, Merge::Flat) => {}
            (None, Merge::SpatialUnpad) => mix.copy(0),
            (Some(grid), Merge::Flat) => {
                let tiles = first + tokens..first + (1 + grid.tiles()) * tokens;
                tiles.for_each(|source| mix.copy(source));
            }
            (Some(grid), Merge::SpatialUnpad) => {
                let mosaic = Mosaic::new(grid, square(tokens)?, first + tokens);
                self.rows(&mosaic, place, &mut mix);
            }
        }
        Ok(mix)
    }

    /// The rows of the mosaic without padding, shrunk if there is too much.
    fn rows(&self, mosaic: &Mosaic, place: &Placement, mix: &mut Mix) {
        let (rows, columns) = mosaic.unpadded(place);
        let (height, width) = (rows.len(), columns.len());
        let factor = self.shrink_above.map_or(0.0, |most| {
            ((height * width) as f64 / (most * mosaic.side * mosaic.side) as f64).sqrt()
        });
        if factor <= SHRINK_FROM {
            for y in rows {
                columns.clone().for_each(|x| mix.copy(mosaic.source(y, x)));
                mix.copy(0);
            }
            return;
        }
        // Python's `//` floors the quotient of the exact division.
        let shrunk = |side: usize| (side as f64 / factor).floor() as usize;
        let down = bilinear(height, shrunk(height));
        let across = bilinear(width, shrunk(width));
        for vertical in &down {
            for horizontal in &across {
                mix.square(vertical, horizontal, |y, x| {
                    mosaic.source(rows.start + y, columns.start + x)
                });
            }
            mix.copy(0);
        }
    }
}

/// The side of a square of `tokens` tokens.
fn square(tokens: usize) -> Result<usize> {
    let side = tokens.isqrt();
    if side * side == tokens && tokens > 0 {
        return Ok(side);
    }
    Err(Error::Config {
        what: "tiles.merge".into(),
        value: "spatial_unpad".into(),
        problem: format!("needs tokens that lie in a square; a tile has {tokens}"),
    })
}

/// The tokens of all tiles, laid out as the tiles lie.
pub(crate) struct Mosaic {
    grid: Grid,
    /// Tokens along a tile's side.
    side: usize,
    /// Where the first tile's first token lies.
    first: usize,
}

impl Mosaic {
    fn new(grid: Grid, side: usize, first: usize) -> Mosaic {
        Mosaic { grid, side, first }
    }

    /// A single tile of `side` tokens a side, counted from `first`.
    pub(crate) fn square(side: usize, first: usize) -> Mosaic {
        Mosaic::new([1, 1].into(), side, first)
    }

    /// Which token lies in row `y` and column `x` of the mosaic.
    pub(crate) fn source(&self, y: usize, x: usize) -> usize {
        let s = self.side;
        let tile = (y / s) * self.grid.columns + x / s;
        self.first + tile * s * s + (y % s) * s + x % s
    }

    /// Rows and columns that are not padding: as much is taken from one end as
    /// from the other, half of what is too much rounded down.
    pub(crate) fn unpadded(
        &self,
        place: &Placement,
    ) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let (rows, columns) = (self.grid.rows * self.side, self.grid.columns * self.side);
        let (width, height) = (place.width as usize, place.height as usize);
        let inner = |all: usize, kept: usize| {
            let padding = (all - kept) / 2;
            padding..all - padding
        };
        // Whether the image is wider than the mosaic, without the rounding of two quotients.
        if width * rows > columns * height {
            (inner(rows, height * columns / width), 0..columns)
        } else {
            (0..rows, inner(columns, width * rows / height))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EncodeTiles, Grids};
    use super::*;

    fn onevision() -> Tiling {
        Tiling {
            grids: Grids::UpTo([6, 6].into()),
            merge: Merge::SpatialUnpad,
            shrink_above: Some(9),
            encode: EncodeTiles::Sequential,
            single_image_only: true,
        }
    }

    #[test]
    fn an_image_of_three_tiles_a_side_has_7371_tokens() {
        let tiling = onevision();
        let place = tiling.place(1152, 1152, 384);
        assert_eq!(place.inputs(), 10);
        assert_eq!(tiling.arrange(&place, 729).unwrap().len(), 7371);
        let flat = Tiling {
            merge: Merge::Flat,
            ..tiling
        };
        assert_eq!(flat.arrange(&place, 729).unwrap().len(), 7290);
    }

    #[test]
    fn every_token_that_is_copied_is_copied_once() {
        let tiling = onevision();
        let place = tiling.place(700, 500, 384);
        let mix = tiling.arrange(&place, 729).unwrap();
        mix.check(1 + place.inputs() * 729).unwrap();
        let mut sources: Vec<u32> = (0..mix.len()).map(|i| mix.taps(i)[0].0).collect();
        let newlines = sources.iter().filter(|s| **s == 0).count();
        sources.retain(|source| *source != 0);
        let copied = sources.len();
        sources.sort_unstable();
        sources.dedup();
        assert_eq!(sources.len(), copied);
        assert_eq!(mix.len(), copied + newlines);
    }

    #[test]
    fn an_image_alone_ends_with_one_newline() {
        let tiling = onevision();
        let place = Placement {
            width: 5,
            height: 7,
            grid: None,
        };
        let mix = tiling.arrange(&place, 4).unwrap();
        assert_eq!((mix.len(), mix.taps(4)), (5, &[(0, 1.0)][..]));
        assert!(tiling.arrange(&tiling.place(5, 7, 8), 5).is_err());
    }
}
