//! One kernel source, compiled for several instruction sets and chosen at run
//! time. Plain loops are left to the compiler to vectorise; where registers
//! must be kept in hand, kernels use [`Simd::Vector`].
//!
//! The instruction set is a property of the thread: an engine's workers all
//! run at the level it was opened with ([`pool`]), the best of the machine by
//! default, so that every level can be tested and compared on one machine.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

pub use portable::Portable;
pub(super) use portable::bf16_bits;

use super::product::{Left, Right, Sums};
use crate::error::Error;
use crate::nets::registry::one_of;

/// Scalars of a [`Vector`]: one 512-bit register of f32.
pub const LANES: usize = 16;

/// Most rows of a tile at any level.
pub const MOST_TILE_ROWS: usize = 32;

/// An instruction set that kernels are compiled for; a later one includes the
/// earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Whatever the compiler assumes of the target: SSE2, NEON.
    Portable,
    /// AVX2, FMA and F16C (x86-64-v3).
    V3,
    /// AVX-512 F, VL, BW and DQ (x86-64-v4).
    V4,
    /// AVX-512 with bf16 dot products (AVX512-BF16).
    V4Bf16,
    /// The same with bf16 products on tile registers (AMX-BF16).
    Amx,
}

impl Level {
    /// All levels, the plainest first.
    pub const ALL: [Level; 5] = [
        Level::Portable,
        Level::V3,
        Level::V4,
        Level::V4Bf16,
        Level::Amx,
    ];

    /// The best level of this machine.
    pub fn best() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            x86::best()
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            Level::Portable
        }
    }

    /// The levels this machine has.
    pub fn available() -> impl Iterator<Item = Level> {
        let best = Level::best();
        Level::ALL.into_iter().filter(move |level| *level <= best)
    }

    /// The level of this thread.
    pub fn current() -> Level {
        CURRENT.get().unwrap_or_else(Level::best)
    }

    /// The short name used in options.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::V3 => "avx2",
            Level::V4 => "avx512",
            Level::V4Bf16 => "avx512-bf16",
            Level::Amx => "amx-bf16",
        }
    }

    /// What is computed with, for records.
    pub fn describe(self) -> &'static str {
        match self {
            Level::Portable if cfg!(target_arch = "x86_64") => "x86-64 (SSE2)",
            Level::Portable if cfg!(target_arch = "aarch64") => "aarch64 (NEON)",
            Level::Portable => "portable",
            Level::V3 => "x86-64-v3 (AVX2, FMA)",
            Level::V4 => "x86-64-v4 (AVX-512)",
            Level::V4Bf16 => "x86-64-v4 (AVX-512, bf16 dot products)",
            Level::Amx => "x86-64-v4 (AVX-512, bf16 products on AMX tiles)",
        }
    }

    /// Columns of a tile of a matrix product: two vectors where there are
    /// registers for their sums.
    pub fn tile_columns(self) -> usize {
        match self {
            Level::Portable | Level::V3 => LANES,
            Level::V4 | Level::V4Bf16 | Level::Amx => 2 * LANES,
        }
    }

    /// Rows of the largest tile of a matrix product whose sums stay in
    /// registers, for native bf16 products or any others.
    pub const fn tile_rows(self, bf16: bool) -> usize {
        match self {
            Level::Portable => 2,
            Level::V3 => 6,
            Level::Amx if bf16 => MOST_TILE_ROWS,
            Level::V4 | Level::V4Bf16 | Level::Amx => 12,
        }
    }

    /// Whether bf16 products are instructions of their own, with f32 sums.
    pub fn has_bf16_dot(self) -> bool {
        self >= Level::V4Bf16
    }

    /// Whether there are tile registers for bf16 products.
    pub fn has_bf16_tiles(self) -> bool {
        self == Level::Amx
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(s: &str) -> Result<Level, Error> {
        one_of("simd level", s, Level::ALL, Level::name)
    }
}

