//! Attention as two products of the vendor's library with a softmax between them,
//! and what moves queries, keys and values to where they are read.
//!
//! Scores are f32 in memory, at most [`SCORES`] of them at a time where the heads
//! can be taken one after another. Query heads that share a key are rows of one
//! product.

use candle_core::{DType, Result, Tensor};

use super::{Factor, Gpu, GpuOp, Product, WARP, int, long};
use crate::candle::custom::{AttentionOp, CachedAttentionOp, RotaryOp, WindowsOp};
use crate::candle::ops::Angles;
use crate::ops::Heads;

/// Scores of one pass: 1 GiB.
const SCORES: usize = 1 << 28;
/// Threads that a row's softmax has, as in `attention.cu`.
const SOFTMAX_THREADS: u32 = 128;

/// Queries, keys and values of a sequence, a matrix for each key head.
struct Attention<'a> {
    heads: Heads,
    /// `(rows, head_dim)`: all rows that a key head serves.
    q: Factor<'a>,
    rows: usize,
    /// `(keys, head_dim)`.
    k: Factor<'a>,
    v: Factor<'a>,
    keys: usize,
    /// As `q`.
    to: Factor<'a>,
    /// Scores of one pass, about.
    scores: usize,
    /// Queries of a head, of which the first sees so many keys and one; all see
    /// all if `None`.
    causal: Option<(usize, usize)>,
}

impl Attention<'_> {
    fn run(&self, gpu: &Gpu) -> Result<()> {
        let (batch, dim) = (self.heads.kv_heads, self.heads.head_dim);
        let dtype = self.q.tensor.dtype();
        let per_head = self.rows * self.keys;
        let at_once = (self.scores / per_head.max(1)).clamp(1, batch);
        let scores = gpu.output((at_once, self.rows, self.keys), DType::F32)?;
        let shares = gpu.output((at_once, self.rows, self.keys), dtype)?;
        let matrix = |tensor| Factor {
            tensor,
            offset: 0,
            stride: self.keys,
            step: per_head,
        };
        let (queries, past) = match self.causal {
            Some((queries, past)) => (int(queries)?, int(past)?),
            None => (1, -1),
        };
        for from in (0..batch).step_by(at_once) {
            let n = at_once.min(batch - from);
            gpu.product(&Product {
                batch: n,
                rows: self.rows,
                cols: self.keys,
                depth: dim,
                left: self.q.skip(from),
                right: self.k.skip(from),
                transposed: true,
                to: matrix(&scores),
                scale: 1.0 / (dim as f32).sqrt(),
            })?;
            let args = [
                (&scores).into(),
                (&shares).into(),
                int(self.keys)?.into(),
                queries.into(),
                past.into(),
            ];
            let grid = [int(n * self.rows)? as u32, 1, 1];
            gpu.launch(("softmax", dtype), grid, [SOFTMAX_THREADS, 1, 1], &args)?;
            gpu.product(&Product {
                batch: n,
                rows: self.rows,
                cols: dim,
                depth: self.keys,
                left: matrix(&shares),
                right: self.v.skip(from),
                transposed: false,
                to: self.to.skip(from),
                scale: 1.0,
            })?;
        }
        Ok(())
    }
}

/// Attention of `n` queries in packed rows of `x` from scalar `offset` on, to `keys`
/// keys, into rows of `y` from token `token` on.
struct Queries<'a> {
    x: &'a Tensor,
    offset: usize,
    n: usize,
    y: &'a Tensor,
    token: usize,
    /// As [`Attention::scores`].
    scores: usize,
}

