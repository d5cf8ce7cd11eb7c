//! Where the samples of a suite come from: a parquet file, a folder of shards,
//! a data set on the hub, or this program's own drawing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use vlmbench_backends::hub::{
    self, Download, FileFilter, HubError, HubOptions, HubRequest, RepoKind, is_repo_id,
};
use vlmbench_suites::{SuiteSpec, SynthRequest, synthesize};

use crate::error::Failure;
use crate::model_ref::split_revision;
use crate::own_files;

/// The data of a suite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DataRef {
    /// A file or folder.
    Path(PathBuf),
    /// A data set in the suite's layout that is drawn when it is needed.
    Synth {
        /// Number of samples.
        samples: usize,
        /// Seed.
        seed: u64,
    },
    /// A data set on the hub.
    Hub {
        /// Its names, the first of which is fetched; any of them is taken from
        /// the cache.
        ids: Vec<String>,
        /// Commit, tag or branch.
        revision: String,
    },
}

impl DataRef {
    /// What `data` means for a suite; its own data set if absent.
    pub fn parse(data: Option<&str>, spec: &SuiteSpec) -> DataRef {
        let Some(text) = data else {
            return DataRef::Hub {
                ids: spec.hub.ids.clone(),
                revision: spec.hub.revision.clone(),
            };
        };
        if let Some((samples, seed)) = synthetic(text) {
            return DataRef::Synth { samples, seed };
        }
        let (id, _) = split_revision(text);
        if Path::new(text).exists() || !is_repo_id(id) {
            return DataRef::Path(text.into());
        }
        // The pinned commit belongs to the suite's own names only.
        let own = spec.hub.ids.iter().any(|known| known == id);
        let revision = match text.split_once('@') {
            Some((_, revision)) => revision.to_owned(),
            None if own => spec.hub.revision.clone(),
            None => "main".to_owned(),
        };
        DataRef::Hub {
            ids: vec![id.to_owned()],
            revision,
        }
    }

    /// The file or folder on disk, for [`vlmbench_suites::Dataset::open`]. A
    /// hub data set that is not cached is fetched unless `hub` is offline; one
    /// to be drawn is drawn once a process, always to the same file.
    pub fn locate(
        &self,
        spec: &SuiteSpec,
        split: Option<&str>,
        hub: &HubOptions,
        observe: &mut dyn FnMut(Download<'_>),
    ) -> Result<PathBuf, Failure> {
        let (ids, revision) = match self {
            DataRef::Synth { samples, seed } => {
                return draw(&SynthRequest {
                    suite: spec.id.clone(),
                    split: split.unwrap_or(&spec.hub.split).parse()?,
                    samples: *samples,
                    seed: *seed,
                });
            }
            DataRef::Path(path) if path.exists() => return Ok(path.clone()),
            DataRef::Path(path) => {
                return Err(Failure::Input {
                    path: path.clone(),
                    problem: "no such file or folder; give a parquet file, a folder of shards, \
                              a hub id ORG/NAME[@REVISION], or synth:N[@SEED]"
                        .into(),
                });
            }
            DataRef::Hub { ids, revision } => (ids, revision),
        };
        let request = |id: &str| HubRequest {
            id: id.into(),
            kind: RepoKind::Dataset,
            revision: revision.clone(),
            files: FileFilter::Parquet {
                config: spec.hub.config.clone(),
                split: Some(split.unwrap_or(&spec.hub.split).to_owned()),
            },
        };
        let cache_only = hub.cache_only();
        let mut first: Option<HubError> = None;
        for id in ids {
            match hub::resolve(&request(id), &cache_only, observe) {
                Ok(snapshot) => return Ok(snapshot.dir),
                Err(error) => first = first.or(Some(error)),
            }
        }
        match (ids.first(), first) {
            (Some(id), _) if !hub.offline => Ok(hub::resolve(&request(id), hub, observe)?.dir),
            (_, Some(error)) => Err(error.into()),
            (_, None) => Err(Failure::Input {
                path: spec.id.clone().into(),
                problem: "the suite names no hub data set; give --data".into(),
            }),
        }
    }
}

/// Samples and seed of `synth:N` or `synth:N@SEED`.
fn synthetic(text: &str) -> Option<(usize, u64)> {
    let what = text.strip_prefix("synth:")?;
    let (samples, seed) = what.split_once('@').unwrap_or((what, "0"));
    Some((samples.parse().ok()?, seed.parse().ok()?))
}

/// Draws into the program's own folder. What an earlier process left there is
/// drawn again: it may have been another version of this program.
fn draw(request: &SynthRequest) -> Result<PathBuf, Failure> {
    static DRAWN: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    let drawn = drawn.get_or_insert_default();
    let folder = own_files::folder().join("drawn");
    let SynthRequest {
        suite,
        split,
        samples,
        seed,
    } = request;
    let path = folder.join(format!("{suite}-{}-{samples}-{seed}.parquet", split.name()));
    if drawn.contains(&path) {
        return Ok(path);
    }
    let output = |source| Failure::Output {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(&folder).map_err(output)?;
    let unfinished = path.with_extension(format!("{}.part", std::process::id()));
    synthesize(request, &unfinished, None)?;
    std::fs::rename(&unfinished, &path).map_err(output)?;
    drawn.insert(path.clone());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigKind, Configs};

    #[test]
    fn data_is_a_path_unless_it_has_the_form_of_a_hub_id() {
        let spec: SuiteSpec = Configs::embedded()
            .find(ConfigKind::Suite, "textvqa")
            .unwrap()
            .parse()
            .unwrap();
        let hub = |id: &str, revision: &str| DataRef::Hub {
            ids: vec![id.into()],
            revision: revision.into(),
        };
        let own = &spec.hub.ids[0];
        let pinned = &spec.hub.revision;
        assert_eq!(DataRef::parse(Some(own), &spec), hub(own, pinned));
        assert_eq!(DataRef::parse(Some("a/b"), &spec), hub("a/b", "main"));
        assert_eq!(DataRef::parse(Some("a/b@c1"), &spec), hub("a/b", "c1"));
        let synth = |samples, seed| DataRef::Synth { samples, seed };
        assert_eq!(DataRef::parse(Some("synth:300"), &spec), synth(300, 0));
        assert_eq!(DataRef::parse(Some("synth:20@7"), &spec), synth(20, 7));
        let path = DataRef::Path("synth:many".into());
        assert_eq!(DataRef::parse(Some("synth:many"), &spec), path);
        let path = "data/textvqa/x.parquet";
        assert_eq!(
            DataRef::parse(Some(path), &spec),
            DataRef::Path(path.into())
        );
        let DataRef::Hub { ids, .. } = DataRef::parse(None, &spec) else {
            panic!("not on the hub")
        };
        assert_eq!(ids, spec.hub.ids);
        let missing = DataRef::Path("/nonexistent.parquet".into());
        let hub = HubOptions::new("/nonexistent-cache");
        let failure = missing.locate(&spec, None, &hub, &mut |_| {}).unwrap_err();
        assert_eq!(failure.exit(), crate::error::Exit::Missing);
    }
}
