//! Digests of what a run reads: weights and data, by file.
//!
//! They go into the manifest before the first case, and a resumed run must
//! read the same bytes. Files that are not there yet (a checkpoint still to be
//! fetched) have none; loading them is the case's business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vlmbench_backends::hub::HubOptions;
use vlmbench_backends::recipe::{Recipe, Weights};
use vlmbench_suites::sha256_file;

use crate::error::Failure;
use crate::model_ref::weights_folder;
use crate::own_files;
use crate::plan::{Plan, Workload};

/// Digests by file, data and weights apart.
#[derive(Default)]
pub(super) struct Digests {
    data: BTreeMap<String, String>,
    weights: Vec<(Weights, BTreeMap<String, String>)>,
}

impl Digests {
    /// Hashes every file of the plan that is on this machine, each once.
    pub(super) fn of(plan: &Plan, hub: &HubOptions) -> Digests {
        let hub = hub.cache_only();
        let mut digests = Digests::default();
        for case in &plan.cases {
            let Some(ready) = case.ready() else { continue };
            let weights = &ready.recipe.weights;
            if digests.weights.iter().all(|(known, _)| known != weights) {
                let found = weights_folder(weights, &hub, &mut |_| {});
                let files = match (found, weights) {
                    (Ok(Some(folder)), Weights::Gguf { decoder, rest }) => {
                        let rest = rest.iter().flat_map(|rest| weight_files(rest));
                        let mut files: Vec<PathBuf> = rest.collect();
                        files.extend([decoder.clone(), folder.dir.join("tokenizer.json")]);
                        files
                    }
                    (Ok(Some(folder)), _) => weight_files(&folder.dir),
                    _ => Vec::new(),
                };
                digests.weights.push((weights.clone(), hash(&files)));
            }
            if let Workload::Quality(quality) = &case.workload
                && let Ok(dataset) = quality.suite.open(&hub, &mut |_| {})
            {
                let files = dataset.files().into_iter();
                let mut new: Vec<PathBuf> = files.map(|f| f.to_path_buf()).collect();
                new.retain(|f| !digests.data.contains_key(&name(f)));
                digests.data.extend(hash(&new));
            }
        }
        digests
    }

    /// The digests of a recipe's weight files.
    pub(super) fn weights(&self, recipe: &Recipe) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let found = self.weights.iter().find(|(w, _)| *w == recipe.weights);
        found.map_or(&NONE, |(_, digests)| digests)
    }

    /// All of them, for the manifest.
    pub(super) fn all(&self) -> BTreeMap<String, String> {
        let mut all = self.data.clone();
        for (_, digests) in &self.weights {
            all.extend(digests.clone());
        }
        all
    }
}

/// The files of a checkpoint that decide its answers.
fn weight_files(folder: &Path) -> Vec<PathBuf> {
    // A vision tower may lie beside its language model.
    let folders = [folder.to_path_buf(), folder.join("vision_tower")];
    let entries = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok());
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let extension = path.extension().and_then(|e| e.to_str());
            matches!(extension, Some("safetensors" | "json"))
        })
        .collect();
    files.sort();
    files
}

fn hash(files: &[PathBuf]) -> BTreeMap<String, String> {
    files
        .iter()
        .filter_map(|file| {
            let digest = sha256_file(file).ok()?;
            Some((name(file), format!("sha256:{digest}")))
        })
        .collect()
}

/// What a file is called in a manifest. What the program itself unpacks or draws is elsewhere on other machines.
fn name(file: &Path) -> String {
    own_files::name(file).unwrap_or_else(|| file.display().to_string())
}

/// Checks that a run goes on with the files it began with.
pub(super) fn check(
    folder: &Path,
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let changed = before
        .iter()
        .find(|(file, digest)| now.get(*file).is_some_and(|n| n != *digest));
    match changed {
        None => Ok(()),
        Some((file, digest)) => Err(Failure::Input {
            path: file.into(),
            problem: format!(
                "its digest is {}, but the run in {} began with {digest}; restore the file or \
                 give another --out",
                now[file],
                folder.display()
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_unpacks_has_one_name_on_all_machines() {
        let unpacked = own_files::folder().join("small-vit-00ff/config.json");
        assert_eq!(name(&unpacked), "vlmbench-small-vit-00ff/config.json");
        let other = std::env::temp_dir().join("model/config.json");
        assert_eq!(name(&other), other.display().to_string());
    }

    #[test]
    fn a_changed_file_is_named_and_a_new_one_is_not() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
            pairs.iter().map(own).collect()
        };
        let before = map(&[("a", "1"), ("b", "2")]);
        let same = map(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert!(check(Path::new("run"), &before, &same).is_ok());
        let other = map(&[("a", "1"), ("b", "9")]);
        let error = check(Path::new("run"), &before, &other).unwrap_err();
        assert!(error.to_string().contains("cannot use b: its digest is 9"));
        assert_eq!(error.exit(), crate::error::Exit::Missing);
    }
}
