//! What the bytes of an arranged panel mean, once for all that reads them: a
//! [`Visitor`] is shown every step of a panel, in runs that share a scale.

use half::{bf16, f16};

use super::super::element::Element;
use super::super::simd::{LANES, Simd, Vector, prefetch};
use crate::blocks::BlockType;

/// Bytes by which memory is asked for ahead: its latency decides how fast
/// blocks are read.
const AHEAD: usize = 8192;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Runs that a format interleaves at most.
pub const RUNS: usize = 4;

/// Told of the steps of [`LANES`] columns. A scalar of the matrix is
/// `scale q - offset`, with a scale and offset for each column of a run.
/// Several runs may be under way at once, in places of their own.
pub trait Visitor<S: Simd> {
    /// A run begins in a place.
    fn begin(&mut self, run: usize, scale: S::Vector, offset: S::Vector);

    /// Two neighbouring steps of the run in a place.
    ///
    /// # Safety
    /// `step` must lie within the rows that the visitor was made for.
    unsafe fn pair(&mut self, run: usize, step: usize, q: [S::Vector; 2]);

    /// The run in a place, `steps` steps from `first` on, has ended.
    ///
    /// # Safety
    /// As for [`Visitor::pair`].
    unsafe fn end(&mut self, run: usize, first: usize, steps: usize);
}

/// Shows the panel at `at` of a matrix of `width` scalars a row to a visitor.
///
/// # Safety
/// `at` must be readable for a whole panel, and the visitor made for `width`
/// scalars.
#[inline(always)]
pub unsafe fn visit<S: Simd, V: Visitor<S>>(
    kind: BlockType,
    at: *const u8,
    width: usize,
    visitor: &mut V,
) {
    let block = kind.bytes() * LANES;
    // SAFETY: a panel is the blocks of `width` scalars, one after another.
    unsafe {
        match kind {
            BlockType::F32 => plain::<S, V, f32>(at.cast(), width, visitor),
            BlockType::F16 => plain::<S, V, f16>(at.cast(), width, visitor),
            BlockType::Bf16 => plain::<S, V, bf16>(at.cast(), width, visitor),
            BlockType::Q8_0 => {
                for i in 0..width / 32 {
                    q8_0::<S, V>(at.add(i * block), i * 32, visitor);
                }
            }
            BlockType::Q5_0 => {
                for i in 0..width / 32 {
                    q5_0::<S, V>(at.add(i * block), i * 32, visitor);
                }
            }
            BlockType::Q4K => {
                for i in 0..width / 256 {
                    q4_k::<S, V>(at.add(i * block), i * 256, visitor);
                }
            }
            BlockType::Q6K => {
                for i in 0..width / 256 {
                    q6_k::<S, V>(at.add(i * block), i * 256, visitor);
                }
            }
        }
    }
}

/// Single scalars: one run with no scale.
#[inline(always)]
unsafe fn plain<S: Simd, V: Visitor<S>, T: Element>(at: *const T, width: usize, visitor: &mut V) {
    visitor.begin(0, S::Vector::splat(1.0), S::Vector::splat(0.0));
    for step in (0..width).step_by(2) {
        // SAFETY: the caller's; a panel has an even number of steps.
        unsafe {
            let q = T::read(at.add(step * LANES));
            visitor.pair(0, step, [q, T::read(at.add((step + 1) * LANES))]);
        }
    }
    // SAFETY: the caller's.
    unsafe { visitor.end(0, 0, 0) };
}

/// A half of every column.
#[inline(always)]
unsafe fn half<S: Simd>(at: *const u8) -> S::Vector {
    // SAFETY: the caller's.
    unsafe { S::Vector::read_f16(at.cast::<f16>()) }
}

/// Asks for the lines of `bytes` bytes that are [`AHEAD`] of `at`. A few at a
/// time between products: more would wait for each other.
#[inline(always)]
fn ask(at: *const u8, bytes: usize) {
    prefetch(at.wrapping_add(AHEAD), bytes);
}

