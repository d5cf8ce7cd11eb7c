//! Storage precisions: how a slice of scalars becomes f32 and back.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A storage precision of activations and weights.
pub trait Element: Copy + Send + Sync + 'static {
    /// Whether the storage is f32 itself, so that no conversion is needed.
    const IS_F32: bool;

    /// Converts `src` into `dst` of the same length.
    fn widen(src: &[Self], dst: &mut [f32]);

    /// Rounds `src` into `dst` of the same length, to nearest even.
    fn narrow(src: &[f32], dst: &mut [Self]);

    /// One scalar as f32.
    fn get(self) -> f32;

    /// The slice as f32 if that is the storage.
    fn as_f32(src: &[Self]) -> Option<&[f32]>;

    /// The slice as mutable f32 if that is the storage.
    fn as_f32_mut(dst: &mut [Self]) -> Option<&mut [f32]>;
}

impl Element for f32 {
    const IS_F32: bool = true;

    fn widen(src: &[f32], dst: &mut [f32]) {
        dst.copy_from_slice(src);
    }

    fn narrow(src: &[f32], dst: &mut [f32]) {
        dst.copy_from_slice(src);
    }

    fn get(self) -> f32 {
        self
    }

    fn as_f32(src: &[f32]) -> Option<&[f32]> {
        Some(src)
    }

    fn as_f32_mut(dst: &mut [f32]) -> Option<&mut [f32]> {
        Some(dst)
    }
}

impl Element for f16 {
    const IS_F32: bool = false;

    fn widen(src: &[f16], dst: &mut [f32]) {
        src.convert_to_f32_slice(dst);
    }

    fn narrow(src: &[f32], dst: &mut [f16]) {
        dst.convert_from_f32_slice(src);
    }

    fn get(self) -> f32 {
        self.to_f32()
    }

    fn as_f32(_: &[f16]) -> Option<&[f32]> {
        None
    }

    fn as_f32_mut(_: &mut [f16]) -> Option<&mut [f32]> {
        None
    }
}

impl Element for bf16 {
    const IS_F32: bool = false;

    #[inline(always)]
    fn widen(src: &[bf16], dst: &mut [f32]) {
        for (d, s) in dst.iter_mut().zip(src) {
            *d = f32::from_bits(u32::from(s.to_bits()) << 16);
        }
    }

    #[inline(always)]
    fn narrow(src: &[f32], dst: &mut [bf16]) {
        for (d, s) in dst.iter_mut().zip(src) {
            let bits = s.to_bits();
            // Round to nearest even on the 16 bits that are dropped; a NaN
            // keeps its top bits with the quiet bit set.
            let rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
            let nan = (bits >> 16) | 0x40;
            let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
            *d = bf16::from_bits(if is_nan { nan } else { rounded } as u16);
        }
    }

    fn get(self) -> f32 {
        self.to_f32()
    }

    fn as_f32(_: &[bf16]) -> Option<&[f32]> {
        None
    }

    fn as_f32_mut(_: &mut [bf16]) -> Option<&mut [f32]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_as_the_half_crate_does() {
        let mut values: Vec<f32> = (0..100_000u32)
            .map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)))
            .filter(|v| !v.is_nan())
            .collect();
        values.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, 1.0, f32::MAX]);
        let mut ours = vec![bf16::ZERO; values.len()];
        bf16::narrow(&values, &mut ours);
        for (v, o) in values.iter().zip(&ours) {
            assert_eq!(bf16::from_f32(*v).to_bits(), o.to_bits(), "{v}");
        }
        let mut nan = [bf16::ZERO];
        bf16::narrow(&[f32::NAN], &mut nan);
        assert!(nan[0].is_nan());
    }
}
