//! Linear layers and dense convolutions: a product of the vendor's library, then
//! one pass for bias, activation and residual.

use candle_core::{Result, Tensor, bail};

use super::{Factor, Gpu, GpuOp, Product, int, long};
use crate::candle::custom::{ConvOp, LinearOp, MlpOp};
use crate::candle::store::Form;
use crate::ops::Act;

/// Neighbouring scalars that a thread of the last pass takes where it can.
const NEIGHBOURS: usize = 8;

impl LinearOp {
    /// The layer of `n` rows in `x`, as a tensor of `shape`.
    fn rows(&self, x: &Tensor, n: usize, shape: Vec<usize>, gpu: &Gpu) -> Result<Tensor> {
        let (cols, width) = (self.weight.cols, self.weight.width);
        let Form::Dense(weight) = &self.weight.form else {
            bail!("the weight of a linear layer is not on the gpu");
        };
        if n * width != x.elem_count() {
            bail!("rows {:?} by a weight of {width}", x.dims());
        }
        let y = gpu.output(shape, x.dtype())?;
        gpu.product(&Product {
            batch: 1,
            rows: n,
            cols,
            depth: width,
            left: Factor::rows(x, width),
            right: Factor::rows(weight, width),
            transposed: true,
            to: Factor::rows(&y, cols),
            scale: 1.0,
        })?;
        self.finish(&y, gpu)?;
        Ok(y)
    }

    /// What follows the product, where it is.
    fn finish(&self, y: &Tensor, gpu: &Gpu) -> Result<()> {
        if self.bias.is_none() && self.residual.is_none() && self.act == Act::None {
            return Ok(());
        }
        let (n, cols) = (y.elem_count(), self.weight.cols);
        let (kernel, per_thread) = match cols % NEIGHBOURS {
            0 => ("epilogue8", NEIGHBOURS),
            _ => ("epilogue", 1),
        };
        let args = [
            y.into(),
            self.bias.as_ref().into(),
            self.residual.as_ref().into(),
            long(n).into(),
            int(cols)?.into(),
            self.act.into(),
        ];
        gpu.each((kernel, y.dtype()), n.div_ceil(per_thread), &args)
    }
}

impl GpuOp for LinearOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let width = shape.pop().unwrap_or(0).max(1);
        shape.push(self.weight.cols);
        self.rows(x, x.elem_count() / width, shape, gpu)
    }
}

impl GpuOp for MlpOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        self.second.on_gpu(&self.first.on_gpu(x, gpu)?, gpu)
    }
}

impl GpuOp for ConvOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        let (oh, ow) = (self.side(h), self.side(w));
        let (n, width) = (b * oh * ow, self.layer.weight.width);
        let shape = vec![b, oh, ow, self.layer.weight.cols];
        if (self.kernel, self.stride, self.padding) == (1, 1, 0) {
            return self.layer.rows(x, n, shape, gpu);
        }
        let patches = gpu.output((n, width), x.dtype())?;
        let args = [
            x.into(),
            (&patches).into(),
            long(n * width).into(),
            int(h)?.into(),
            int(w)?.into(),
            int(c)?.into(),
            int(oh)?.into(),
            int(ow)?.into(),
            int(self.kernel)?.into(),
            int(self.stride)?.into(),
            int(self.padding)?.into(),
        ];
        gpu.each(("patches", x.dtype()), n * width, &args)?;
        self.layer.rows(&patches, n, shape, gpu)
    }
}
