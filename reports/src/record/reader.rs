//! Reading a run folder: parsing the log line by line, dropping a torn end, removing duplicates.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{
    CPU, CaseEnd, CaseFacts, Exhibit, LatencySample, Launch, Manifest, Peak, RECORDS_FILE, Record,
    SampleOutcome, SampleRecord,
};
use crate::{
    error::{Error, Result, io},
    published::Series,
};

/// A run as read from its folder, without duplicates, in the order of the records.
#[derive(Debug, Clone)]
pub struct Run {
    /// The folder.
    pub folder: PathBuf,
    /// What was asked.
    pub manifest: Manifest,
    /// Facts by case id.
    pub cases: BTreeMap<String, CaseFacts>,
    /// Repetitions, warm-up included; one per case, launch, warm-up flag and iteration.
    pub latency: Vec<LatencySample>,
    /// Launches that came to the end of a case; one per case and number.
    pub launches: Vec<Launch>,
    /// Samples; one per case and sample id.
    pub samples: Vec<SampleRecord>,
    /// How cases ended, by case id: the outcome is the last one, the memory peak the largest.
    pub ends: BTreeMap<String, CaseEnd>,
    /// Samples that the gallery shows; one per suite, profile and id.
    pub exhibits: Vec<Exhibit>,
    /// What the machine can do at most, one per device and number of threads, in their order: the last.
    pub peaks: Vec<Peak>,
    /// Published series copied into the run, in order; one per id.
    pub published: Vec<Series>,
    /// Whether the log ends in a torn line (a run that was killed and not resumed yet).
    pub torn: bool,
}

impl Run {
    /// The peak of a device, that of a CPU on so many threads.
    pub fn peak(&self, device: &str, threads: Option<u32>) -> Option<&Peak> {
        self.peaks
            .iter()
            .rfind(|peak| peak.device == device && (device != CPU || Some(peak.threads) == threads))
    }

    /// Reads a run folder. Nothing on disk is changed.
    ///
    /// # Errors
    /// Those of [`Manifest::read`]; [`Error::Record`] for an invalid line that is not a torn end.
    pub fn read(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        let log = Log::read(&folder.join(RECORDS_FILE))?;
        Ok(Self::from_records(
            folder,
            manifest,
            log.records,
            log.torn.is_some(),
        ))
    }

    /// Builds a run from records that are already in memory.
    pub(super) fn from_records(
        folder: &Path,
        manifest: Manifest,
        records: Vec<Record>,
        torn: bool,
    ) -> Self {
        let mut run = Self {
            folder: folder.to_path_buf(),
            manifest,
            cases: BTreeMap::new(),
            latency: Vec::new(),
            launches: Vec::new(),
            samples: Vec::new(),
            ends: BTreeMap::new(),
            exhibits: Vec::new(),
            peaks: Vec::new(),
            published: Vec::new(),
            torn,
        };
        let mut firsts = Firsts::default();
        for record in records {
            match record {
                Record::Case(facts) => {
                    run.cases.entry(facts.case.clone()).or_insert(facts);
                }
                Record::Latency(sample) => {
                    if firsts.latency(&sample) {
                        run.latency.push(sample);
                    }
                }
                Record::Launch(launch) => {
                    let known = |l: &Launch| (&l.case, l.launch) == (&launch.case, launch.launch);
                    if !run.launches.iter().any(known) {
                        run.launches.push(launch);
                    }
                }
                Record::Sample(sample) => {
                    if firsts.sample(&sample) {
                        run.samples.push(sample);
                    }
                }
                Record::CaseEnd(mut end) => {
                    if let Some(earlier) = run.ends.get(&end.case) {
                        end.peak_rss_bytes = end.peak_rss_bytes.max(earlier.peak_rss_bytes);
                        end.peak_device_bytes =
                            end.peak_device_bytes.max(earlier.peak_device_bytes);
                    }
                    run.ends.insert(end.case.clone(), end);
                }
                Record::Exhibit(exhibit) => {
                    if run
                        .exhibits
                        .iter()
                        .all(|known| known.key() != exhibit.key())
                    {
                        run.exhibits.push(exhibit);
                    }
                }
                Record::Peak(peak) => {
                    let key = |peak: &Peak| (peak.device.clone(), peak.threads);
                    match run.peaks.binary_search_by_key(&key(&peak), key) {
                        Ok(at) => run.peaks[at] = peak,
                        Err(at) => run.peaks.insert(at, peak),
                    }
                }
                Record::Published(series) => {
                    if run.published.iter().all(|known| known.id != series.id) {
                        run.published.push(series);
                    }
                }
                Record::Unknown => tracing::debug!("a record of unknown kind was ignored"),
            }
        }
        run
    }

