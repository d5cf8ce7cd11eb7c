//! A ledger for every case: where its time goes, what it is made of, and where that is recorded.

use maud::{Markup, html};

use crate::{
    breakdown,
    energy::{Consumer, joules},
    record::{CaseFacts, MANIFEST_FILE, RECORDS_FILE, Weights},
    report::Report,
    summary::{CaseSummary, Figure},
    table::{self, Align, Table, column, milliseconds, or_dash},
};

/// All ledgers as a section; `None` without cases.
pub fn all(report: &Report) -> Option<Markup> {
    let entries: Vec<Markup> = (report.summaries.iter().enumerate())
        .map(|(index, summary)| entry(report, index, summary))
        .collect();
    (!entries.is_empty()).then(|| {
        html! {
            section id="ledgers" {
                h2 { "Ledgers" }
                p {
                    "What each case is made of. The record lines behind a figure: "
                    code { "vlmbench report RUN --explain CASE" } "."
                }
                @for entry in &entries { (entry) }
            }
        }
    })
}

fn entry(report: &Report, index: usize, summary: &CaseSummary) -> Markup {
    let name = table::case_name(report, summary);
    let run = &report.runs[summary.run];
    let times = times(summary);
    let stages = stages(report, summary);
    html! {
        details id={ "case-" (index) } {
            summary { (name) " – " (brief(summary)) }
            @if !times.is_empty() { (times.to_html(&format!("Figures of {name}"))) }
            @if !stages.is_empty() { (stages.to_html(&format!("Stages of {name}"))) }
            dl {
                @for (key, value) in facts(summary) { dt { (key) } dd { (value) } }
                dt { "recorded in" }
                dd { code { (run.folder.join(RECORDS_FILE).display()) } " and " code { (MANIFEST_FILE) } }
            }
        }
    }
}

/// The figure that a reader looks for first.
fn brief(summary: &CaseSummary) -> String {
    let accuracy = summary
        .accuracy
        .as_ref()
        .map(|a| format!("{:.1} % of {}", 100.0 * a.mean(), a.n));
    let ttft = summary
        .figure(Figure::TtftPaper)
        .or_else(|| summary.figure(Figure::Encode));
    let time = ttft.map(|e| format!("{} ms", milliseconds(e.median)));
    accuracy.or(time).unwrap_or_else(|| table::outcome(summary))
}

fn times(summary: &CaseSummary) -> Table {
    let right = |title: &str| column(title, Align::Right, 0);
    let mut table = Table::new(vec![
        column("figure", Align::Left, 0),
        right("median ms"),
        right("95% interval"),
        right("least"),
        right("most"),
        right("n"),
    ]);
    for figure in Figure::ALL {
        if let Some(e) = summary.figure(figure) {
            let interval = e
                .interval
                .map(|i| format!("{} – {}", milliseconds(i.low), milliseconds(i.high)));
            table.push(vec![
                figure.name().into(),
                milliseconds(e.median),
                or_dash(interval),
                milliseconds(e.min),
                milliseconds(e.max),
                e.n.to_string(),
            ]);
        }
    }
    table
}

fn stages(report: &Report, summary: &CaseSummary) -> Table {
    let stages = breakdown::stages(&report.runs[summary.run], summary);
    let mut columns = vec![column("stage", Align::Left, 0)];
    let with_device = breakdown::told(&stages);
    columns.extend(breakdown::columns(with_device));
    let mut table = Table::new(columns);
    let total: f64 = stages.iter().map(|stage| stage.time.median).sum();
    for stage in &stages {
        let mut row = vec![stage.figure.name().to_owned()];
        row.extend(breakdown::cells(stage, total, with_device));
        table.push(row);
    }
    table
}

fn facts(summary: &CaseSummary) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&'static str, String)> = vec![("outcome", table::outcome(summary))];
    if let Some(accuracy) = &summary.accuracy {
        let interval = accuracy.interval();
        let interval = interval.map(|i| format!(" ({:.1} – {:.1})", 100.0 * i.low, 100.0 * i.high));
        all.push((
            "accuracy",
            format!(
                "{:.1} %{} of {} samples; {} failed, {} unparsed, {} truncated",
                100.0 * accuracy.mean(),
                interval.unwrap_or_default(),
                accuracy.n,
                accuracy.failed,
                accuracy.unparsed,
                accuracy.truncated
            ),
        ));
    }
    if let Some(bytes) = summary.peak_memory_bytes() {
        all.push(("peak memory", format!("{} MiB", bytes >> 20)));
    }
    all.extend(energy(summary).map(|text| ("energy", text)));
    if let Some(facts) = &summary.facts {
        all.extend(of_model(facts));
    }
    all
}

/// Joules of a request, or why they are not known; `None` in runs of before they were recorded.
fn energy(summary: &CaseSummary) -> Option<String> {
    let figure = |consumer: Consumer| {
        let estimate = summary.energy.figure(consumer)?;
        let of = match consumer {
            Consumer::Device => "the device",
            Consumer::Host => "the host's packages",
        };
        let n = estimate.n;
        let launches = if n == 1 { "launch" } else { "launches" };
        Some(format!(
            "{} J a request of {of}, {n} {launches}",
            joules(estimate.median)
        ))
    };
    let figures = Consumer::ALL.into_iter().filter_map(figure);
    let missing = summary.energy.missing.iter();
    let missing = missing.map(|why| format!("not measured: {why}"));
    let parts: Vec<String> = figures.chain(missing).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn of_model(facts: &CaseFacts) -> Vec<(&'static str, String)> {
    let labels = &facts.labels;
    let used = &facts.used;
    let weights = match &facts.weights {
        Weights::Seeded { seed } => format!("seeded with {seed}: right shapes, random values"),
        Weights::Checkpoint { origin, digests } => {
            let files = digests
                .iter()
                .map(|(file, digest)| format!("{file} {digest}"));
            let files: Vec<String> = files.collect();
            match files.is_empty() {
                true => origin.clone(),
                false => format!("{origin}: {}", files.join(", ")),
            }
        }
    };
    let parameters: Vec<String> = (facts.components.iter())
        .map(|(part, c)| format!("{part} {:.1} M", c.parameters as f64 / 1e6))
        .collect();
    let input = match labels.blind {
        true => "withheld".to_owned(),
        false => format!("{0} x {0} px", labels.resolution),
    };
    let settings = used
        .settings
        .iter()
        .map(|(key, value)| format!("{key} {value}"));
    let settings: Vec<String> = settings.collect();
    let engine = used
        .engine
        .clone()
        .unwrap_or_else(|| labels.backend.clone());
    let threads = used
        .threads
        .map_or(String::new(), |n| format!(", {n} threads"));
    let count = |n: Option<u32>| n.map_or("varies".to_owned(), |n| n.to_string());
    let mut all = vec![
        ("model", labels.model.clone()),
        ("encoder", labels.encoder.clone()),
        (
            "language model",
            labels.decoder.clone().unwrap_or_else(|| "none".into()),
        ),
        ("image", input),
        ("visual tokens", count(facts.visual_tokens)),
        ("text tokens", count(facts.prompt_tokens)),
        ("weights", weights),
        ("parameters", parameters.join(", ")),
        (
            "really used",
            format!(
                "{engine} on {}, {}{threads}, {}",
                used.device,
                used.dtype,
                used.simd.join(" ")
            ),
        ),
        ("settings", settings.join(", ")),
    ];
    all.retain(|(_, value)| !value.is_empty());
    all
}
