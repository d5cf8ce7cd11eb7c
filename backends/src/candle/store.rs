//! Parameters on the device, in the form the kernels read.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Tensor, WithDType};
use half::{bf16, f16};
use rayon::prelude::*;

use super::gpu;
use super::kernels::blocks::BlockMatrix;
use super::kernels::depthwise::pack_weight;
use super::kernels::element::Element;
use super::kernels::packed::Packing;
use super::ops::Place;
use crate::blocks::BlockType;
use crate::blocks::mix::BlockMix;
use crate::error::{Error, Result};
use crate::params::{ParamKind, ParamSpec};
use crate::weights::{HostData, HostTensor, Part, WeightSource};

/// A matrix `(cols, width)` that products read.
#[derive(Clone)]
pub struct Matrix {
    /// Its scalars.
    pub form: Form,
    /// Output features.
    pub cols: usize,
    /// Input features; `k * k * in` of a convolution, in that order.
    pub width: usize,
}

/// How the scalars of a matrix are held.
#[derive(Clone)]
pub enum Form {
    /// At the precision of activations, packed for this level: as
    /// [`Packing::pack`] leaves it.
    Packed(Tensor, Packing),
    /// On a GPU, row after row.
    Dense(Tensor),
    /// In blocks.
    Blocks(Arc<BlockMatrix>),
}

/// A parameter as the kernels read it.
enum Param {
    /// A table, scale or bias in its canonical shape, or a depthwise kernel
    /// packed by [`pack_weight`], on a GPU by [`gpu::weight_of`].
    Plain(Tensor),
    /// The weight of a linear layer or dense convolution.
    Matrix(Matrix),
}

/// The parameters of one part of a model by canonical name. Each is held once.
#[derive(Clone, Default)]
pub struct Params {
    params: Arc<HashMap<String, Param>>,
    bytes: u64,
    place: Place,
}

/// How parameters are to be held.
pub struct Storage<'a> {
    /// Precision of activations, and of what is not in blocks.
    pub dtype: DType,
    /// Types of a quantised decoder's matrices.
    pub mix: Option<&'a BlockMix>,
    /// Where.
    pub place: &'a Place,
}

impl Params {
    /// No parameters, for values that are in a place.
    pub fn none(place: &Place) -> Params {
        Params {
            place: place.clone(),
            ..Params::default()
        }
    }

