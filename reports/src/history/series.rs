//! Which entries may be compared with each other.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Entry;

/// Everything that must be the same for two entries to be points of one series.
///
/// The engine's version is not among it: that a new one is slower is what a history should find.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Conditions {
    /// Fingerprint of the machine.
    pub machine: String,
    /// Engine, without its version.
    pub backend: String,
    /// Device.
    pub device: String,
    /// Element type of weights and activations.
    pub dtype: String,
    /// Worker threads.
    pub threads: Option<u32>,
    /// Settings of the engine.
    pub settings: BTreeMap<String, String>,
    /// Instruction sets of the kernels.
    pub simd: Vec<String>,
    /// Digest of the experiment.
    pub experiment: String,
}

impl Conditions {
    /// Of an entry.
    pub fn of(entry: &Entry) -> Self {
        let used = &entry.used;
        Self {
            machine: entry.machine.clone(),
            backend: entry.backend.clone(),
            device: used.device.clone(),
            dtype: used.dtype.clone(),
            threads: used.threads,
            settings: used.settings.clone(),
            simd: used.simd.clone(),
            experiment: entry.experiment.clone(),
        }
    }
}

/// A figure of a case over time, under the same conditions.
#[derive(Debug, Clone, PartialEq)]
pub struct Series<'a> {
    /// Case id.
    pub case: &'a str,
    /// Figure.
    pub figure: &'a str,
    /// What is the same throughout.
    pub conditions: Conditions,
    /// In the order of their times; of the same time, in that of the file. Never empty.
    pub entries: Vec<&'a Entry>,
    /// Whether the last run of this case and figure, under whatever conditions, is in it.
    pub newest: bool,
}

impl Series<'_> {
    /// Its values in milliseconds.
    pub fn values(&self) -> Vec<f64> {
        self.entries.iter().map(|entry| entry.value_ms).collect()
    }
}

/// Entries of one series, with their places in the file.
type Points<'a> = Vec<(usize, &'a Entry)>;

/// Entries sorted into series, by case, then in the order in which figures first appear; of one case
/// and figure the newest is last.
pub fn series(entries: &[Entry]) -> Vec<Series<'_>> {
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut groups: BTreeMap<(&str, &str), BTreeMap<Conditions, Points<'_>>> = BTreeMap::new();
    for (position, entry) in entries.iter().enumerate() {
        let name = (entry.case.as_str(), entry.figure.as_str());
        if !groups.contains_key(&name) {
            order.push(name);
        }
        let group = groups.entry(name).or_default();
        let points = group.entry(Conditions::of(entry)).or_default();
        points.push((position, entry));
    }
    // Stable: figures of a case stay in their order.
    order.sort_by_key(|(case, _)| *case);
    let mut all = Vec::new();
    for name in order {
        let mut found: Vec<(Conditions, Points<'_>)> = groups
            .remove(&name)
            .unwrap_or_default()
            .into_iter()
            .collect();
        // All times are UTC and of one length, so that text sorts as time does.
        let when = |(position, entry): &(usize, &Entry)| (entry.time.clone(), *position);
        for (_, points) in &mut found {
            points.sort_by_key(when);
        }
        found.sort_by_key(|(_, points)| points.last().map(when));
        let count = found.len();
        for (index, (conditions, points)) in found.into_iter().enumerate() {
            all.push(Series {
                case: name.0,
                figure: name.1,
                conditions,
                entries: points.into_iter().map(|(_, entry)| entry).collect(),
                newest: index + 1 == count,
            });
        }
    }
    all
}
