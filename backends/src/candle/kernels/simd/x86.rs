//! AVX2 and AVX-512.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::super::product::{Left, Right, Sums};
use super::{Kernel, Level, Simd, Vector, amx};

/// AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub struct V3;
/// AVX-512.
#[derive(Clone, Copy)]
pub struct V4;
/// AVX-512 with bf16 dot products.
#[derive(Clone, Copy)]
pub struct V4Bf16;
/// The same with AMX's tile registers.
#[derive(Clone, Copy)]
pub struct Amx;

/// The best level of this machine.
pub(super) fn best() -> Level {
    let v3 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let v4 = v3
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    match (v3, v4, is_x86_feature_detected!("avx512bf16")) {
        (_, true, true) if amx::available() => Level::Amx,
        (_, true, true) => Level::V4Bf16,
        (_, true, false) => Level::V4,
        (true, ..) => Level::V3,
        _ => Level::Portable,
    }
}

/// With what a level with bf16 products has besides tile registers.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma,f16c")]
fn v4_bf16<S: Simd, K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<S>()
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
fn v4<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<V4>()
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn v3<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<V3>()
}

/// Runs a kernel at a level other than the portable one.
///
/// # Safety
/// The machine must have the level.
pub(super) unsafe fn run<K: Kernel>(level: Level, kernel: K) -> K::Out {
    // SAFETY: the caller's.
    unsafe {
        match level {
            Level::Amx => v4_bf16::<Amx, K>(kernel),
            Level::V4Bf16 => v4_bf16::<V4Bf16, K>(kernel),
            Level::V4 => v4(kernel),
            _ => v3(kernel),
        }
    }
}

impl Simd for V3 {
    const LEVEL: Level = Level::V3;
    const FMA: bool = true;
    type Vector = Pair;

    #[inline(always)]
    fn call<K: Kernel>(kernel: K) -> K::Out {
        // SAFETY: kernels only run at a level the machine has.
        unsafe { v3(kernel) }
    }
}

impl Simd for V4 {
    const LEVEL: Level = Level::V4;
    const FMA: bool = true;
    type Vector = __m512;

    #[inline(always)]
    fn call<K: Kernel>(kernel: K) -> K::Out {
        // SAFETY: kernels only run at a level the machine has.
        unsafe { v4(kernel) }
    }
}

impl Simd for V4Bf16 {
    const LEVEL: Level = Level::V4Bf16;
    const FMA: bool = true;
    type Vector = Rounding;

    #[inline(always)]
    fn call<K: Kernel>(kernel: K) -> K::Out {
        // SAFETY: kernels only run at a level the machine has.
        unsafe { v4_bf16::<Self, K>(kernel) }
    }

    #[inline(always)]
    unsafe fn dot_bf16(sum: Rounding, a: u32, b: *const bf16) -> Rounding {
        // SAFETY: the caller's; the vector types only exist in kernels that
        // `run` started after their features were detected.
        unsafe {
            let a = _mm512_set1_epi32(a as i32);
            let b = _mm512_loadu_si512(b.cast());
            Rounding(_mm512_dpbf16_ps(
                sum.0,
                std::mem::transmute::<__m512i, __m512bh>(a),
                std::mem::transmute::<__m512i, __m512bh>(b),
            ))
        }
    }
}

impl Simd for Amx {
    const LEVEL: Level = Level::Amx;
    const FMA: bool = true;
    type Vector = Rounding;

    #[inline(always)]
    fn call<K: Kernel>(kernel: K) -> K::Out {
        // SAFETY: kernels only run at a level the machine has.
        unsafe { v4_bf16::<Self, K>(kernel) }
    }

    #[inline(always)]
    unsafe fn dot_bf16(sum: Rounding, a: u32, b: *const bf16) -> Rounding {
        // SAFETY: the caller's.
        unsafe { V4Bf16::dot_bf16(sum, a, b) }
    }

