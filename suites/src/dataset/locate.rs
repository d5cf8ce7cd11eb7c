//! From the path a user gives to the parquet files of one configuration and one split.
//!
//! The layouts of the hub are understood by name: `validation-00000-of-00006.parquet` at the root,
//! under `data/` or under a configuration's folder (`DocVQA/`, beside `InfographicVQA/`), the
//! converted form `config/split/0000.parquet`, and the cache's `snapshots/<commit>/`. Files of
//! another configuration or split are never mixed in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::{SuiteError, names};

/// Deep enough for `snapshots/<commit>/<config>/<split>/file`; also ends cycles of links.
const MAX_DEPTH: usize = 6;

/// What a folder is searched for.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) config: Option<&'a str>,
    pub(super) split: &'a str,
    pub(super) revision: &'a str,
}

/// The files of a split in reading order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) files: Vec<PathBuf>,
    /// Shards that the file names announce (`-of-00006`) and that are not there.
    pub(super) missing_shards: usize,
}

/// A parquet file with what its place says about it.
#[derive(Debug, PartialEq, Eq)]
struct Labelled {
    path: PathBuf,
    config: Option<String>,
    split: Option<String>,
    /// `(index, count)` of `00002-of-00006`.
    shard: Option<(usize, usize)>,
}

/// Finds the parquet files of the wanted configuration and split under `path`.
pub(super) fn locate(path: &Path, wanted: &Wanted<'_>) -> Result<Located, SuiteError> {
    let metadata = std::fs::metadata(path).map_err(|source| SuiteError::Io {
        path: path.to_owned(),
        source,
    })?;
    if metadata.is_file() {
        // A file that is named by hand is taken as it is, whatever its name.
        return Ok(Located {
            files: vec![path.to_owned()],
            missing_shards: 0,
        });
    }
    let root = snapshot(path, wanted.revision)?;
    let mut found = Vec::new();
    walk(&root, &root, 0, &mut found)?;
    if found.is_empty() {
        return Err(SuiteError::NoParquet {
            path: path.to_owned(),
        });
    }
    select(path, found, wanted)
}

/// A hub cache folder holds one folder per commit under `snapshots`; everything else is its own
/// snapshot.
fn snapshot(path: &Path, revision: &str) -> Result<PathBuf, SuiteError> {
    let snapshots = path.join("snapshots");
    if !snapshots.is_dir() {
        return Ok(path.to_owned());
    }
    let commits: Vec<PathBuf> = entries(&snapshots)?
        .into_iter()
        .filter(|entry| entry.is_dir())
        .collect();
    let pinned = commits.iter().find(|commit| commit.ends_with(revision));
    match (pinned, commits.as_slice()) {
        (Some(commit), _) | (None, [commit]) => Ok(commit.clone()),
        (None, []) => Err(SuiteError::NoParquet { path: snapshots }),
        (None, several) => Err(SuiteError::AmbiguousData {
            path: snapshots,
            wanted: "a snapshot".to_owned(),
            found: names(several.iter().map(|commit| commit.to_string_lossy())),
        }),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, SuiteError> {
    let io = |source| SuiteError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        entries.push(entry.map_err(io)?.path());
    }
    entries.sort();
    Ok(entries)
}

fn walk(
    root: &Path,
    folder: &Path,
    depth: usize,
    found: &mut Vec<Labelled>,
) -> Result<(), SuiteError> {
    for entry in entries(folder)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if entry.is_dir() {
            if depth < MAX_DEPTH {
                walk(root, &entry, depth + 1, found)?;
            }
        } else if name.ends_with(".parquet") {
            found.push(label(root, entry));
        }
    }
    Ok(())
}

