//! The container: metadata and tensors of a file, memory-mapped.
//!
//! Versions 2 and 3, little endian. Only scalars and strings of the metadata
//! are kept: arrays are vocabularies.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::super::CheckpointError;
use super::super::files::release;
use crate::blocks::BlockType;

/// Bytes that tensors begin at a multiple of, unless the file says otherwise.
const ALIGNMENT: u64 = 32;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number that is not negative.
    Unsigned(u64),
    /// Another whole number.
    Signed(i64),
    /// A number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(String),
    /// So many values.
    Array(u64),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Unsigned(v) => write!(f, "{v}"),
            Value::Signed(v) => write!(f, "{v}"),
            Value::Float(v) => write!(f, "{v}"),
            Value::Bool(v) => write!(f, "{v}"),
            Value::Text(v) => write!(f, "`{v}`"),
            Value::Array(n) => write!(f, "an array of {n}"),
        }
    }
}

/// A tensor of a file.
#[derive(Clone, Debug)]
pub struct GgufTensor {
    /// Shape, the rows first (files have it the other way round).
    pub shape: Vec<usize>,
    /// ggml's number of its type.
    pub type_id: u32,
    /// The type, if it can be read.
    pub kind: Option<BlockType>,
    /// First byte in the file.
    start: usize,
    /// Bytes, as far as its type is known.
    len: usize,
}

/// A file.
pub struct GgufFile {
    path: PathBuf,
    map: Mmap,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, GgufTensor>,
}

impl GgufFile {
    /// Maps a file and reads all before its tensors.
    pub fn open(path: &Path) -> Result<GgufFile, CheckpointError> {
        let io = |source| CheckpointError::Io {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        // SAFETY: as for every memory-mapped checkpoint, read-only, and the
        // file must not be truncated while a model is loading.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let (metadata, tensors) = read(&map).map_err(|problem| CheckpointError::Gguf {
            path: path.to_path_buf(),
            problem,
        })?;
        Ok(GgufFile {
            path: path.to_path_buf(),
            map,
            metadata,
            tensors,
        })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's name.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// A value of the metadata.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// An error about a value of the metadata.
    pub fn error(&self, key: &str, problem: impl Into<String>) -> CheckpointError {
        CheckpointError::Config {
            path: self.path.clone(),
            key: key.into(),
            value: (self.value(key)).map_or_else(|| "absent".into(), Value::to_string),
            problem: problem.into(),
        }
    }

    /// A whole number, if there is one.
    pub fn number(&self, key: &str) -> Result<Option<usize>, CheckpointError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Unsigned(n)) if let Ok(n) = usize::try_from(*n) => Ok(Some(n)),
            Some(_) => Err(self.error(key, "a whole number is needed")),
        }
    }

    /// A number, if there is one.
    pub fn float(&self, key: &str) -> Result<Option<f64>, CheckpointError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Float(v)) => Ok(Some(*v)),
            Some(Value::Unsigned(n)) => Ok(Some(*n as f64)),
            Some(_) => Err(self.error(key, "a number is needed")),
        }
    }

    /// Text, if there is any.
    pub fn text(&self, key: &str) -> Result<Option<&str>, CheckpointError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(key, "text is needed")),
        }
    }

    /// Names of the tensors, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor.
    pub fn tensor(&self, key: &str) -> Option<&GgufTensor> {
        self.tensors.get(key)
    }

    /// The bytes of a tensor whose type can be read.
    pub fn bytes(&self, tensor: &GgufTensor) -> &[u8] {
        &self.map[tensor.start..tensor.start + tensor.len]
    }

    /// Lets the pages of a tensor go; a later read brings them back.
    pub fn release(&self, tensor: &GgufTensor) {
        release(&self.map, tensor.start..tensor.start + tensor.len);
    }
}

type Content = (BTreeMap<String, Value>, BTreeMap<String, GgufTensor>);

