//! Whatever the compiler makes of plain loops.

use half::{bf16, f16};

use super::{Kernel, LANES, Level, Simd, Vector, fma};

/// The baseline of the target.
#[derive(Clone, Copy)]
pub struct Portable;

impl Simd for Portable {
    const LEVEL: Level = Level::Portable;
    const FMA: bool = cfg!(target_arch = "aarch64");
    type Vector = [f32; LANES];

    #[inline(always)]
    fn call<K: Kernel>(kernel: K) -> K::Out {
        #[inline(never)]
        fn own<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<Portable>()
        }
        own(kernel)
    }
}

/// The bits of a float rounded to bf16, to nearest even on the 16 that are
/// dropped; a NaN keeps its top bits with the quiet bit set. Unlike the
/// `half` crate's, it vectorises.
#[inline(always)]
pub(in crate::candle::kernels) fn bf16_bits(v: f32) -> u16 {
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x40;
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    (if is_nan { nan } else { rounded }) as u16
}

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; LANES] {
    std::array::from_fn(f)
}

impl Vector for [f32; LANES] {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        [v; LANES]
    }

    #[inline(always)]
    unsafe fn read(from: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe { from.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn read_bf16(from: *const bf16) -> Self {
        // SAFETY: the caller's.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        each(|i| f32::from_bits(u32::from(bits[i]) << 16))
    }

    #[inline(always)]
    unsafe fn read_f16(from: *const f16) -> Self {
        // SAFETY: the caller's.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        each(|i| f16::from_bits(bits[i]).to_f32())
    }

    #[inline(always)]
    unsafe fn read_i8(from: *const i8) -> Self {
        // SAFETY: the caller's.
        let bytes = unsafe { from.cast::<[i8; LANES]>().read_unaligned() };
        each(|i| f32::from(bytes[i]))
    }

    #[inline(always)]
    unsafe fn read_bytes(from: *const u8) -> Self {
        // SAFETY: the caller's.
        let bytes = unsafe { from.cast::<[u8; LANES]>().read_unaligned() };
        each(|i| f32::from_bits(u32::from(bytes[i])))
    }

    #[inline(always)]
    fn field<const SHIFT: u32, const MASK: u32>(self) -> Self {
        // As signed numbers, which are converted by one instruction.
        each(|i| (self[i].to_bits() >> SHIFT & MASK) as i32 as f32)
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn write_bf16(self, to: *mut bf16) {
        let narrow = self.map(bf16_bits);
        // SAFETY: the caller's.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(narrow) }
    }

    #[inline(always)]
    unsafe fn write_f16(self, to: *mut f16) {
        let narrow = self.map(|v| f16::from_f32(v).to_bits());
        // SAFETY: the caller's.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(narrow) }
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        each(|i| self[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        each(|i| self[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        each(|i| self[i] * b[i])
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        each(|i| self[i] / b[i])
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        each(|i| if self[i] < b[i] { self[i] } else { b[i] })
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        each(|i| if self[i] > b[i] { self[i] } else { b[i] })
    }

    #[inline(always)]
    fn less(self, b: Self, yes: Self, no: Self) -> Self {
        each(|i| if self[i] < b[i] { yes[i] } else { no[i] })
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        each(|i| fma::<Portable>(self[i], b[i], c[i]))
    }

    #[inline(always)]
    fn round(self) -> Self {
        // Without an instruction for it, rounding is a call for each lane;
        // beyond 2^23 all numbers are integral.
        const WHOLE: f32 = 8_388_608.0;
        each(|i| {
            let magnitude = self[i].abs();
            let rounded = ((magnitude + WHOLE) - WHOLE).copysign(self[i]);
            if magnitude < WHOLE { rounded } else { self[i] }
        })
    }

    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        each(|i| self[i] * f32::from_bits(((n[i] as i32 + 127) << 23) as u32))
    }

    #[inline(always)]
    fn pick(self, index: Self) -> Self {
        each(|i| self[index[i].to_bits() as usize % LANES])
    }

    #[inline(always)]
    fn twice(self) -> [Self; 2] {
        [each(|i| self[i / 2]), each(|i| self[LANES / 2 + i / 2])]
    }
}
