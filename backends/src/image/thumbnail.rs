//! Pictures to look at, not to compute with: JPEG, and small.

use ::image::codecs::jpeg::JpegEncoder;

use super::{ImageError, Interpolation, Rgb8, resize};

/// An image as a JPEG file of a quality from 1 to 100.
pub fn jpeg(image: &Rgb8, quality: u8) -> Result<Vec<u8>, ImageError> {
    let (width, height) = (image.width(), image.height());
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(
            image.data(),
            width,
            height,
            ::image::ExtendedColorType::Rgb8,
        )
        .map_err(|source| ImageError::Encode {
            width,
            height,
            source,
        })?;
    Ok(bytes)
}

/// The largest JPEG file of an image, of a quality from 1 to 100, that has neither more than `bytes` bytes nor a longer
/// side than one of `sides`, tried in turn; the last one if none is small enough. Nothing is enlarged.
pub fn thumbnail(
    image: &Rgb8,
    sides: &[u32],
    quality: u8,
    bytes: usize,
) -> Result<Vec<u8>, ImageError> {
    let mut file = Vec::new();
    for side in sides {
        file = jpeg(&within(image, *side)?, quality)?;
        if file.len() <= bytes {
            break;
        }
    }
    Ok(file)
}

/// The image in its proportions, no side longer than `side` pixels.
fn within(image: &Rgb8, side: u32) -> Result<Rgb8, ImageError> {
    let (width, height) = (image.width(), image.height());
    let longest = width.max(height);
    if longest <= side {
        return Ok(image.clone());
    }
    let scale = f64::from(side) / f64::from(longest);
    let scaled = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    resize(
        image,
        scaled(width),
        scaled(height),
        Interpolation::Bilinear,
    )
}

#[cfg(test)]
mod tests {
    use super::super::{ExifPolicy, decode, synthetic};
    use super::*;

    fn size(file: &[u8]) -> (u32, u32) {
        let image = decode(file, ExifPolicy::Ignore).unwrap();
        (image.width(), image.height())
    }

    #[test]
    fn thumbnails_fit_and_keep_their_proportions() {
        let photo = synthetic::photo(1200, 600, 0).unwrap();
        let file = thumbnail(&photo, &[400, 200], 80, usize::MAX).unwrap();
        assert_eq!(size(&file), (400, 200));
        // The first side gives too many bytes, the second one few enough.
        let small = thumbnail(&photo, &[400, 200], 80, file.len() - 1).unwrap();
        assert_eq!(size(&small), (200, 100));
        // Nothing is enlarged, and a line stays one.
        let small = synthetic::photo(90, 60, 0).unwrap();
        assert_eq!(size(&thumbnail(&small, &[400], 80, 0).unwrap()), (90, 60));
        let line = Rgb8::filled(3000, 2, [9, 9, 9]).unwrap();
        assert_eq!(size(&thumbnail(&line, &[300], 80, 0).unwrap()), (300, 1));
    }
}
