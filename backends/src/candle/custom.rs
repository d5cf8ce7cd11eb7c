//! Our kernels as candle custom operations.
//!
//! An operation takes one tensor as its argument and captures the others
//! (weights, residuals, caches). [`CpuOp`] is written once for all precisions;
//! [`apply`] enters it. On a GPU the same operation is a
//! [`GpuOp`](super::gpu::GpuOp).

use std::ops::Deref;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor, WithDType, bail};
use half::{bf16, f16};

use super::kernels::attention::{Sequence, View, attention};
use super::kernels::blocks::BlockMatrix;
use super::kernels::depthwise::{Geometry, depthwise};
use super::kernels::element::Element;
use super::kernels::linear::{Dense, Epilogue, Patches, Rows, Weight, linear, linear_blocks, mlp};
use super::kernels::norm::{Kind, norm};
use super::kernels::packed::Packing;
use super::kernels::pointwise::{add_table, gate, glu, row_mean};
use super::kernels::pool::average_pool;
use super::kernels::windows::{Window, windowed};
use super::ops::Angles;
use super::store::{Form, Matrix};
use crate::ops::{Act, Heads, Pool};

/// A scalar that both candle and the kernels store.
pub trait Scalar: Element + WithDType {}
impl<T: Element + WithDType> Scalar for T {}

/// An operation on the CPU in any precision.
pub trait CpuOp {
    /// Name for candle's errors.
    const NAME: &'static str;

    /// Computes the result of contiguous `x` with dimensions `dims`.
    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)>;
}

/// Applies an operation to a contiguous tensor on the CPU.
pub fn apply<O: CpuOp>(x: &Tensor, op: O) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Entry(op))
}

struct Entry<O>(O);

impl<O: CpuOp> Entry<O> {
    fn typed<T: Scalar>(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (data, shape) = self.0.run(contiguous::<T>(s, l)?, l.dims())?;
        Ok((T::to_cpu_storage_owned(data), shape))
    }
}

impl<O: CpuOp> CustomOp1 for Entry<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        match s {
            CpuStorage::F32(_) => self.typed::<f32>(s, l),
            CpuStorage::F16(_) => self.typed::<f16>(s, l),
            CpuStorage::BF16(_) => self.typed::<bf16>(s, l),
            _ => bail!("{}: precision must be f32, f16 or bf16", O::NAME),
        }
    }
}

fn contiguous<'a, T: Scalar>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = l.contiguous_offsets() else {
        bail!("operand of shape {:?} is not contiguous", l.shape());
    };
    Ok(&T::cpu_storage_as_slice(s)?[start..end])
}

/// A captured tensor, readable while this lives; `G` is candle's lock guard.
struct Read<'a, G>(G, &'a Layout);

impl<G: Deref<Target = Storage>> Read<'_, G> {
    fn slice<T: Scalar>(&self) -> Result<&[T]> {
        match &*self.0 {
            Storage::Cpu(s) => contiguous(s, self.1),
            _ => bail!("a captured tensor is not on the cpu"),
        }
    }
}

/// Opens a captured tensor for reading.
fn read(t: &Tensor) -> Read<'_, impl Deref<Target = Storage>> {
    let (guard, layout) = t.storage_and_layout();
    Read(guard, layout)
}

fn slice<'a, T: Scalar, G: Deref<Target = Storage>>(
    r: &'a Option<Read<'_, G>>,
) -> Result<Option<&'a [T]>> {
    r.as_ref().map(|r| r.slice()).transpose()
}

/// A matrix, open for reading.
enum Held<'a, G> {
    Packed(Read<'a, G>, Packing),
    Blocks(&'a BlockMatrix),
}

/// A layer's tensors, open for reading.
struct Layer<'a, G> {
    matrix: &'a Matrix,
    held: Held<'a, G>,
    bias: Option<Read<'a, G>>,
    residual: Option<Read<'a, G>>,
    act: Act,
}