impl Queries<'_> {
    fn attend(
        &self,
        (k, v): (Factor<'_>, Factor<'_>),
        keys: usize,
        heads: Heads,
        causal: bool,
        gpu: &Gpu,
    ) -> Result<()> {
        let (dim, width, n) = (heads.head_dim, heads.width(), self.n);
        let shared = heads.heads / heads.kv_heads;
        let attention = |q, to, rows, queries| Attention {
            heads,
            q,
            rows,
            k,
            v,
            keys,
            to,
            scores: self.scores,
            causal: causal.then_some((queries, keys - n)),
        };
        let each = |tensor, offset, stride, step| Factor {
            tensor,
            offset,
            stride,
            step,
        };
        let to = self.token * width;
        if n == 1 {
            // Heads of one query stand one after another, as rows.
            let q = each(self.x, self.offset, dim, shared * dim);
            let to = each(self.y, to, dim, shared * dim);
            return attention(q, to, shared, 1).run(gpu);
        }
        if shared == 1 {
            let q = each(self.x, self.offset, heads.packed(), dim);
            return attention(q, each(self.y, to, width, dim), n, n).run(gpu);
        }
        let dtype = self.x.dtype();
        let moved = |from: &Tensor, to: &Tensor, back: bool| {
            let args = [
                from.into(),
                to.into(),
                long(n * width).into(),
                int(n)?.into(),
                int(heads.packed())?.into(),
                int(dim)?.into(),
                int(heads.heads)?.into(),
                i32::from(back).into(),
            ];
            gpu.each(("heads", dtype), n * width, &args)
        };
        let rows = self.x.flatten_all()?;
        let rows = rows.narrow(0, self.offset, n * heads.packed())?;
        let q = gpu.output((heads.heads, n, dim), dtype)?;
        moved(&rows, &q, false)?;
        let out = gpu.output((heads.heads, n, dim), dtype)?;
        let part = |tensor| each(tensor, 0, dim, shared * n * dim);
        attention(part(&q), part(&out), shared * n, n).run(gpu)?;
        let y = self.y.flatten_all()?.narrow(0, to, n * width)?;
        moved(&out, &y, true)
    }
}

impl GpuOp for AttentionOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let (b, n, packed) = x.dims3()?;
        let heads = self.heads;
        let y = gpu.output((b, n, heads.width()), x.dtype())?;
        for sequence in 0..b {
            let offset = sequence * n * packed;
            let part = |before| Factor {
                tensor: x,
                offset: offset + before,
                stride: packed,
                step: heads.head_dim,
            };
            let k = part(heads.width());
            let v = part(heads.width() + heads.kv_heads * heads.head_dim);
            let queries = Queries {
                x,
                offset,
                n,
                y: &y,
                token: sequence * n,
                scores: SCORES,
            };
            queries.attend((k, v), n, heads, false, gpu)?;
        }
        Ok(y)
    }
}

impl GpuOp for CachedAttentionOp {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let (_, n, _) = x.dims3()?;
        let heads = self.heads;
        let y = gpu.output((1, n, heads.width()), x.dtype())?;
        let cached = |tensor| Factor {
            tensor,
            offset: 0,
            stride: heads.kv_heads * heads.head_dim,
            step: heads.head_dim,
        };
        let queries = Queries {
            x,
            offset: 0,
            n,
            y: &y,
            token: 0,
            scores: SCORES,
        };
        let cache = (cached(&self.keys), cached(&self.values));
        queries.attend(cache, self.len, heads, true, gpu)?;
        Ok(y)
    }
}

/// Appends the keys and values of packed rows to a cache that holds `past` rows.
pub fn append(
    qkv: &Tensor,
    (keys, values): (&Tensor, &Tensor),
    heads: Heads,
    past: usize,
    gpu: &Gpu,
) -> Result<()> {
    let qkv = qkv.contiguous()?;
    let width = heads.kv_heads * heads.head_dim;
    let n = qkv.elem_count() / heads.packed() * width;
    let args = [
        (&qkv).into(),
        keys.into(),
        values.into(),
        long(n).into(),
        int(heads.packed())?.into(),
        int(heads.width())?.into(),
        int(width)?.into(),
        long(past).into(),
    ];
    gpu.each(("append", qkv.dtype()), n, &args)
}

