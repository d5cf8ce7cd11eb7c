//! The findings as text tables, table by table, and all of them for the terminal.

use super::{Block, Findings, Held, overview, verdict::Verdict};
use crate::table::{Align, Column, Table, column, milliseconds, or_dash};

pub(super) fn left(title: &str, rank: u8) -> Column {
    column(title, Align::Left, rank)
}

pub(super) fn right(title: &str, rank: u8) -> Column {
    column(title, Align::Right, rank)
}

fn times(ratio: Option<f64>) -> String {
    or_dash(ratio.map(|ratio| format!("{ratio:.2}x")))
}

fn span(range: Option<(f64, f64)>) -> String {
    or_dash(range.map(|(low, high)| format!("{low:.2} – {high:.2}")))
}

/// The verdict without a reason, which would widen its column; a question mark says that the range allows
/// for another.
fn said(verdict: &Verdict, sure: bool) -> String {
    match (verdict, sure) {
        (Verdict::NotComparable { .. }, _) => verdict.name().to_owned(),
        (_, true) => verdict.to_string(),
        (_, false) => format!("{verdict} ?"),
    }
}

/// Why rows of a table, or all of it, are not compared: a line for each reason.
pub fn reasons(held: &Held) -> Vec<String> {
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    let latencies = held.blocks.iter().flat_map(|block| &block.rows);
    let latencies = latencies.map(|row| (row.row.as_str(), &row.verdict));
    let scores = held.scores.iter().map(|s| (s.row.as_str(), &s.verdict));
    for (row, verdict) in latencies.chain(scores) {
        let Verdict::NotComparable { why } = verdict else {
            continue;
        };
        match by_reason.iter_mut().find(|(known, _)| known == why) {
            Some((_, rows)) if rows.contains(&row) => {}
            Some((_, rows)) => rows.push(row),
            None => by_reason.push((why, vec![row])),
        }
    }
    let of_rows = by_reason.into_iter();
    let of_rows = of_rows.map(|(why, rows)| format!("{}: {why}.", rows.join("; ")));
    let whole = held.not_comparable.iter().map(|why| format!("{why}."));
    whole.chain(of_rows).chain(held.left_out.clone()).collect()
}

/// Times of a table: theirs, ours, the ratios to the reference, and the ratio of these.
pub fn latencies(block: &Block) -> Table {
    let figure = block.figure.name();
    let mut table = Table::new(vec![
        left("row", 0),
        right(&format!("{figure} ms, theirs"), 2),
        right("ms, ours", 2),
        right("ratio, theirs", 0),
        right("ratio, ours", 0),
        right("range", 3),
        right("by FLOPs", 4),
        right("ours / theirs", 0),
        left("verdict", 0),
    ]);
    for row in &block.rows {
        table.push(vec![
            row.row.clone(),
            or_dash(row.theirs_ms.map(milliseconds)),
            or_dash(row.ours_ms.map(milliseconds)),
            times(row.theirs_ratio),
            times(row.ours_ratio),
            span(row.range),
            times(row.by_flops),
            or_dash(row.of_ratios.map(|r| format!("{r:.2}"))),
            said(&row.verdict, row.sure),
        ]);
    }
    table
}

/// Accuracies of a table, per cent.
pub fn scores(held: &Held) -> Table {
    let mut table = Table::new(vec![
        left("row", 0),
        left("metric", 0),
        left("asked as", 3),
        right("theirs", 0),
        right("ours", 0),
        right("95% interval", 1),
        right("n", 2),
        left("verdict", 0),
    ]);
    for score in &held.scores {
        let interval = score
            .interval
            .map(|i| format!("{:.1} – {:.1}", i.low, i.high));
        table.push(vec![
            score.row.clone(),
            score.metric.clone(),
            score.asked.clone(),
            format!("{:.1}", score.theirs),
            or_dash(score.ours.map(|ours| format!("{ours:.1}"))),
            or_dash(interval),
            or_dash(score.n.map(|n| n.to_string())),
            said(&score.verdict, true),
        ]);
    }
    table
}

/// The headline claims.
pub fn headlines(findings: &Findings) -> Table {
    let mut table = Table::new(vec![
        left("claim", 0),
        left("figure", 2),
        right("theirs", 0),
        right("ours", 0),
        right("range", 1),
        right("n", 3),
        right("by FLOPs", 2),
        right("ours / theirs", 0),
        left("verdict", 0),
    ]);
    for headline in &findings.headlines {
        table.push(vec![
            headline.claim.clone(),
            headline.figure.name().into(),
            times(headline.theirs),
            times(headline.ours),
            span(headline.range),
            or_dash(headline.n.map(|n| n.to_string())),
            times(headline.by_flops),
            or_dash(headline.of_ratios.map(|r| format!("{r:.2}"))),
            said(&headline.verdict, headline.sure),
        ]);
    }
    table
}

/// What was measured, table by table, and the overview of all, with the reasons of what is not compared. A
/// table with fewer than two rows measured is in the overview alone.
pub fn terminal(findings: &Findings, width: usize) -> String {
    let mut parts = Vec::new();
    let mut reasons_of = Vec::new();
    let mut part = |title: String, table: Table| {
        parts.push(format!("{title}\n\n{}", table.to_text(width)));
    };
    for held in &findings.tables {
        let blocks = held.blocks.iter().filter(|block| block.pairs > 0);
        let blocks: Vec<&Block> = blocks.collect();
        let scored = held.scores.iter().any(|score| score.ours.is_some());
        if !blocks.is_empty() || scored || held.not_comparable.is_some() {
            let of_table = reasons(held).into_iter();
            reasons_of.extend(of_table.map(|reason| format!("{}: {reason}\n", held.name)));
        }
        for block in blocks {
            let on = block.conditions.as_ref().map(|c| format!(" ({c})"));
            let on = on.unwrap_or_default();
            part(
                format!("{}: {}{on}", held.name, held.about),
                latencies(block),
            );
        }
        if scored {
            part(format!("{}: accuracy, per cent", held.name), scores(held));
        }
    }
    if findings.headlines.iter().any(|h| h.ours.is_some()) {
        part("Headline claims".into(), headlines(findings));
    }
    part(findings.title.clone(), overview::overview(findings));
    if !reasons_of.is_empty() {
        parts.push(format!("Not compared\n\n{}", reasons_of.concat()));
    }
    parts.join("\n")
}
