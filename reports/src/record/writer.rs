//! Writing a run folder: one process at a time, one flushed line per record, resumable after a kill.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use super::{
    CaseOutcome, Exhibit, Launch, MANIFEST_FILE, Manifest, RECORDS_FILE, Record, Run,
    manifest::PARTIAL_FILE, reader::Log,
};
use crate::error::{Error, Result, io};

/// Held for as long as a process writes to the folder; the system frees it if the process dies.
const LOCK_FILE: &str = ".lock";

/// The only writer of a run folder.
#[derive(Debug)]
pub struct RunWriter {
    folder: PathBuf,
    path: PathBuf,
    log: File,
    /// Bytes of whole records; what lies beyond is a broken append.
    length: u64,
    poisoned: bool,
    _lock: File,
}

/// What a run folder already holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Outcome of each case that ended.
    pub finished: BTreeMap<String, CaseOutcome>,
    /// What is recorded of each case, ended or not.
    pub cases: BTreeMap<String, CaseProgress>,
    /// Suite, profile and sample of the exhibits already there.
    pub exhibits: BTreeSet<(String, String, String)>,
    /// Ids of the published series already copied.
    pub published: BTreeSet<String>,
    /// Whether a torn last line was dropped.
    pub dropped_torn_line: bool,
}

/// What is recorded of one case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaseProgress {
    /// Whether its facts are there.
    pub described: bool,
    /// Ids of the samples done, failed ones included.
    pub samples: BTreeSet<String>,
    /// Timed iterations done by a launch that did not come to its end; warm-up belongs to a process and is
    /// always repeated.
    pub iterations: BTreeSet<u32>,
    /// Launches that came to their end.
    pub launches: u32,
    /// Number of the next launch.
    pub next_launch: u32,
}

impl Progress {
    /// What is recorded of a case; nothing if it was never begun.
    pub fn case(&self, id: &str) -> CaseProgress {
        self.cases.get(id).cloned().unwrap_or_default()
    }

    fn of(run: &Run) -> Self {
        let mut progress = Self {
            exhibits: (run.exhibits.iter())
                .map(Exhibit::key)
                .map(|(suite, profile, sample)| (suite.into(), profile.into(), sample.into()))
                .collect(),
            published: run.published.iter().map(|s| s.id.clone()).collect(),
            dropped_torn_line: run.torn,
            ..Self::default()
        };
        let cases = &mut progress.cases;
        for id in run.cases.keys() {
            cases.entry(id.clone()).or_default().described = true;
        }
        for sample in &run.samples {
            let case = cases.entry(sample.case.clone()).or_default();
            case.samples.insert(sample.sample.clone());
        }
        for launch in &run.launches {
            cases.entry(launch.case.clone()).or_default().launches += 1;
        }
        for sample in &run.latency {
            let case = cases.entry(sample.case.clone()).or_default();
            case.next_launch = case.next_launch.max(sample.launch + 1);
            let ended = |l: &Launch| (&l.case, l.launch) == (&sample.case, sample.launch);
            if !sample.warm_up && !run.launches.iter().any(ended) {
                case.iterations.insert(sample.iteration);
            }
        }
        for (id, end) in &run.ends {
            progress.finished.insert(id.clone(), end.outcome.clone());
        }
        progress
    }
}

impl RunWriter {
    /// Starts a run in a new or empty folder.
    ///
    /// # Errors
    /// [`Error::AlreadyARun`], [`Error::NotARun`], [`Error::Locked`], or the system's refusal.
    pub fn create(folder: &Path, manifest: &Manifest) -> Result<Self> {
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        if !is_run(folder)? {
            let lock = lock(folder)?;
            // Looked at again under the lock: another process may have been faster.
            if !is_run(folder)? {
                manifest.write(folder)?;
                let writer = Self::open(folder, lock, 0)?;
                sync_folder(folder)?;
                return Ok(writer);
            }
        }
        Err(Error::AlreadyARun {
            path: folder.to_path_buf(),
        })
    }

