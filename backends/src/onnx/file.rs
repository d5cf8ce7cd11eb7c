//! Writing a recorded graph: the model, and its weights in the same file or
//! in one beside it.
//!
//! Weights are pulled from the source one at a time, so that a model of any
//! size is written with the memory of its largest tensor. Files appear under
//! their names only when they are complete.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use prost::Message;

use super::graph::{FUSED_DOMAIN, GraphBuilder, Weight, scalar};
use super::proto::{self, BF16, Entry, IR_VERSION, Model, OPSET, OperatorSet};
use crate::backend::Precision;
use crate::error::{Error, Result};
use crate::weights::{HostData, WeightSource};

/// A tensor of at most this many bytes stays in the model's own file.
const SMALL: usize = 1024;
/// Weights beside the model begin at multiples of this, so that they can be
/// mapped into memory.
const ALIGNMENT: u64 = 4096;
/// Side of the square tiles in which a matrix is turned.
const TILE: usize = 64;
/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

/// Where weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Into the model's file while they are at most this many bytes, else
    /// beside it: protobuf ends at 2 GiB.
    Within(u64),
    /// Always beside the model, from where they can be mapped.
    Beside,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// The model's file.
    pub model: PathBuf,
    /// The file of its weights, if they lie beside it.
    pub weights: Option<PathBuf>,
    /// Bytes of both.
    pub bytes: u64,
}

/// Writes `graph` to `path`, with weights from `source`.
pub fn write(
    graph: GraphBuilder,
    source: &dyn WeightSource,
    path: &Path,
    storage: Storage,
) -> Result<Written> {
    let precision = graph.precision();
    let total: u64 = graph.weights().iter().map(|w| bytes(w, precision)).sum();
    let beside = match storage {
        Storage::Beside => true,
        Storage::Within(most) => total > most,
    };
    let mut external = match beside {
        true => Some(External::create(path)?),
        false => None,
    };
    let mut tensors = Vec::with_capacity(graph.weights().len());
    for weight in graph.weights() {
        let content = content(weight, source, precision)?;
        let mut tensor = proto::Tensor {
            dims: weight.dims.iter().map(|d| *d as i64).collect(),
            data_type: scalar(precision) as i32,
            name: weight.name.clone(),
            ..proto::Tensor::default()
        };
        match &mut external {
            Some(file) if content.len() > SMALL => {
                tensor.external_data = file.append(&content)?;
                tensor.data_location = EXTERNAL;
            }
            _ => tensor.raw_data = content,
        }
        tensors.push(tensor);
    }
    let weights = external.map(External::finish).transpose()?;
    let (ir_version, opset) = match precision {
        Precision::F32 | Precision::F16 => (IR_VERSION, OPSET),
        Precision::Bf16 | Precision::Q8_0 | Precision::Q4KM => BF16,
    };
    let standard = OperatorSet {
        domain: String::new(),
        version: opset,
    };
    let mut opset_import = vec![standard];
    if graph.is_fused() {
        opset_import.push(OperatorSet {
            domain: FUSED_DOMAIN.into(),
            version: 1,
        });
    }
    let model = Model {
        ir_version,
        producer_name: "vlmbench".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph.finish(tensors)),
        opset_import,
        metadata_props: Vec::new(),
    };
    let encoded = model.encode_to_vec();
    let partial = beside_name(path, ".partial");
    std::fs::write(&partial, &encoded)
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|source| failed(path, source))?;
    let (weights, beside) = weights.unzip();
    Ok(Written {
        model: path.to_path_buf(),
        weights,
        bytes: encoded.len() as u64 + beside.unwrap_or(0),
    })
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Write {
        path: path.to_path_buf(),
        source,
    }
}

/// The file of a model's weights, if they are not in its own.
pub fn weights_beside(model: &Path) -> PathBuf {
    beside_name(model, "_data")
}

/// `path` with `suffix` after its whole name.
fn beside_name(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn bytes(weight: &Weight, precision: Precision) -> u64 {
    (weight.spec.elements() * precision.bytes()) as u64
}

/// The file of weights beside a model.
struct External {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    at: u64,
}

impl External {
    fn create(model: &Path) -> Result<External> {
        let path = weights_beside(model);
        let partial = beside_name(&path, ".partial");
        let file = File::create(&partial).map_err(|source| failed(&partial, source))?;
        Ok(External {
            path,
            partial,
            file: BufWriter::with_capacity(1 << 20, file),
            at: 0,
        })
    }

    /// Appends a tensor and says where it is.
    fn append(&mut self, content: &[u8]) -> Result<Vec<Entry>> {
        let offset = self.at.next_multiple_of(ALIGNMENT);
        let gap = vec![0; (offset - self.at) as usize];
        let written = self.file.write_all(&gap);
        written
            .and_then(|()| self.file.write_all(content))
            .map_err(|source| failed(&self.path, source))?;
        self.at = offset + content.len() as u64;
        let name = self.path.file_name().unwrap_or_default();
        let entry = |key: &str, value: String| Entry {
            key: key.into(),
            value,
        };
        Ok(vec![
            entry("location", name.to_string_lossy().into_owned()),
            entry("offset", offset.to_string()),
            entry("length", content.len().to_string()),
        ])
    }

    fn finish(mut self) -> Result<(PathBuf, u64)> {
        let done = self.file.flush();
        done.and_then(|()| std::fs::rename(&self.partial, &self.path))
            .map_err(|source| failed(&self.path, source))?;
        Ok((self.path.clone(), self.at))
    }
}

impl Drop for External {
    /// What was not finished does not stay; after a rename there is nothing.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.partial);
    }
}

/// A weight's scalars in `precision`, little endian, in the graph's order.
fn content(weight: &Weight, source: &dyn WeightSource, precision: Precision) -> Result<Vec<u8>> {
    let host = source.get(weight.part, &weight.spec)?;
    let bytes = match precision {
        Precision::F32 => encode(&host.data.to_f32(), weight, f32::to_le_bytes),
        Precision::F16 => encode(&to_f16(&host.data), weight, f16::to_le_bytes),
        Precision::Bf16 | Precision::Q8_0 | Precision::Q4KM => {
            encode(&to_bf16(&host.data), weight, bf16::to_le_bytes)
        }
    };
    drop(host);
    source.done(weight.part, &weight.spec);
    Ok(bytes)
}

fn to_f16<'a>(data: &'a HostData<'_>) -> Cow<'a, [f16]> {
    match data {
        HostData::F16(x) => Cow::Borrowed(x),
        other => other.to_f32().iter().map(|v| f16::from_f32(*v)).collect(),
    }
}

fn to_bf16<'a>(data: &'a HostData<'_>) -> Cow<'a, [bf16]> {
    match data {
        HostData::BF16(x) => Cow::Borrowed(x),
        other => other.to_f32().iter().map(|v| bf16::from_f32(*v)).collect(),
    }
}

fn encode<T: Copy, const N: usize>(
    values: &[T],
    weight: &Weight,
    bytes: impl Fn(T) -> [u8; N],
) -> Vec<u8> {
    if !weight.transposed {
        return values.iter().flat_map(|v| bytes(*v)).collect();
    }
    let (rows, cols) = (weight.spec.shape[0], weight.spec.shape[1]);
    let mut out = vec![0; values.len() * N];
    for row in (0..rows).step_by(TILE) {
        for col in (0..cols).step_by(TILE) {
            for r in row..rows.min(row + TILE) {
                for c in col..cols.min(col + TILE) {
                    let at = (c * rows + r) * N;
                    out[at..at + N].copy_from_slice(&bytes(values[r * cols + c]));
                }
            }
        }
    }
    out
}