impl<G: Deref<Target = Storage>> Layer<'_, G> {
    /// The weight, if it is packed.
    fn packed<T: Scalar>(&self) -> Result<Option<Weight<'_, T>>> {
        Ok(match &self.held {
            Held::Blocks(_) => None,
            Held::Packed(packed, packing) => Some(Weight {
                data: packed.slice()?,
                cols: self.matrix.cols,
                packing: *packing,
            }),
        })
    }

    fn epilogue<T: Scalar>(&self) -> Result<Epilogue<'_, T>> {
        Ok(Epilogue {
            bias: slice(&self.bias)?,
            act: self.act,
            residual: slice(&self.residual)?,
        })
    }

    /// The layer of `n` rows.
    fn apply<T: Scalar>(&self, x: &impl Rows<T>, n: usize) -> Result<Vec<T>> {
        self.fits(x.width())?;
        match (&self.held, self.packed()?, x.contiguous()) {
            (Held::Blocks(matrix), _, Some(x)) => {
                Ok(linear_blocks(x, n, matrix, &self.epilogue()?))
            }
            (_, Some(weight), _) => Ok(linear(x, n, &weight, &self.epilogue()?)),
            (_, None, _) => bail!("a convolution has no weight in blocks"),
        }
    }

    fn fits(&self, width: usize) -> Result<()> {
        if width != self.matrix.width {
            bail!(
                "rows of {width} scalars by a weight of {}",
                self.matrix.width
            );
        }
        Ok(())
    }
}

/// `act(x W^T + b) + residual` over the last axis.
pub struct LinearOp {
    /// `(out, in)`.
    pub weight: Matrix,
    /// `(out)`.
    pub bias: Option<Tensor>,
    /// Same shape as the result.
    pub residual: Option<Tensor>,
    /// Activation.
    pub act: Act,
}

impl LinearOp {
    fn open(&self) -> Result<Layer<'_, impl Deref<Target = Storage>>> {
        Ok(Layer {
            matrix: &self.weight,
            held: match &self.weight.form {
                Form::Packed(packed, packing) => Held::Packed(read(packed), *packing),
                Form::Blocks(matrix) => Held::Blocks(matrix),
                Form::Dense(_) => bail!("a weight is on the gpu, its layer is not"),
            },
            bias: self.bias.as_ref().map(read),
            residual: self.residual.as_ref().map(read),
            act: self.act,
        })
    }
}

impl CpuOp for LinearOp {
    const NAME: &'static str = "linear";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let width = dims[dims.len() - 1];
        let y = self
            .open()?
            .apply(&Dense { data: x, width }, x.len() / width)?;
        let mut shape = dims.to_vec();
        shape[dims.len() - 1] = self.weight.cols;
        Ok((y, shape.into()))
    }
}

/// Two linear layers, one after the other; the residual is the second's.
pub struct MlpOp {
    /// From the input to the hidden activation.
    pub first: LinearOp,
    /// From there to the result.
    pub second: LinearOp,
}

impl CpuOp for MlpOp {
    const NAME: &'static str = "mlp";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let width = dims[dims.len() - 1];
        let (first, second) = (self.first.open()?, self.second.open()?);
        first.fits(width)?;
        second.fits(self.first.weight.cols)?;
        let rows = x.len() / width;
        let x = Dense { data: x, width };
        let y = match (first.packed()?, second.packed()?) {
            (Some(up), Some(down)) => mlp(
                &x,
                rows,
                (&up, &first.epilogue()?),
                (&down, &second.epilogue()?),
            ),
            _ => {
                let between = first.apply(&x, rows)?;
                let width = self.first.weight.cols;
                let data = &between;
                second.apply(&Dense { data, width }, rows)?
            }
        };
        let mut shape = dims.to_vec();
        shape[dims.len() - 1] = self.second.weight.cols;
        Ok((y, shape.into()))
    }
}

/// Dense convolution of a channels-last map.
pub struct ConvOp {
    /// `(out, k * k * in)`, its bias and activation.
    pub layer: LinearOp,
    /// Kernel size.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Zero padding.
    pub padding: usize,
}

impl ConvOp {
    /// Outputs along a side.
    pub fn side(&self, input: usize) -> usize {
        (input + 2 * self.padding - self.kernel) / self.stride + 1
    }
}

impl CpuOp for ConvOp {
    const NAME: &'static str = "conv";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let (b, h, w, c) = (dims[0], dims[1], dims[2], dims[3]);
        let (oh, ow) = (self.side(h), self.side(w));
        let patches = Patches {
            data: x,
            input: (h, w, c),
            output: (oh, ow),
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        };
        let rows = b * oh * ow;
        let y = self.layer.open()?.apply(&patches, rows)?;
        Ok((y, (b, oh, ow, self.layer.weight.cols).into()))
    }
}

