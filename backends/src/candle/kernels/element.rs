//! Storage precisions: how a slice of scalars becomes f32 and back.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::simd::{LANES, Vector, bf16_bits};

/// A storage precision of activations and weights.
pub trait Element: Copy + Send + Sync + 'static {
    /// Whether the storage is f32 itself, so that no conversion is needed.
    const IS_F32: bool;

    /// Whether the storage is bf16, which some machines multiply natively.
    const IS_BF16: bool = false;

    /// Zero.
    const ZERO: Self;

    /// Converts `src` into `dst` of the same length.
    fn widen(src: &[Self], dst: &mut [f32]);

    /// Rounds `src` into `dst` of the same length, to nearest even.
    fn narrow(src: &[f32], dst: &mut [Self]);

    /// One scalar as f32.
    fn get(self) -> f32;

    /// The slice as f32 if that is the storage.
    fn as_f32(src: &[Self]) -> Option<&[f32]>;

    /// f32 memory as this type if that is the storage.
    fn as_f32_mut(_: &mut [f32]) -> Option<&mut [Self]> {
        None
    }

    /// Reads and widens [`LANES`] scalars.
    ///
    /// # Safety
    /// `from` must be readable for [`LANES`] scalars; any alignment.
    unsafe fn read<V: Vector>(from: *const Self) -> V;

    /// Rounds and writes [`LANES`] scalars.
    ///
    /// # Safety
    /// `to` must be writable for [`LANES`] scalars; any alignment.
    unsafe fn write<V: Vector>(v: V, to: *mut Self);

    /// The first [`LANES`] scalars of a slice, zeros where it ends before.
    #[inline(always)]
    fn load<V: Vector>(from: &[Self]) -> V {
        if from.len() >= LANES {
            // SAFETY: the slice is that long.
            return unsafe { Self::read(from.as_ptr()) };
        }
        let mut lanes = [0.0; LANES];
        for (lane, v) in lanes.iter_mut().zip(from) {
            *lane = v.get();
        }
        V::load(&lanes)
    }

    /// Writes the first [`LANES`] scalars of a slice, or as many as it has.
    #[inline(always)]
    fn store<V: Vector>(v: V, to: &mut [Self]) {
        if to.len() >= LANES {
            // SAFETY: the slice is that long.
            return unsafe { Self::write(v, to.as_mut_ptr()) };
        }
        Self::narrow(&v.lanes()[..to.len()], to);
    }
}

impl Element for f32 {
    const IS_F32: bool = true;
    const ZERO: f32 = 0.0;

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

    fn as_f32_mut(memory: &mut [f32]) -> Option<&mut [f32]> {
        Some(memory)
    }

    #[inline(always)]
    unsafe fn read<V: Vector>(from: *const f32) -> V {
        // SAFETY: the caller's.
        unsafe { V::read(from) }
    }

    #[inline(always)]
    unsafe fn write<V: Vector>(v: V, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { v.write(to) }
    }
}

impl Element for f16 {
    const IS_F32: bool = false;
    const ZERO: f16 = f16::ZERO;

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

    #[inline(always)]
    unsafe fn read<V: Vector>(from: *const f16) -> V {
        // SAFETY: the caller's.
        unsafe { V::read_f16(from) }
    }

    #[inline(always)]
    unsafe fn write<V: Vector>(v: V, to: *mut f16) {
        // SAFETY: the caller's.
        unsafe { v.write_f16(to) }
    }
}

impl Element for bf16 {
    const IS_F32: bool = false;
    const IS_BF16: bool = true;
    const ZERO: bf16 = bf16::ZERO;

    #[inline(always)]
    fn widen(src: &[bf16], dst: &mut [f32]) {
        for (d, s) in dst.iter_mut().zip(src) {
            *d = f32::from_bits(u32::from(s.to_bits()) << 16);
        }
    }

    #[inline(always)]
    fn narrow(src: &[f32], dst: &mut [bf16]) {
        for (d, s) in dst.iter_mut().zip(src) {
            *d = bf16::from_bits(bf16_bits(*s));
        }
    }

    fn get(self) -> f32 {
        self.to_f32()
    }

    fn as_f32(_: &[bf16]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    unsafe fn read<V: Vector>(from: *const bf16) -> V {
        // SAFETY: the caller's.
        unsafe { V::read_bf16(from) }
    }

    #[inline(always)]
    unsafe fn write<V: Vector>(v: V, to: *mut bf16) {
        // SAFETY: the caller's.
        unsafe { v.write_bf16(to) }
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