    #[inline(always)]
    unsafe fn tile_bf16(
        rows: usize,
        left: &Left<bf16>,
        right: &Right<bf16>,
        steps: usize,
        sums: Sums,
    ) {
        // SAFETY: the caller's; the level is only chosen where it is available.
        unsafe { amx::tile(rows, left, right, steps, sums) }
    }
}

// SAFETY of the intrinsics below: memory is the caller's affair, and the vector
// types are only used by kernels that `run` starts after their features have
// been detected.

impl Vector for __m512 {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(v) }
    }

    #[inline(always)]
    unsafe fn read(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn read_bf16(from: *const bf16) -> Self {
        // SAFETY: see above.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn read_f16(from: *const f16) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn read_i8(from: *const i8) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn read_bytes(from: *const u8) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_castsi512_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    fn field<const SHIFT: u32, const MASK: u32>(self) -> Self {
        if SHIFT == 0 && MASK == 15 {
            // One instruction in place of two.
            let numbers = [
                0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0,
                15.0,
            ];
            return __m512::load(&numbers).pick(self);
        }
        // SAFETY: see above.
        unsafe {
            let down = _mm_cvtsi32_si128(SHIFT as i32);
            let bits = _mm512_srl_epi32(_mm512_castps_si512(self), down);
            _mm512_cvtepi32_ps(_mm512_and_si512(bits, _mm512_set1_epi32(MASK as i32)))
        }
    }

    #[inline(always)]
    fn join<const SHIFT: u32, const FROM: u32, const BITS: u32>(self, high: Self) -> Self {
        // `low` where the third operand is set, `high` elsewhere.
        const CHOOSE: i32 = 0b1101_1000;
        // SAFETY: see above.
        unsafe {
            let by = _mm_cvtsi32_si128(SHIFT as i32);
            let low = _mm512_srl_epi32(_mm512_castps_si512(self), by);
            let high = _mm512_castps_si512(high);
            let high = if FROM >= 4 {
                _mm512_srl_epi32(high, _mm_cvtsi32_si128(FROM as i32 - 4))
            } else {
                _mm512_sll_epi32(high, _mm_cvtsi32_si128(4 - FROM as i32))
            };
            let four = _mm512_set1_epi32(15);
            let bits = _mm512_ternarylogic_epi32::<CHOOSE>(high, low, four);
            let all = _mm512_set1_epi32((16 << BITS) - 1);
            _mm512_cvtepi32_ps(_mm512_and_si512(bits, all))
        }
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn write_bf16(self, to: *mut bf16) {
        // SAFETY: see above.
        unsafe {
            let bits = _mm512_castps_si512(self);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(
                _mm512_add_epi32(bits, odd),
                _mm512_set1_epi32(0x7fff),
            ));
            let nan = _mm512_or_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(0x40));
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self, self);
            let narrow = _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(is_nan, rounded, nan));
            _mm256_storeu_si256(to.cast(), narrow);
        }
    }

    #[inline(always)]
    unsafe fn write_f16(self, to: *mut f16) {
        // SAFETY: see above.
        unsafe {
            let narrow = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(self);
            _mm256_storeu_si256(to.cast(), narrow);
        }
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(self, b) }
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_sub_ps(self, b) }
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(self, b) }
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_div_ps(self, b) }
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_min_ps(self, b) }
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_max_ps(self, b) }
    }

    #[inline(always)]
    fn less(self, b: Self, yes: Self, no: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, b), no, yes) }
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(self, b, c) }
    }

    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(self) }
    }

    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_scalef_ps(self, n) }
    }

    #[inline(always)]
    fn pick(self, index: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_permutexvar_ps(_mm512_castps_si512(index), self) }
    }

    #[inline(always)]
    fn twice(self) -> [Self; 2] {
        // SAFETY: see above.
        unsafe {
            let low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            [
                _mm512_permutexvar_ps(low, self),
                _mm512_permutexvar_ps(high, self),
            ]
        }
    }
}

/// A 512-bit register where rounding to bf16 is one instruction.
#[derive(Clone, Copy)]
pub struct Rounding(__m512);

macro_rules! forward {
    ($wrapper:ident: $($name:ident),*) => {
        $(
            #[inline(always)]
            fn $name(self, b: Self) -> Self {
                $wrapper(self.0.$name(b.0))
            }
        )*
    };
}

