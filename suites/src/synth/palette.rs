//! Colours with names that people agree on.

use super::canvas::Rgb;
use super::dice::Dice;

/// Name and typical shade.
pub(super) const COLORS: [(&str, Rgb); 8] = [
    ("red", [200, 35, 35]),
    ("blue", [35, 75, 190]),
    ("green", [40, 140, 60]),
    ("yellow", [240, 205, 40]),
    ("orange", [235, 125, 25]),
    ("purple", [125, 50, 155]),
    ("black", [30, 30, 32]),
    ("white", [244, 244, 240]),
];

/// A shade near `color`.
pub(super) fn near(dice: &mut Dice, color: Rgb, spread: i32) -> Rgb {
    color.map(|channel| (i32::from(channel) + dice.between(-spread, spread)).clamp(0, 255) as u8)
}

/// How light a colour looks, 0 to 255 (Rec. 601 luma).
pub(super) fn luma([r, g, b]: Rgb) -> u32 {
    (299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b)) / 1000
}

/// An ink that can be read on `ground`.
pub(super) fn ink(dice: &mut Dice, ground: Rgb) -> Rgb {
    let ink = match (luma(ground) > 120, dice.percent(70)) {
        (true, true) => [20, 20, 25],
        (true, false) => [95, 20, 30],
        (false, true) => [250, 250, 245],
        (false, false) => [255, 225, 90],
    };
    near(dice, ink, 5)
}
