//! Linear layers, pointwise and dense convolutions: one tiled matrix product
//! with bias, activation and residual applied while a tile is still in cache.
//!
//! The product of a tile is the `gemm` crate's; the tiling over rows and
//! output features, the precision conversion and the epilogue are ours. With
//! few rows (decode) the layer is bound by reading the weights once, and dot
//! products over weight rows replace the tiles.

use rayon::prelude::*;

use super::element::Element;
use super::math::activate;
use super::product::product;
use super::simd::{Kernel, LANES, Simd, Vector, dispatch};
use super::{Output, produce, with_scratch};
use crate::ops::Act;

/// Rows of a tile.
const TILE_ROWS: usize = 640;
/// Output features of a tile.
const TILE_COLS: usize = 512;
/// Up to this many rows the weights are streamed instead of tiled.
const STREAM_ROWS: usize = 4;

/// Where the rows of the left operand come from.
pub trait Rows<T>: Sync {
    /// Row length.
    fn width(&self) -> usize;

    /// All rows as one contiguous slice, if they are stored so.
    fn contiguous(&self) -> Option<&[T]>;

    /// Writes rows `start ..` as f32 into `dst` (`rows * width`).
    fn fill(&self, start: usize, dst: &mut [f32]);
}

/// Rows stored one after another.
pub struct Dense<'a, T> {
    /// `rows * width` scalars.
    pub data: &'a [T],
    /// Row length.
    pub width: usize,
}

impl<T: Element> Rows<T> for Dense<'_, T> {
    fn width(&self) -> usize {
        self.width
    }

    fn contiguous(&self) -> Option<&[T]> {
        Some(self.data)
    }

    fn fill(&self, start: usize, dst: &mut [f32]) {
        let from = start * self.width;
        widen(&self.data[from..from + dst.len()], dst);
    }
}

/// Patches of a channels-last map `(b, h, w, c)`, a row per output pixel in
/// the order `(ky, kx, c)`, zero outside the map.
pub struct Patches<'a, T> {
    /// The map.
    pub data: &'a [T],
    /// Height, width and channels of the map.
    pub input: (usize, usize, usize),
    /// Height and width of the output.
    pub output: (usize, usize),
    /// Square kernel size.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Zero padding.
    pub padding: usize,
}

impl<T: Element> Rows<T> for Patches<'_, T> {
    fn width(&self) -> usize {
        self.kernel * self.kernel * self.input.2
    }

    fn contiguous(&self) -> Option<&[T]> {
        None
    }

    fn fill(&self, start: usize, dst: &mut [f32]) {
        let (h, w, c) = self.input;
        let (oh, ow) = self.output;
        for (i, row) in dst.chunks_exact_mut(self.width()).enumerate() {
            let pixel = start + i;
            let (image, rest) = (pixel / (oh * ow), pixel % (oh * ow));
            let (oy, ox) = (rest / ow, rest % ow);
            for (tap, out) in row.chunks_exact_mut(c).enumerate() {
                let y = (oy * self.stride + tap / self.kernel).wrapping_sub(self.padding);
                let x = (ox * self.stride + tap % self.kernel).wrapping_sub(self.padding);
                if y < h && x < w {
                    let at = ((image * h + y) * w + x) * c;
                    T::widen(&self.data[at..at + c], out);
                } else {
                    out.fill(0.0);
                }
            }
        }
    }
}

/// What happens to a product before it is stored.
pub struct Epilogue<'a, T> {
    /// Added to every row.
    pub bias: Option<&'a [T]>,
    /// Applied after the bias.
    pub act: Act,
    /// Added after the activation, `rows * cols`.
    pub residual: Option<&'a [T]>,
}

fn widen<T: Element>(src: &[T], dst: &mut [f32]) {
    struct Widen<'a, T>(&'a [T], &'a mut [f32]);
    impl<T: Element> Kernel for Widen<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self) {
            T::widen(self.0, self.1);
        }
    }
    dispatch(Widen(src, dst));
}

/// `act(x W^T + bias) + residual` for `rows` rows of `x` and weights
/// `(cols, width)`; returns `rows * cols` scalars.
pub fn linear<T: Element>(
    x: &impl Rows<T>,
    rows: usize,
    weight: &[T],
    epilogue: &Epilogue<'_, T>,
) -> Vec<T> {
    let width = x.width();
    let cols = weight.len() / width;
    produce(rows * cols, |out| {
        if rows <= STREAM_ROWS {
            stream(x, rows, weight, epilogue, out);
            return;
        }
        let row_tiles = rows.div_ceil(TILE_ROWS);
        let col_tiles = cols.div_ceil(TILE_COLS);
        // Equal tiles, so that no thread is left with a remainder.
        let tile_rows = rows.div_ceil(row_tiles);
        let tile_cols = cols.div_ceil(col_tiles);
        (0..row_tiles * col_tiles).into_par_iter().for_each(|t| {
            let (rt, ct) = (t / col_tiles, t % col_tiles);
            let tile = Tile {
                row: rt * tile_rows,
                rows: tile_rows.min(rows.saturating_sub(rt * tile_rows)),
                col: ct * tile_cols,
                cols: tile_cols.min(cols.saturating_sub(ct * tile_cols)),
                stride: cols,
            };
            if tile.rows > 0 && tile.cols > 0 {
                tile.compute(x, weight, epilogue, out);
            }
        });
    })
}

