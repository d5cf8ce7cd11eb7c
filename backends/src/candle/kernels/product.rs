//! The tile of a matrix product: sums of a few rows by one panel of columns,
//! kept in registers over a run of the inner dimension.
//!
//! The left operand is read in place, a broadcast scalar (or pair of bf16
//! scalars) at a time from rows a stride apart; the right one is a packed
//! panel, or any matrix whose columns lie side by side. Nothing is copied and
//! nothing transposed, and one loop serves all precisions ([`Arithmetic`]).

use std::marker::PhantomData;

use half::bf16;

use super::element::Element;
use super::simd::{Kernel, LANES, MOST_TILE_ROWS, Simd, Vector, opaque};

/// Most floats of a tile at any level.
pub const TILE_FLOATS: usize = MOST_TILE_ROWS * 2 * LANES;

/// Bytes from row to row that put all rows of the left operand into one set of
/// the first-level cache, which has eight ways or more.
const ALIAS: usize = 4096;
/// Rows that such a stride still admits.
const ALIASED_ROWS: usize = 8;

/// Steps of the inner dimension between two jumps.
const UNROLL: usize = 4;

/// One step of the inner dimension.
pub trait Arithmetic<S: Simd> {
    /// Scalar of the left operand.
    type Left: Copy;
    /// Scalar of the right operand.
    type Right: Copy;
    /// A broadcast left operand.
    type Factor: Copy;
    /// A vector of the right operand.
    type Row: Copy;

    /// Neighbouring scalars of the inner dimension in a step.
    const DEPTH: usize;

    /// Whether these are native products of bf16 pairs.
    const PAIRS: bool = false;

    /// Reads a step of a left row.
    ///
    /// # Safety
    /// `at` must be readable for `DEPTH` scalars.
    unsafe fn left(at: *const Self::Left) -> Self::Factor;

    /// Reads a step of [`LANES`] columns.
    ///
    /// # Safety
    /// `at` must be readable for `DEPTH * LANES` scalars while the result lives.
    unsafe fn right(at: *const Self::Right) -> Self::Row;

    /// `sum + left * right`.
    ///
    /// # Safety
    /// As for [`Arithmetic::right`].
    unsafe fn multiply(left: Self::Factor, right: Self::Row, sum: S::Vector) -> S::Vector;

    /// Stores `v` as scalars `at ..` of a left operand's row that takes the
    /// place of the floats from `row` on.
    ///
    /// # Safety
    /// The floats must be writable that far.
    unsafe fn keep(v: S::Vector, row: *mut f32, at: usize);
}

/// f32 products of an f32 left operand with a right operand stored as `T`.
pub struct Widening<T>(PhantomData<T>);

impl<S: Simd, T: Element> Arithmetic<S> for Widening<T> {
    type Left = f32;
    type Right = T;
    type Factor = S::Vector;
    type Row = S::Vector;

    const DEPTH: usize = 1;

    #[inline(always)]
    unsafe fn left(at: *const f32) -> S::Vector {
        // SAFETY: the caller's.
        S::Vector::splat(unsafe { *at })
    }

    #[inline(always)]
    unsafe fn right(at: *const T) -> S::Vector {
        // SAFETY: the caller's.
        unsafe { T::read(at) }
    }

    #[inline(always)]
    unsafe fn multiply(left: S::Vector, right: S::Vector, sum: S::Vector) -> S::Vector {
        left.mul_add(right, sum)
    }

    #[inline(always)]
    unsafe fn keep(v: S::Vector, row: *mut f32, at: usize) {
        // SAFETY: the caller's.
        unsafe { v.write(row.add(at)) }
    }
}

/// Native products of bf16 pairs with f32 sums.
pub struct Bf16Pairs;

impl<S: Simd> Arithmetic<S> for Bf16Pairs {
    type Left = bf16;
    type Right = bf16;
    type Factor = u32;
    type Row = *const bf16;

    const DEPTH: usize = 2;
    const PAIRS: bool = true;

