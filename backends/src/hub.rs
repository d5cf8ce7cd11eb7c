//! A Hugging Face hub id and revision as a folder of files.
//!
//! The cache has the layout of Hugging Face's own tools
//! (`models--ORG--NAME/snapshots/COMMIT/FILE`), so what those fetched is found and what is fetched
//! here serves them. The cache is asked first and the network only for what it lacks: a run
//! repeats without a network, and a branch keeps meaning the commit it meant when it was fetched.
//! The cache folder, endpoint and token are arguments; `HF_HOME` and its like are for the caller
//! to read (the HTTP client alone looks at the proxy variables).

mod error;
mod files;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

pub use error::HubError;
pub use files::FileFilter;

/// The public hub.
pub const PUBLIC_ENDPOINT: &str = "https://huggingface.co";

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoKind {
    /// Weights, configuration, tokenizer.
    Model,
    /// Samples.
    Dataset,
}

impl RepoKind {
    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        }
    }
}

/// What to resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubRequest {
    /// `ORG/NAME`.
    pub id: String,
    /// Model or dataset.
    pub kind: RepoKind,
    /// Branch, tag or full commit hash.
    pub revision: String,
    /// The files wanted.
    pub files: FileFilter,
}

/// How to reach the hub and where to keep its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// The folder that holds `models--ORG--NAME`: `$HF_HOME/hub` for Hugging Face's own tools.
    pub cache_dir: PathBuf,
    /// Address without a trailing slash.
    pub endpoint: String,
    /// Access token for private and gated repositories. `None` takes the one that
    /// `hf auth login` left in the file `token` beside the cache folder, if any.
    pub token: Option<String>,
    /// Never use the network.
    pub offline: bool,
}

impl HubOptions {
    /// The public hub, online, with this cache.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            endpoint: PUBLIC_ENDPOINT.to_owned(),
            token: None,
            offline: false,
        }
    }

    /// The same, but what is not cached is an error.
    pub fn cache_only(&self) -> Self {
        Self {
            offline: true,
            ..self.clone()
        }
    }
}

/// Files of one commit on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder that holds them.
    pub dir: PathBuf,
    /// The commit they belong to, for records: a branch moves, this does not.
    pub commit: String,
    /// The wanted files, relative to `dir`, sorted.
    pub files: Vec<String>,
    /// How many of them had to be fetched.
    pub fetched: usize,
}

/// Progress of one file's download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Download<'a> {
    /// The file, relative to the repository.
    pub file: &'a str,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Whether `text` has the form of a hub id, `ORG/NAME`.
pub fn is_repo_id(text: &str) -> bool {
    let segment = |segment: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !segment.is_empty() && segment.chars().all(legal) && !segment.starts_with('.')
    };
    matches!(text.split_once('/'), Some((org, name)) if segment(org) && segment(name))
}

/// Finds the requested files in the cache, fetching what it lacks; `observe` hears of progress.
pub fn resolve(
    request: &HubRequest,
    options: &HubOptions,
    observe: &mut dyn FnMut(Download<'_>),
) -> Result<Snapshot, HubError> {
    if !is_repo_id(&request.id) {
        return Err(HubError::BadId {
            id: request.id.clone(),
        });
    }
    let hub = Hub { request, options };
    let missing = match hub.cached() {
        None => None,
        Some(Cached { snapshot, missing }) if missing.is_empty() => return Ok(snapshot),
        Some(Cached { snapshot, missing }) => Some((snapshot.dir, missing)),
    };
    let (id, kind) = (request.id.clone(), request.kind.name());
    match missing {
        _ if !options.offline => hub.fetch(observe),
        Some((dir, missing)) => {
            let missing = missing.into_iter().take(5).collect::<Vec<_>>().join(", ");
            Err(HubError::Incomplete {
                id,
                kind,
                dir,
                missing,
            })
        }
        None => Err(HubError::NotCached {
            id,
            kind,
            revision: request.revision.clone(),
            cache_dir: options.cache_dir.clone(),
        }),
    }
}

/// What the cache holds of a request.
struct Cached {
    snapshot: Snapshot,
    missing: Vec<String>,
}

struct Hub<'a> {
    request: &'a HubRequest,
    options: &'a HubOptions,
}