struct Tile {
    row: usize,
    rows: usize,
    col: usize,
    cols: usize,
    /// Columns of the whole output.
    stride: usize,
}

impl Tile {
    fn compute<T: Element>(
        &self,
        x: &impl Rows<T>,
        weight: &[T],
        epilogue: &Epilogue<'_, T>,
        out: &Output<T>,
    ) {
        let k = x.width();
        let a_borrowed = x.contiguous().and_then(T::as_f32);
        let w = &weight[self.col * k..(self.col + self.cols) * k];
        let w_borrowed = T::as_f32(w);
        let a_len = if a_borrowed.is_some() {
            0
        } else {
            self.rows * k
        };
        let w_len = if w_borrowed.is_some() { 0 } else { w.len() };
        with_scratch(a_len + w_len + self.rows * self.cols, |scratch| {
            let (a_buffer, rest) = scratch.split_at_mut(a_len);
            let (w_buffer, tile) = rest.split_at_mut(w_len);
            let a = match a_borrowed {
                Some(all) => &all[self.row * k..(self.row + self.rows) * k],
                None => {
                    x.fill(self.row, a_buffer);
                    a_buffer
                }
            };
            let w = match w_borrowed {
                Some(w) => w,
                None => {
                    widen(w, w_buffer);
                    w_buffer
                }
            };
            product(
                (tile, self.cols),
                (a, k, 1),
                (w, 1, k),
                (self.rows, self.cols, k),
            );
            for (i, row) in tile.chunks_exact_mut(self.cols).enumerate() {
                let at = (self.row + i) * self.stride + self.col;
                // SAFETY: tiles, and rows of a tile, do not overlap.
                let dst = unsafe { out.slice(at, self.cols) };
                epilogue.store(self.col, at, row, dst);
            }
        });
    }
}

impl<T: Element> Epilogue<'_, T> {
    /// Finishes part of a row that starts at output feature `col` and at
    /// element `at` of the output.
    fn store(&self, col: usize, at: usize, row: &mut [f32], dst: &mut [T]) {
        struct Store<'a, T> {
            bias: Option<&'a [T]>,
            act: Act,
            residual: Option<&'a [T]>,
            row: &'a mut [f32],
            dst: &'a mut [T],
        }
        impl<T: Element> Kernel for Store<'_, T> {
            type Out = ();
            #[inline(always)]
            fn run<S: Simd>(self) {
                if let Some(bias) = self.bias {
                    for (v, b) in self.row.iter_mut().zip(bias) {
                        *v += b.get();
                    }
                }
                activate::<S>(self.act, self.row);
                if let Some(residual) = self.residual {
                    for (v, r) in self.row.iter_mut().zip(residual) {
                        *v += r.get();
                    }
                }
                T::narrow(self.row, self.dst);
            }
        }
        let n = row.len();
        dispatch(Store {
            bias: self.bias.map(|b| &b[col..col + n]),
            act: self.act,
            residual: self.residual.map(|r| &r[at..at + n]),
            row,
            dst,
        });
    }
}

/// Few rows: every weight row is read once and multiplied with all of them.
fn stream<T: Element>(
    x: &impl Rows<T>,
    rows: usize,
    weight: &[T],
    epilogue: &Epilogue<'_, T>,
    out: &Output<T>,
) {
    let k = x.width();
    let cols = weight.len() / k;
    let mut xs = vec![0.0; rows * k];
    x.fill(0, &mut xs);
    // Long enough runs that a task outweighs its scheduling.
    let run = 65_536_usize.div_ceil(k).clamp(1, cols.max(1));
    (0..cols.div_ceil(run)).into_par_iter().for_each(|task| {
        let col = task * run;
        let n = run.min(cols - col);
        with_scratch(rows * n, |sums| {
            dispatch(Dots {
                xs: &xs,
                weight: &weight[col * k..(col + n) * k],
                width: k,
                sums,
            });
            for (r, row) in sums.chunks_exact_mut(n).enumerate() {
                let at = r * cols + col;
                // SAFETY: runs of columns do not overlap.
                let dst = unsafe { out.slice(at, n) };
                epilogue.store(col, at, row, dst);
            }
        });
    });
}

