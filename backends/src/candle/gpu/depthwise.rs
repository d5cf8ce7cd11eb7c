//! Depthwise convolution.

use candle_core::{Result, Tensor};

use super::{Gpu, GpuOp, int, long};
use crate::candle::custom::DepthwiseOp;

/// Positions that a thread makes where the kernel's size is known to the compiler.
const TILE: usize = 4;

/// A depthwise kernel `(out, 1, k, k)` as ours read it: `(k, k, out)`.
pub fn weight_of(weight: &[f32], outputs: usize, kernel: usize) -> Vec<f32> {
    let area = kernel * kernel;
    let taps = (0..area).flat_map(|tap| (0..outputs).map(move |o| weight[o * area + tap]));
    taps.collect()
}

impl GpuOp for DepthwiseOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let g = self.geometry(x.dims());
        let (oh, ow) = (g.out_side(g.height), g.out_side(g.width));
        let outputs = g.out_channels();
        let (kernel, channels, tile) = match (g.kernel, g.stride) {
            (3 | 7, 1 | 2) => {
                let pairs = g.multiplier == 1 && g.channels.is_multiple_of(2);
                let n = if pairs { 2 } else { 1 };
                (format!("depthwise_k{}s{}n{n}", g.kernel, g.stride), n, TILE)
            }
            _ => ("depthwise_k0s0n1".to_owned(), 1, 1),
        };
        let y = gpu.output((g.batch, oh, ow, outputs), x.dtype())?;
        let work = g.batch * oh * ow.div_ceil(tile) * (outputs / channels);
        let args = [
            x.into(),
            (&self.weight).into(),
            (&self.bias).into(),
            (&y).into(),
            long(work).into(),
            int(g.height)?.into(),
            int(g.width)?.into(),
            int(g.channels)?.into(),
            int(oh)?.into(),
            int(ow)?.into(),
            int(outputs)?.into(),
            int(g.multiplier)?.into(),
            int(g.padding)?.into(),
            self.act.into(),
            int(g.kernel)?.into(),
            int(g.stride)?.into(),
        ];
        gpu.each((&kernel, x.dtype()), work, &args)?;
        Ok(y)
    }
}
