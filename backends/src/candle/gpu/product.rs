//! Matrix products as the vendor's library does them.

use candle_core::{DType, Result, Tensor};

use super::Gpu;

/// One of the matrices of a product, or a batch of them, in a tensor: row after
/// row, each contiguous.
#[derive(Clone, Copy)]
pub struct Factor<'a> {
    /// Where its scalars are.
    pub tensor: &'a Tensor,
    /// Scalars before the first.
    pub offset: usize,
    /// Scalars from one row to the next.
    pub stride: usize,
    /// Scalars from one matrix of the batch to the next.
    pub step: usize,
}

impl<'a> Factor<'a> {
    /// A single matrix with rows of `width`.
    pub fn rows(tensor: &'a Tensor, width: usize) -> Factor<'a> {
        Factor {
            tensor,
            offset: 0,
            stride: width,
            step: 0,
        }
    }

    /// From matrix `n` of the batch on.
    pub fn skip(self, n: usize) -> Factor<'a> {
        Factor {
            offset: self.offset + n * self.step,
            ..self
        }
    }
}

/// `to = scale * left * right`, or `* right^T`, for each matrix of a batch; sums
/// in f32. Left and right are of one precision, `to` of that or f32.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    /// Matrices of the batch.
    pub batch: usize,
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub cols: usize,
    /// Products that each scalar of the result is the sum of.
    pub depth: usize,
    /// `(rows, depth)`.
    pub left: Factor<'a>,
    /// `(depth, cols)`, or `(cols, depth)` if `transposed`.
    pub right: Factor<'a>,
    /// Whether rows of `right` are columns of the product.
    pub transposed: bool,
    /// `(rows, cols)`.
    pub to: Factor<'a>,
    /// Factor of the result.
    pub scale: f32,
}

impl Product<'_> {
    /// Precision of the operands, and of the result.
    pub fn dtypes(&self) -> (DType, DType) {
        (self.left.tensor.dtype(), self.to.tensor.dtype())
    }

    /// Some of the matrices of the batch.
    pub fn part(self, from: usize, n: usize) -> Self {
        Product {
            batch: n,
            left: self.left.skip(from),
            right: self.right.skip(from),
            to: self.to.skip(from),
            ..self
        }
    }
}

impl Gpu {
    /// Multiplies matrices.
    pub(super) fn product(&self, product: &Product<'_>) -> Result<()> {
        match product.batch * product.rows * product.cols {
            0 => Ok(()),
            _ => self.runtime().product(product),
        }
    }
}