/// Reads configuration, split and shard off a file's place below the root.
fn label(root: &Path, path: PathBuf) -> Labelled {
    let relative = path.strip_prefix(root).unwrap_or(&path);
    let stem = relative.file_stem().unwrap_or_default().to_string_lossy();
    let mut folders: Vec<String> = relative
        .parent()
        .into_iter()
        .flat_map(Path::components)
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    let (split, shard) = match sharded(&stem) {
        Some((split, shard)) => (Some(split.to_owned()), Some(shard)),
        None if is_split(&stem) => (Some(stem.into_owned()), None),
        None => {
            let last = folders
                .last()
                .map(|name| name.trim_start_matches("partial-"));
            let split = last.filter(|name| is_split(name)).map(str::to_owned);
            if split.is_some() {
                folders.pop();
            }
            (split, None)
        }
    };
    let config = folders
        .pop()
        .filter(|name| name != "data" && name != "default");
    Labelled {
        split,
        config,
        shard,
        path,
    }
}

/// `validation-00002-of-00006`, optionally followed by a dash and a hash.
fn sharded(stem: &str) -> Option<(&str, (usize, usize))> {
    let (head, tail) = stem.split_once("-of-")?;
    let (split, index) = head.rsplit_once('-')?;
    let count = tail.split('-').next()?;
    Some((split, (index.parse().ok()?, count.parse().ok()?)))
}

fn is_split(name: &str) -> bool {
    matches!(
        name,
        "train" | "validation" | "val" | "test" | "dev" | "testdev"
    )
}

/// `val` and `validation` are the same split under two customs.
fn same_split(a: &str, b: &str) -> bool {
    let long = |name| if name == "val" { "validation" } else { name };
    long(a) == long(b)
}

fn select(path: &Path, found: Vec<Labelled>, wanted: &Wanted<'_>) -> Result<Located, SuiteError> {
    let described = match wanted.config {
        Some(config) => format!("config `{config}`, split `{}`", wanted.split),
        None => format!("split `{}`", wanted.split),
    };
    let whole = listing(&found);
    let no_such_split = || SuiteError::NoSuchSplit {
        path: path.to_owned(),
        wanted: described.clone(),
        found: whole.clone(),
    };

    // A folder whose names say nothing of splits is one split by itself.
    let unlabelled = found.iter().all(|file| file.split.is_none());
    let of_split: Vec<Labelled> = found
        .into_iter()
        .filter(|file| {
            let split = file.split.as_deref();
            unlabelled || split.is_some_and(|split| same_split(split, wanted.split))
        })
        .collect();
    if of_split.is_empty() {
        return Err(no_such_split());
    }

    let configs: BTreeSet<Option<String>> = of_split.iter().map(|f| f.config.clone()).collect();
    let named = wanted.config.map(str::to_owned);
    let chosen = if named.is_some() && configs.contains(&named) {
        named
    } else if configs.contains(&None) {
        None
    } else if named.is_some() {
        return Err(no_such_split());
    } else if let [only] = configs.iter().collect::<Vec<_>>().as_slice() {
        (*only).clone()
    } else {
        return Err(SuiteError::AmbiguousData {
            path: path.to_owned(),
            wanted: described,
            found: listing(&of_split),
        });
    };
    let files: Vec<Labelled> = of_split
        .into_iter()
        .filter(|file| file.config == chosen)
        .collect();

    // One split in two folders (`data/` and the root) would count its rows twice.
    let folders: BTreeSet<_> = files.iter().map(|file| file.path.parent()).collect();
    let counts: BTreeSet<_> = files
        .iter()
        .map(|file| file.shard.map(|(_, count)| count))
        .collect();
    if folders.len() > 1 || counts.len() > 1 {
        return Err(SuiteError::AmbiguousData {
            path: path.to_owned(),
            wanted: described,
            found: names(files.iter().map(|file| file.path.to_string_lossy())),
        });
    }
    let announced = counts.first().copied().flatten().unwrap_or(files.len());
    Ok(Located {
        missing_shards: announced.saturating_sub(files.len()),
        files: files.into_iter().map(|file| file.path).collect(),
    })
}