thread_local! {
    static CURRENT: Cell<Option<Level>> = const { Cell::new(None) };
}

/// Worker threads whose kernels run at `level`, which this machine must have.
pub fn pool(threads: usize, level: Level) -> Result<ThreadPool, ThreadPoolBuildError> {
    assert!(level <= Level::best(), "this machine has no {level}");
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("candle-{i}"))
        .start_handler(move |_| CURRENT.set(Some(level)))
        .build()
}

/// Asks for the cache lines of `bytes` bytes to come to the second-level cache.
#[inline(always)]
pub fn prefetch(from: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint, which no address makes fail.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(at).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, bytes);
}

/// The same pointer, of which the compiler knows no more than that: it keeps it
/// in a register instead of deriving it from others in a loop.
#[expect(
    clippy::pointers_in_nomem_asm_block,
    reason = "an address goes in and out; nothing is read through it"
)]
#[inline(always)]
pub fn opaque<T>(mut p: *const T) -> *const T {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: does nothing.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) p, options(pure, nomem, nostack, preserves_flags));
    }
    p
}

/// An instruction set as a type.
pub trait Simd: Copy {
    /// Which one.
    const LEVEL: Level;

    /// Whether a fused multiply-add is one instruction.
    const FMA: bool;

    /// [`LANES`] floats in registers.
    type Vector: Vector;

    /// Runs a kernel as a function of its own at this level, so that a loop
    /// that needs all registers has them.
    fn call<K: Kernel>(kernel: K) -> K::Out;

    /// Adds to each lane `i` of `sum` the products `a[0] b[2i] + a[1] b[2i+1]`
    /// in f32, where `a` is a pair of bf16 scalars as stored in memory.
    ///
    /// # Safety
    /// `b` must be readable for `2 * LANES` scalars. Only levels with
    /// [`Level::has_bf16_dot`] compute it.
    #[inline(always)]
    unsafe fn dot_bf16(_sum: Self::Vector, _a: u32, _b: *const bf16) -> Self::Vector {
        unreachable!("kernels ask for the level's bf16 products first")
    }

    /// A [`tile`](super::product::tile) of bf16 pairs on tile registers.
    ///
    /// # Safety
    /// As for the tile. Only levels with [`Level::has_bf16_tiles`] compute it.
    #[inline(always)]
    unsafe fn tile_bf16(
        _rows: usize,
        _left: &Left<bf16>,
        _right: &Right<bf16>,
        _steps: usize,
        _sums: Sums,
    ) {
        unreachable!("kernels ask for the level's tile registers first")
    }
}

/// [`LANES`] floats in registers.
pub trait Vector: Copy {
    /// The same value in every lane.
    fn splat(v: f32) -> Self;

    /// Reads [`LANES`] floats.
    ///
    /// # Safety
    /// `from` must be readable for [`LANES`] floats; any alignment.
    unsafe fn read(from: *const f32) -> Self;

    /// Reads and widens [`LANES`] scalars.
    ///
    /// # Safety
    /// As [`Vector::read`].
    unsafe fn read_bf16(from: *const bf16) -> Self;

    /// Reads and widens [`LANES`] scalars.
    ///
    /// # Safety
    /// As [`Vector::read`].
    unsafe fn read_f16(from: *const f16) -> Self;

    /// Reads [`LANES`] signed bytes as floats.
    ///
    /// # Safety
    /// `from` must be readable for [`LANES`] bytes.
    unsafe fn read_i8(from: *const i8) -> Self;

    /// Reads [`LANES`] bytes, each as the lowest bits of a lane, for
    /// [`Vector::field`].
    ///
    /// # Safety
    /// `from` must be readable for [`LANES`] bytes.
    unsafe fn read_bytes(from: *const u8) -> Self;

    /// The whole number in the bits `MASK` of each lane's bits shifted down by
    /// `SHIFT`.
    fn field<const SHIFT: u32, const MASK: u32>(self) -> Self;

