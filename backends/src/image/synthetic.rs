//! A deterministic stand-in for a photograph, for latency workloads that have
//! no data set: smooth gradients, hard-edged shapes and grain, so that the JPEG
//! decoder and the resize do the work that a photograph gives them.

use super::{ImageError, Rgb8, thumbnail};

/// JPEG quality of the synthetic photograph.
const QUALITY: u8 = 90;

/// Pixels of the photograph; the same arguments give the same bytes.
pub fn photo(width: u32, height: u32, seed: u64) -> Result<Rgb8, ImageError> {
    let hash = |x: u32, y: u32| {
        let mut z = seed ^ (u64::from(x) << 32 | u64::from(y));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 40) as u32
    };
    let mut data = Vec::with_capacity(3 * width as usize * height as usize);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (255 * x / width, 255 * y / height);
            let tile = hash(x / 48, y / 48);
            let inside = (x % 48).abs_diff(24).pow(2) + (y % 48).abs_diff(24).pow(2) < 300;
            let grain = hash(x, y) & 15;
            let base = if inside {
                [tile & 255, (tile >> 8) & 255, (tile >> 16) & 255]
            } else {
                [u, v, 255 - (u + v) / 2]
            };
            data.extend(base.map(|c| (c * 15 / 16 + grain) as u8));
        }
    }
    Rgb8::new(width, height, data)
}

/// The photograph as a JPEG file.
pub fn jpeg(width: u32, height: u32, seed: u64) -> Result<Vec<u8>, ImageError> {
    thumbnail::jpeg(&photo(width, height, seed)?, QUALITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ExifPolicy, decode};

    #[test]
    fn the_photograph_is_repeatable_and_survives_jpeg() {
        let a = jpeg(160, 120, 1).unwrap();
        assert_eq!(a, jpeg(160, 120, 1).unwrap());
        assert_ne!(a, jpeg(160, 120, 2).unwrap());
        let back = decode(&a, ExifPolicy::Ignore).unwrap();
        assert_eq!((back.width(), back.height()), (160, 120));
        let exact = photo(160, 120, 1).unwrap();
        let off: u64 = (back.data().iter().zip(exact.data()))
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        assert!(off / (back.data().len() as u64) < 12);
    }
}