    #[inline(always)]
    unsafe fn left(at: *const bf16) -> u32 {
        // SAFETY: the caller's.
        unsafe { at.cast::<u32>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn right(at: *const bf16) -> *const bf16 {
        at
    }

    #[inline(always)]
    unsafe fn multiply(left: u32, right: *const bf16, sum: S::Vector) -> S::Vector {
        // SAFETY: the caller's.
        unsafe { S::dot_bf16(sum, left, right) }
    }

    #[inline(always)]
    unsafe fn keep(v: S::Vector, row: *mut f32, at: usize) {
        // SAFETY: the caller's; half as many bytes as floats.
        unsafe { v.write_bf16(row.cast::<bf16>().add(at)) }
    }
}

/// A left operand: rows `stride` scalars apart.
#[derive(Clone, Copy)]
pub struct Left<T> {
    /// First scalar of the first row.
    pub at: *const T,
    /// Scalars from row to row.
    pub stride: usize,
}

/// A right operand: steps `stride` scalars apart.
pub struct Right<T> {
    /// First scalar of the first step.
    pub at: *const T,
    /// Scalars from step to step.
    pub stride: usize,
    /// Columns, 16 or 32.
    pub columns: usize,
}

/// Sums `(rows, columns)`.
#[derive(Clone, Copy)]
pub struct Sums {
    /// Where they go.
    pub to: *mut f32,
    /// Sums to begin with instead of zeros.
    pub from: Option<*const f32>,
    /// Floats from row to row.
    pub stride: usize,
}

/// Whether a tile's sums are in tile registers.
#[inline(always)]
pub fn on_tile_registers<S: Simd, X: Arithmetic<S>>() -> bool {
    X::PAIRS && S::LEVEL.has_bf16_tiles()
}

/// Rows of the next tile of a left operand that has `rows` left.
#[inline(always)]
pub fn tile_rows<S: Simd, X: Arithmetic<S>>(rows: usize, stride_bytes: usize) -> usize {
    let most = S::LEVEL.tile_rows(X::PAIRS);
    if on_tile_registers::<S, X>() {
        // A row of a register is a whole cache line: nothing is read twice.
        return rows.min(most);
    }
    let most = if stride_bytes.is_multiple_of(ALIAS) {
        most.min(ALIASED_ROWS)
    } else {
        most
    };
    [12, 8, 6, 4, 2, 1]
        .into_iter()
        .find(|size| *size <= most && *size <= rows)
        .unwrap_or(1)
}

/// Computes one tile of `rows` rows, which [`tile_rows`] gave.
///
/// # Safety
/// `left` must be readable for `rows` rows of `steps` steps, `right` for
/// `steps` steps of its columns, and the sums for `rows` rows of `columns` floats.
#[inline(always)]
pub unsafe fn tile<S: Simd, X: Arithmetic<S>>(
    rows: usize,
    left: &Left<X::Left>,
    right: &Right<X::Right>,
    steps: usize,
    sums: Sums,
) {
    #[inline(always)]
    unsafe fn rows_are<S: Simd, X: Arithmetic<S>, const ROWS: usize>(
        left: &Left<X::Left>,
        right: &Right<X::Right>,
        steps: usize,
        sums: Sums,
    ) {
        if right.columns == LANES {
            S::call(Tile::<S, X, ROWS, 1>(left, right, steps, sums, PhantomData));
        } else {
            S::call(Tile::<S, X, ROWS, 2>(left, right, steps, sums, PhantomData));
        }
    }
    // SAFETY: the caller's; pairs have bf16 operands.
    unsafe {
        if on_tile_registers::<S, X>() {
            let left = Left {
                at: left.at.cast(),
                stride: left.stride,
            };
            let right = Right {
                at: right.at.cast(),
                stride: right.stride,
                columns: right.columns,
            };
            return S::tile_bf16(rows, &left, &right, steps, sums);
        }
        match rows {
            12 => rows_are::<S, X, 12>(left, right, steps, sums),
            8 => rows_are::<S, X, 8>(left, right, steps, sums),
            6 => rows_are::<S, X, 6>(left, right, steps, sums),
            4 => rows_are::<S, X, 4>(left, right, steps, sums),
            2 => rows_are::<S, X, 2>(left, right, steps, sums),
            _ => rows_are::<S, X, 1>(left, right, steps, sums),
        }
    }
}

struct Tile<'a, S: Simd, X: Arithmetic<S>, const ROWS: usize, const VECTORS: usize>(
    &'a Left<X::Left>,
    &'a Right<X::Right>,
    usize,
    Sums,
    PhantomData<S>,
);

impl<S0: Simd, X: Arithmetic<S0>, const ROWS: usize, const VECTORS: usize> Kernel
    for Tile<'_, S0, X, ROWS, VECTORS>
{
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Tile(left, right, steps, sums, _) = self;
        let zero = S0::Vector::splat(0.0);
        let mut acc = [[zero; VECTORS]; ROWS];
        // SAFETY: in bounds by the contract of `tile`.
        unsafe {
            if let Some(from) = sums.from {
                for (i, row) in acc.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate() {
                        *sum = S0::Vector::read(from.add(i * sums.stride + j * LANES));
                    }
                }
            }
            // Rows in threes, which addresses reach with a register and a
            // multiple of the stride: no additions compete for the ports.
            let third = 3 * left.stride;
            let mut a = [0, 1, 2, 3].map(|i| opaque(left.at.wrapping_add(i * third)));
            let mut b = right.at;
            macro_rules! step {
                ($k:expr) => {
                    let mut columns = [X::right(b); VECTORS];
                    for (j, column) in columns.iter_mut().enumerate().skip(1) {
                        *column = X::right(b.add(j * LANES * X::DEPTH));
                    }
                    for (i, row) in acc.iter_mut().enumerate() {
                        let at = a[i / 3].wrapping_add(i % 3 * left.stride + $k * X::DEPTH);
                        let factor = X::left(at);
                        for (sum, column) in row.iter_mut().zip(columns) {
                            *sum = X::multiply(factor, column, *sum);
                        }
                    }
                    b = b.wrapping_add(right.stride);
                };
            }
            for _ in 0..steps / UNROLL {
                for k in 0..UNROLL {
                    step!(k);
                }
                a = a.map(|a| opaque(a.wrapping_add(UNROLL * X::DEPTH)));
            }
            for k in 0..steps % UNROLL {
                step!(k);
            }
            for (i, row) in acc.iter().enumerate() {
                for (j, sum) in row.iter().enumerate() {
                    sum.write(sums.to.add(i * sums.stride + j * LANES));
                }
            }
        }
    }
}
