//! Parameters on the device, in the form the kernels read.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use super::kernels::depthwise::pack_weight;
use crate::error::{Error, Result};
use crate::params::{ParamKind, ParamSpec};
use crate::weights::{HostData, HostTensor, Part, WeightSource};

/// The parameters of one part of a model by canonical name.
///
/// Depthwise kernels are packed for the kernel ([`pack_weight`]) and dense
/// convolution kernels reordered to `(out, k, k, in)`; all else keeps its
/// canonical shape.
#[derive(Clone, Default)]
pub struct Params {
    tensors: Arc<HashMap<String, Tensor>>,
    bytes: u64,
}

impl Params {
    /// Pulls every parameter of `part` from a source and prepares it.
    pub fn load(
        source: &dyn WeightSource,
        part: Part,
        specs: &[ParamSpec],
        dtype: DType,
        device: &Device,
    ) -> Result<Params> {
        let mut tensors = HashMap::with_capacity(specs.len());
        let mut bytes = 0;
        for spec in specs {
            let host = source.get(part, spec)?;
            let tensor = prepare(spec, &host, dtype, device)?;
            bytes += (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
            tensors.insert(spec.name.clone(), tensor);
        }
        Ok(Params {
            tensors: Arc::new(tensors),
            bytes,
        })
    }

    /// The tensor of a canonical name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::MissingParam {
            name: name.to_string(),
        })
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn prepare(
    spec: &ParamSpec,
    host: &HostTensor<'_>,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    match spec.kind {
        ParamKind::Depthwise => {
            let (channels, kernel) = (spec.shape[0], spec.shape[2]);
            let packed = pack_weight(&host.data.to_f32(), channels, kernel);
            let len = packed.len();
            Ok(Tensor::from_vec(packed, len, device)?)
        }
        ParamKind::Conv => {
            let [out, c, k, _] = spec.shape[..] else {
                return Err(Error::Shape {
                    op: "conv weight",
                    name: spec.name.clone(),
                    expected: "4 dimensions".into(),
                    got: format!("{:?}", spec.shape),
                });
            };
            let t = upload(host, dtype, device)?.reshape((out, c, k, k))?;
            Ok(t.permute((0, 2, 3, 1))?.contiguous()?)
        }
        _ => upload(host, dtype, device),
    }
}

/// Copies a host tensor to the device in the given precision.
fn upload(host: &HostTensor<'_>, dtype: DType, device: &Device) -> Result<Tensor> {
    let shape = host.shape.as_slice();
    let tensor = match (&host.data, dtype) {
        (HostData::F32(x), DType::F32) => Tensor::from_slice(x, shape, device)?,
        (HostData::F16(x), DType::F16) => Tensor::from_slice(x, shape, device)?,
        (HostData::BF16(x), DType::BF16) => Tensor::from_slice(x, shape, device)?,
        (data, DType::F32) => Tensor::from_vec(data.to_f32().into_owned(), shape, device)?,
        (data, DType::F16) => {
            let x: Vec<f16> = data
                .to_f32()
                .par_iter()
                .map(|v| f16::from_f32(*v))
                .collect();
            Tensor::from_vec(x, shape, device)?
        }
        (data, DType::BF16) => {
            let x: Vec<bf16> = data
                .to_f32()
                .par_iter()
                .map(|v| bf16::from_f32(*v))
                .collect();
            Tensor::from_vec(x, shape, device)?
        }
        (_, other) => {
            return Err(Error::Unavailable {
                what: format!("precision {other:?}"),
                why: "the candle engine computes in f32, f16 or bf16".into(),
            });
        }
    };
    Ok(tensor)
}
