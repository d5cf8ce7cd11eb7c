//! Between which commits a figure changed, whether it is slower now, and how much runs of the same
//! code differ.

use serde::Serialize;

use super::{Conditions, Detector, Entry, Series, series};

/// What counts as being slower now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A slowdown with more runs than this after it is the new normal, and no longer an alarm.
    pub recent: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { recent: 20 }
    }
}

/// A lasting change of a figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Case id.
    pub case: String,
    /// Figure.
    pub figure: String,
    /// What was the same before and after.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// Commit of the last run before it.
    pub last_before: Option<String>,
    /// When that run was started.
    pub last_before_at: String,
    /// Commit of the first run after it: the change was made after `last_before`, up to this one.
    pub first_after: Option<String>,
    /// When that run was started.
    pub first_after_at: String,
    /// Engines before and after, where they differ: a cause, perhaps.
    pub engines: Option<(String, String)>,
    /// Median before it, milliseconds.
    pub before_ms: f64,
    /// Median after it, milliseconds.
    pub after_ms: f64,
    /// `after / before - 1`.
    pub change: f64,
    /// Chance of such a change or a greater one if there is none.
    pub p: f64,
    /// Runs since, up to the next change or the end.
    pub runs_after: usize,
    /// Whether it makes a check fail: a slowdown, the last change of the newest series of its case and
    /// figure, and recent.
    pub slower_now: bool,
}

/// All changes, series by series. Entries are sorted into series before anything is looked for: a
/// change of machine is none of the code.
pub fn changes(entries: &[Entry], detector: Detector, rules: Rules) -> Vec<Change> {
    let all = series(entries);
    all.iter()
        .flat_map(|s| of_series(s, detector, rules))
        .collect()
}

impl Change {
    /// Whether it is one of that series.
    pub fn is_of(&self, series: &Series<'_>) -> bool {
        (self.case == series.case && self.figure == series.figure)
            && self.conditions == series.conditions
    }
}

/// Whether a check of these changes fails.
pub fn slower_now(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.slower_now)
}

fn of_series(series: &Series<'_>, detector: Detector, rules: Rules) -> Vec<Change> {
    let shifts = detector(&series.values());
    let count = series.entries.len();
    let mut changes = Vec::new();
    for (at, shift) in shifts.iter().enumerate() {
        // A detector that is wrong about its own values has found nothing.
        let inside = (1..count).contains(&shift.index);
        let change = shift.after / shift.before - 1.0;
        if !inside || !change.is_finite() {
            continue;
        }
        let next = shifts.get(at + 1);
        let runs_after = next.map_or(count, |next| next.index) - shift.index;
        let (before, after) = (series.entries[shift.index - 1], series.entries[shift.index]);
        let engine = |entry: &Entry| entry.used.engine.clone().unwrap_or_default();
        let engines = (engine(before), engine(after));
        changes.push(Change {
            case: series.case.to_owned(),
            figure: series.figure.to_owned(),
            conditions: series.conditions.clone(),
            last_before: before.commit.clone(),
            last_before_at: before.time.clone(),
            first_after: after.commit.clone(),
            first_after_at: after.time.clone(),
            engines: Some(engines).filter(|(before, after)| before != after),
            before_ms: shift.before,
            after_ms: shift.after,
            change,
            p: shift.p,
            runs_after,
            slower_now: series.newest
                && next.is_none()
                && change > 0.0
                && runs_after <= rules.recent,
        });
    }
    changes
}

/// Fewest runs of which a spread is given.
const LEAST_RUNS: usize = 3;

/// How much runs of the same speed differ on a machine: the standard deviation of the logarithms of
/// their medians, over the runs of the newest series of the case and figure on that machine since its
/// last change. About the relative difference that one run has by chance; two unpaired runs differ by
/// sqrt(2) of it. `None` below three runs.
pub fn session_spread(
    entries: &[Entry],
    case: &str,
    figure: &str,
    fingerprint: &str,
) -> Option<f64> {
    spread_with(entries, case, figure, fingerprint, super::detect)
}

pub(super) fn spread_with(
    entries: &[Entry],
    case: &str,
    figure: &str,
    fingerprint: &str,
    detector: Detector,
) -> Option<f64> {
    let all = series(entries);
    // Of a case and figure the newest series is the last.
    let found = all
        .iter()
        .rfind(|s| s.case == case && s.figure == figure && s.conditions.machine == fingerprint)?;
    let values = found.values();
    let since = detector(&values).last().map_or(0, |shift| shift.index);
    let logs: Vec<f64> = values
        .get(since..)?
        .iter()
        .map(|value| value.ln())
        .collect();
    let n = logs.len();
    if n < LEAST_RUNS || logs.iter().any(|log| !log.is_finite()) {
        return None;
    }
    let mean = logs.iter().sum::<f64>() / n as f64;
    let squares: f64 = logs.iter().map(|log| (log - mean).powi(2)).sum();
    Some((squares / (n - 1) as f64).sqrt())
}

/// Median of values in any order; not a number without any.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    crate::stats::quantile(&sorted, 0.5).unwrap_or(f64::NAN)
}
