//! Safetensors files of a checkpoint folder, memory-mapped.
//!
//! A folder holds one `*.safetensors` file, or shards tied together by
//! `model.safetensors.index.json`. A folder `vision_tower` in it, as ConvLLaVA
//! saves one, holds another file, whose keys get that prefix. Opening reads headers only; tensors are
//! slices of the map. What the keys mean is the business of
//! [`layout`](super::layout).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::{Bound, Range};
use std::path::{Path, PathBuf};

use bytemuck::AnyBitPattern;
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::CheckpointError;
use super::json;
use crate::weights::{FileDigest, HostData};

/// The file that lists the shards of a checkpoint.
const INDEX: &str = "model.safetensors.index.json";
/// The usual name of an unsharded checkpoint.
const SINGLE: &str = "model.safetensors";
/// The folder of a vision tower that is saved beside its language model.
pub(super) const TOWER: &str = "vision_tower";
/// Bytes of the safetensors header's length field.
const LENGTH_FIELD: usize = 8;

/// One memory-mapped file.
struct WeightFile {
    name: String,
    map: Mmap,
}

/// Where a tensor is and what it holds.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// Element type.
    pub dtype: Dtype,
    /// Shape as stored.
    pub shape: Vec<usize>,
    file: usize,
    bytes: Range<usize>,
}

/// The weight files of a checkpoint folder.
pub struct WeightFiles {
    folder: PathBuf,
    files: Vec<WeightFile>,
    tensors: BTreeMap<String, TensorEntry>,
}

impl WeightFiles {
    /// A folder without weight files.
    pub fn none(folder: &Path) -> WeightFiles {
        WeightFiles {
            folder: folder.to_path_buf(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
        }
    }

    /// Maps the files of `folder` and reads their headers.
    pub fn open(folder: &Path) -> Result<WeightFiles, CheckpointError> {
        let mut weights = WeightFiles::none(folder);
        let index = folder.join(INDEX);
        if folder.join(SINGLE).is_file() {
            weights.add(SINGLE, "")?;
        } else if index.is_file() {
            weights.add_shards(&index)?;
        } else {
            let name = only_safetensors(folder)?;
            weights.add(&name, "")?;
        }
        let tower = folder.join(TOWER);
        // One that was never taken out of its model is there already.
        let inside = format!("model.{TOWER}.");
        if tower.is_dir() && weights.keys_under(&inside).next().is_none() {
            let name = only_safetensors(&tower)?;
            weights.add(&format!("{TOWER}/{name}"), &format!("{TOWER}."))?;
        }
        Ok(weights)
    }

    fn add_shards(&mut self, index: &Path) -> Result<(), CheckpointError> {
        let content = json::read(index)?;
        let mut expected: BTreeMap<&str, &str> = BTreeMap::new();
        for (tensor, shard) in content.root().get("weight_map").entries()? {
            expected.insert(tensor, shard.str()?);
        }
        let mut shards: Vec<&str> = expected.values().copied().collect();
        shards.sort_unstable();
        shards.dedup();
        for shard in &shards {
            if !self.folder.join(shard).is_file() {
                return Err(CheckpointError::MissingShard {
                    index: index.to_path_buf(),
                    shard: (*shard).into(),
                });
            }
            self.add(shard, "")?;
        }
        let disagrees = |tensor: &str, shard: &str, problem| CheckpointError::IndexDisagrees {
            index: index.to_path_buf(),
            shard: shard.into(),
            tensor: tensor.into(),
            problem,
        };
        for (tensor, shard) in &expected {
            let found = self
                .tensors
                .get(*tensor)
                .map(|t| self.files[t.file].name.as_str());
            if found != Some(*shard) {
                return Err(disagrees(
                    tensor,
                    shard,
                    "is in the index but not in the shard",
                ));
            }
        }
        for (tensor, entry) in &self.tensors {
            if !expected.contains_key(tensor.as_str()) {
                let shard = &self.files[entry.file].name;
                return Err(disagrees(
                    tensor,
                    shard,
                    "is in the shard but not in the index",
                ));
            }
        }
        Ok(())
    }

    /// Maps a file; its keys get `prefix`.
    fn add(&mut self, name: &str, prefix: &str) -> Result<(), CheckpointError> {
        let path = self.folder.join(name);
        let io = |source| CheckpointError::Io {
            path: path.clone(),
            source,
        };
        let file = File::open(&path).map_err(io)?;
        // SAFETY: the map is read-only and private to this process. As with every memory-mapped checkpoint, the file must
        // not be truncated while a model is loading.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|e| CheckpointError::Header {
                path: path.clone(),
                reason: e.to_string(),
            })?;
        let start = LENGTH_FIELD + header;
        for (key, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            let entry = TensorEntry {
                dtype: info.dtype,
                shape: info.shape.clone(),
                file: self.files.len(),
                bytes: start + from..start + to,
            };
            let key = format!("{prefix}{key}");
            if let Some(other) = self.tensors.insert(key.clone(), entry) {
                return Err(CheckpointError::Header {
                    path,
                    reason: format!("tensor `{key}` is also in {}", self.files[other.file].name),
                });
            }
        }
        self.files.push(WeightFile {
            name: name.into(),
            map,
        });
        Ok(())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Tensor keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Keys that start with `prefix`, sorted.
    pub fn keys_under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .map(|(key, _)| key.as_str())
            .take_while(move |key| key.starts_with(prefix))
    }

    /// The tensor `key`, if there is one.
    pub fn entry(&self, key: &str) -> Option<&TensorEntry> {
        self.tensors.get(key)
    }

    /// Name of the file that holds `key`; empty for an unknown key.
    pub fn file_of(&self, key: &str) -> &str {
        self.entry(key)
            .map_or("", |entry| &self.files[entry.file].name)
    }

    /// The scalars of `key`, borrowed from the map where its alignment allows.
    /// `None` if there is no such tensor or it is neither F32, F16 nor BF16.
    pub fn data(&self, key: &str) -> Option<HostData<'_>> {
        let entry = self.entry(key)?;
        let bytes = self.bytes(entry);
        match entry.dtype {
            Dtype::F32 => Some(HostData::F32(scalars(bytes))),
            Dtype::F16 => Some(HostData::F16(scalars(bytes))),
            Dtype::BF16 => Some(HostData::BF16(scalars(bytes))),
            _ => None,
        }
    }

    /// Whether two tensors are equal in type, shape and every bit.
    pub fn equal(&self, a: &str, b: &str) -> bool {
        match (self.entry(a), self.entry(b)) {
            (Some(a), Some(b)) => {
                a.dtype == b.dtype && a.shape == b.shape && self.bytes(a) == self.bytes(b)
            }
            _ => false,
        }
    }

    /// SHA-256 of every file. Reads all of them, in parallel.
    pub fn digests(&self) -> Vec<FileDigest> {
        self.files
            .par_iter()
            .map(|file| FileDigest {
                file: file.name.clone(),
                bytes: file.map.len() as u64,
                sha256: Sha256::digest(&file.map[..])
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            })
            .collect()
    }

    /// Lets the pages of `key` go; a later read brings them back from the file.
    pub fn release(&self, key: &str) {
        if let Some(entry) = self.entry(key) {
            release(&self.files[entry.file].map, entry.bytes.clone());
        }
    }

    fn bytes(&self, entry: &TensorEntry) -> &[u8] {
        &self.files[entry.file].map[entry.bytes.clone()]
    }
}

