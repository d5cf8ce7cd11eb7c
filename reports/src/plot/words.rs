//! Titles and captions of a picture: what was measured, what was published, and by whom.

use std::collections::BTreeSet;

use super::data::{Placed, Reference};
use crate::{
    record::CaseFacts,
    report::{AccuracySource, Report},
    summary::CaseSummary,
};

pub(super) fn title(source: AccuracySource<'_>) -> String {
    let accuracy = match source {
        AccuracySource::Published(series) => {
            format!(
                "{} (published)",
                series.metric.as_deref().unwrap_or("accuracy")
            )
        }
        AccuracySource::Mean => "mean of all suites (measured)".to_owned(),
        AccuracySource::Measured { suite, .. } => format!("{suite} (measured)"),
    };
    format!("{accuracy} against time to first token")
}

pub(super) fn y_title(source: AccuracySource<'_>) -> String {
    match source {
        AccuracySource::Published(series) => {
            let metric = series.metric.as_deref().unwrap_or("accuracy");
            match series.decoders().as_slice() {
                [decoder] => format!("{metric} with {decoder}, published (%)"),
                _ => format!("{metric}, published (%)"),
            }
        }
        AccuracySource::Mean => "mean of all suites, measured (%)".to_owned(),
        AccuracySource::Measured { suite, profile } => {
            format!("{suite}, profile {profile}, measured (%)")
        }
    }
}

pub(super) fn x_title(source: AccuracySource<'_>, placed: &[Placed<'_>]) -> String {
    let seeded = placed
        .iter()
        .filter(|p| p.facts.weights.is_seeded())
        .count();
    let weights = match seeded {
        0 => "",
        n if n == placed.len() => ", seeded weights",
        _ => ", some with seeded weights",
    };
    let decoder = match decoders(source, placed).as_slice() {
        [decoder] => format!(" with {decoder}"),
        _ => String::new(),
    };
    format!("TTFT{decoder} = encode + prefill, measured here{weights} (log scale)")
}

/// Distinct decoders of the timed cases, spelt as in the publication.
fn decoders<'a>(source: AccuracySource<'a>, placed: &'a [Placed<'_>]) -> Vec<&'a str> {
    let distinct: BTreeSet<&str> = (placed.iter())
        .filter_map(|placed| placed.facts.labels.decoder.as_deref())
        .map(|decoder| match source {
            AccuracySource::Published(series) => series.canonical(decoder),
            AccuracySource::Measured { .. } | AccuracySource::Mean => decoder,
        })
        .collect();
    distinct.into_iter().collect()
}

/// Engines, devices, precisions, threads and processors of cases, for the line below a picture's title.
pub(crate) fn conditions(report: &Report, cases: &[(&CaseSummary, &CaseFacts)]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut add = |value: &dyn Fn(&CaseSummary, &CaseFacts) -> Option<String>| {
        let values = cases.iter();
        let values: BTreeSet<String> = values.filter_map(|(s, facts)| value(s, facts)).collect();
        let values: Vec<String> = values.into_iter().filter(|v| !v.is_empty()).collect();
        if !values.is_empty() {
            parts.push(values.join(" / "));
        }
    };
    add(&|_, facts| Some(facts.labels.backend.clone()));
    add(&|_, facts| Some(facts.labels.device.clone()));
    add(&|_, facts| Some(facts.labels.precision.clone()));
    add(&|_, facts| facts.used.threads.map(|n| format!("{n} threads")));
    add(&|summary, _| {
        let manifest = &report.runs[summary.run].manifest;
        manifest.machine.cpu_model.clone()
    });
    parts.join(" · ")
}

pub(super) fn caption(
    report: &Report,
    source: AccuracySource<'_>,
    placed: &[Placed<'_>],
    missing: &[String],
    reference: Option<&Reference>,
) -> Vec<String> {
    let mut lines = Vec::new();
    match source {
        AccuracySource::Published(series) => {
            let metric = series.metric.as_deref().unwrap_or("accuracy");
            let publication = (series.publication.as_ref())
                .map_or(String::new(), |p| format!("{}, {}: ", p.title, p.url));
            let tables = sources(
                placed
                    .iter()
                    .filter_map(|p| p.published.as_ref())
                    .map(|m| m.point.source.to_string()),
            );
            let definition = (series.metric_definition.as_ref())
                .map_or(String::new(), |definition| format!(" = {definition}"));
            lines.push(format!(
                "{metric}{definition}. Source: {publication}{tables}; {}.",
                series.setup
            ));
            let mut matches = placed.iter().filter_map(|p| p.published.as_ref());
            if matches.any(|found| !found.same_decoder) {
                lines.push(format!(
                    "The accuracies were obtained with another decoder than the one timed here ({}).",
                    decoders(source, placed).join(", "),
                ));
            }
        }
        AccuracySource::Mean => {
            let suites = report.suites().into_iter();
            let of: Vec<String> = suites
                .map(|(suite, profile)| format!("{suite} ({profile})"))
                .collect();
            let of = of.join(", ");
            lines.push(format!("Mean of {of}; bars are 95% intervals."));
        }
        AccuracySource::Measured { suite, profile } => {
            lines.push(format!(
                "{suite} scored with profile {profile}; bars are 95% intervals."
            ));
        }
    }
    let mut times = String::from("Points: median TTFT; bars: its 95% interval.");
    if let Some(reference) = reference {
        let tables = sources(reference.points.iter().map(|point| point.source.clone()));
        times.push_str(&format!(
            " Hollow marks: TTFT {}, from {tables}.",
            reference.title
        ));
    }
    lines.push(times);
    let blind = blind(report, source, placed);
    if !blind.is_empty() {
        lines.push(format!("With the image withheld: {blind}."));
    }
    if !missing.is_empty() {
        lines.push(format!(
            "Not drawn, no accuracy known: {}.",
            missing.join("; ")
        ));
    }
    lines
}

/// What the placed models score without seeing, each once.
fn blind(report: &Report, source: AccuracySource<'_>, placed: &[Placed<'_>]) -> String {
    let mut found: Vec<String> = Vec::new();
    for placed in placed {
        if let Some(score) = report.blind(placed.summary, source) {
            let entry = format!("{} {:.1} %", placed.facts.labels.encoder, 100.0 * score);
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
    }
    found.join(", ")
}

/// Distinct sources in order of appearance.
fn sources(all: impl Iterator<Item = String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for source in all {
        if !distinct.contains(&source) {
            distinct.push(source);
        }
    }
    distinct.join(", ")
}
