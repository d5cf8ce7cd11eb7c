//! `history.jsonl`: a line for each run, case and figure; lines are added and never changed.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    error::{Error, Result, io},
    record::{CaseOutcome, LatencySample, Machine, Run, Used, experiment_digest},
    stats::{Estimate, Interval},
    summary::{Figure, launch_medians},
};

/// Name of the file in the folder of a store.
pub const HISTORY_FILE: &str = "history.jsonl";
/// Version of a line that this tool writes and reads. Unknown keys are ignored.
pub const FORMAT: u32 = 1;

/// One figure of one case of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of the line, [`FORMAT`].
    pub format: u32,
    /// Digest of the run's manifest: which run it was.
    pub run: String,
    /// When the run was started, RFC 3339 in UTC.
    pub time: String,
    /// Commit of what was measured; `None` if nobody said.
    pub commit: Option<String>,
    /// [`fingerprint`] of the machine.
    pub machine: String,
    /// Its CPU, for people.
    pub cpu: Option<String>,
    /// Engine asked for.
    pub backend: String,
    /// What was really used.
    pub used: Used,
    /// Digest of the resolved experiment.
    pub experiment: String,
    /// Version of the tool, with its revision if that is known.
    pub tool: String,
    /// Case id.
    pub case: String,
    /// A latency figure, [`Figure::name`].
    pub figure: String,
    /// Median over launches of the medians of their repetitions, milliseconds.
    pub value_ms: f64,
    /// Interval of the median over launches; `None` below six of them, for repetitions of one launch
    /// say nothing about the next.
    pub interval: Option<Interval>,
    /// Launches.
    pub launches: usize,
    /// Timed repetitions of all launches.
    pub repetitions: usize,
}

/// A folder with a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// The store in a folder, which need not exist yet.
    pub fn new(folder: &Path) -> Self {
        Self {
            path: folder.join(HISTORY_FILE),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All lines in their order; none if there is no file yet.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::History`] for a line that is no entry, a torn last one included: which
    /// run it belonged to is for a person to say.
    pub fn read(&self) -> Result<Vec<Entry>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io("read", &self.path)(source)),
        };
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let invalid = |reason: String| Error::History {
                path: self.path.clone(),
                line: index + 1,
                reason,
            };
            let entry: Entry = serde_json::from_str(line).map_err(|e| invalid(e.to_string()))?;
            if entry.format > FORMAT {
                let reason = format!("format {} is newer than this tool's {FORMAT}", entry.format);
                return Err(invalid(reason));
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Adds the latencies of a run's cases that ended well, and returns them; none are added if there
    /// are none. The folder is made.
    ///
    /// # Errors
    /// [`Error::InHistory`] if the run is there already, [`Error::Locked`], those of [`Store::read`], and
    /// the system's refusal, after which the file is as long as before.
    pub fn add(&self, run: &Run, commit: Option<&str>) -> Result<Vec<Entry>> {
        let added = entries(run, commit);
        let Some(first) = added.first() else {
            return Ok(added);
        };
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(io("create", folder))?;
        }
        let mut file = (OpenOptions::new().create(true).append(true))
            .open(&self.path)
            .map_err(io("open", &self.path))?;
        // Held until the file is closed. Locks are advice; some network file systems have none.
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => {
                return Err(Error::Locked {
                    path: self.path.clone(),
                });
            }
            Ok(()) | Err(fs::TryLockError::Error(_)) => {}
        }
        // Read under the lock: another process may just have added the same run.
        if let Some(known) = self.read()?.iter().find(|entry| entry.run == first.run) {
            return Err(Error::InHistory {
                path: self.path.clone(),
                run: run.folder.clone(),
                commit: known.commit.clone().unwrap_or_else(|| "unknown".into()),
            });
        }
        let mut text = String::new();
        for entry in &added {
            let line = serde_json::to_string(entry).map_err(|source| Error::Encode { source })?;
            text.push_str(&line);
            text.push('\n');
        }
        self.append(&mut file, text.as_bytes())?;
        Ok(added)
    }

    /// One write; half of one is taken back.
    fn append(&self, file: &mut File, bytes: &[u8]) -> Result<()> {
        let length = file.metadata().map_err(io("read", &self.path))?.len();
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        written.map_err(|source| {
            // The first failure is the one to report.
            let _ = file.set_len(length);
            io("append to", &self.path)(source)
        })
    }
}

/// What a run gives to a history: a figure of a case is there if every timed repetition has it.
pub fn entries(run: &Run, commit: Option<&str>) -> Vec<Entry> {
    let manifest = &run.manifest;
    let identity = experiment_digest(&json!(manifest));
    let machine = fingerprint(&manifest.machine);
    let revision = manifest.tool.revision.as_deref();
    let mut entries = Vec::new();
    for case in run.case_ids() {
        let ended_well = (run.ends.get(case)).is_some_and(|end| end.outcome == CaseOutcome::Ok);
        let Some(facts) = run.cases.get(case).filter(|_| ended_well) else {
            continue;
        };
        let (timed, ended) = (run.timed(case), run.ended_launches(case));
        for figure in Figure::ALL {
            let Some((value_ms, interval, launches)) = over_launches(figure, &timed, &ended) else {
                continue;
            };
            entries.push(Entry {
                format: FORMAT,
                run: identity.clone(),
                time: manifest.started_at.clone(),
                commit: commit.map(str::to_owned),
                machine: machine.clone(),
                cpu: manifest.machine.cpu_model.clone(),
                backend: facts.labels.backend.clone(),
                used: facts.used.clone(),
                experiment: manifest.experiment_digest.clone(),
                tool: match revision {
                    Some(revision) => format!("{} ({revision})", manifest.tool.version),
                    None => manifest.tool.version.clone(),
                },
                case: case.to_owned(),
                figure: figure.name().to_owned(),
                value_ms,
                interval,
                launches,
                repetitions: timed.len(),
            });
        }
    }
    entries
}

/// Median over the launches that came to their end, its interval, and how many there are; over all launches of runs
/// of before ends were recorded.
fn over_launches(
    figure: Figure,
    timed: &[&LatencySample],
    ended: &BTreeSet<u32>,
) -> Option<(f64, Option<Interval>, usize)> {
    let all = || timed.iter().map(|sample| sample.launch).collect();
    let ended = match ended.is_empty() {
        true => &all(),
        false => ended,
    };
    let medians = launch_medians(timed, ended, figure)?;
    let medians: Vec<f64> = medians.into_values().collect();
    let over = Estimate::of(&medians)?;
    Some((over.median, over.interval, over.n))
}

/// Which machine it was, as far as its speed goes: a digest of CPU model, cores, usable threads,
/// memory in whole GiB, system, first number of the kernel's release, and instruction sets.
pub fn fingerprint(machine: &Machine) -> String {
    let kernel = machine.kernel.as_deref().and_then(|k| k.split('.').next());
    let gib = (machine.memory_bytes).map(|bytes| (bytes as f64 / (1_u64 << 30) as f64).round());
    let digest = experiment_digest(&json!({
        "cpu": machine.cpu_model,
        "cores": machine.cores,
        "threads": machine.threads,
        "memory_gib": gib,
        "os": machine.os,
        "kernel": kernel,
        "simd": machine.simd,
    }));
    // Enough to tell machines apart, and short enough to be read.
    digest.trim_start_matches("sha256:")[..16].to_owned()
}
