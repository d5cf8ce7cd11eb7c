//! github-action-benchmark's own formats: `customSmallerIsBetter` for latencies and
//! `customBiggerIsBetter` for scores. One file has one direction, so there are two.

use serde_json::{Value, json};

use super::{
    Comparison,
    measured::{self, Kind, Measured},
};
use crate::report::Report;

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Latencies: `customSmallerIsBetter`.
    Latencies,
    /// Scores: `customBiggerIsBetter`.
    Scores,
}

/// Finished runs.
pub fn action_benchmark_report(report: &Report, direction: Direction) -> Value {
    render(&measured::of_report(report), direction)
}

/// The candidate of a comparison.
pub fn action_benchmark(comparison: &Comparison, direction: Direction) -> Value {
    render(&measured::of_candidate(comparison), direction)
}

fn render(all: &[Measured], direction: Direction) -> Value {
    let wanted = |one: &&Measured| (one.kind == Kind::Score) == (direction == Direction::Scores);
    all.iter().filter(wanted).map(entry).collect()
}

fn entry(one: &Measured) -> Value {
    let (name, unit, of_change) = match &one.kind {
        Kind::Latency(figure) => (format!("{}: {figure}", one.case), "ms", "%"),
        Kind::Score => (format!("{}: score", one.case), "points", "points"),
    };
    let mut entry = json!({"name": name, "unit": unit, "value": one.value});
    let mut extra = vec![one.of.clone()];
    if let Some(i) = one.interval {
        // The tool draws and reads `± number`; the farther end, for intervals are not symmetric.
        let half = (i.high - one.value).max(one.value - i.low);
        entry["range"] = json!(format!("± {half:.3}"));
        extra.push(format!("interval {:.3} to {:.3}", i.low, i.high));
    }
    if let Some((change, interval)) = one.change {
        let of = interval.map_or(String::new(), |i| {
            format!(" ({:+.2} to {:+.2})", i.low, i.high)
        });
        extra.push(format!("{change:+.2}{of} {of_change} against the base"));
    }
    entry["extra"] = json!(extra.join("\n"));
    entry
}