/// Everything before the tensors' bytes.
fn read(bytes: &[u8]) -> Result<Content, String> {
    let mut at = Cursor { bytes, at: 0 };
    if at.take(4, "the magic number")? != b"GGUF" {
        return Err("it does not begin with GGUF".into());
    }
    match at.u32("the version")? {
        2 | 3 => {}
        version if version.swap_bytes() < 16 => {
            return Err("it is big endian; only little endian files can be read".into());
        }
        version => return Err(format!("its version is {version}; 2 and 3 can be read")),
    }
    let tensors = at.u64("the number of tensors")?;
    let values = at.u64("the number of metadata values")?;
    let mut metadata = BTreeMap::new();
    for _ in 0..values {
        let key = at.text("a metadata key")?;
        let kind = at.u32(&key)?;
        let value = at.value(kind, &key)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("metadata key `{key}` is there twice"));
        }
    }
    let mut infos = Vec::new();
    for _ in 0..tensors {
        let name = at.text("a tensor's name")?;
        let axes = at.u32(&name)?;
        let mut shape = Vec::new();
        for _ in 0..axes {
            shape.push(at.size(&name)?);
        }
        shape.reverse();
        let type_id = at.u32(&name)?;
        infos.push((name.clone(), shape, type_id, at.u64(&name)?));
    }
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        Some(Value::Unsigned(n)) if *n > 0 => *n,
        Some(other) => return Err(format!("`general.alignment` is {other}")),
    };
    let data = (at.at as u64).next_multiple_of(alignment);
    let mut found = BTreeMap::new();
    for (name, shape, type_id, offset) in infos {
        let kind = BlockType::ALL.into_iter().find(|kind| kind.id() == type_id);
        let width = shape.last().copied().unwrap_or(1);
        let scalars = shape
            .iter()
            .try_fold(1_usize, |n, side| n.checked_mul(*side));
        let scalars = scalars.ok_or_else(|| format!("tensor `{name}` has shape {shape:?}"))?;
        let len = match kind {
            Some(kind) if !kind.fits(width) => {
                return Err(format!(
                    "tensor `{name}` has rows of {width}, no whole {} blocks",
                    kind.name()
                ));
            }
            Some(kind) => kind.row_bytes(scalars),
            None => 0,
        };
        let range = within(data, offset, len, bytes.len())
            .ok_or_else(|| format!("it ends before tensor `{name}` does; download it again"))?;
        let tensor = GgufTensor {
            shape,
            type_id,
            kind,
            start: range.start,
            len,
        };
        if found.insert(name.clone(), tensor).is_some() {
            return Err(format!("tensor `{name}` is there twice"));
        }
    }
    Ok((metadata, found))
}

fn within(data: u64, offset: u64, len: usize, total: usize) -> Option<Range<usize>> {
    let start = usize::try_from(data.checked_add(offset)?).ok()?;
    let end = start.checked_add(len)?;
    (end <= total).then_some(start..end)
}

/// Where reading has come to.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..n).ok_or_else(|| {
            format!(
                "it ends within {what}, at byte {}; download it again",
                self.bytes.len()
            )
        })?;
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn size(&mut self, what: &str) -> Result<usize, String> {
        let n = self.u64(what)?;
        usize::try_from(n).map_err(|_| format!("{what} has a length of {n}"))
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        let len = self.size(what)?;
        let bytes = self.take(len, what)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// A value of a type by its number.
    fn value(&mut self, kind: u32, key: &str) -> Result<Value, String> {
        let whole = |v: i64| match u64::try_from(v) {
            Ok(v) => Value::Unsigned(v),
            Err(_) => Value::Signed(v),
        };
        Ok(match kind {
            0 => Value::Unsigned(self.array::<1>(key)?[0].into()),
            1 => whole(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            3 => whole(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Unsigned(self.u32(key)?.into()),
            5 => whole(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => Value::Bool(self.array::<1>(key)?[0] != 0),
            8 => Value::Text(self.text(key)?),
            9 => {
                let (kind, n) = (self.u32(key)?, self.u64(key)?);
                let size = match kind {
                    0 | 1 | 7 => 1,
                    2 | 3 => 2,
                    4..=6 => 4,
                    10..=12 => 8,
                    _ => 0,
                };
                if size > 0 {
                    let len = usize::try_from(n).ok().and_then(|n| n.checked_mul(size));
                    self.take(len.unwrap_or(usize::MAX), key)?;
                } else {
                    for _ in 0..n {
                        self.value(kind, key)?;
                    }
                }
                Value::Array(n)
            }
            10 => Value::Unsigned(self.u64(key)?),
            11 => whole(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            _ => return Err(format!("metadata key `{key}` has an unknown type {kind}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_this_kind_says_why() {
        let problem = |bytes: &[u8]| read(bytes).unwrap_err();
        assert!(problem(b"GG").contains("ends within the magic number"));
        assert!(problem(b"PK\x03\x04").contains("does not begin with GGUF"));
        assert!(problem(b"GGUF\x01\0\0\0").contains("version is 1"));
        assert!(problem(b"GGUF\0\0\0\x03").contains("big endian"));
        // Lengths beyond the end, however large.
        let mut huge = b"GGUF\x03\0\0\0".to_vec();
        huge.extend(0_u64.to_le_bytes());
        huge.extend(1_u64.to_le_bytes());
        huge.extend(u64::MAX.to_le_bytes());
        assert!(problem(&huge).contains("metadata key"));
        // An array inside an array inside itself would never end.
        let mut nested = huge[..huge.len() - 8].to_vec();
        nested.extend(1_u64.to_le_bytes());
        nested.push(b'k');
        nested.extend(9_u32.to_le_bytes());
        nested.extend(4_u32.to_le_bytes());
        nested.extend(u64::MAX.to_le_bytes());
        assert!(problem(&nested).contains("ends within k"));
    }
}