/// Configurations with their splits, for a message.
fn listing(found: &[Labelled]) -> String {
    let mut configs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in found {
        let splits = configs
            .entry(file.config.as_deref().unwrap_or(""))
            .or_default();
        splits.insert(file.split.as_deref().unwrap_or("no split in the name"));
    }
    let line = |(config, splits): (&str, BTreeSet<&str>)| match config {
        "" => format!("splits {}", names(splits)),
        config => format!("config `{config}` with splits {}", names(splits)),
    };
    configs.into_iter().map(line).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, b"").expect("a file");
        }
        root
    }

    fn found(
        files: &[&str],
        config: Option<&str>,
        split: &str,
    ) -> Result<(Vec<String>, usize), SuiteError> {
        let root = folder(files);
        let wanted = Wanted {
            config,
            split,
            revision: "feed",
        };
        let located = locate(root.path(), &wanted)?;
        let relative = |path: &PathBuf| {
            let path = path.strip_prefix(root.path()).expect("below the root");
            path.to_string_lossy().into_owned()
        };
        Ok((
            located.files.iter().map(relative).collect(),
            located.missing_shards,
        ))
    }

    #[test]
    fn one_configuration_and_split_of_a_snapshot() {
        let docvqa = [
            "DocVQA/test-00000-of-00002.parquet",
            "DocVQA/validation-00000-of-00002.parquet",
            "DocVQA/validation-00001-of-00002.parquet",
            "InfographicVQA/validation-00000-of-00001.parquet",
            ".cache/huggingface/validation-00000-of-00001.parquet",
            "README.md",
        ];
        assert_eq!(
            found(&docvqa, Some("DocVQA"), "validation").expect("files"),
            (docvqa[1..3].iter().map(ToString::to_string).collect(), 0)
        );
        for (files, config, split, expected) in [
            (
                vec![
                    "data/validation-00000-of-00001.parquet",
                    "data/train-00000-of-00001.parquet",
                ],
                None,
                "val",
                0,
            ),
            (
                vec!["default/test/0000.parquet", "default/train/0000.parquet"],
                None,
                "test",
                0,
            ),
            (
                vec![
                    "DocVQA/partial-validation/0000.parquet",
                    "x/validation/0000.parquet",
                ],
                Some("DocVQA"),
                "validation",
                0,
            ),
            (
                vec!["validation-00000-of-00003-af3e.parquet"],
                Some("DocVQA"),
                "validation",
                2,
            ),
            (vec!["part-a.parquet"], None, "validation", 0),
            (vec!["test.parquet", "train.parquet"], None, "test", 0),
            (
                vec![
                    "snapshots/feed/data/test-00000-of-00001.parquet",
                    "snapshots/0abc/data/test-00000-of-00001.parquet",
                ],
                None,
                "test",
                0,
            ),
            (vec!["Only/test-00000-of-00001.parquet"], None, "test", 0),
        ] {
            let (chosen, missing) = found(&files, config, split).expect("files");
            assert_eq!((chosen, missing), (vec![files[0].to_owned()], expected));
        }
    }

    #[test]
    fn what_is_missing_or_ambiguous_is_listed() {
        for (files, config, message) in [
            (
                vec!["InfographicVQA/validation-00000-of-00001.parquet"],
                Some("DocVQA"),
                "config `InfographicVQA` with splits `validation`",
            ),
            (
                vec![
                    "data/train-00000-of-00001.parquet",
                    "data/test-00000-of-00001.parquet",
                ],
                None,
                "splits `test`, `train`",
            ),
            (
                vec![
                    "A/validation-00000-of-00001.parquet",
                    "B/validation-00000-of-00001.parquet",
                ],
                None,
                "could be any of config `A` with splits `validation`; config `B`",
            ),
            (
                vec![
                    "validation-00000-of-00001.parquet",
                    "data/validation-00000-of-00001.parquet",
                ],
                None,
                "could be any of",
            ),
            (
                vec![
                    "data/validation-00000-of-00001.parquet",
                    "data/validation-00000-of-00002.parquet",
                ],
                None,
                "could be any of",
            ),
            (
                vec!["snapshots/a/test.parquet", "snapshots/b/test.parquet"],
                None,
                "a snapshot under",
            ),
            (vec!["notes.txt"], None, "no parquet file under"),
        ] {
            let error = found(&files, config, "validation")
                .expect_err("no choice")
                .to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
