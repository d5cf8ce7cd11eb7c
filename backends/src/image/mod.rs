//! From encoded bytes to the tensor that a vision encoder reads.
//!
//! [`mod@decode`] turns a file into 8-bit RGB, [`mod@resize`] is Pillow's antialiased resize, and
//! [`policy`] composes them into the published preprocessings. Accuracy depends on all three
//! agreeing with the Python stack a model was trained with, so each says which reference it follows
//! and is tested against its output. Where an image comes from, and how many visual tokens it
//! becomes, is decided elsewhere.

pub mod decode;
pub mod policy;
pub mod resize;
pub mod synthetic;
pub mod thumbnail;

pub use decode::{ExifPolicy, Rgb8, decode};
pub use policy::{CropOffset, Geometry, ImagePolicy, Pixels};
pub use resize::{Interpolation, resize};
pub use thumbnail::thumbnail;

/// Why an image could not be decoded or preprocessed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The bytes begin with no known file signature.
    #[error(
        "unknown image format: {len} bytes beginning with {head:02x?} (expected jpeg, png, webp, gif, bmp or tiff)"
    )]
    UnknownFormat {
        /// Length of the input in bytes.
        len: usize,
        /// Its first bytes, at most eight.
        head: Vec<u8>,
    },
    /// The decoder of the recognised format gave up.
    #[error("failed to decode {format} image of {len} bytes")]
    Decode {
        /// Name of the format, such as `Png`.
        format: String,
        /// Length of the input in bytes.
        len: usize,
        /// What the decoder said.
        #[source]
        source: ::image::ImageError,
    },
    /// A JPEG whose data ends before its end-of-image marker; a lenient decoder would return a
    /// partly grey picture.
    #[error("jpeg image is truncated: no end-of-image marker in its {len} bytes")]
    Truncated {
        /// Length of the input in bytes.
        len: usize,
    },
    /// A pixel format without a conversion to 8-bit RGB that any reference stack defines.
    #[error("unsupported pixel format {format}: convert the image to 8 or 16 bits per channel")]
    UnsupportedPixels {
        /// The decoder's name for the pixel format.
        format: String,
    },
    /// An image that the JPEG encoder does not take.
    #[error("failed to encode an image of {width}x{height} pixels as jpeg")]
    Encode {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// What the encoder said.
        #[source]
        source: ::image::ImageError,
    },
    /// Pixel data whose length is not `3 * width * height`.
    #[error("rgb data of {got} bytes does not fit {width}x{height} pixels ({expected} bytes)")]
    WrongLength {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// `3 * width * height`.
        expected: u64,
        /// The length that was given.
        got: u64,
    },
    /// An image or a target with no pixels.
    #[error("image size {width}x{height} has no pixels")]
    Empty {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A window that reaches beyond the image it is cut from.
    #[error("{window:?} reaches beyond an image of {width}x{height} pixels")]
    OutsideWindow {
        /// The window that was asked for.
        window: resize::Window,
        /// Width of the image in pixels.
        width: u32,
        /// Height of the image in pixels.
        height: u32,
    },
    /// A policy whose numbers cannot be used.
    #[error("image policy: `{key}` is {got}, expected {expected}")]
    Policy {
        /// The offending key.
        key: &'static str,
        /// The value it has.
        got: String,
        /// What would be valid.
        expected: &'static str,
    },
}