    /// The whole number whose lowest four bits are the field of four at `SHIFT`
    /// of `self`, and whose next are the field of `BITS` at `FROM` of `high`.
    #[inline(always)]
    fn join<const SHIFT: u32, const FROM: u32, const BITS: u32>(self, high: Self) -> Self {
        let sixteen = Self::splat(16.0);
        let low = self.field::<SHIFT, 15>();
        match BITS {
            1 => high.field::<FROM, 1>().mul_add(sixteen, low),
            _ => high.field::<FROM, 3>().mul_add(sixteen, low),
        }
    }

    /// Writes [`LANES`] floats.
    ///
    /// # Safety
    /// `to` must be writable for [`LANES`] floats; any alignment.
    unsafe fn write(self, to: *mut f32);

    /// Rounds to nearest even and writes [`LANES`] scalars.
    ///
    /// # Safety
    /// As [`Vector::write`].
    unsafe fn write_bf16(self, to: *mut bf16);

    /// Rounds to nearest even and writes [`LANES`] scalars.
    ///
    /// # Safety
    /// As [`Vector::write`].
    unsafe fn write_f16(self, to: *mut f16);

    /// Rounds to nearest even and writes pairs of scalars: lanes of `self` and
    /// of `next` in turns.
    ///
    /// # Safety
    /// `to` must be writable for `2 * LANES` scalars; any alignment.
    #[inline(always)]
    unsafe fn write_bf16_pairs(self, next: Self, to: *mut bf16) {
        let (mut first, mut second) = ([bf16::ZERO; LANES], [bf16::ZERO; LANES]);
        // SAFETY: the arrays hold a vector each, and the rest is the caller's.
        unsafe {
            self.write_bf16(first.as_mut_ptr());
            next.write_bf16(second.as_mut_ptr());
            for (i, pair) in first.into_iter().zip(second).enumerate() {
                to.cast::<[bf16; 2]>().add(i).write_unaligned(pair.into());
            }
        }
    }

    /// `self + b`.
    fn add(self, b: Self) -> Self;

    /// `self - b`.
    fn sub(self, b: Self) -> Self;

    /// `self * b`.
    fn mul(self, b: Self) -> Self;

    /// `self / b`.
    fn div(self, b: Self) -> Self;

    /// The smaller of each lane, `b` where either is NaN.
    fn min(self, b: Self) -> Self;

    /// The larger of each lane, `b` where either is NaN.
    fn max(self, b: Self) -> Self;

    /// Lanes of `yes` where `self < b`, of `no` elsewhere and where either is
    /// NaN.
    fn less(self, b: Self, yes: Self, no: Self) -> Self;

    /// `self * b + c`, fused where that is one instruction.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// The nearest integers, ties to even.
    fn round(self) -> Self;

    /// `self * 2^n` for integral `n` in -126..=127.
    fn scale(self, n: Self) -> Self;

    /// The lanes of `self` that the lowest four bits of each lane of `index`
    /// name.
    fn pick(self, index: Self) -> Self;

    /// Every lane twice: the lower half of the lanes, then the upper.
    fn twice(self) -> [Self; 2];

    /// The first [`LANES`] floats of a slice.
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..LANES];
        // SAFETY: the slice is that long.
        unsafe { Self::read(from.as_ptr()) }
    }

    /// Writes the first [`LANES`] floats of a slice.
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..LANES];
        // SAFETY: the slice is that long.
        unsafe { self.write(to.as_mut_ptr()) }
    }

    /// The lanes.
    #[inline(always)]
    fn lanes(self) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes);
        lanes
    }

    /// The sum of the lanes, in a fixed order.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut v = self.lanes();
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                v[i] += v[i + width];
            }
            width /= 2;
        }
        v[0]
    }

    /// The largest lane.
    #[inline(always)]
    fn largest(self) -> f32 {
        self.lanes()
            .into_iter()
            .fold(f32::NEG_INFINITY, |m, v| if v > m { v } else { m })
    }
}

