//! The matrix product of one task: the `gemm` crate's, single-threaded, with
//! its bounds checked. Threads belong to the tiling around it.

use gemm::{Parallelism, gemm};

/// `dst = a b` with `(rows, cols, inner)`; operands as (data, row stride,
/// column stride).
pub fn product(
    dst: (&mut [f32], usize),
    a: (&[f32], usize, usize),
    b: (&[f32], usize, usize),
    (m, n, k): (usize, usize, usize),
) {
    assert!(dst.0.len() >= (m - 1) * dst.1 + n);
    assert!(a.0.len() > (m - 1) * a.1 + (k - 1) * a.2);
    assert!(b.0.len() > (k - 1) * b.1 + (n - 1) * b.2);
    // SAFETY: the assertions bound every access of the strided operands.
    unsafe {
        gemm(
            m,
            n,
            k,
            dst.0.as_mut_ptr(),
            1,
            dst.1 as isize,
            false,
            a.0.as_ptr(),
            a.2 as isize,
            a.1 as isize,
            b.0.as_ptr(),
            b.2 as isize,
            b.1 as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
