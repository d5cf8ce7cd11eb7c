//! Which files of a repository are wanted, and whether a set of them is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which files of a repository are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFilter {
    /// A checkpoint: safetensors, JSON, and tokenizer files in the top folder, and in that of a vision
    /// tower beside a language model.
    Checkpoint,
    /// Parquet shards.
    Parquet {
        /// Only those below a folder of this name.
        config: Option<String>,
        /// Only those whose file or folder is named after this split.
        split: Option<String>,
    },
}

impl FileFilter {
    /// Whether the file at `path`, relative to the repository, is wanted.
    pub fn accepts(&self, path: &str) -> bool {
        let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
        let in_folder = |name: &str| folders.split('/').any(|folder| folder == name);
        match self {
            Self::Checkpoint => {
                let wanted = [".json", ".safetensors", ".model", ".jinja", "merges.txt"];
                matches!(folders, "" | "vision_tower")
                    && wanted.iter().any(|end| file.ends_with(end))
            }
            Self::Parquet { config, split } => {
                let of_split = |split: &String| {
                    let rest = file.strip_prefix(split.as_str());
                    in_folder(split) || rest.is_some_and(|rest| rest.starts_with(['-', '.']))
                };
                file.ends_with(".parquet")
                    && config.as_deref().is_none_or(in_folder)
                    && split.as_ref().is_none_or(of_split)
            }
        }
    }

    /// What is missing for `files` to be usable, as far as their names and the shard index tell.
    /// Used where a cache was filled by another tool and the full list is not known.
    pub(super) fn gaps(&self, dir: &Path, files: &BTreeSet<String>) -> Vec<String> {
        let mut expected = BTreeSet::new();
        for file in files {
            expected.extend(all_shards(file));
            if file.ends_with(".safetensors.index.json") {
                expected.extend(indexed_shards(&dir.join(file)));
            }
        }
        let weights = |file: &String| file.ends_with(".safetensors");
        match self {
            Self::Checkpoint if !files.iter().chain(&expected).any(weights) => {
                expected.insert("model.safetensors".to_owned());
            }
            Self::Parquet { .. } if files.is_empty() => {
                expected.insert("*.parquet".to_owned());
            }
            _ => {}
        }
        expected.difference(files).cloned().collect()
    }
}

/// The names of all shards of a file called `NAME-00000-of-00004.EXT`; none if it is not.
/// Parquet shards count from 0, safetensors shards from 1.
fn all_shards(file: &str) -> Vec<String> {
    let parse = || {
        let (stem, extension) = file.rsplit_once('.')?;
        let (rest, total) = stem.rsplit_once("-of-")?;
        let (name, _) = rest.rsplit_once('-')?;
        let count: usize = total.parse().ok()?;
        let first = usize::from(extension == "safetensors");
        let shard = |index| format!("{name}-{index:05}-of-{total}.{extension}");
        Some((first..count + first).map(shard).collect())
    };
    parse().unwrap_or_default()
}

/// The files that a safetensors index refers to; none if it cannot be read, which the loader will
/// report better.
fn indexed_shards(index: &Path) -> BTreeSet<String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let read = || serde_json::from_slice::<Index>(&std::fs::read(index).ok()?).ok();
    read()
        .map(|index| index.weight_map.into_values().collect())
        .unwrap_or_default()
}
