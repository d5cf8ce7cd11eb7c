//! Typed access to a JSON file, whose errors name the file, the key's path and
//! the value. A key that is absent and one that is `null` are the same, as
//! they are in Hugging Face configs.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::CheckpointError;

/// What an absent key holds.
static ABSENT: Value = Value::Null;

/// A parsed JSON file.
pub(super) struct Document {
    path: PathBuf,
    value: Value,
}

/// A value inside a document.
#[derive(Clone)]
pub(super) struct Node<'a> {
    path: &'a Path,
    key: String,
    value: &'a Value,
}

/// Reads a file that must be there.
pub(super) fn read(path: &Path) -> Result<Document, CheckpointError> {
    let text = std::fs::read_to_string(path).map_err(|source| CheckpointError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    let value = serde_json::from_str(&text).map_err(|e| CheckpointError::Json {
        path: path.to_path_buf(),
        reason: e.to_string(),
    })?;
    Ok(Document {
        path: path.to_path_buf(),
        value,
    })
}

/// Reads a file if it is there.
pub(super) fn read_optional(path: &Path) -> Result<Option<Document>, CheckpointError> {
    if path.is_file() {
        read(path).map(Some)
    } else {
        Ok(None)
    }
}

impl Document {
    /// The whole document.
    pub(super) fn root(&self) -> Node<'_> {
        Node {
            path: &self.path,
            key: String::new(),
            value: &self.value,
        }
    }
}

impl<'a> Node<'a> {
    /// The value of `key`; a node that is not [`present`](Self::present) if there is none.
    pub(super) fn get(&self, key: &str) -> Node<'a> {
        let path = if self.key.is_empty() {
            key.into()
        } else {
            format!("{}.{key}", self.key)
        };
        Node {
            path: self.path,
            key: path,
            value: self.value.get(key).unwrap_or(&ABSENT),
        }
    }

    /// The first of `keys` that is present, or the last of them.
    pub(super) fn first(&self, keys: &[&str]) -> Node<'a> {
        let mut nodes = keys.iter().map(|key| self.get(key));
        let mut node = nodes.next().unwrap_or_else(|| self.clone());
        for other in nodes {
            if node.present() {
                break;
            }
            node = other;
        }
        node
    }

    /// Whether there is a value other than `null`.
    pub(super) fn present(&self) -> bool {
        !self.value.is_null()
    }

    /// The node itself if it is present.
    pub(super) fn optional(self) -> Option<Node<'a>> {
        self.present().then_some(self)
    }

    /// The raw value.
    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// An error about this value.
    pub(super) fn error(&self, problem: impl Into<String>) -> CheckpointError {
        CheckpointError::Config {
            path: self.path.to_path_buf(),
            key: self.key.clone(),
            value: if self.present() {
                self.value.to_string()
            } else {
                "absent".into()
            },
            problem: problem.into(),
        }
    }

    /// A string.
    pub(super) fn str(&self) -> Result<&'a str, CheckpointError> {
        self.value
            .as_str()
            .ok_or_else(|| self.error("a string is needed"))
    }

    /// A whole number that is not negative.
    pub(super) fn usize(&self) -> Result<usize, CheckpointError> {
        let number = self.value.as_u64().and_then(|n| usize::try_from(n).ok());
        number.ok_or_else(|| self.error("a whole number is needed"))
    }

    /// A whole number.
    pub(super) fn i64(&self) -> Result<i64, CheckpointError> {
        self.value
            .as_i64()
            .ok_or_else(|| self.error("a whole number is needed"))
    }

    /// A number.
    pub(super) fn f64(&self) -> Result<f64, CheckpointError> {
        self.value
            .as_f64()
            .ok_or_else(|| self.error("a number is needed"))
    }

    /// True or false.
    pub(super) fn bool(&self) -> Result<bool, CheckpointError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.error("true or false is needed"))
    }

    /// Three numbers.
    pub(super) fn triple(&self) -> Result<[f64; 3], CheckpointError> {
        let numbers: Option<Vec<f64>> = self
            .value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_f64).collect());
        numbers
            .and_then(|list| list.try_into().ok())
            .ok_or_else(|| self.error("three numbers are needed"))
    }

    /// A list of whole numbers.
    pub(super) fn usizes(&self) -> Result<Vec<usize>, CheckpointError> {
        let numbers = self.value.as_array().and_then(|list| {
            let whole = list.iter().map(|v| usize::try_from(v.as_u64()?).ok());
            whole.collect()
        });
        numbers.ok_or_else(|| self.error("a list of whole numbers is needed"))
    }

    /// Keys and values of an object.
    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Node<'a>)>, CheckpointError> {
        let map = self
            .value
            .as_object()
            .ok_or_else(|| self.error("an object is needed"))?;
        Ok(map
            .keys()
            .map(|key| (key.as_str(), self.get(key)))
            .collect())
    }
}