    /// Ids of all cases that were planned or recorded, in the order of the plan.
    pub fn case_ids(&self) -> Vec<&str> {
        let recorded = self.cases.keys().chain(self.ends.keys());
        let mut seen = BTreeSet::new();
        (self.manifest.plan.iter().chain(recorded))
            .map(String::as_str)
            .filter(|id| seen.insert(*id))
            .collect()
    }

    /// Timed repetitions of a case, in order.
    pub fn timed(&self, case: &str) -> Vec<&LatencySample> {
        let timed = self.latency.iter().filter(|s| s.case == case && !s.warm_up);
        timed.collect()
    }

    /// Numbers of the launches that came to the end of a case.
    pub fn ended_launches(&self, case: &str) -> BTreeSet<u32> {
        let ended = self.launches.iter().filter(|l| l.case == case);
        ended.map(|l| l.launch).collect()
    }

    /// Number of failed samples in the whole run.
    pub fn failed_samples(&self) -> usize {
        let failed =
            |sample: &&SampleRecord| matches!(sample.outcome, SampleOutcome::Failed { .. });
        self.samples.iter().filter(failed).count()
    }
}

/// Which records of repetitions and samples count: of several of one, the first.
#[derive(Debug, Default)]
pub(crate) struct Firsts {
    iterations: BTreeSet<(String, u32, bool, u32)>,
    samples: BTreeSet<(String, String)>,
}

impl Firsts {
    /// Whether a repetition was not there before.
    pub fn latency(&mut self, sample: &LatencySample) -> bool {
        let LatencySample {
            case,
            launch,
            warm_up,
            iteration,
            ..
        } = sample;
        self.iterations
            .insert((case.clone(), *launch, *warm_up, *iteration))
    }

    /// Whether a sample was not there before.
    pub fn sample(&mut self, sample: &SampleRecord) -> bool {
        self.samples
            .insert((sample.case.clone(), sample.sample.clone()))
    }
}

/// A record and the line of the log that it stands on, from 1.
#[derive(Debug, Clone)]
pub struct Line {
    /// Number of the line.
    pub number: usize,
    /// What it holds.
    pub record: Record,
}

/// All whole records of a log with their lines.
///
/// # Errors
/// Those of [`Run::read`] for the log.
pub fn lines(path: &Path) -> Result<impl Iterator<Item = Line>> {
    // A line that is no record is an error or the torn end, so that lines count as records do.
    let records = Log::read(path)?.records.into_iter().enumerate();
    Ok(records.map(|(index, record)| Line {
        number: index + 1,
        record,
    }))
}

/// A parsed record log.
pub(super) struct Log {
    /// All whole records.
    pub records: Vec<Record>,
    /// Offset of the torn end, if the log has one: everything from here on is to be dropped.
    pub torn: Option<u64>,
    /// Length of the whole part in bytes.
    pub length: u64,
}

impl Log {
    /// Parses the log. A last line that has no line feed or is not JSON is torn; any other
    /// invalid line is an error.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            // The process was killed after the manifest and before the first record.
            Err(source) if source.kind() == ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(io("read", path)(source)),
        };
        let mut records = Vec::new();
        let mut torn = None;
        let mut offset = 0;
        let mut line = 0;
        while offset < bytes.len() {
            line += 1;
            let Some(length) = bytes[offset..].iter().position(|&byte| byte == b'\n') else {
                torn = Some(offset as u64);
                break;
            };
            let end = offset + length;
            match serde_json::from_slice(&bytes[offset..end]) {
                Ok(record) => records.push(record),
                // A whole JSON value of the wrong shape was not torn: something else wrote it.
                Err(error) if end + 1 == bytes.len() && !error.is_data() => {
                    torn = Some(offset as u64);
                    break;
                }
                Err(error) => {
                    return Err(Error::Record {
                        path: path.to_path_buf(),
                        line,
                        reason: error.to_string(),
                    });
                }
            }
            offset = end + 1;
        }
        Ok(Self {
            records,
            torn,
            length: offset as u64,
        })
    }
}
