//! The published preprocessings as data: an [`ImagePolicy`] maps an RGB image and a side length to
//! the square, normalised tensor of a vision encoder.
//!
//! The side is an argument and not a field, because resolution is an axis of the experiments.
//! Geometry follows the code that each model was trained or published with, down to which way
//! halves are rounded: transformers' `CLIPImageProcessor`, LLaVA's `expand2square`, torchvision's
//! transforms for MobileCLIP. Tiling into several squares ([`crate::anyres`]) composes this with crops
//! of the image.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::resize::{PassOrder, Resample, Window, resize_window};
use super::{ImageError, Interpolation, Rgb8, resize};

/// How an image of any shape becomes a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Geometry {
    /// Scale the shorter edge to the side, then cut the centre; the ends of the longer edge are
    /// lost. CLIP, MobileCLIP, and FastVLM as transformers and its model card run it.
    CenterCrop,
    /// Centre on a square of the mean colour, then scale it: LLaVA-1.5, and FastVLM's own
    /// `predict.py`, where the mean is zero and the square black.
    PadMean,
    /// Centre on a black square, then scale it.
    PadBlack,
    /// Scale both edges to the side, giving up the aspect ratio: SigLIP.
    Squash,
}

/// Which pixel a centre crop starts at when the margin is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CropOffset {
    /// Half the margin rounded down, as transformers does.
    #[default]
    Floor,
    /// Half the margin rounded to the nearest even number, as torchvision's `CenterCrop` does
    /// through Python's `round`.
    HalfEven,
}

/// Everything that turns an image into encoder input, other than the resolution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePolicy {
    /// How the square is made.
    pub geometry: Geometry,
    /// Filter of the resize.
    pub interpolation: Interpolation,
    /// Mean of each channel (red, green, blue) on the scale 0 to 1, subtracted.
    pub mean: [f64; 3],
    /// Standard deviation of each channel on the same scale, divided by.
    pub std: [f64; 3],
    /// Side of the crop as a share of the scaled shorter edge, which is `floor(side /
    /// crop_fraction)`; timm calls it `crop_pct`. Only `center_crop` reads it. Above 1, black
    /// surrounds the image.
    #[serde(default = "whole")]
    pub crop_fraction: f64,
    /// Rounding of the crop's position. Only `center_crop` reads it.
    #[serde(default)]
    pub crop_offset: CropOffset,
    /// Which Pillow's order of passes the resize follows.
    #[serde(default)]
    pub pass_order: PassOrder,
}

fn whole() -> f64 {
    1.0
}

/// Encoder input: normalised values as `(channels, height, width)`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// `channels * height * width` values.
    pub data: Vec<f32>,
    /// Number of channels: 3.
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

/// Mean of OpenAI's CLIP training images.
pub const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Standard deviation of OpenAI's CLIP training images.
pub const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

impl ImagePolicy {
    /// CLIP and transformers' CLIP processor: bicubic, centre crop, CLIP statistics. LLaVA-1.5 in
    /// transformers' port.
    pub fn clip() -> Self {
        Self::new(
            Geometry::CenterCrop,
            Interpolation::Bicubic,
            CLIP_MEAN,
            CLIP_STD,
        )
    }

    /// LLaVA-1.5's own code: padded with CLIP's mean colour (122, 116, 104), bicubic.
    pub fn llava_pad() -> Self {
        Self::new(
            Geometry::PadMean,
            Interpolation::Bicubic,
            CLIP_MEAN,
            CLIP_STD,
        )
    }

    /// FastVLM's `predict.py` and training: padded with black, bicubic, values left at 0 to 1.
    pub fn fastvlm_pad() -> Self {
        Self::new(
            Geometry::PadBlack,
            Interpolation::Bicubic,
            [0.0; 3],
            [1.0; 3],
        )
    }

    /// FastVLM's model card, transformers port and app: centre crop, bicubic, values left at 0 to
    /// 1.
    pub fn fastvlm_crop() -> Self {
        Self::new(
            Geometry::CenterCrop,
            Interpolation::Bicubic,
            [0.0; 3],
            [1.0; 3],
        )
    }