/// Dot products of every row of `xs` with every weight row; `sums` is
/// `(rows of xs, rows of weight)`.
struct Dots<'a, T> {
    xs: &'a [f32],
    weight: &'a [T],
    width: usize,
    sums: &'a mut [f32],
}

impl<T: Element> Kernel for Dots<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let n = self.weight.len() / self.width;
        for (j, w) in self.weight.chunks_exact(self.width).enumerate() {
            for (r, x) in self.xs.chunks_exact(self.width).enumerate() {
                self.sums[r * n + j] = dot::<S, T>(x, w);
            }
        }
    }
}

/// Dot product in several independent sums, which hide the latency of addition.
#[inline(always)]
fn dot<S: Simd, T: Element>(x: &[f32], w: &[T]) -> f32 {
    const SUMS: usize = 4;
    let zero = S::Vector::load(&[0.0; LANES]);
    let mut sums = [zero; SUMS];
    let mut wide = [0.0_f32; SUMS * LANES];
    let mut xs = x.chunks_exact(SUMS * LANES);
    let mut ws = w.chunks_exact(SUMS * LANES);
    for (x, w) in (&mut xs).zip(&mut ws) {
        let w = match T::as_f32(w) {
            Some(w) => w,
            None => {
                T::widen(w, &mut wide);
                &wide
            }
        };
        for (i, sum) in sums.iter_mut().enumerate() {
            let x = S::Vector::load(&x[i * LANES..]);
            *sum = x.mul_add(S::Vector::load(&w[i * LANES..]), *sum);
        }
    }
    let tail = xs.remainder().iter().zip(ws.remainder());
    let mut total: f32 = tail.map(|(x, w)| x * w.get()).sum();
    let mut lanes = [0.0; LANES];
    for sum in sums {
        sum.store(&mut lanes);
        total += lanes.iter().sum::<f32>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::super::test_numbers::numbers;
    use super::*;
    use half::{bf16, f16};

    fn check<T: Element>(rows: usize, k: usize, cols: usize, tolerance: f32) {
        let store = |v: &[f32]| {
            produce(v.len(), |o| {
                // SAFETY: one slice over everything.
                T::narrow(v, unsafe { o.slice(0, v.len()) });
            })
        };
        let x = store(&numbers(rows * k, 1));
        let w = store(&numbers(cols * k, 2));
        let bias = store(&numbers(cols, 3));
        let residual = store(&numbers(rows * cols, 4));
        let got = linear(
            &Dense { data: &x, width: k },
            rows,
            &w,
            &Epilogue {
                bias: Some(&bias),
                act: Act::Relu,
                residual: Some(&residual),
            },
        );
        for r in 0..rows {
            for c in 0..cols {
                let sum: f64 = (0..k)
                    .map(|i| f64::from(x[r * k + i].get()) * f64::from(w[c * k + i].get()))
                    .sum();
                let expected = (sum as f32 + bias[c].get()).max(0.0) + residual[r * cols + c].get();
                let off = (got[r * cols + c].get() - expected).abs();
                assert!(off < tolerance, "({r}, {c}): off by {off}");
            }
        }
    }

    #[test]
    fn tiles_and_streams_agree_with_the_definition() {
        for rows in [1, 3, 5, 70, 300] {
            check::<f32>(rows, 67, 401, 2e-5);
            check::<f32>(rows, 130, 33, 2e-5);
        }
        check::<bf16>(300, 64, 129, 2e-2);
        check::<bf16>(1, 200, 1000, 2e-2);
        check::<f16>(40, 64, 129, 3e-3);
    }

    #[test]
    fn a_dense_convolution_is_a_product_of_patches() {
        let (h, w, c, out) = (7, 6, 3, 5);
        let x = numbers(h * w * c, 5);
        let weight = numbers(out * 9 * c, 6);
        let (oh, ow) = (4, 3);
        let patches = Patches {
            data: &x,
            input: (h, w, c),
            output: (oh, ow),
            kernel: 3,
            stride: 2,
            padding: 1,
        };
        let plain = Epilogue {
            bias: None,
            act: Act::None,
            residual: None,
        };
        let got = linear(&patches, oh * ow, &weight, &plain);
        for (i, got) in got.iter().enumerate() {
            let (pixel, o) = (i / out, i % out);
            let mut expected = 0.0;
            for ky in 0..3 {
                for kx in 0..3 {
                    let y = (pixel / ow * 2 + ky) as isize - 1;
                    let xx = (pixel % ow * 2 + kx) as isize - 1;
                    if y < 0 || xx < 0 || y >= h as isize || xx >= w as isize {
                        continue;
                    }
                    for ch in 0..c {
                        expected += x[(y as usize * w + xx as usize) * c + ch]
                            * weight[(o * 9 + ky * 3 + kx) * c + ch];
                    }
                }
            }
            assert!((got - expected).abs() < 1e-5);
        }
    }
}