impl GpuOp for RotaryOp<'_> {
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let Angles::Device { cosines, sines } = self.angles else {
            candle_core::bail!("rotary angles are not on the gpu");
        };
        let heads = self.heads;
        let y = gpu.output(x.shape(), x.dtype())?;
        let first = self.positions.first().copied().unwrap_or(0);
        let in_order = (first..).zip(&self.positions).all(|(a, b)| a == *b);
        let listed = match in_order {
            true => None,
            false => {
                let positions = self.positions.iter().map(|p| *p as u32);
                Some(Tensor::from_iter(positions, &gpu.device)?)
            }
        };
        let args = [
            x.into(),
            cosines.into(),
            sines.into(),
            listed.as_ref().into(),
            (&y).into(),
            long(x.elem_count()).into(),
            int(heads.packed())?.into(),
            int((heads.heads + heads.kv_heads) * heads.head_dim)?.into(),
            int(heads.head_dim)?.into(),
            int(first)?.into(),
        ];
        gpu.each(("rotary", x.dtype()), x.elem_count(), &args)?;
        Ok(y)
    }
}

impl GpuOp for WindowsOp {
    fn on_gpu(&self, q: &Tensor, gpu: &Gpu) -> Result<Tensor> {
        let (b, n, width) = q.dims3()?;
        let joined = |parts: &[Tensor]| Tensor::cat(parts, 1)?.contiguous();
        let (keys, values) = (joined(&self.keys)?, joined(&self.values)?);
        let m = keys.dim(1)?;
        let dim = width / self.heads.max(1);
        if dim > 256 {
            candle_core::bail!("heads of {dim} are wider than cross attention takes: 256");
        }
        let hidden = match &self.hidden {
            None => None,
            Some(hidden) => {
                let hidden: Vec<u8> = hidden.iter().map(|h| u8::from(*h)).collect();
                Some(Tensor::new(hidden, &gpu.device)?)
            }
        };
        let y = gpu.output(q.shape(), q.dtype())?;
        let args = [
            q.into(),
            (&keys).into(),
            (&values).into(),
            hidden.as_ref().into(),
            (&y).into(),
            int(n)?.into(),
            int(m)?.into(),
            int(self.heads)?.into(),
            int(dim)?.into(),
            (1.0 / (dim as f32).sqrt()).into(),
        ];
        let blocks = int(b * n * self.heads)? as u32;
        gpu.launch(("windows", q.dtype()), [blocks, 1, 1], [WARP, 1, 1], &args)?;
        Ok(y)
    }
}

#[cfg(all(test, feature = "cuda-emulated"))]
mod tests {
    use super::*;
    use crate::candle::gpu;

    #[test]
    fn heads_one_after_another_are_heads_all_at_once() {
        let gpu = gpu::open("cuda-emulated").unwrap().unwrap();
        let (n, keys) = (5, 7);
        for (heads, kv_heads) in [(4, 4), (6, 2)] {
            let heads = Heads {
                heads,
                kv_heads,
                head_dim: 8,
            };
            let wave = |n: usize, width: usize| {
                let values = (0..n * width).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0);
                Tensor::from_iter(values, gpu.device()).unwrap()
            };
            let x = wave(n, heads.packed());
            let (k, v) = (wave(keys, kv_heads * 8), wave(keys, kv_heads * 8));
            let cached = |tensor| Factor {
                tensor,
                offset: 0,
                stride: kv_heads * 8,
                step: 8,
            };
            let attended = |scores| -> Vec<f32> {
                let y = gpu.output((n, heads.width()), DType::F32).unwrap();
                let queries = Queries {
                    x: &x,
                    offset: 0,
                    n,
                    y: &y,
                    token: 0,
                    scores,
                };
                let cache = (cached(&k), cached(&v));
                queries.attend(cache, keys, heads, true, &gpu).unwrap();
                y.flatten_all().unwrap().to_vec1().unwrap()
            };
            assert_eq!(attended(SCORES), attended(1));
        }
    }
}