impl Hub<'_> {
    fn repo(&self, revision: &str) -> Repo {
        let kind = match self.request.kind {
            RepoKind::Model => RepoType::Model,
            RepoKind::Dataset => RepoType::Dataset,
        };
        Repo::with_revision(self.request.id.clone(), kind, revision.to_owned())
    }

    /// The folder of the repository in the cache.
    fn folder(&self) -> PathBuf {
        self.options
            .cache_dir
            .join(self.repo(&self.request.revision).folder_name())
    }

    fn snapshot_dir(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    /// Where the names of all files of a commit are kept, so that a cache filled here is known to
    /// be complete without a network.
    fn listing_path(&self, commit: &str) -> PathBuf {
        self.folder()
            .join("listings")
            .join(format!("{commit}.json"))
    }

    /// The commit that the requested revision means, as far as the cache knows.
    fn cached_commit(&self) -> Option<String> {
        let revision = &self.request.revision;
        if self.snapshot_dir(revision).is_dir() {
            return Some(revision.clone());
        }
        let commit = std::fs::read_to_string(self.folder().join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned())
    }

    fn cached(&self) -> Option<Cached> {
        let commit = self.cached_commit()?;
        let dir = self.snapshot_dir(&commit);
        let present: BTreeSet<String> = files_below(&dir)
            .into_iter()
            .filter(|file| self.request.files.accepts(file))
            .collect();
        let listing = std::fs::read(self.listing_path(&commit)).ok();
        let listing = listing.and_then(|bytes| serde_json::from_slice::<Vec<String>>(&bytes).ok());
        let missing = match listing {
            Some(listing) if listing.iter().any(|file| self.request.files.accepts(file)) => {
                let wanted = listing
                    .into_iter()
                    .filter(|file| self.request.files.accepts(file));
                wanted.filter(|file| !present.contains(file)).collect()
            }
            _ => self.request.files.gaps(&dir, &present),
        };
        let files = present.into_iter().collect();
        Some(Cached {
            snapshot: Snapshot {
                dir,
                commit,
                files,
                fetched: 0,
            },
            missing,
        })
    }

    /// Asks the hub what the revision is, and fetches the files that are not in the cache.
    fn fetch(&self, observe: &mut dyn FnMut(Download<'_>)) -> Result<Snapshot, HubError> {
        let api = self.api()?;
        let info = api
            .repo(self.repo(&self.request.revision))
            .info()
            .map_err(|source| self.failed("the list of files", source))?;
        let listing: Vec<String> = info
            .siblings
            .into_iter()
            .map(|file| file.rfilename)
            .collect();
        let mut files: Vec<String> = listing
            .iter()
            .filter(|file| self.request.files.accepts(file))
            .cloned()
            .collect();
        files.sort();
        if files.is_empty() {
            return Err(HubError::NoFiles {
                id: self.request.id.clone(),
                kind: self.request.kind.name(),
                commit: info.sha,
                total: listing.len(),
                wanted: format!("{:?}", self.request.files),
            });
        }
        let unsafe_name = |name: &&String| {
            name.contains('\\') || name.split('/').any(|part| matches!(part, "" | "." | ".."))
        };
        if let Some(file) = files.iter().chain([&info.sha]).find(unsafe_name) {
            return Err(HubError::UnsafeName {
                id: self.request.id.clone(),
                file: file.clone(),
                endpoint: self.options.endpoint.clone(),
            });
        }

        // Every file is asked for by commit, so that a push meanwhile cannot mix two versions.
        let commit = info.sha;
        let dir = self.snapshot_dir(&commit);
        let repo = api.repo(self.repo(&commit));
        self.keep_listing(&commit, &listing)?;
        let mut fetched = 0;
        for file in files.iter().filter(|file| !dir.join(file).exists()) {
            let progress = Observer {
                observe,
                file: file.clone(),
                bytes: 0,
                total_bytes: 0,
            };
            repo.download_with_progress(file, progress)
                .map_err(|source| self.failed(file, source))?;
            fetched += 1;
        }
        // The branch last: until its snapshot is whole, it keeps meaning the one before.
        Cache::new(self.options.cache_dir.clone())
            .repo(self.repo(&self.request.revision))
            .create_ref(&commit)
            .map_err(|source| HubError::Write {
                path: self.folder().join("refs"),
                source,
            })?;
        Ok(Snapshot {
            dir,
            commit,
            files,
            fetched,
        })
    }

    /// Notes which files a commit has, before any is fetched, so that an interrupted fetch is seen.
    fn keep_listing(&self, commit: &str, listing: &[String]) -> Result<(), HubError> {
        let path = self.listing_path(commit);
        let json = serde_json::to_vec(listing).expect("a list of strings is valid json");
        std::fs::create_dir_all(self.folder().join("listings"))
            .and_then(|()| std::fs::write(&path, json))
            .map_err(|source| HubError::Write { path, source })
    }

    fn api(&self) -> Result<Api, HubError> {
        let cache = Cache::new(self.options.cache_dir.clone());
        let mut builder = ApiBuilder::from_cache(cache)
            .with_endpoint(self.options.endpoint.clone())
            .with_progress(false);
        if let Some(token) = &self.options.token {
            builder = builder.with_token(Some(token.clone()));
        }
        builder
            .build()
            .map_err(|source| self.failed("the list of files", source))
    }

    /// The error for a request to the hub that failed.
    fn failed(&self, what: &str, source: ApiError) -> HubError {
        let id = self.request.id.clone();
        let kind = self.request.kind.name();
        let endpoint = self.options.endpoint.clone();
        let status = match &source {
            ApiError::RequestError(error) => match **error {
                ureq::Error::StatusCode(status) => Some(status),
                _ => None,
            },
            _ => None,
        };
        match status {
            Some(404) => HubError::NotFound {
                id,
                kind,
                revision: self.request.revision.clone(),
                endpoint,
            },
            Some(status @ (401 | 403)) => {
                let page = self.repo(&self.request.revision).url();
                HubError::Denied {
                    id,
                    kind,
                    page,
                    status,
                    endpoint,
                }
            }
            _ => HubError::Fetch {
                id,
                what: what.to_owned(),
                endpoint,
                source: Box::new(source),
            },
        }
    }
}

/// Passes the client's progress on.
struct Observer<'a> {
    observe: &'a mut dyn FnMut(Download<'_>),
    file: String,
    bytes: u64,
    total_bytes: u64,
}

impl Observer<'_> {
    fn tell(&mut self) {
        let download = Download {
            file: &self.file,
            bytes: self.bytes,
            total_bytes: self.total_bytes,
        };
        (self.observe)(download);
    }
}

impl Progress for Observer<'_> {
    fn init(&mut self, size: usize, _filename: &str) {
        (self.bytes, self.total_bytes) = (0, size as u64);
        self.tell();
    }

    fn update(&mut self, size: usize) {
        self.bytes += size as u64;
        self.tell();
    }

    fn finish(&mut self) {}
}

/// All files below `dir`, relative to it, with `/` between; links count if they lead to a file.
fn files_below(dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(dir.join(&folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = if folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            };
            match std::fs::metadata(entry.path()) {
                Ok(data) if data.is_dir() => folders.push(path),
                Ok(_) => files.push(path),
                // A link whose blob was deleted is a missing file.
                Err(_) => {}
            }
        }
    }
    files
}
