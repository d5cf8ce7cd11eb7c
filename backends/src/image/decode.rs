//! Encoded bytes to 8-bit RGB, as Pillow's `Image.open(..).convert("RGB")` gives it.
//!
//! Alpha and palette transparency are dropped, not composited. Colour and grey-with-alpha images of
//! 16 bits keep their high byte; a grey image of 16 bits is clipped at 255, which is what Pillow
//! makes of mode `I;16` and turns most such scans white. CMYK JPEGs are read as Adobe writes them
//! (inverted) and converted by Pillow's `(255 - k)(255 - c) / 255`. PNG, BMP and GIF agree with
//! Pillow bit for bit. JPEG does not quite: the inverse DCT and chroma upsampling differ from
//! libjpeg-turbo's. On photograph-like noise 1% (4:4:4) to 28% (4:2:0) of the values are off, by at
//! most 4 levels and mostly by 1, so the digest of the decoded pixels belongs in a record.

use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use sha2::{Digest, Sha256};

use super::ImageError;

/// What to do with the orientation in an image's EXIF data.
///
/// Harnesses differ: `datasets` applies it from 2.19 on, LLaVA's own scripts and lmms-eval 0.2.2 do
/// not. The choice moves scores, so callers record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExifPolicy {
    /// Pixels as stored.
    #[default]
    Ignore,
    /// Pixels turned and mirrored upright, as `ImageOps.exif_transpose` does.
    Apply,
}

/// An image of 8-bit RGB pixels, row by row from the top left, channels interleaved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb8 {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl Rgb8 {
    /// Wraps interleaved pixels; `data` must hold `3 * width * height` bytes, and at least one
    /// pixel.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Result<Self, ImageError> {
        if width == 0 || height == 0 {
            return Err(ImageError::Empty { width, height });
        }
        let expected = 3 * u64::from(width) * u64::from(height);
        let got = data.len() as u64;
        if got != expected {
            return Err(ImageError::WrongLength {
                width,
                height,
                expected,
                got,
            });
        }
        Ok(Self {
            width,
            height,
            data,
        })
    }

    /// An image of one colour.
    pub fn filled(width: u32, height: u32, colour: [u8; 3]) -> Result<Self, ImageError> {
        Self::new(
            width,
            height,
            colour.repeat(width as usize * height as usize),
        )
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, `3 * width * height` bytes.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The row `y`, counted from the top.
    pub(crate) fn row(&self, y: usize) -> &[u8] {
        let stride = 3 * self.width as usize;
        &self.data[y * stride..(y + 1) * stride]
    }

    /// SHA-256 of the pixels in hexadecimal: `hashlib.sha256(image.tobytes())` of the same picture
    /// in Pillow. The size is not part of it.
    pub fn sha256(&self) -> String {
        Sha256::digest(&self.data)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Decodes a JPEG, PNG, WebP, GIF (first frame), BMP or TIFF file to 8-bit RGB.
pub fn decode(bytes: &[u8], exif: ExifPolicy) -> Result<Rgb8, ImageError> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .expect("reading from memory does not fail");
    let Some(format) = reader.format() else {
        return Err(ImageError::UnknownFormat {
            len: bytes.len(),
            head: bytes[..bytes.len().min(8)].to_vec(),
        });
    };
    if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
        return Err(ImageError::Truncated { len: bytes.len() });
    }
    let failed = |source| ImageError::Decode {
        format: format!("{format:?}"),
        len: bytes.len(),
        source,
    };
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let orientation = match exif {
        ExifPolicy::Ignore => Orientation::NoTransforms,
        ExifPolicy::Apply => decoder.orientation().map_err(failed)?,
    };
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width(), image.height());
    Rgb8::new(width, height, to_rgb8(image)?)
}

/// Whether an end-of-image marker follows the last start of scan. The decoder accepts a JPEG that
/// stops short and fills the rest with grey; Pillow refuses it, and so do we, for a half-seen image
/// must not be scored.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    let (start_of_scan, end_of_image) = (last(0xda), last(0xd9));
    end_of_image.is_some() && end_of_image > start_of_scan
}

/// Pillow's `convert("RGB")` for each of the decoder's pixel formats.
fn to_rgb8(image: DynamicImage) -> Result<Vec<u8>, ImageError> {
    let high = |value: u16| (value >> 8) as u8;
    let clip = |value: u16| value.min(255) as u8;
    Ok(match image {
        DynamicImage::ImageRgb8(pixels) => pixels.into_raw(),
        DynamicImage::ImageRgba8(pixels) => {
            pixels.pixels().flat_map(|p| [p[0], p[1], p[2]]).collect()
        }
        DynamicImage::ImageLuma8(pixels) => pixels.pixels().flat_map(|p| [p[0]; 3]).collect(),
        DynamicImage::ImageLumaA8(pixels) => pixels.pixels().flat_map(|p| [p[0]; 3]).collect(),
        DynamicImage::ImageLuma16(pixels) => {
            pixels.pixels().flat_map(|p| [clip(p[0]); 3]).collect()
        }
        DynamicImage::ImageLumaA16(pixels) => {
            pixels.pixels().flat_map(|p| [high(p[0]); 3]).collect()
        }
        DynamicImage::ImageRgb16(pixels) => pixels.into_raw().into_iter().map(high).collect(),
        DynamicImage::ImageRgba16(pixels) => pixels
            .pixels()
            .flat_map(|p| [high(p[0]), high(p[1]), high(p[2])])
            .collect(),
        other => {
            return Err(ImageError::UnsupportedPixels {
                format: format!("{:?}", other.color()),
            });
        }
    })
}