    /// MobileCLIP (FastViT MCi): bilinear, torchvision's centre crop, values left at 0 to 1.
    pub fn mobileclip() -> Self {
        Self {
            crop_offset: CropOffset::HalfEven,
            ..Self::new(
                Geometry::CenterCrop,
                Interpolation::Bilinear,
                [0.0; 3],
                [1.0; 3],
            )
        }
    }

    /// DINOv2: bicubic, the centre 7/8 of the shorter edge, ImageNet's statistics.
    pub fn dinov2() -> Self {
        Self {
            crop_fraction: 0.875,
            ..Self::new(
                Geometry::CenterCrop,
                Interpolation::Bicubic,
                [0.485, 0.456, 0.406],
                [0.229, 0.224, 0.225],
            )
        }
    }

    /// SigLIP: both edges to the side, bicubic, values from -1 to 1.
    pub fn siglip() -> Self {
        Self::new(Geometry::Squash, Interpolation::Bicubic, [0.5; 3], [0.5; 3])
    }

    fn new(
        geometry: Geometry,
        interpolation: Interpolation,
        mean: [f64; 3],
        std: [f64; 3],
    ) -> Self {
        Self {
            geometry,
            interpolation,
            mean,
            std,
            crop_fraction: whole(),
            crop_offset: CropOffset::default(),
            pass_order: PassOrder::default(),
        }
    }

    /// Refuses numbers that no image survives: statistics that are not finite, a deviation or crop
    /// that is not positive.
    pub fn check(&self) -> Result<(), ImageError> {
        let refuse = |key, got: String, expected| Err(ImageError::Policy { key, got, expected });
        if !self.mean.iter().all(|mean| (0.0..=1.0).contains(mean)) {
            return refuse(
                "mean",
                format!("{:?}", self.mean),
                "three numbers from 0 to 1",
            );
        }
        if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return refuse("std", format!("{:?}", self.std), "three positive numbers");
        }
        if !(self.crop_fraction.is_finite() && self.crop_fraction > 0.0) {
            return refuse(
                "crop_fraction",
                self.crop_fraction.to_string(),
                "a positive number, 1 for none",
            );
        }
        Ok(())
    }

    /// Preprocesses `image` to `side x side` pixels.
    pub fn apply(&self, image: &Rgb8, side: u32) -> Result<Pixels, ImageError> {
        Ok(self.normalize(&self.square(image, side)?))
    }

    /// The geometric half of [`Self::apply`]: the 8-bit square before normalisation.
    pub fn square(&self, image: &Rgb8, side: u32) -> Result<Rgb8, ImageError> {
        self.check()?;
        if side == 0 {
            return Err(ImageError::Empty {
                width: side,
                height: side,
            });
        }
        match self.geometry {
            Geometry::CenterCrop => self.center_crop(image, side),
            Geometry::PadMean => {
                let colour = self.mean.map(|mean| (mean * 255.0) as u8);
                resize(&pad_to_square(image, colour)?, side, side, self.resample())
            }
            Geometry::PadBlack => {
                resize(&pad_to_square(image, [0; 3])?, side, side, self.resample())
            }
            Geometry::Squash => resize(image, side, side, self.resample()),
        }
    }

    /// How the policy resizes.
    pub(crate) fn resample(&self) -> Resample {
        Resample {
            filter: self.interpolation,
            order: self.pass_order,
        }
    }

    /// Shortest-edge resize and centre crop, computing only the pixels that the crop keeps.
    fn center_crop(&self, image: &Rgb8, side: u32) -> Result<Rgb8, ImageError> {
        let shortest = (f64::from(side) / self.crop_fraction).floor().max(1.0) as u32;
        let (width, height) = shortest_edge_size(image.width(), image.height(), shortest);
        let columns = self.crop_axis(width, side);
        let rows = self.crop_axis(height, side);
        let window = Window {
            left: columns.from,
            top: rows.from,
            width: columns.len,
            height: rows.len,
        };
        let kept = resize_window(image, width, height, window, self.resample())?;
        if (columns.len, rows.len) == (side, side) {
            return Ok(kept);
        }
        place(&kept, (side, side), columns.to, rows.to, [0; 3])
    }

    /// Which part of an axis of `size` pixels a crop of `side` keeps, and where it lands.
    fn crop_axis(&self, size: u32, side: u32) -> CropAxis {
        let (larger, smaller) = (size.max(side), size.min(side));
        let margin = larger - smaller;
        let half_even = match margin % 4 {
            3 => margin.div_ceil(2),
            _ => margin / 2,
        };
        let offset = match self.crop_offset {
            CropOffset::HalfEven if size >= side => half_even,
            // transformers puts the odd pixel of padding first; torchvision puts it last.
            CropOffset::Floor if size < side => margin.div_ceil(2),
            _ => margin / 2,
        };
        if size >= side {
            CropAxis {
                from: offset,
                to: 0,
                len: side,
            }
        } else {
            CropAxis {
                from: 0,
                to: offset,
                len: size,
            }
        }
    }

    /// `(value / 255 - mean) / std`, as `(channels, height, width)`.
    ///
    /// A level has 256 values, so the arithmetic is a table. It is transformers': scaled by 1/255
    /// in f64, rounded to f32, and normalised in f32.
    pub fn normalize(&self, image: &Rgb8) -> Pixels {
        let table: [[f32; 256]; 3] = std::array::from_fn(|channel| {
            let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
            std::array::from_fn(|level| ((level as f64 * (1.0 / 255.0)) as f32 - mean) / std)
        });
        let (width, height) = (image.width() as usize, image.height() as usize);
        let mut data = vec![0.0; 3 * height * width];
        data.par_chunks_mut(width)
            .enumerate()
            .for_each(|(index, out)| {
                let (channel, y) = (index / height, index % height);
                for (value, pixel) in out.iter_mut().zip(image.row(y).chunks_exact(3)) {
                    *value = table[channel][usize::from(pixel[channel])];
                }
            });
        Pixels {
            data,
            channels: 3,
            height,
            width,
        }
    }
}