/// Rows of a packed matrix `(cols, width)` by index: `(1, ids, width)`.
pub struct LookupOp {
    /// Rows, all below `cols`.
    pub ids: Vec<u32>,
    /// Rows of the table.
    pub cols: usize,
    /// Scalars of a row.
    pub width: usize,
    /// How it is packed.
    pub packing: Packing,
}

impl CpuOp for LookupOp {
    const NAME: &'static str = "embed";

    fn run<T: Scalar>(&self, packed: &[T], _dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let (cols, width) = (self.cols, self.width);
        let mut rows = vec![Element::ZERO; self.ids.len() * width];
        for (id, row) in self.ids.iter().zip(rows.chunks_exact_mut(width)) {
            self.packing.unpack_row(packed, cols, *id as usize, row);
        }
        Ok((rows, (1, self.ids.len(), width).into()))
    }
}

/// Depthwise convolution of a channels-last map.
pub struct DepthwiseOp {
    /// Packed kernel, f32.
    pub weight: Tensor,
    /// `(channels * multiplier)`.
    pub bias: Tensor,
    /// Outputs per input channel.
    pub multiplier: usize,
    /// Kernel size.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Zero padding.
    pub padding: usize,
    /// Activation.
    pub act: Act,
}

impl DepthwiseOp {
    /// What it does to a map of these dimensions.
    pub fn geometry(&self, dims: &[usize]) -> Geometry {
        Geometry {
            batch: dims[0],
            height: dims[1],
            width: dims[2],
            channels: dims[3],
            multiplier: self.multiplier,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        }
    }
}

impl CpuOp for DepthwiseOp {
    const NAME: &'static str = "depthwise";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let g = self.geometry(dims);
        let (weight, bias) = (read(&self.weight), read(&self.bias));
        let y = depthwise(x, weight.slice::<f32>()?, bias.slice()?, self.act, &g);
        let (oh, ow) = (g.out_side(g.height), g.out_side(g.width));
        Ok((y, (g.batch, oh, ow, g.out_channels()).into()))
    }
}

/// Layer norm (with bias) or RMS norm (without) over the last axis.
pub struct NormOp {
    /// Weight.
    pub weight: Tensor,
    /// Bias.
    pub bias: Option<Tensor>,
    /// Which norm.
    pub kind: Kind,
    /// Epsilon.
    pub eps: f32,
    /// Activation.
    pub act: Act,
}

impl CpuOp for NormOp {
    const NAME: &'static str = "norm";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let (weight, bias) = (read(&self.weight), self.bias.as_ref().map(read));
        let scale_and_shift = (weight.slice()?, slice(&bias)?);
        let y = norm(x, scale_and_shift, self.kind, self.eps, self.act);
        Ok((y, dims.into()))
    }
}

/// Mean over height and width: `(b, h, w, c) -> (b, 1, c)`.
pub struct MeanOp;

impl CpuOp for MeanOp {
    const NAME: &'static str = "global mean";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let (b, c) = (dims[0], dims[3]);
        Ok((row_mean(x, dims[1] * dims[2], c), (b, 1, c).into()))
    }
}

/// Means over windows of a channels-last map.
pub struct PoolOp {
    /// The windows.
    pub windows: Pool,
    /// Windows down and across.
    pub output: (usize, usize),
}

impl CpuOp for PoolOp {
    const NAME: &'static str = "average pool";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let (b, h, w, c) = (dims[0], dims[1], dims[2], dims[3]);
        let y = average_pool(x, (h, w, c), self.output, self.windows);
        let (oh, ow) = self.output;
        Ok((y, (b, oh, ow, c).into()))
    }
}

/// `act(x * gate)` with one gate per image and channel.
pub struct GateOp {
    /// `(b, 1, c)`.
    pub gate: Tensor,
    /// Activation.
    pub act: Act,
}

impl CpuOp for GateOp {
    const NAME: &'static str = "gate";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let factors = read(&self.gate);
        let y = gate(x, factors.slice()?, dims[3], self.act);
        Ok((y, dims.into()))
    }
}

/// Learned positions `(n, d)` added to every sequence.
pub struct PositionsOp {
    /// `(n, d)`.
    pub table: Tensor,
}

