//! One kernel source, compiled for several instruction sets and chosen at run
//! time. Most loops are plain and left to the compiler to vectorise; where
//! registers must be kept in hand, kernels use [`Simd::Vector`].

/// Scalars of a [`Vector`]: one 512-bit register of f32.
pub const LANES: usize = 16;

/// An instruction set.
pub trait Simd {
    /// Whether a fused multiply-add is one instruction.
    const FMA: bool;

    /// [`LANES`] floats in registers.
    type Vector: Vector;
}

/// [`LANES`] floats in registers.
pub trait Vector: Copy {
    /// The first [`LANES`] floats of a slice.
    fn load(from: &[f32]) -> Self;

    /// Writes the first [`LANES`] floats of a slice.
    fn store(self, to: &mut [f32]);

    /// `self * b + c`.
    fn mul_add(self, b: Self, c: Self) -> Self;
}

/// Whatever the compiler makes of plain loops.
pub struct Portable;

impl Simd for Portable {
    const FMA: bool = cfg!(target_arch = "aarch64");
    type Vector = [f32; LANES];
}

impl Vector for [f32; LANES] {
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let mut v = [0.0; LANES];
        v.copy_from_slice(&from[..LANES]);
        v
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..LANES].copy_from_slice(&self);
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        let mut v = self;
        for i in 0..LANES {
            v[i] = fma::<Portable>(v[i], b[i], c[i]);
        }
        v
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_storeu_ps,
    };

    use super::{LANES, Simd, Vector};

    /// AVX-512 (x86-64-v4).
    pub struct V4;
    /// AVX2 and FMA (x86-64-v3).
    pub struct V3;

    impl Simd for V4 {
        const FMA: bool = true;
        type Vector = __m512;
    }

    impl Simd for V3 {
        const FMA: bool = true;
        type Vector = [__m256; 2];
    }

    // SAFETY of the intrinsics below: bounds are checked by slicing, and the
    // vector types are only used by kernels that `dispatch` runs after it has
    // detected the features.

    impl Vector for __m512 {
        #[inline(always)]
        fn load(from: &[f32]) -> Self {
            let from = &from[..LANES];
            // SAFETY: see above.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }

        #[inline(always)]
        fn store(self, to: &mut [f32]) {
            let to = &mut to[..LANES];
            // SAFETY: see above.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self) }
        }

        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_fmadd_ps(self, b, c) }
        }
    }

    impl Vector for [__m256; 2] {
        #[inline(always)]
        fn load(from: &[f32]) -> Self {
            let from = &from[..LANES];
            // SAFETY: see above.
            unsafe {
                [
                    _mm256_loadu_ps(from.as_ptr()),
                    _mm256_loadu_ps(from[8..].as_ptr()),
                ]
            }
        }

        #[inline(always)]
        fn store(self, to: &mut [f32]) {
            let to = &mut to[..LANES];
            // SAFETY: see above.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), self[0]);
                _mm256_storeu_ps(to[8..].as_mut_ptr(), self[1]);
            }
        }

        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: see above.
            unsafe {
                [
                    _mm256_fmadd_ps(self[0], b[0], c[0]),
                    _mm256_fmadd_ps(self[1], b[1], c[1]),
                ]
            }
        }
    }

    pub(super) fn has_v4() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && has_v3()
    }

    pub(super) fn has_v3() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
}

/// Work to run under the best instruction set of this machine. Implementations
/// must mark [`Kernel::run`] `#[inline(always)]`, or the wider instruction set
/// does not reach their loops.
pub trait Kernel {
    /// Result.
    type Out;

    /// The work.
    fn run<S: Simd>(self) -> Self::Out;
}

/// The instruction set in use, for records.
pub fn level() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_v4() {
            return "x86-64-v4 (AVX-512)";
        }
        if x86::has_v3() {
            return "x86-64-v3 (AVX2, FMA)";
        }
        "x86-64 (SSE2)"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "aarch64 (NEON)"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        "portable"
    }
}

/// Runs a kernel under the best instruction set of this machine.
pub fn dispatch<K: Kernel>(kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        fn v4<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<x86::V4>()
        }
        #[target_feature(enable = "avx2,fma")]
        fn v3<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<x86::V3>()
        }
        if x86::has_v4() {
            // SAFETY: the features were detected.
            return unsafe { v4(kernel) };
        }
        if x86::has_v3() {
            // SAFETY: the features were detected.
            return unsafe { v3(kernel) };
        }
    }
    kernel.run::<Portable>()
}

/// `a * b + c`, fused where that is one instruction.
#[inline(always)]
pub fn fma<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FMA { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct MulAdd<'a>(&'a [f32], &'a mut [f32]);

    impl Kernel for MulAdd<'_> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self) {
            let x = S::Vector::load(self.0);
            x.mul_add(x, x).store(self.1);
        }
    }

    #[test]
    fn every_instruction_set_computes_the_same() {
        let x: Vec<f32> = (0..LANES).map(|i| i as f32 / 4.0).collect();
        let mut best = vec![0.0; LANES];
        let mut portable = vec![0.0; LANES];
        dispatch(MulAdd(&x, &mut best));
        MulAdd(&x, &mut portable).run::<Portable>();
        assert_eq!(best, portable);
        assert_eq!(best[4], 2.0);
    }
}