impl Vector for Rounding {
    forward!(Rounding: add, sub, mul, div, min, max, scale, pick);

    #[inline(always)]
    fn splat(v: f32) -> Self {
        Rounding(__m512::splat(v))
    }

    #[inline(always)]
    unsafe fn read(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Rounding(unsafe { __m512::read(from) })
    }

    #[inline(always)]
    unsafe fn read_bf16(from: *const bf16) -> Self {
        // SAFETY: the caller's.
        Rounding(unsafe { __m512::read_bf16(from) })
    }

    #[inline(always)]
    unsafe fn read_f16(from: *const f16) -> Self {
        // SAFETY: the caller's.
        Rounding(unsafe { __m512::read_f16(from) })
    }

    #[inline(always)]
    unsafe fn read_i8(from: *const i8) -> Self {
        // SAFETY: the caller's.
        Rounding(unsafe { __m512::read_i8(from) })
    }

    #[inline(always)]
    unsafe fn read_bytes(from: *const u8) -> Self {
        // SAFETY: the caller's.
        Rounding(unsafe { __m512::read_bytes(from) })
    }

    #[inline(always)]
    fn field<const SHIFT: u32, const MASK: u32>(self) -> Self {
        Rounding(self.0.field::<SHIFT, MASK>())
    }

    #[inline(always)]
    fn join<const SHIFT: u32, const FROM: u32, const BITS: u32>(self, high: Self) -> Self {
        Rounding(self.0.join::<SHIFT, FROM, BITS>(high.0))
    }

    #[inline(always)]
    unsafe fn write_bf16_pairs(self, next: Self, to: *mut bf16) {
        // SAFETY: see above.
        unsafe {
            let first = _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(
                _mm512_cvtneps_pbh(self.0),
            ));
            let second = _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(
                _mm512_cvtneps_pbh(next.0),
            ));
            let pairs = _mm512_or_si512(first, _mm512_slli_epi32::<16>(second));
            _mm512_storeu_si512(to.cast(), pairs);
        }
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { self.0.write(to) }
    }

    #[inline(always)]
    unsafe fn write_bf16(self, to: *mut bf16) {
        // SAFETY: see above.
        unsafe {
            let narrow = _mm512_cvtneps_pbh(self.0);
            _mm256_storeu_si256(to.cast(), std::mem::transmute::<__m256bh, __m256i>(narrow));
        }
    }

    #[inline(always)]
    unsafe fn write_f16(self, to: *mut f16) {
        // SAFETY: the caller's.
        unsafe { self.0.write_f16(to) }
    }

    #[inline(always)]
    fn less(self, b: Self, yes: Self, no: Self) -> Self {
        Rounding(self.0.less(b.0, yes.0, no.0))
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Rounding(self.0.mul_add(b.0, c.0))
    }

    #[inline(always)]
    fn round(self) -> Self {
        Rounding(self.0.round())
    }

    #[inline(always)]
    fn twice(self) -> [Self; 2] {
        let [low, high] = self.0.twice();
        [Rounding(low), Rounding(high)]
    }
}

/// Two 256-bit registers.
#[derive(Clone, Copy)]
pub struct Pair(__m256, __m256);

macro_rules! paired {
    ($($name:ident = $intrinsic:ident),*) => {
        $(
            #[inline(always)]
            fn $name(self, b: Self) -> Self {
                // SAFETY: see above.
                unsafe { Pair($intrinsic(self.0, b.0), $intrinsic(self.1, b.1)) }
            }
        )*
    };
}

