//! The CPU kernels behind the candle interpreter, where candle has none or a
//! slow one: matrix products on packed weights with fused epilogue, depthwise convolution,
//! attention, norms and the small pointwise rest.
//!
//! All work on plain slices in channels-last order, so that a pointwise
//! convolution is a linear layer, a channel norm a row norm, and a token
//! sequence a map without copying. Sums are f32 whatever the storage.

pub mod attention;
pub mod blocks;
pub mod depthwise;
pub mod element;
pub mod linear;
pub mod math;
pub mod norm;
pub mod packed;
pub mod pointwise;
pub mod pool;
pub mod product;
pub mod rotary;
pub mod simd;
pub mod windows;

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// A raw output slice that parallel tasks write disjoint parts of.
pub struct Output<T> {
    ptr: *mut T,
    len: usize,
}

// SAFETY: tasks only write disjoint ranges, which each kernel's tiling states.
unsafe impl<T: Send> Sync for Output<T> {}
// SAFETY: as above; the pointer is to plain scalars.
unsafe impl<T: Send> Send for Output<T> {}

impl<T> Output<T> {
    /// The range `start .. start + len` as a mutable slice.
    ///
    /// # Safety
    /// No two live slices may overlap, and callers must only write before
    /// reading: the memory may be uninitialised.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's contract")]
    pub unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start + len <= self.len, "output range out of bounds");
        // SAFETY: in bounds by the assertion, disjoint by the contract.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }
}

/// Allocates `len` elements, lets `fill` write every one of them, returns them.
/// Avoids zeroing activations that are about to be overwritten.
pub fn produce<T: Copy>(len: usize, fill: impl FnOnce(&Output<T>)) -> Vec<T> {
    let mut out: Vec<T> = Vec::with_capacity(len);
    fill(&Output {
        ptr: out.as_mut_ptr(),
        len,
    });
    // SAFETY: `fill` writes every element; the capacity is `len`.
    unsafe { out.set_len(len) };
    out
}

/// Floats of a cache line; scratch starts on one, so that whole vectors do not
/// straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A thread-local, cache-line aligned buffer of floats, lent until dropped.
///
/// A value rather than a closure's argument: a closure is a function of its
/// own, compiled without the instruction set of the kernel that contains it.
pub struct Scratch {
    lines: Vec<Line>,
    len: usize,
}

impl Scratch {
    /// Lends `len` floats with unspecified contents.
    pub fn take(len: usize) -> Scratch {
        let mut lines = SCRATCH.with(|s| s.borrow_mut().pop()).unwrap_or_default();
        if lines.len() * 16 < len {
            lines.resize(len.div_ceil(16), Line([0.0; 16]));
        }
        Scratch { lines, len }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        SCRATCH.with(|s| s.borrow_mut().push(lines));
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a line is 16 floats without padding, and there are enough.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// Rows of one task of an operation that takes rows one by one: some tasks for
/// each thread, so that none waits long for another, but whole ones.
fn rows_per_task(rows: usize) -> usize {
    rows.div_ceil(4 * rayon::current_num_threads()).max(1)
}

#[cfg(test)]
mod test_numbers {
    //! Inputs for the kernels' tests.

    use super::element::Element;
    use super::produce;

    /// Numbers rounded to a storage precision.
    pub(super) fn stored<T: Element>(x: &[f32]) -> Vec<T> {
        produce(x.len(), |out| {
            // SAFETY: one slice over everything.
            T::narrow(x, unsafe { out.slice(0, x.len()) });
        })
    }

    /// `n` repeatable values in -0.5..0.5.
    pub(super) fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| {
                let h = (i ^ seed).wrapping_mul(2_654_435_761);
                (h >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }
}
