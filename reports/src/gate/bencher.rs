//! Bencher Metric Format: benchmark name -> measure slug -> value with optional bounds.
//!
//! A benchmark is a case. Measures of a latency figure are `<figure>-ms`, of a score `score` (points
//! of 100); of a candidate also `<figure>-change` (per cent) and `score-change` (points), because the
//! interval of a comparison is one of the change and not of the candidate's own value.

use serde_json::{Map, Value, json};

use super::{
    Comparison,
    measured::{self, Kind, Measured},
};
use crate::{report::Report, stats::Interval};

/// Finished runs; bounds are the intervals at 95%.
pub fn bencher_report(report: &Report) -> Value {
    render(&measured::of_report(report))
}

/// The candidate of a comparison.
pub fn bencher(comparison: &Comparison) -> Value {
    render(&measured::of_candidate(comparison))
}

fn render(all: &[Measured]) -> Value {
    let mut benchmarks = Map::new();
    for one in all {
        let name = match &one.kind {
            Kind::Latency(figure) => slug(figure),
            Kind::Score => "score".to_owned(),
        };
        let measures = (benchmarks.entry(one.case.clone())).or_insert_with(|| json!({}));
        let unit = if one.kind == Kind::Score { "" } else { "-ms" };
        measures[format!("{name}{unit}")] = metric(one.value, one.interval);
        if let Some((change, interval)) = one.change {
            measures[format!("{name}-change")] = metric(change, interval);
        }
    }
    Value::Object(benchmarks)
}

fn metric(value: f64, interval: Option<Interval>) -> Value {
    match interval {
        Some(i) => json!({"value": value, "lower_value": i.low, "upper_value": i.high}),
        None => json!({"value": value}),
    }
}

/// Lower case, digits and hyphens.
fn slug(text: &str) -> String {
    let safe = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '-',
    };
    let slug: String = text.chars().map(safe).collect();
    slug.trim_matches('-').to_owned()
}
