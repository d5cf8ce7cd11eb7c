//! The interpreter that computes: [`Ops`] over candle tensors.
//!
//! Maps are stored `(batch, height, width, channels)`, tokens
//! `(batch, tokens, dim)`, so the step between them is a reshape.

use candle_core::{D, DType, Device, Tensor};

use super::custom::{
    self, AttentionOp, CachedAttentionOp, ConvOp, CpuOp, DepthwiseOp, GateOp, GluOp, LinearOp,
    LookupOp, MeanOp, MlpOp, NormOp, PoolOp, PositionsOp, RotaryOp, WindowsOp,
};
use super::gpu::{self, Gpu, GpuOp};
use super::kernels::norm::Kind;
use super::kernels::rotary::RotaryTable;
use super::store::{Form, Matrix, Params};
use crate::error::{Error, Result};
use crate::mix::Mix;
use crate::nets::{DecoderConfig, Past};
use crate::ops::{Act, Conv, Depthwise, Embedding, Heads, Linear, Norm, Ops, Pool, Shape, Take};
use crate::reduce::{self, Reducer};

/// Precision of activations beside matrices in blocks.
const IN_BLOCKS: DType = DType::BF16;

/// Keys and values of every layer.
pub struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    capacity: usize,
    past: Past,
}

impl KvCache {
    /// Allocates `capacity` positions for every layer of a decoder, less `dropped` for
    /// those behind where visual tokens are dropped.
    pub fn new(
        config: &DecoderConfig,
        capacity: usize,
        dropped: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<KvCache> {
        let full = Past {
            dropped,
            ..config.past(capacity, [])
        };
        let width = config.kv_heads * config.head_dim;
        let rows = |layer| zeros(full.at(layer), width, dtype, device);
        let layers = (0..config.layers).map(|layer| Ok((rows(layer)?, rows(layer)?)));
        Ok(KvCache {
            layers: layers.collect::<Result<_>>()?,
            capacity,
            past: config.past(0, []),
        })
    }

    /// What it holds.
    pub fn past(&self) -> Past {
        self.past
    }

    /// Positions of the longest sequence.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all positions and makes room for a sequence of which `dropped` will be
    /// dropped; the memory stays.
    pub fn clear(&mut self, dropped: usize) -> Result<()> {
        self.past.positions = 0;
        self.past.dropped = 0;
        let full = Past {
            positions: self.capacity,
            dropped,
            ..self.past
        };
        for (layer, (keys, values)) in self.layers.iter_mut().enumerate() {
            let (rows, width) = keys.dims2()?;
            if rows < full.at(layer) {
                let more = || zeros(full.at(layer), width, keys.dtype(), keys.device());
                (*keys, *values) = (more()?, more()?);
            }
        }
        Ok(())
    }

    /// Makes the `n` positions that a forward pass has seen count, of which it has
    /// dropped some.
    pub fn advance(&mut self, n: usize, dropped: usize) {
        self.past.positions += n;
        self.past.dropped += dropped;
    }
}

/// Room for keys or values.
fn zeros(rows: usize, width: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    Ok(Tensor::zeros((rows, width), dtype, device)?)
}

/// Where tensors are, and with whose operations.
#[derive(Clone, Default)]
pub enum Place {
    /// In the host's memory, with our kernels for its CPU.
    #[default]
    Cpu,
    /// On a GPU.
    Gpu(Gpu),
}

impl Place {
    /// As candle has it.
    pub fn device(&self) -> &Device {
        match self {
            Place::Cpu => &Device::Cpu,
            Place::Gpu(gpu) => gpu.device(),
        }
    }

    /// Work begins whose time a GPU is to tell.
    pub fn begin(&self) -> Result<()> {
        match self {
            Place::Cpu => Ok(()),
            Place::Gpu(gpu) => Ok(gpu.runtime().begin()?),
        }
    }

    /// It has all been asked for.
    pub fn end(&self) -> Result<()> {
        match self {
            Place::Cpu => Ok(()),
            Place::Gpu(gpu) => Ok(gpu.runtime().end()?),
        }
    }

    /// The GPU, if it is one.
    pub fn gpu(&self) -> Option<&Gpu> {
        match self {
            Place::Cpu => None,
            Place::Gpu(gpu) => Some(gpu),
        }
    }
}

/// Rotary angles where the tensors are.
pub enum Angles {
    /// For our kernels.
    Host(RotaryTable),
    /// Cosines and sines `(positions, head_dim / 2)`, f32.
    Device {
        /// Cosines.
        cosines: Tensor,
        /// Sines.
        sines: Tensor,
    },
}

impl Angles {
    /// Those of a table.
    pub fn new(table: RotaryTable, place: &Place) -> Result<Angles> {
        match place {
            Place::Cpu => Ok(Angles::Host(table)),
            Place::Gpu(gpu) => Ok(Angles::Device {
                cosines: Tensor::new(table.cosines(), gpu.device())?,
                sines: Tensor::new(table.sines(), gpu.device())?,
            }),
        }
    }
}

/// What a decoder needs beside its parameters.
pub struct DecoderState<'a> {
    /// Keys and values so far.
    pub cache: &'a KvCache,
    /// Rotary angles for every position of the cache.
    pub angles: &'a Angles,
}