/// Byte `index` of every column.
#[inline(always)]
unsafe fn byte<S: Simd>(at: *const u8, index: usize) -> S::Vector {
    // SAFETY: the caller's.
    unsafe { S::Vector::read_bytes(at.add(index * LANES)) }
}

#[inline(always)]
unsafe fn q8_0<S: Simd, V: Visitor<S>>(at: *const u8, first: usize, visitor: &mut V) {
    const RUN: usize = 16;
    // SAFETY: the caller's.
    unsafe {
        let (d, none) = (half::<S>(at), S::Vector::splat(0.0));
        let quants = at.add(2 * LANES).cast::<i8>();
        // Two runs at once: their sums do not wait for each other.
        visitor.begin(0, d, none);
        visitor.begin(1, d, none);
        for l in (0..RUN).step_by(2) {
            ask(quants.add(2 * l * LANES).cast(), LINE);
            let at = quants.add(l * LANES);
            let q = S::Vector::read_i8(at);
            visitor.pair(0, first + l, [q, S::Vector::read_i8(at.add(LANES))]);
            let at = at.add(RUN * LANES);
            let q = S::Vector::read_i8(at);
            visitor.pair(1, first + RUN + l, [q, S::Vector::read_i8(at.add(LANES))]);
        }
        visitor.end(0, first, RUN);
        visitor.end(1, first + RUN, RUN);
    }
}

#[inline(always)]
unsafe fn q5_0<S: Simd, V: Visitor<S>>(at: *const u8, first: usize, visitor: &mut V) {
    const RUN: usize = 16;
    let sixteen = S::Vector::splat(16.0);
    // SAFETY: the caller's.
    unsafe {
        let d = half::<S>(at);
        let high = at.add(2 * LANES);
        let low = at.add(6 * LANES);
        ask(at, 6 * LANES);
        visitor.begin(0, d, d.mul(sixteen));
        visitor.begin(1, d, d.mul(sixteen));
        // A byte of high bits is of eight steps; a byte of low ones of two, 16
        // apart.
        macro_rules! eight {
            ($byte:literal: $($bit:literal)*) => {
                let a = byte::<S>(high, $byte);
                let b = byte::<S>(high, $byte + 2);
                $(
                    let l = $byte * 8 + $bit;
                    if l % 4 == 0 {
                        ask(low.add(l * LANES), LINE);
                    }
                    let (q, r) = (byte::<S>(low, l), byte::<S>(low, l + 1));
                    visitor.pair(0, first + l, [
                        q.join::<0, $bit, 1>(a),
                        r.join::<0, { $bit + 1 }, 1>(a),
                    ]);
                    visitor.pair(1, first + RUN + l, [
                        q.join::<4, $bit, 1>(b),
                        r.join::<4, { $bit + 1 }, 1>(b),
                    ]);
                )*
            };
        }
        eight!(0: 0 2 4 6);
        eight!(1: 0 2 4 6);
        visitor.end(0, first, RUN);
        visitor.end(1, first + RUN, RUN);
    }
}

/// Scale and minimum of a run of a Q4_K block, of six bits each.
#[inline(always)]
unsafe fn scale_and_min<S: Simd>(packed: *const u8, run: usize) -> [S::Vector; 2] {
    // SAFETY: the caller's.
    unsafe {
        let next = byte::<S>(packed, run + 4);
        if run < 4 {
            let scale = byte::<S>(packed, run).field::<0, 63>();
            return [scale, next.field::<0, 63>()];
        }
        let sixteen = S::Vector::splat(16.0);
        let scale = byte::<S>(packed, run - 4).field::<6, 3>();
        let min = byte::<S>(packed, run).field::<6, 3>();
        [
            scale.mul_add(sixteen, next.field::<0, 15>()),
            min.mul_add(sixteen, next.field::<4, 15>()),
        ]
    }
}