impl CpuOp for PositionsOp {
    const NAME: &'static str = "positions";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let table = read(&self.table);
        Ok((add_table(x, table.slice()?), dims.into()))
    }
}

/// `act(gate) * up` of `[gate | up]` rows.
pub struct GluOp {
    /// Activation.
    pub act: Act,
}

impl CpuOp for GluOp {
    const NAME: &'static str = "glu";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let width = dims[2] / 2;
        Ok((glu(x, width, self.act), (dims[0], dims[1], width).into()))
    }
}

/// Rotary embedding of packed rows.
pub struct RotaryOp<'a> {
    /// Angles.
    pub angles: &'a Angles,
    /// Head layout.
    pub heads: Heads,
    /// Position of each row.
    pub positions: Vec<usize>,
}

impl CpuOp for RotaryOp<'_> {
    const NAME: &'static str = "rotary";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        if self.positions.len() != x.len() / self.heads.packed() {
            bail!("{} positions for rows {dims:?}", self.positions.len());
        }
        let Angles::Host(table) = self.angles else {
            bail!("rotary angles are on the gpu");
        };
        Ok((table.rotate(x, self.heads, &self.positions), dims.into()))
    }
}

/// Bidirectional attention of packed rows.
pub struct AttentionOp {
    /// Head layout.
    pub heads: Heads,
}

impl CpuOp for AttentionOp {
    const NAME: &'static str = "attention";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let (b, n) = (dims[0], dims[1]);
        let stride = self.heads.packed();
        let kv = self.heads.kv_heads * self.heads.head_dim;
        let sequences: Vec<Sequence<'_, T>> = x
            .chunks_exact(n * stride)
            .map(|data| {
                let view = |offset| View {
                    data,
                    offset,
                    stride,
                };
                Sequence {
                    q: view(0),
                    k: view(self.heads.width()),
                    v: view(self.heads.width() + kv),
                    queries: n,
                    keys: n,
                }
            })
            .collect();
        let y = attention(&sequences, self.heads, false);
        Ok((y, (b, n, self.heads.width()).into()))
    }
}

/// Causal attention of packed rows against a KV cache that already holds
/// their keys and values.
pub struct CachedAttentionOp {
    /// Head layout.
    pub heads: Heads,
    /// `(positions, kv_heads * head_dim)`.
    pub keys: Tensor,
    /// `(positions, kv_heads * head_dim)`.
    pub values: Tensor,
    /// Positions filled, the new rows included.
    pub len: usize,
}

impl CpuOp for CachedAttentionOp {
    const NAME: &'static str = "cached attention";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let (keys, values) = (read(&self.keys), read(&self.values));
        let stride = self.heads.kv_heads * self.heads.head_dim;
        let cached = |data| View {
            data,
            offset: 0,
            stride,
        };
        let sequence = Sequence {
            q: View {
                data: x,
                offset: 0,
                stride: self.heads.packed(),
            },
            k: cached(keys.slice()?),
            v: cached(values.slice()?),
            queries: dims[1],
            keys: self.len,
        };
        let y = attention(&[sequence], self.heads, true);
        Ok((y, (1, dims[1], self.heads.width()).into()))
    }
}

/// Attention of queries `(b, n, d)` to windows of keys of several sources.
pub struct WindowsOp {
    /// `(b, m, d)` a source.
    pub keys: Vec<Tensor>,
    /// As the keys.
    pub values: Vec<Tensor>,
    /// Heads.
    pub heads: usize,
    /// Keys that are not looked at.
    pub hidden: Option<Vec<bool>>,
}

impl CpuOp for WindowsOp {
    const NAME: &'static str = "cross attention";

    fn run<T: Scalar>(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let keys: Vec<_> = self.keys.iter().map(read).collect();
        let values: Vec<_> = self.values.iter().map(read).collect();
        let mut windows = Vec::with_capacity(keys.len());
        for ((k, v), tensor) in keys.iter().zip(&values).zip(&self.keys) {
            windows.push(Window {
                keys: k.slice()?,
                values: v.slice()?,
                n: tensor.dim(1)?,
            });
        }
        let shape = (dims[1], self.heads, dims[2]);
        let y = windowed(x, &windows, self.hidden.as_deref(), shape);
        Ok((y, dims.into()))
    }
}