/// The interpreter over the parameters of one part.
pub struct CandleOps<'a> {
    params: &'a Params,
    /// What names of parameters follow.
    scope: String,
    decoder: Option<DecoderState<'a>>,
    /// Of the decoder's tokens, once a layer has asked.
    positions: Option<Vec<usize>>,
}

impl<'a> CandleOps<'a> {
    /// For an encoder or a projector.
    pub fn new(params: &'a Params) -> CandleOps<'a> {
        CandleOps {
            params,
            scope: String::new(),
            decoder: None,
            positions: None,
        }
    }

    /// For a decoder.
    pub fn with_state(params: &'a Params, state: DecoderState<'a>) -> CandleOps<'a> {
        CandleOps {
            params,
            scope: String::new(),
            decoder: Some(state),
            positions: None,
        }
    }

    /// Applies an operation where the tensors are.
    fn apply<O: CpuOp + GpuOp>(&self, x: &Tensor, op: O) -> Result<Tensor> {
        let x = x.contiguous()?;
        match self.params.place() {
            Place::Cpu => Ok(custom::apply(&x, op)?),
            Place::Gpu(gpu) => Ok(op.on_gpu(&x, gpu)?),
        }
    }

    /// A parameter by its name in the scope.
    fn param(&self, name: &str) -> Result<Tensor> {
        Ok(self.params.get(&format!("{}{name}", self.scope))?.clone())
    }

    fn weight(&self, name: &str) -> Result<Tensor> {
        self.param(&format!("{name}.weight"))
    }

    fn matrix(&self, name: &str) -> Result<Matrix> {
        Ok(self
            .params
            .matrix(&format!("{}{name}.weight", self.scope))?
            .clone())
    }

    fn layer(&self, p: &Linear, residual: Option<&Tensor>) -> Result<LinearOp> {
        Ok(LinearOp {
            weight: self.matrix(&p.name)?,
            bias: self.bias(&p.name, p.bias)?,
            residual: residual.map(|r| r.contiguous()).transpose()?,
            act: p.act,
        })
    }

    fn bias(&self, name: &str, wanted: bool) -> Result<Option<Tensor>> {
        if !wanted {
            return Ok(None);
        }
        self.param(&format!("{name}.bias")).map(Some)
    }

    fn state(&self, op: &'static str) -> Result<&DecoderState<'a>> {
        self.decoder.as_ref().ok_or_else(|| Error::Shape {
            op,
            name: "cache".into(),
            expected: "a decoder with a KV cache".into(),
            got: "a network without one".into(),
        })
    }

    fn norm(&mut self, x: &Tensor, p: &Norm, kind: Kind) -> Result<Tensor> {
        let op = NormOp {
            weight: self.weight(&p.name)?,
            bias: self.bias(&p.name, kind == Kind::Layer)?,
            kind,
            eps: p.eps,
            act: p.act,
        };
        expect("norm", &p.name, p.dim, x)?;
        self.apply(x, op)
    }
}

/// Checks the last axis of an operand.
fn expect(op: &'static str, name: &str, channels: usize, x: &Tensor) -> Result<()> {
    let got = x.dims().last().copied().unwrap_or(0);
    if got == channels {
        return Ok(());
    }
    Err(Error::Shape {
        op,
        name: name.into(),
        expected: format!("{channels} channels"),
        got: format!("{:?}", x.dims()),
    })
}

/// Rows of a matrix: `(1, ids, width)`.
fn lookup(table: Matrix, ids: &[u32]) -> Result<Tensor> {
    let (cols, width) = (table.cols, table.width);
    match table.form {
        Form::Packed(packed, packing) => {
            let ids = ids.to_vec();
            let op = LookupOp {
                ids,
                cols,
                width,
                packing,
            };
            Ok(custom::apply(&packed, op)?)
        }
        Form::Dense(table) => {
            let ids = Tensor::new(ids, table.device())?;
            Ok(table.index_select(&ids, 0)?.unsqueeze(0)?)
        }
        Form::Blocks(blocks) => {
            let mut rows = vec![0.0; ids.len() * width];
            for (id, row) in ids.iter().zip(rows.chunks_exact_mut(width)) {
                blocks.unpack_row(*id as usize, row);
            }
            let rows = Tensor::from_vec(rows, (1, ids.len(), width), &Device::Cpu)?;
            Ok(rows.to_dtype(IN_BLOCKS)?)
        }
    }
}

/// Scalars in row-major order.
fn on_host(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
}

/// Sequences `(b, n, d)`, each mixed by one of `mixes`, which are of one length.
fn mixed<'a>(
    x: &Tensor,
    mixes: impl Iterator<Item = &'a Mix> + Clone,
    place: &Place,
) -> Result<Tensor> {
    if let Place::Gpu(gpu) = place {
        return Ok(gpu::mix(x, mixes, gpu)?);
    }
    let (b, n, d) = x.dims3()?;
    let tokens = mixes.clone().next().map_or(0, Mix::len);
    // Weights of taps are not the network's, and sums are in f32 like all of ours.
    let rows = on_host(x)?;
    let rows = rows.chunks_exact(n * d).zip(mixes);
    let rows = rows.flat_map(|(rows, mix)| mix.apply(rows, d)).collect();
    let mixed = Tensor::from_vec(rows, (b, tokens, d), x.device())?;
    Ok(mixed.to_dtype(x.dtype())?)
}