    /// Continues the run in a folder, after dropping a torn last line.
    ///
    /// # Errors
    /// [`Error::OtherExperiment`] if the folder's digest is not `experiment_digest`,
    /// [`Error::Locked`], and those of [`Run::read`].
    pub fn resume(folder: &Path, experiment_digest: &str) -> Result<(Self, Progress)> {
        let manifest = Manifest::read(folder)?;
        if manifest.experiment_digest != experiment_digest {
            return Err(Error::OtherExperiment {
                path: folder.to_path_buf(),
                expected: experiment_digest.to_owned(),
                found: manifest.experiment_digest,
            });
        }
        let lock = lock(folder)?;
        let log = Log::read(&folder.join(RECORDS_FILE))?;
        let writer = Self::open(folder, lock, log.length)?;
        let run = Run::from_records(folder, manifest, log.records, log.torn.is_some());
        Ok((writer, Progress::of(&run)))
    }

    /// Starts the run, or continues it where the same experiment stopped in this folder.
    ///
    /// # Errors
    /// Those of [`RunWriter::create`] and [`RunWriter::resume`].
    pub fn create_or_resume(folder: &Path, manifest: &Manifest) -> Result<(Self, Progress)> {
        match Self::create(folder, manifest) {
            Ok(writer) => Ok((writer, Progress::default())),
            Err(Error::AlreadyARun { .. }) => Self::resume(folder, &manifest.experiment_digest),
            Err(error) => Err(error),
        }
    }

    fn open(folder: &Path, lock: File, length: u64) -> Result<Self> {
        let path = folder.join(RECORDS_FILE);
        let log = (OpenOptions::new().create(true).append(true))
            .open(&path)
            .map_err(io("open", &path))?;
        log.set_len(length).map_err(io("truncate", &path))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            path,
            log,
            length,
            poisoned: false,
            _lock: lock,
        })
    }

    /// The run folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Appends one record. When this returns, the line has left the process; at the end of a
    /// case it is on disk.
    ///
    /// # Errors
    /// The system's refusal. A half-written line is removed again, so that a later append is safe.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        if self.poisoned {
            return Err(Error::Poisoned {
                path: self.path.clone(),
            });
        }
        let mut line = serde_json::to_vec(record).map_err(|source| Error::Encode { source })?;
        line.push(b'\n');
        // One unbuffered write per record: nothing waits in this process for a flush.
        if let Err(source) = self.log.write_all(&line) {
            self.poisoned = self.log.set_len(self.length).is_err();
            return Err(io("append to", &self.path)(source));
        }
        self.length += line.len() as u64;
        if matches!(record, Record::CaseEnd(_)) {
            self.log.sync_data().map_err(io("sync", &self.path))?;
        }
        Ok(())
    }
}

/// Whether the folder holds a run (`true`) or nothing (`false`).
fn is_run(folder: &Path) -> Result<bool> {
    let mut foreign = None;
    for entry in fs::read_dir(folder).map_err(io("list", folder))? {
        let name = entry.map_err(io("list", folder))?.file_name();
        match name.to_string_lossy().as_ref() {
            MANIFEST_FILE => return Ok(true),
            // Left by a process that was killed before its manifest was whole.
            LOCK_FILE | PARTIAL_FILE => {}
            other => foreign = Some(other.to_owned()),
        }
    }
    match foreign {
        None => Ok(false),
        Some(found) => Err(Error::NotARun {
            path: folder.to_path_buf(),
            found,
        }),
    }
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK_FILE);
    let file = (OpenOptions::new().create(true).append(true))
        .open(&path)
        .map_err(io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path }),
        // Some network file systems have no locks. The lock is advice; the run may go on.
        Err(TryLockError::Error(source)) if source.kind() == ErrorKind::Unsupported => {
            tracing::warn!("{} cannot be locked: {source}", path.display());
            Ok(file)
        }
        Err(TryLockError::Error(source)) => Err(io("lock", &path)(source)),
    }
}

/// Makes the folder's new entries durable. Only Unix lets a folder be opened and synced.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|file| file.sync_all())
            .map_err(io("sync", folder))?;
    }
    Ok(())
}