/// One axis of a centre crop.
struct CropAxis {
    /// First pixel kept.
    from: u32,
    /// Where it lands in the output; not zero only if the image is smaller than the crop.
    to: u32,
    /// Pixels kept.
    len: u32,
}

/// Width and height after scaling the shorter edge to `shortest`: transformers'
/// `get_resize_output_image_size`, and torchvision's, which truncate the longer edge.
fn shortest_edge_size(width: u32, height: u32, shortest: u32) -> (u32, u32) {
    let long = |longer: u32, shorter: u32| {
        (u64::from(shortest) * u64::from(longer) / u64::from(shorter)) as u32
    };
    if width <= height {
        (shortest, long(height, width))
    } else {
        (long(width, height), shortest)
    }
}

/// LLaVA's `expand2square`: the image in the middle of a square of its longer edge, half the
/// difference rounded down.
fn pad_to_square(image: &Rgb8, colour: [u8; 3]) -> Result<Rgb8, ImageError> {
    let (width, height) = (image.width(), image.height());
    let side = width.max(height);
    if width == height {
        return Ok(image.clone());
    }
    let (left, top) = ((side - width) / 2, (side - height) / 2);
    place(image, (side, side), left, top, colour)
}

/// `image` on a canvas of `colour`, at the given offset, where it must fit.
pub(crate) fn place(
    image: &Rgb8,
    (width, height): (u32, u32),
    left: u32,
    top: u32,
    colour: [u8; 3],
) -> Result<Rgb8, ImageError> {
    let stride = 3 * width as usize;
    let mut data = colour.repeat(width as usize * height as usize);
    let rows = data
        .chunks_exact_mut(stride)
        .skip(top as usize)
        .zip(0..image.height() as usize);
    for (out, y) in rows {
        let source = image.row(y);
        out[3 * left as usize..][..source.len()].copy_from_slice(source);
    }
    Rgb8::new(width, height, data)
}