/// Work to run under an instruction set. Implementations must mark
/// [`Kernel::run`] `#[inline(always)]`, or the wider instruction set does not
/// reach their loops.
pub trait Kernel {
    /// Result.
    type Out;

    /// The work.
    fn run<S: Simd>(self) -> Self::Out;
}

/// Runs a kernel at this thread's level.
pub fn dispatch<K: Kernel>(kernel: K) -> K::Out {
    match Level::current() {
        Level::Portable => kernel.run::<Portable>(),
        // SAFETY: a thread's level never exceeds the machine's.
        #[cfg(target_arch = "x86_64")]
        level => unsafe { x86::run(level, kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("only x86-64 has other levels"),
    }
}

/// `a * b + c`, fused where that is one instruction.
#[inline(always)]
pub fn fma<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Runs `f` once at every level of this machine, on that level's threads.
#[cfg(test)]
pub(in crate::candle) fn at_every_level(f: impl Fn(Level) + Sync) {
    for level in Level::available() {
        let threads = pool(2, level).expect("two threads can be started");
        threads.install(|| f(level));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every method of [`Vector`] on numbers that round, beside plain f32.
    struct Everything;

    impl Kernel for Everything {
        type Out = ();

        #[inline(always)]
        fn run<S: Simd>(self) {
            let x: Vec<f32> = (0..LANES).map(|i| i as f32 * 1.37 - 9.5).collect();
            let y: Vec<f32> = (0..LANES).map(|i| 4.25 - i as f32 * 0.77).collect();
            let (a, b) = (S::Vector::load(&x), S::Vector::load(&y));
            let check = |what: &str, got: S::Vector, f: &dyn Fn(f32, f32) -> f32| {
                for (i, got) in got.lanes().into_iter().enumerate() {
                    assert_eq!(got, f(x[i], y[i]), "{what} of {} and {}", x[i], y[i]);
                }
            };
            check("add", a.add(b), &|a, b| a + b);
            check("sub", a.sub(b), &|a, b| a - b);
            check("mul", a.mul(b), &|a, b| a * b);
            check("div", a.div(b), &|a, b| a / b);
            check("min", a.min(b), &|a, b| a.min(b));
            check("max", a.max(b), &|a, b| a.max(b));
            let nan = S::Vector::splat(f32::NAN);
            check("min with NaN", nan.min(b), &|_, b| b);
            check("max with NaN", nan.max(b), &|_, b| b);
            assert!(a.min(nan).lanes().iter().all(|v| v.is_nan()));
            assert!(a.max(nan).lanes().iter().all(|v| v.is_nan()));
            let (yes, no) = (S::Vector::splat(1.0), S::Vector::splat(2.0));
            check("less", a.less(b, yes, no), &|a, b| {
                if a < b { 1.0 } else { 2.0 }
            });
            check("less than NaN", a.less(nan, yes, no), &|_, _| 2.0);
            check("mul_add", a.mul_add(b, b), &|a, b| fma::<S>(a, b, b));
            check("round", a.round(), &|a, _| a.round_ties_even());
            check("scale", b.scale(a.round()), &|a, b| {
                b * a.round_ties_even().exp2()
            });
            check("splat", S::Vector::splat(0.3), &|_, _| 0.3);
            // The lowest bits of 1.5 * 2^23 + i are those of i.
            let index: Vec<f32> = (0..LANES)
                .map(|i| 12_582_912.0 + (i * 5 + 16) as f32)
                .collect();
            let picked = a.pick(S::Vector::load(&index)).lanes();
            for (i, got) in picked.into_iter().enumerate() {
                assert_eq!(got, x[i * 5 % LANES], "pick, lane {i}");
            }
            let twice = a.twice().map(Vector::lanes).concat();
            for (i, got) in twice.into_iter().enumerate() {
                assert_eq!(got, x[i / 2], "twice, lane {i}");
            }
            assert!((a.sum() - x.iter().sum::<f32>()).abs() < 1e-4);
            assert_eq!(a.largest(), x[LANES - 1]);

            let mut narrow = [bf16::ZERO; LANES];
            // SAFETY: the arrays hold as many scalars as a vector.
            let wide = unsafe {
                a.write_bf16(narrow.as_mut_ptr());
                S::Vector::read_bf16(narrow.as_ptr())
            };
            check("bf16", wide, &|a, _| bf16::from_f32(a).to_f32());
            let mut narrow = [f16::ZERO; LANES];
            // SAFETY: as above.
            let wide = unsafe {
                a.write_f16(narrow.as_mut_ptr());
                S::Vector::read_f16(narrow.as_ptr())
            };
            check("f16", wide, &|a, _| f16::from_f32(a).to_f32());

            let mut pairs = [bf16::ZERO; 2 * LANES];
            // SAFETY: the array holds two vectors.
            unsafe { a.write_bf16_pairs(b, pairs.as_mut_ptr()) };
            for (i, pair) in pairs.chunks_exact(2).enumerate() {
                assert_eq!(pair, [bf16::from_f32(x[i]), bf16::from_f32(y[i])]);
            }
            let bytes: Vec<u8> = (0..LANES).map(|i| (i * 37 + 5) as u8).collect();
            // SAFETY: as many bytes as lanes.
            let (signed, bits) = unsafe {
                (
                    S::Vector::read_i8(bytes.as_ptr().cast()),
                    S::Vector::read_bytes(bytes.as_ptr()),
                )
            };
            for (i, byte) in bytes.into_iter().enumerate() {
                assert_eq!(signed.lanes()[i], f32::from(byte as i8));
                assert_eq!(bits.field::<0, 15>().lanes()[i], f32::from(byte & 15));
                assert_eq!(bits.field::<4, 15>().lanes()[i], f32::from(byte >> 4));
                assert_eq!(bits.field::<6, 3>().lanes()[i], f32::from(byte >> 6));
                assert_eq!(bits.field::<2, 1>().lanes()[i], f32::from(byte >> 2 & 1));
                let high = |by: u8, mask: u8| (byte >> by & mask) << 4;
                for (got, expected) in [
                    (bits.join::<0, 0, 2>(bits), byte & 15 | high(0, 3)),
                    (bits.join::<0, 2, 2>(bits), byte & 15 | high(2, 3)),
                    (bits.join::<4, 6, 2>(bits), byte >> 4 | high(6, 3)),
                    (bits.join::<4, 4, 1>(bits), byte >> 4 | high(4, 1)),
                    (bits.join::<0, 7, 1>(bits), byte & 15 | high(7, 1)),
                ] {
                    assert_eq!(got.lanes()[i], f32::from(expected));
                }
            }

            if S::LEVEL.has_bf16_dot() {
                let b: Vec<bf16> = (0..2 * LANES).map(|i| bf16::from_f32(i as f32)).collect();
                let pair = u32::from(bf16::from_f32(2.0).to_bits())
                    | u32::from(bf16::from_f32(-0.5).to_bits()) << 16;
                // SAFETY: `b` holds two vectors of bf16.
                let dots = unsafe { S::dot_bf16(S::Vector::splat(1.0), pair, b.as_ptr()) };
                for (i, dot) in dots.lanes().into_iter().enumerate() {
                    let i = i as f32;
                    assert_eq!(dot, 1.0 + 2.0 * (2.0 * i) - 0.5 * (2.0 * i + 1.0));
                }
            }
        }
    }

    #[test]
    fn every_level_computes_what_its_methods_say() {
        at_every_level(|level| {
            assert_eq!(Level::current(), level);
            dispatch(Everything);
        });
    }

    #[test]
    fn names_are_read_back() {
        for level in Level::ALL {
            assert_eq!(level.name().parse::<Level>().ok(), Some(level));
        }
        assert!(Level::available().any(|level| level == Level::best()));
    }
}
