//! What can go wrong between a hub id and a folder, each with what to do about it.

use std::path::PathBuf;

use hf_hub::api::sync::ApiError;

/// Why a hub id is not a folder.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The id is not of the form the hub uses.
    #[error("{id:?} is not a hub id: expected ORG/NAME")]
    BadId {
        /// The id.
        id: String,
    },
    /// Network forbidden, nothing in the cache.
    #[error("{kind} {id} at revision {revision} is not in the cache {} and the network is off: run once online, or `hf download {id} --repo-type {kind} --revision {revision}` into that cache", cache_dir.display())]
    NotCached {
        /// The id.
        id: String,
        /// `model` or `dataset`.
        kind: &'static str,
        /// The revision.
        revision: String,
        /// The cache folder.
        cache_dir: PathBuf,
    },
    /// Network forbidden, and only some of the files in the cache.
    #[error("{kind} {id} in the cache is incomplete and the network is off: {} lacks {missing}: run once online", dir.display())]
    Incomplete {
        /// The id.
        id: String,
        /// `model` or `dataset`.
        kind: &'static str,
        /// The snapshot folder.
        dir: PathBuf,
        /// The files it lacks, at most five.
        missing: String,
    },
    /// The hub does not know it.
    #[error(
        "{endpoint} has no {kind} {id} at revision {revision}: check the spelling, and whether it is a model or a dataset"
    )]
    NotFound {
        /// The id.
        id: String,
        /// `model` or `dataset`.
        kind: &'static str,
        /// The revision.
        revision: String,
        /// The hub's address.
        endpoint: String,
    },
    /// The hub refuses (401 or 403).
    #[error(
        "{endpoint} denies access to {kind} {id} (http status {status}): it is gated, private or misspelt; accept its terms at {endpoint}/{page} and give an access token, for instance with `hf auth login`"
    )]
    Denied {
        /// The id.
        id: String,
        /// `model` or `dataset`.
        kind: &'static str,
        /// Path of its page.
        page: String,
        /// The status.
        status: u16,
        /// The hub's address.
        endpoint: String,
    },
    /// The repository has no file of the wanted sort.
    #[error("{kind} {id} at commit {commit} has {total} files, but none that fits {wanted}")]
    NoFiles {
        /// The id.
        id: String,
        /// `model` or `dataset`.
        kind: &'static str,
        /// The commit.
        commit: String,
        /// Number of files it has.
        total: usize,
        /// What was wanted.
        wanted: String,
    },
    /// The hub names a file that would lie outside the snapshot folder.
    #[error("{endpoint} lists an unsafe file name {file:?} in {id}")]
    UnsafeName {
        /// The id.
        id: String,
        /// The file.
        file: String,
        /// The hub's address.
        endpoint: String,
    },
    /// The hub cannot be reached, or its answer cannot be used.
    #[error(
        "failed to fetch {what} of {id} from {endpoint}, and the cache does not have it: check the network, or copy the cache of a machine that has one"
    )]
    Fetch {
        /// The id.
        id: String,
        /// The file, or the list of files.
        what: String,
        /// The hub's address.
        endpoint: String,
        /// What the client said.
        #[source]
        source: Box<ApiError>,
    },
    /// The cache folder cannot be written.
    #[error("failed to write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