    /// Where they are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Pulls every parameter of `part` from a source and prepares it. Must run
    /// on the engine's threads, whose level the packing is for.
    pub fn load(
        source: &dyn WeightSource,
        part: Part,
        specs: &[ParamSpec],
        storage: &Storage<'_>,
    ) -> Result<Params> {
        let Storage { dtype, place, .. } = *storage;
        let mix = storage.mix.filter(|_| part == Part::Decoder);
        let mut params = HashMap::with_capacity(specs.len());
        let mut bytes = 0;
        for spec in specs {
            let host = source.get(part, spec)?;
            let segments = mix.and_then(|mix| mix.segments(spec));
            let host = match (host.data, &segments) {
                (HostData::Blocks(blocks), None) => HostTensor {
                    data: HostData::F32(blocks.to_f32().into()),
                    ..host
                },
                (data, _) => HostTensor { data, ..host },
            };
            let param = match dtype {
                _ if let Some(segments) = segments => in_blocks(spec, &host, &segments)?,
                DType::F32 => prepare::<f32>(spec, &host, place)?,
                DType::F16 => prepare::<f16>(spec, &host, place)?,
                DType::BF16 => prepare::<bf16>(spec, &host, place)?,
                other => {
                    return Err(Error::Unavailable {
                        what: format!("precision {other:?}"),
                        why: "the candle engine computes in f32, f16 or bf16".into(),
                    });
                }
            };
            drop(host);
            source.done(part, spec);
            bytes += match &param {
                Param::Matrix(Matrix {
                    form: Form::Blocks(blocks),
                    ..
                }) => blocks.bytes(),
                Param::Plain(tensor)
                | Param::Matrix(Matrix {
                    form: Form::Packed(tensor, _) | Form::Dense(tensor),
                    ..
                }) => (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64,
            };
            params.insert(spec.name.clone(), param);
        }
        Ok(Params {
            params: Arc::new(params),
            bytes,
            place: place.clone(),
        })
    }

    /// The table, scale, bias or depthwise kernel of a canonical name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        match self.params.get(name) {
            Some(Param::Plain(tensor)) => Ok(tensor),
            _ => Err(missing(name)),
        }
    }

    /// The matrix of a canonical name, if it is one.
    pub fn matrix(&self, name: &str) -> Result<&Matrix> {
        match self.params.get(name) {
            Some(Param::Matrix(matrix)) => Ok(matrix),
            _ => Err(missing(name)),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn missing(name: &str) -> Error {
    Error::MissingParam {
        name: name.to_string(),
    }
}

fn prepare<T: Element + WithDType>(
    spec: &ParamSpec,
    host: &HostTensor<'_>,
    place: &Place,
) -> Result<Param> {
    let shape = spec.shape.as_slice();
    match (spec.kind, shape) {
        (ParamKind::Depthwise, [channels, _, kernel, _]) => {
            let pack = match place {
                Place::Cpu => pack_weight,
                Place::Gpu(_) => gpu::weight_of,
            };
            let packed = pack(&host.data.to_f32(), *channels, *kernel);
            let len = packed.len();
            let packed = Tensor::from_vec(packed, len, place.device())?;
            Ok(Param::Plain(packed))
        }
        (ParamKind::Linear, [cols, width]) => {
            matrix::<T>(*cols, *width, place, |col, from, dst| {
                read(&host.data, col * width + from, 1, dst);
            })
        }
        (ParamKind::Conv, [cols, channels, kernel, _]) => {
            // From (in, k, k) to (k, k, in).
            let area = kernel * kernel;
            let width = area * channels;
            matrix::<T>(*cols, width, place, |col, from, dst| {
                let mut at = 0;
                while at < dst.len() {
                    let (tap, channel) = ((from + at) / channels, (from + at) % channels);
                    let n = (channels - channel).min(dst.len() - at);
                    let first = col * width + channel * area + tap;
                    read(&host.data, first, area, &mut dst[at..at + n]);
                    at += n;
                }
            })
        }
        (ParamKind::Table | ParamKind::Bias | ParamKind::Scale, _) => {
            let mut values = vec![T::ZERO; spec.elements()];
            read(&host.data, 0, 1, &mut values);
            let values = Tensor::from_vec(values, shape, place.device())?;
            Ok(Param::Plain(values))
        }
        (kind, _) => Err(Error::Shape {
            op: "load",
            name: spec.name.clone(),
            expected: format!("the dimensions of a {kind:?} weight"),
            got: format!("{shape:?}"),
        }),
    }
}

fn matrix<T: Element + WithDType>(
    cols: usize,
    width: usize,
    place: &Place,
    fill: impl Fn(usize, usize, &mut [T]) + Sync,
) -> Result<Param> {
    let form = match place {
        Place::Cpu => {
            let packing = Packing::of::<T>();
            let packed = packing.pack(cols, width, fill);
            let len = packed.len();
            Form::Packed(Tensor::from_vec(packed, len, place.device())?, packing)
        }
        Place::Gpu(gpu) => {
            let mut rows = vec![T::ZERO; cols * width];
            let each = rows.par_chunks_exact_mut(width).enumerate();
            each.for_each(|(col, row)| fill(col, 0, row));
            Form::Dense(Tensor::from_vec(rows, (cols, width), gpu.device())?)
        }
    };
    Ok(Param::Matrix(Matrix { form, cols, width }))
}

/// A matrix in blocks: those of the source if it has any, else quantised to
/// these types.
fn in_blocks(
    spec: &ParamSpec,
    host: &HostTensor<'_>,
    segments: &[(BlockType, usize)],
) -> Result<Param> {
    let width = spec.shape[1];
    let matrix = match &host.data {
        HostData::Blocks(blocks) => {
            let types: Vec<_> = blocks.segments.iter().map(|s| (s.kind, s.rows)).collect();
            let before = |first: &mut usize, (_, rows): &(BlockType, usize)| {
                *first += rows;
                Some(*first - rows)
            };
            let firsts: Vec<usize> = types.iter().scan(0, before).collect();
            BlockMatrix::pack(width, &types, |kind, rows, dst| {
                let at = firsts.partition_point(|first| *first <= rows.start) - 1;
                let from = (rows.start - firsts[at]) * kind.row_bytes(width);
                let len = dst.len();
                dst.copy_from_slice(&blocks.segments[at].bytes[from..from + len]);
                Ok(())
            })?
        }
        data => BlockMatrix::pack(width, segments, |kind, rows, dst| {
            let mut values = vec![0.0; rows.len() * width];
            read(data, rows.start * width, 1, &mut values);
            kind.quantise(&values, dst)
        })?,
    };
    Ok(Param::Matrix(Matrix {
        cols: matrix.cols,
        width,
        form: Form::Blocks(Arc::new(matrix)),
    }))
}

/// Converts every `step`-th scalar from `at` on into `dst`.
fn read<T: Element>(data: &HostData<'_>, at: usize, step: usize, dst: &mut [T]) {
    fn convert<S: Element, T: Element>(src: &[S], step: usize, dst: &mut [T]) {
        const RUN: usize = 256;
        let mut wide = [0.0; RUN];
        for (i, dst) in dst.chunks_mut(RUN).enumerate() {
            let src = src[i * RUN * step..].iter().step_by(step);
            for (w, s) in wide[..dst.len()].iter_mut().zip(src) {
                *w = s.get();
            }
            T::narrow(&wide[..dst.len()], dst);
        }
    }
    match data {
        HostData::F32(x) => convert(&x[at..], step, dst),
        HostData::F16(x) => convert(&x[at..], step, dst),
        HostData::BF16(x) => convert(&x[at..], step, dst),
        // Whoever reads scalar by scalar has dequantised them before.
        HostData::Blocks(x) => convert(&x.to_f32()[at..], step, dst),
    }
}
