//! Which grid suits an image, and the pixels of its tiles.

use super::{Grid, Placement, Tiling};
use crate::image::resize::Resample;
use crate::image::{ImageError, ImagePolicy, Pixels, Rgb8, policy, resize};

impl Tiling {
    /// Where an image of `width` x `height` pixels lies with tiles of `side`
    /// pixels. The grid is the one in which the image keeps most of its pixels
    /// (but no more than it has), and then the one that wastes least.
    pub fn place(&self, width: u32, height: u32, side: usize) -> Placement {
        let (w, h) = (f64::from(width), f64::from(height));
        let mut best: Option<(Grid, f64, f64)> = None;
        for grid in self.grids.iter() {
            let (across, down) = canvas(grid, side);
            let scale = (f64::from(across) / w).min(f64::from(down) / h);
            let scaled = (w * scale).trunc() * (h * scale).trunc();
            let kept = scaled.min(w * h);
            let wasted = f64::from(across) * f64::from(down) - kept;
            let better = match best {
                None => true,
                Some((_, most, least)) => kept > most || (kept == most && wasted < least),
            };
            if better {
                best = Some((grid, kept, wasted));
            }
        }
        Placement {
            width,
            height,
            grid: best.map(|(grid, ..)| grid),
        }
    }
}

/// Width and height in pixels of a grid of tiles of `side` pixels.
fn canvas(grid: Grid, side: usize) -> (u32, u32) {
    ((grid.columns * side) as u32, (grid.rows * side) as u32)
}

/// Width and height of an image scaled to fit `canvas`, the edge that does not
/// fill it rounded up.
fn fitted((width, height): (u32, u32), canvas: (u32, u32)) -> (u32, u32) {
    let (across, down) = (
        f64::from(canvas.0) / f64::from(width),
        f64::from(canvas.1) / f64::from(height),
    );
    let scaled = |edge: u32, scale: f64| (f64::from(edge) * scale).ceil() as u32;
    if across < down {
        (canvas.0, scaled(height, across).min(canvas.1))
    } else {
        (scaled(width, down).min(canvas.0), canvas.1)
    }
}

/// An image cut into `grid` as encoder inputs of `side` x `side` pixels: the
/// whole image squashed, then the tiles row by row. Filter and statistics are
/// the policy's; its geometry takes no part.
pub fn inputs(
    policy: &ImagePolicy,
    image: &Rgb8,
    grid: Grid,
    side: usize,
) -> Result<Vec<Pixels>, ImageError> {
    policy.check()?;
    let inputs = cut(image, grid, side, policy.resample())?;
    Ok(inputs.iter().map(|input| policy.normalize(input)).collect())
}

/// The overview, then the tiles, cut from the image in the middle of a black
/// canvas.
fn cut(image: &Rgb8, grid: Grid, side: usize, how: Resample) -> Result<Vec<Rgb8>, ImageError> {
    let edge = side as u32;
    let canvas = canvas(grid, side);
    let (width, height) = fitted((image.width(), image.height()), canvas);
    let scaled = resize(image, width, height, how)?;
    let (left, top) = ((canvas.0 - width) / 2, (canvas.1 - height) / 2);
    let placed = policy::place(&scaled, canvas, left, top, [0; 3])?;
    let mut inputs = vec![resize(image, edge, edge, how)?];
    for row in 0..grid.rows {
        for column in 0..grid.columns {
            let stride = 3 * side;
            let rows = (row * side)..((row + 1) * side);
            let data = rows.flat_map(|y| &placed.row(y)[column * stride..][..stride]);
            inputs.push(Rgb8::new(edge, edge, data.copied().collect())?);
        }
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use super::super::{EncodeTiles, Grids, Merge};
    use super::*;

    fn tiling(grids: Grids) -> Tiling {
        Tiling {
            grids,
            merge: Merge::Flat,
            shrink_above: None,
            encode: EncodeTiles::default(),
            single_image_only: false,
        }
    }

    #[test]
    fn of_equal_grids_the_earlier_is_taken() {
        let next = |grids: &[[usize; 2]]| {
            let grids = grids.iter().map(|g| Grid::from(*g)).collect();
            let place = tiling(Grids::Of(grids)).place(300, 300, 336);
            place.grid.map(<[usize; 2]>::from)
        };
        assert_eq!(next(&[[1, 2], [2, 1], [2, 2]]), Some([1, 2]));
        assert_eq!(next(&[[2, 1], [1, 2], [2, 2]]), Some([2, 1]));
    }

    #[test]
    fn an_image_lies_in_the_middle_of_its_canvas() {
        let image = Rgb8::filled(20, 10, [200, 0, 0]).unwrap();
        let how = Resample::from(crate::image::Interpolation::Bicubic);
        let inputs = cut(&image, [2, 2].into(), 8, how).unwrap();
        assert_eq!(inputs.len(), 5);
        // 20 x 10 fits 16 x 16 as 16 x 8, from row 4 to row 12.
        let first_column = |tile: &Rgb8| (0..8).map(|y| tile.row(y)[0]).collect::<Vec<_>>();
        assert_eq!(first_column(&inputs[0]), [200; 8]);
        assert_eq!(first_column(&inputs[1]), [0, 0, 0, 0, 200, 200, 200, 200]);
        assert_eq!(first_column(&inputs[4]), [200, 200, 200, 200, 0, 0, 0, 0]);
    }

    #[test]
    fn sizes_are_rounded_up_within_the_canvas() {
        assert_eq!(fitted((1000, 333), (768, 384)), (768, 256));
        assert_eq!(fitted((333, 1000), (768, 384)), (128, 384));
        assert_eq!(fitted((3, 2), (384, 384)), (384, 256));
    }
}