/// Lets pages of a read-only map go; a later read brings them back.
pub(super) fn release(map: &Mmap, bytes: Range<usize>) {
    #[cfg(unix)]
    {
        let advice = memmap2::UncheckedAdvice::DontNeed;
        // SAFETY: the map is read-only and of a file, so that pages dropped
        // are read again as they were. A system that keeps the pages is none
        // the worse for it.
        let _ = unsafe { map.unchecked_advise_range(advice, bytes.start, bytes.len()) };
    }
    #[cfg(not(unix))]
    let _ = (map, bytes);
}

/// Whether the element type can be computed with.
pub(super) fn readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Bytes as scalars; copied only if a writer left them unaligned.
fn scalars<T: AnyBitPattern>(bytes: &[u8]) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(slice) => Cow::Borrowed(slice),
        Err(_) => Cow::Owned(
            bytes
                .chunks_exact(size_of::<T>())
                .map(bytemuck::pod_read_unaligned)
                .collect(),
        ),
    }
}

/// The one safetensors file of a folder that has neither the usual file nor an
/// index.
fn only_safetensors(folder: &Path) -> Result<String, CheckpointError> {
    let io = |source| CheckpointError::Io {
        path: folder.to_path_buf(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        names.push(
            entry
                .map_err(io)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort_unstable();
    let mut weights: Vec<String> = names
        .iter()
        .filter(|name| name.ends_with(".safetensors"))
        .cloned()
        .collect();
    match weights.len() {
        1 => Ok(weights.remove(0)),
        0 => Err(CheckpointError::NoWeights {
            folder: folder.to_path_buf(),
            found: if names.is_empty() {
                "nothing".into()
            } else {
                names.join(", ")
            },
        }),
        _ => Err(CheckpointError::AmbiguousWeights {
            folder: folder.to_path_buf(),
            found: weights.join(", "),
        }),
    }
}