impl Vector for Pair {
    paired!(
        add = _mm256_add_ps,
        sub = _mm256_sub_ps,
        mul = _mm256_mul_ps,
        div = _mm256_div_ps,
        min = _mm256_min_ps,
        max = _mm256_max_ps
    );

    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: see above.
        unsafe { Pair(_mm256_set1_ps(v), _mm256_set1_ps(v)) }
    }

    #[inline(always)]
    unsafe fn read(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { Pair(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn read_bf16(from: *const bf16) -> Self {
        #[inline(always)]
        unsafe fn half(from: *const bf16) -> __m256 {
            // SAFETY: see above.
            unsafe {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            }
        }
        // SAFETY: see above.
        unsafe { Pair(half(from), half(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn read_f16(from: *const f16) -> Self {
        // SAFETY: see above.
        unsafe {
            Pair(
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
            )
        }
    }

    #[inline(always)]
    unsafe fn read_i8(from: *const i8) -> Self {
        #[inline(always)]
        unsafe fn half(from: *const i8) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
        }
        // SAFETY: see above.
        unsafe { Pair(half(from), half(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn read_bytes(from: *const u8) -> Self {
        #[inline(always)]
        unsafe fn half(from: *const u8) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_castsi256_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
        }
        // SAFETY: see above.
        unsafe { Pair(half(from), half(from.add(8))) }
    }

    #[inline(always)]
    fn field<const SHIFT: u32, const MASK: u32>(self) -> Self {
        #[inline(always)]
        fn half<const SHIFT: u32, const MASK: u32>(v: __m256) -> __m256 {
            // SAFETY: see above.
            unsafe {
                let down = _mm_cvtsi32_si128(SHIFT as i32);
                let bits = _mm256_srl_epi32(_mm256_castps_si256(v), down);
                _mm256_cvtepi32_ps(_mm256_and_si256(bits, _mm256_set1_epi32(MASK as i32)))
            }
        }
        Pair(half::<SHIFT, MASK>(self.0), half::<SHIFT, MASK>(self.1))
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    unsafe fn write_bf16(self, to: *mut bf16) {
        // The compiler vectorises the plain form.
        // SAFETY: the caller's.
        unsafe { self.lanes().write_bf16(to) }
    }

    #[inline(always)]
    unsafe fn write_f16(self, to: *mut f16) {
        // SAFETY: see above.
        unsafe {
            let narrow = |v| _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(v);
            _mm_storeu_si128(to.cast(), narrow(self.0));
            _mm_storeu_si128(to.add(8).cast(), narrow(self.1));
        }
    }

    #[inline(always)]
    fn less(self, b: Self, yes: Self, no: Self) -> Self {
        #[inline(always)]
        fn half(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
        }
        Pair(
            half(self.0, b.0, yes.0, no.0),
            half(self.1, b.1, yes.1, no.1),
        )
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Pair(
                _mm256_fmadd_ps(self.0, b.0, c.0),
                _mm256_fmadd_ps(self.1, b.1, c.1),
            )
        }
    }

    #[inline(always)]
    fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: see above.
        unsafe {
            Pair(
                _mm256_round_ps::<NEAREST>(self.0),
                _mm256_round_ps::<NEAREST>(self.1),
            )
        }
    }

    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        #[inline(always)]
        fn power(n: __m256) -> __m256 {
            // SAFETY: see above.
            unsafe {
                let n = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
            }
        }
        self.mul(Pair(power(n.0), power(n.1)))
    }

    #[inline(always)]
    fn pick(self, index: Self) -> Self {
        #[inline(always)]
        fn half(table: Pair, index: __m256) -> __m256 {
            // SAFETY: see above.
            unsafe {
                let index = _mm256_castps_si256(index);
                let low = _mm256_permutevar8x32_ps(table.0, index);
                let high = _mm256_permutevar8x32_ps(table.1, index);
                // The index's fourth bit as the sign that the blend looks at.
                let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index));
                _mm256_blendv_ps(low, high, upper)
            }
        }
        Pair(half(self, index.0), half(self, index.1))
    }

    #[inline(always)]
    fn twice(self) -> [Self; 2] {
        #[inline(always)]
        fn double(v: __m256) -> Pair {
            // SAFETY: see above.
            unsafe {
                let low = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
                let high = _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7);
                Pair(
                    _mm256_permutevar8x32_ps(v, low),
                    _mm256_permutevar8x32_ps(v, high),
                )
            }
        }
        [double(self.0), double(self.1)]
    }
}
