//! Two linear layers whose hidden activation never leaves the cache.
//!
//! The feed-forward networks of FastViT's early stages have tens of thousands
//! of rows: their hidden map, four times the input, would be written to memory
//! and read back. A task takes a block of rows through both layers instead, a
//! run of hidden features at a time, which is the second product's run of its
//! inner dimension.

use half::bf16;
use rayon::prelude::*;

use super::super::element::Element;
use super::super::product::{Bf16Pairs, Left, Widening};
use super::super::simd::{Kernel, Level, Simd, dispatch};
use super::super::{Output, Scratch, produce};
use super::product::{Place, Product, inner};
use super::{Dense, Epilogue, Rows, Task, Weight, linear};

/// Most rows of a task.
const ROWS: usize = 96;
/// Bytes of a hidden map that the caches hold anyway.
const CACHED: usize = 2 << 20;
/// Widest output whose partial sums leave room in the second-level cache.
const COLS: usize = 512;

/// `second(first(x))` for `rows` rows, each layer with its epilogue.
pub fn mlp<T: Element>(
    x: &Dense<'_, T>,
    rows: usize,
    first: (&Weight<'_, T>, &Epilogue<'_, T>),
    second: (&Weight<'_, T>, &Epilogue<'_, T>),
) -> Vec<T> {
    let (hidden, cols) = (first.0.cols, second.0.cols);
    let panel = first.0.packing.panel;
    let step = inner::<T>(hidden).next_multiple_of(panel);
    let level = Level::current();
    let direct = T::IS_F32 || T::IS_BF16 && level.has_bf16_dot();
    let large = rows * hidden * size_of::<T>() > CACHED;
    if !(direct && large && cols <= COLS && hidden.is_multiple_of(2)) {
        let between = linear(x, rows, first.0, first.1);
        let between = Dense {
            data: &between,
            width: hidden,
        };
        return linear(&between, rows, second.0, second.1);
    }
    assert!(x.data.len() >= rows * x.width && first.1.residual.is_none());
    first.0.check(x.width, first.1);
    second.0.check(hidden, second.1);
    assert!(second.1.residual.is_none_or(|r| r.len() == rows * cols));
    // As many blocks for each thread as for any other.
    let threads = rayon::current_num_threads();
    let blocks = rows.div_ceil(threads * ROWS) * threads;
    // Whole tile registers; elsewhere smaller tiles finish a block, and equal
    // blocks matter more.
    let whole = if T::IS_BF16 && level.has_bf16_tiles() {
        level.tile_rows(true)
    } else {
        4
    };
    let block = rows.div_ceil(blocks).next_multiple_of(whole);
    produce(rows * cols, |out| {
        (0..rows.div_ceil(block)).into_par_iter().for_each(|task| {
            let row = task * block;
            dispatch(Block {
                x,
                first,
                second,
                row,
                rows: block.min(rows - row),
                step,
                out,
            });
        });
    })
}

/// A block of rows through both layers.
struct Block<'a, T> {
    x: &'a Dense<'a, T>,
    first: (&'a Weight<'a, T>, &'a Epilogue<'a, T>),
    second: (&'a Weight<'a, T>, &'a Epilogue<'a, T>),
    row: usize,
    rows: usize,
    /// Hidden features at a time, whole panels.
    step: usize,
    out: &'a Output<T>,
}

impl<T: Element> Kernel for Block<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Block {
            x,
            first,
            second,
            row,
            rows,
            step,
            out,
        } = self;
        let len = rows * step;
        let mut scratch = Scratch::take((len * size_of::<T>()).div_ceil(size_of::<f32>()));
        let at = scratch.as_mut_ptr().cast::<T>();
        let hidden = Output { ptr: at, len };
        let last = Product {
            rows,
            width: first.0.cols,
            weight: *second.0,
            panels: 0..second.0.packing.panels(second.0.cols),
            epilogue: second.1,
            out,
            place: Place {
                row,
                col: 0,
                before: 0,
                stride: second.0.cols,
            },
        };
        let panel = first.0.packing.panel;
        let hidden_run = |start: usize, end: usize| Product {
            rows,
            width: x.width(),
            weight: *first.0,
            panels: start / panel..end.div_ceil(panel),
            epilogue: first.1,
            out: &hidden,
            place: Place {
                row: 0,
                col: start,
                before: 0,
                stride: step,
            },
        };
        // A function of its own: a closure would be compiled without the
        // instruction set, and the product inlined into both kinds below.
        let run = |start: usize, end: usize| {
            S::call(Task {
                x,
                first: row,
                product: hidden_run(start, end),
            });
        };
        if T::IS_F32 {
            last.multiply::<S, Widening<T>>(step, |k| {
                run(k.start, k.end);
                Left {
                    at: at.cast::<f32>().cast_const(),
                    stride: step,
                }
            });
        } else {
            last.multiply::<S, Bf16Pairs>(step, |k| {
                run(k.start, k.end);
                Left {
                    at: at.cast::<bf16>().cast_const(),
                    stride: step,
                }
            });
        }
    }
}