impl Ops for CandleOps<'_> {
    type V = Tensor;

    fn shape(&self, x: &Tensor) -> Shape {
        match *x.dims() {
            [b, h, w, c] => Shape::Map { b, c, h, w },
            [b, n, d] => Shape::Tokens { b, n, d },
            _ => unreachable!("values have three or four axes"),
        }
    }

    fn scope(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
    }

    fn synchronize(&self) -> Result<()> {
        Ok(self.params.place().device().synchronize()?)
    }

    fn conv(&mut self, x: &Tensor, p: &Conv) -> Result<Tensor> {
        expect("conv", &p.name, p.c_in, x)?;
        let op = ConvOp {
            layer: LinearOp {
                weight: self.matrix(&p.name)?,
                bias: self.bias(&p.name, p.bias)?,
                residual: None,
                act: p.act,
            },
            kernel: p.kernel,
            stride: p.stride,
            padding: p.padding,
        };
        self.apply(x, op)
    }

    fn depthwise(&mut self, x: &Tensor, p: &Depthwise) -> Result<Tensor> {
        expect("depthwise", &p.name, p.channels, x)?;
        let op = DepthwiseOp {
            weight: self.weight(&p.name)?,
            bias: self.param(&format!("{}.bias", p.name))?,
            multiplier: p.multiplier,
            kernel: p.kernel,
            stride: p.stride,
            padding: p.padding,
            act: p.act,
        };
        self.apply(x, op)
    }

    fn linear(&mut self, x: &Tensor, p: &Linear, residual: Option<&Tensor>) -> Result<Tensor> {
        expect("linear", &p.name, p.d_in, x)?;
        let op = self.layer(p, residual)?;
        self.apply(x, op)
    }

    fn mlp(
        &mut self,
        x: &Tensor,
        first: &Linear,
        second: &Linear,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        expect("mlp", &first.name, first.d_in, x)?;
        let op = MlpOp {
            first: self.layer(first, None)?,
            second: self.layer(second, residual)?,
        };
        self.apply(x, op)
    }

    fn layer_norm(&mut self, x: &Tensor, p: &Norm) -> Result<Tensor> {
        self.norm(x, p, Kind::Layer)
    }

    fn rms_norm(&mut self, x: &Tensor, p: &Norm) -> Result<Tensor> {
        self.norm(x, p, Kind::Rms)
    }

    fn global_mean(&mut self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, MeanOp)
    }

    fn average_pool(&mut self, x: &Tensor, p: Pool) -> Result<Tensor> {
        let (_, h, w, _) = x.dims4()?;
        let output = (p.out_side(h)?, p.out_side(w)?);
        self.apply(x, PoolOp { windows: p, output })
    }

    fn gate_channels(&mut self, x: &Tensor, gate: &Tensor, act: Act) -> Result<Tensor> {
        let gate = gate.contiguous()?;
        self.apply(x, GateOp { gate, act })
    }

    fn to_tokens(&mut self, x: &Tensor) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        Ok(x.reshape((b, h * w, c))?)
    }

    fn to_map(&mut self, x: &Tensor, h: usize, w: usize) -> Result<Tensor> {
        let (b, _, c) = x.dims3()?;
        Ok(x.reshape((b, h, w, c))?)
    }

    fn prepend_token(&mut self, x: &Tensor, name: &str) -> Result<Tensor> {
        let (b, _, d) = x.dims3()?;
        let token = self.param(name)?.reshape((1, 1, d))?;
        Ok(Tensor::cat(&[&token.broadcast_as((b, 1, d))?, x], 1)?)
    }

    fn add_positions(&mut self, x: &Tensor, name: &str) -> Result<Tensor> {
        let (_, n, d) = x.dims3()?;
        let table = self.param(name)?.reshape((n, d))?;
        self.apply(x, PositionsOp { table })
    }

    fn take_tokens(&mut self, x: &Tensor, take: Take) -> Result<Tensor> {
        let (_, n, _) = x.dims3()?;
        let (start, len) = take.range(n)?;
        Ok(x.narrow(1, start, len)?.contiguous()?)
    }

    fn concat_channels(&mut self, xs: &[Tensor]) -> Result<Tensor> {
        Ok(Tensor::cat(xs, D::Minus1)?)
    }

    fn concat_tokens(&mut self, xs: &[Tensor]) -> Result<Tensor> {
        Ok(Tensor::cat(xs, 1)?)
    }

    fn regroup(&mut self, x: &Tensor, batch: usize) -> Result<Tensor> {
        let (b, n, d) = x.dims3()?;
        Ok(x.reshape((batch, b * n / batch.max(1), d))?)
    }

    fn mix_tokens(&mut self, x: &Tensor, mix: &Mix) -> Result<Tensor> {
        let (b, n, _) = x.dims3()?;
        mix.check(n)?;
        mixed(x, std::iter::repeat_n(mix, b), self.params.place())
    }

    fn reduce_tokens(
        &mut self,
        x: &Tensor,
        clue: &Tensor,
        heads: Heads,
        by: &dyn Reducer,
    ) -> Result<Tensor> {
        expect("reduce tokens", "clue", heads.packed(), clue)?;
        let (_, n, _) = x.dims3()?;
        let mixes = reduce::mixes(&on_host(clue)?, n, heads, by);
        if let (Some(positions), [mix]) = (&mut self.positions, mixes.as_slice()) {
            // What is left of a decoder's tokens are some of them.
            let kept = (0..mix.len()).map(|i| mix.taps(i)[0].0 as usize);
            *positions = kept.map(|source| positions[source]).collect();
        }
        mixed(x, mixes.iter(), self.params.place())
    }

    fn embed(&mut self, ids: &[u32], p: &Embedding) -> Result<Tensor> {
        p.check(ids)?;
        if let Ok(table) = self.matrix(&p.name) {
            // Tied embeddings are held once, as the output head reads them.
            return lookup(table, ids);
        }
        let table = self.weight(&p.name)?;
        let ids = Tensor::new(ids, table.device())?;
        Ok(table.index_select(&ids, 0)?.unsqueeze(0)?)
    }

    fn rotary(&mut self, qkv: &Tensor, heads: Heads, _theta: f32) -> Result<Tensor> {
        let (_, n, _) = qkv.dims3()?;
        let state = self.state("rotary")?;
        let (angles, first) = (state.angles, state.cache.past().positions);
        let positions = (self.positions).get_or_insert_with(|| (first..first + n).collect());
        let op = RotaryOp {
            angles,
            heads,
            positions: positions.clone(),
        };
        self.apply(qkv, op)
    }

    fn attention(&mut self, qkv: &Tensor, heads: Heads) -> Result<Tensor> {
        expect("attention", "qkv", heads.packed(), qkv)?;
        self.apply(qkv, AttentionOp { heads })
    }

    fn cross_attention(
        &mut self,
        q: &Tensor,
        keys: &[Tensor],
        values: &[Tensor],
        heads: usize,
        hidden: Option<&[bool]>,
    ) -> Result<Tensor> {
        let contiguous = |all: &[Tensor]| -> candle_core::Result<Vec<Tensor>> {
            all.iter().map(Tensor::contiguous).collect()
        };
        let op = WindowsOp {
            keys: contiguous(keys)?,
            values: contiguous(values)?,
            heads,
            hidden: hidden.map(<[bool]>::to_vec),
        };
        self.apply(q, op)
    }

    fn cached_attention(&mut self, qkv: &Tensor, heads: Heads, layer: usize) -> Result<Tensor> {
        expect("attention", "qkv", heads.packed(), qkv)?;
        let cache = self.state("cached attention")?.cache;
        let (_, n, _) = qkv.dims3()?;
        let past = cache.past().at(layer);
        let (keys, values) = &cache.layers[layer];
        match self.params.place() {
            Place::Gpu(gpu) => gpu::append(qkv, (keys, values), heads, past, gpu)?,
            Place::Cpu => {
                let kv = heads.kv_heads * heads.head_dim;
                let part = |offset| qkv.narrow(2, offset, kv)?.squeeze(0)?.contiguous();
                keys.slice_set(&part(heads.width())?, 0, past)?;
                values.slice_set(&part(heads.width() + kv)?, 0, past)?;
            }
        }
        let op = CachedAttentionOp {
            heads,
            keys: keys.clone(),
            values: values.clone(),
            len: past + n,
        };
        self.apply(qkv, op)
    }

    fn glu(&mut self, gate_up: &Tensor, act: Act) -> Result<Tensor> {
        self.apply(gate_up, GluOp { act })
    }
}