#[inline(always)]
unsafe fn q4_k<S: Simd, V: Visitor<S>>(at: *const u8, first: usize, visitor: &mut V) {
    const RUN: usize = 32;
    // SAFETY: the caller's.
    unsafe {
        let (d, dmin) = (half::<S>(at), half::<S>(at.add(2 * LANES)));
        let packed = at.add(4 * LANES);
        let quants = at.add(16 * LANES);
        ask(at, 16 * LANES);
        // A byte is a step of one run and a step of the next.
        for two in 0..4 {
            let [scale, min] = scale_and_min::<S>(packed, 2 * two);
            visitor.begin(0, d.mul(scale), dmin.mul(min));
            let [scale, min] = scale_and_min::<S>(packed, 2 * two + 1);
            visitor.begin(1, d.mul(scale), dmin.mul(min));
            let (first, quants) = (first + two * 2 * RUN, quants.add(two * RUN * LANES));
            for l in (0..RUN).step_by(2) {
                if l % 4 == 0 {
                    ask(quants.add(l * LANES), LINE);
                }
                let (q, r) = (byte::<S>(quants, l), byte::<S>(quants, l + 1));
                visitor.pair(0, first + l, [q.field::<0, 15>(), r.field::<0, 15>()]);
                visitor.pair(1, first + RUN + l, [q.field::<4, 15>(), r.field::<4, 15>()]);
            }
            visitor.end(0, first, RUN);
            visitor.end(1, first + RUN, RUN);
        }
    }
}

#[inline(always)]
unsafe fn q6_k<S: Simd, V: Visitor<S>>(at: *const u8, first: usize, visitor: &mut V) {
    const RUN: usize = 16;
    let middle = S::Vector::splat(32.0);
    // SAFETY: the caller's.
    unsafe {
        let d = half::<S>(at.add(208 * LANES));
        ask(at.add(192 * LANES), 18 * LANES);
        // Half a block in sixteens: a byte of low bits is of two steps, 64
        // apart, and a byte of high ones of four, 32 apart.
        for sixteenth in 0..4 {
            let (half, part) = (sixteenth / 2, sixteenth % 2);
            let first = first + half * 128 + part * RUN;
            let low = at.add((half * 64 + part * RUN) * LANES);
            let high = at.add((128 + half * 32 + part * RUN) * LANES);
            let scales = at.add((192 + half * 8 + part) * LANES).cast::<i8>();
            macro_rules! begin {
                ($($run:literal)*) => {$(
                    let scale = d.mul(S::Vector::read_i8(scales.add($run * 2 * LANES)));
                    visitor.begin($run, scale, scale.mul(middle));
                )*};
            }
            begin!(0 1 2 3);
            for l in (0..RUN).step_by(2) {
                if l % 4 == 0 {
                    ask(low.add(l * LANES), LINE);
                    ask(low.add((l + 32) * LANES), LINE);
                    ask(high.add(l * LANES), LINE);
                }
                let (a, b) = (byte::<S>(low, l), byte::<S>(low, l + 1));
                let (c, e) = (byte::<S>(low, l + 32), byte::<S>(low, l + 33));
                let (h, i) = (byte::<S>(high, l), byte::<S>(high, l + 1));
                macro_rules! six {
                    ($run:literal: $q:ident $r:ident $shift:literal, $high:literal) => {
                        visitor.pair(
                            $run,
                            first + $run * 32 + l,
                            [
                                $q.join::<$shift, $high, 2>(h),
                                $r.join::<$shift, $high, 2>(i),
                            ],
                        );
                    };
                }
                six!(0: a b 0, 0);
                six!(1: c e 0, 2);
                six!(2: a b 4, 4);
                six!(3: c e 4, 6);
            }
            visitor.end(0, first, RUN);
            visitor.end(1, first + 32, RUN);
            visitor.end(2, first + 64, RUN);
            visitor.end(3, first + 96, RUN);
        }
    }
}
