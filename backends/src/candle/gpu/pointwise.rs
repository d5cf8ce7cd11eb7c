//! Norms, gates, means, positions and mixtures of tokens.

use candle_core::{Result, Tensor};

use super::{Gpu, GpuOp, THREADS, WARP, int, long};
use crate::candle::custom::{GateOp, GluOp, MeanOp, NormOp, PoolOp, PositionsOp};
use crate::mix::Mix;

/// From this width on a row's norm is a block's work, below it a warp's.
const WIDE: usize = 1024;

impl GpuOp for NormOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let dim = x.dims()[x.rank() - 1];
        let rows = x.elem_count() / dim.max(1);
        let y = gpu.output(x.shape(), x.dtype())?;
        let (kernel, rows_per_block) = match dim {
            WIDE.. => ("norm_block", 1),
            _ => ("norm_warp", (THREADS / WARP) as usize),
        };
        let args = [
            x.into(),
            (&self.weight).into(),
            self.bias.as_ref().into(),
            (&y).into(),
            int(rows)?.into(),
            int(dim)?.into(),
            self.eps.into(),
            self.act.into(),
        ];
        let blocks = int(rows.div_ceil(rows_per_block))? as u32;
        let kernel = (kernel, x.dtype());
        gpu.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], &args)?;
        Ok(y)
    }
}

impl GpuOp for MeanOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        let y = gpu.output((b, 1, c), x.dtype())?;
        let args = [x.into(), (&y).into(), int(h * w)?.into(), int(c)?.into()];
        let rows = (h * w).clamp(1, WARP as usize) as u32;
        let grid = [int(c.div_ceil(WARP as usize))? as u32, int(b)? as u32, 1];
        gpu.launch(("global_mean", x.dtype()), grid, [WARP, rows, 1], &args)?;
        Ok(y)
    }
}

impl GpuOp for PoolOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        let (oh, ow) = self.output;
        let y = gpu.output((b, oh, ow, c), x.dtype())?;
        let n = y.elem_count();
        let args = [
            x.into(),
            (&y).into(),
            long(n).into(),
            int(h)?.into(),
            int(w)?.into(),
            int(c)?.into(),
            int(oh)?.into(),
            int(ow)?.into(),
            int(self.windows.kernel)?.into(),
            int(self.windows.stride)?.into(),
            int(self.windows.padding)?.into(),
        ];
        gpu.each(("average_pool", x.dtype()), n, &args)?;
        Ok(y)
    }
}

impl GpuOp for GateOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let (_, h, w, c) = x.dims4()?;
        let y = gpu.output(x.shape(), x.dtype())?;
        let n = x.elem_count();
        let args = [
            x.into(),
            (&self.gate).into(),
            (&y).into(),
            long(n).into(),
            int(h * w)?.into(),
            int(c)?.into(),
            self.act.into(),
        ];
        gpu.each(("gate", x.dtype()), n, &args)?;
        Ok(y)
    }
}

impl GpuOp for PositionsOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let y = gpu.output(x.shape(), x.dtype())?;
        let n = x.elem_count();
        let args = [
            x.into(),
            (&self.table).into(),
            (&y).into(),
            long(n).into(),
            int(self.table.elem_count())?.into(),
        ];
        gpu.each(("add_table", x.dtype()), n, &args)?;
        Ok(y)
    }
}

impl GpuOp for GluOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let (b, n, packed) = x.dims3()?;
        let width = packed / 2;
        let y = gpu.output((b, n, width), x.dtype())?;
        let total = y.elem_count();
        let args = [
            x.into(),
            (&y).into(),
            long(total).into(),
            int(width)?.into(),
            self.act.into(),
        ];
        gpu.each(("glu", x.dtype()), total, &args)?;
        Ok(y)
    }
}

/// Sequences `(b, n, d)`, each mixed by one of `mixes`, which are of one length.
pub fn mix<'a>(
    x: &Tensor,
    mixes: impl Iterator<Item = &'a Mix> + Clone,
    gpu: &Gpu,
) -> Result<Tensor> {
    let (b, n, d) = x.dims3()?;
    let tokens = mixes.clone().next().map_or(0, Mix::len);
    let (mut ends, mut sources, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for (sequence, mix) in mixes.enumerate() {
        for i in 0..mix.len() {
            for (source, weight) in mix.taps(i) {
                sources.push((sequence * n) as u32 + source);
                weights.push(*weight);
            }
            ends.push(sources.len() as u32);
        }
    }
    let (ends, sources, weights) = (
        Tensor::new(ends, &gpu.device)?,
        Tensor::new(sources, &gpu.device)?,
        Tensor::new(weights, &gpu.device)?,
    );
    let x = x.contiguous()?;
    let y = gpu.output((b, tokens, d), x.dtype())?;
    let total = y.elem_count();
    let args = [
        (&x).into(),
        (&ends).into(),
        (&sources).into(),
        (&weights).into(),
        (&y).into(),
        long(total).into(),
        int(d)?.into(),
    ];
    gpu.each(("mix", x.dtype()), total, &args)?;
    Ok(y)
}
