//! AnyRes settings of published configurations.

use super::super::CheckpointError;
use super::super::json::Node;
use super::Context;
use crate::anyres::{EncodeTiles, Grid, Grids, Merge, Tiling};
use crate::error::Result;

/// Grids of LLaVA-NeXT that its configurations may leave out: `(height, width)`
/// in tiles, as transformers has them.
const NEXT_GRIDS: [[usize; 2]; 5] = [[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]];
/// Columns and rows of LLaVA-OneVision's grids.
const ONEVISION_GRIDS: Grid = Grid {
    columns: 6,
    rows: 6,
};
/// Tiles from which LLaVA-OneVision shrinks: `anyres_max_9`.
const ONEVISION_MOST: usize = 9;

/// In which order a pair of `image_grid_pinpoints` names its sides.
#[derive(Clone, Copy)]
enum Order {
    /// LLaVA's own code.
    WidthFirst,
    /// transformers.
    HeightFirst,
}

/// AnyRes of LLaVA-NeXT as transformers writes it, for tiles of `side` pixels.
pub(super) fn next(c: &Context, side: usize) -> Result<Tiling> {
    let flag = c.config.get("use_image_newline_parameter");
    if flag.present() && !flag.bool()? {
        return Err(flag.error("only true is supported").into());
    }
    let grids = match pinpoints(c, side, Order::HeightFirst)? {
        Some(grids) => grids,
        None => Grids::Of(
            NEXT_GRIDS
                .map(|[rows, columns]| Grid { columns, rows })
                .into(),
        ),
    };
    Ok(unpadded(grids, None, false))
}

/// AnyRes of LLaVA-OneVision as transformers writes it.
pub(super) fn onevision(c: &Context, side: usize) -> Result<Tiling> {
    let aspect = c.config.get("vision_aspect_ratio");
    let most = match aspect.clone().optional() {
        Some(node) => anyres(&node)?.flatten(),
        None => Some(ONEVISION_MOST),
    };
    if most.is_none() {
        return Err(aspect
            .error("only `anyres_max_<tiles>` is supported")
            .into());
    }
    let grids = pinpoints(c, side, Order::HeightFirst)?;
    let grids = grids.unwrap_or(Grids::UpTo(ONEVISION_GRIDS));
    Ok(unpadded(grids, most, true))
}

/// AnyRes of LLaVA's own configurations: `image_aspect_ratio` with
/// `image_grid_pinpoints` and `mm_patch_merge_type`; `None` without it.
pub(super) fn of_llava(c: &Context, side: usize) -> Result<Option<Tiling>> {
    let Some(aspect) = c.config.get("image_aspect_ratio").optional() else {
        return Ok(None);
    };
    let Some(most) = anyres(&aspect)? else {
        return Ok(None);
    };
    let Some(grids) = pinpoints(c, side, Order::WidthFirst)? else {
        let grids = c.config.get("image_grid_pinpoints");
        return Err(grids
            .error("is needed with an anyres image_aspect_ratio")
            .into());
    };
    let merge = c.config.get("mm_patch_merge_type");
    let merge = match merge
        .clone()
        .optional()
        .map(|node| node.str())
        .transpose()?
    {
        None | Some("flat") => Merge::Flat,
        Some("spatial_unpad") => Merge::SpatialUnpad,
        Some(_) => {
            let known = "only `flat` and `spatial_unpad` are supported";
            return Err(merge.error(known).into());
        }
    };
    Ok(Some(Tiling {
        merge,
        // Several images are padded to squares by the code that asks OneVision.
        ..unpadded(grids, most, most.is_some())
    }))
}

fn unpadded(grids: Grids, shrink_above: Option<usize>, single_image_only: bool) -> Tiling {
    Tiling {
        grids,
        merge: Merge::SpatialUnpad,
        shrink_above,
        encode: EncodeTiles::default(),
        single_image_only,
    }
}

/// Whether an aspect ratio is `anyres`, and the tiles of `anyres_max_<tiles>`.
fn anyres(node: &Node) -> Result<Option<Option<usize>>, CheckpointError> {
    let text = node.str()?;
    if text == "anyres" {
        return Ok(Some(None));
    }
    let Some(most) = text.strip_prefix("anyres_max_") else {
        return Ok(None);
    };
    let most = most.parse().ok().filter(|most| *most > 0);
    let most = most.ok_or_else(|| node.error("the tiles must follow `anyres_max_`"))?;
    Ok(Some(Some(most)))
}

/// `image_grid_pinpoints` in tiles: a list of pairs of pixels, or such a range
/// of tiles as `(1x1),...,(6x6)`.
fn pinpoints(c: &Context, side: usize, order: Order) -> Result<Option<Grids>, CheckpointError> {
    let Some(node) = c.config.get("image_grid_pinpoints").optional() else {
        return Ok(None);
    };
    if node.value().is_string() {
        let most = range_end(node.str()?);
        let problem = "expected a list of pairs, or `(1x1),...,(<columns>x<rows>)`";
        let most = most.ok_or_else(|| node.error(problem))?;
        return Ok(Some(Grids::UpTo(most)));
    }
    let pairs = node.value().as_array().into_iter().flatten();
    let tiles = |pair: &serde_json::Value| {
        let sides = pair.as_array().filter(|pair| pair.len() == 2)?;
        let side_in_tiles = |value: &serde_json::Value| {
            let pixels = usize::try_from(value.as_u64()?).ok()?;
            (side > 0 && pixels.is_multiple_of(side)).then(|| pixels / side)
        };
        let (first, second) = (side_in_tiles(&sides[0])?, side_in_tiles(&sides[1])?);
        Some(match order {
            Order::WidthFirst => [first, second].into(),
            Order::HeightFirst => [second, first].into(),
        })
    };
    let grids: Option<Vec<Grid>> = pairs.map(tiles).collect();
    match grids {
        Some(grids) if !grids.is_empty() => Ok(Some(Grids::Of(grids))),
        _ => Err(node.error(format!(
            "expected pairs of multiples of the encoder's side, {side} pixels"
        ))),
    }
}

/// The end of `(1x1),...,(6x6)`.
fn range_end(text: &str) -> Option<Grid> {
    let end = text
        .strip_prefix("(1x1),")?
        .trim_start_matches([' ', '.', ',']);
    let (columns, rows) = end.strip_prefix('(')?.strip_suffix(')')?.split_once('x')?;
    let grid = Grid {
        columns: columns.parse().ok()?,
        rows: rows.parse().ok()?,
    };
    (grid.tiles() > 0).then_some(grid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_grids_has_an_end() {
        assert_eq!(range_end("(1x1),...,(6x6)"), Some([6, 6].into()));
        assert_eq!(range_end("(1x1), ..., (3x2)"), Some([3, 2].into()));
        assert_eq!(range_end("(2x2),...,(6x6)"), None);
        assert_eq!(range_end("(1x1),...,(6)"), None);
    }
}
