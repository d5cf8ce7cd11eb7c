//! How far a paper was reproduced, a row for each figure of each table.

use super::{
    Findings,
    tables::{left, right},
    verdict::Verdict,
};
use crate::table::{Table, or_dash};

/// A figure of a table, the accuracies of one, or the headline claims.
struct Line<'a> {
    name: &'a str,
    figure: &'a str,
    verdicts: Vec<&'a Verdict>,
    measured: usize,
    /// Rows in the published order.
    order: Option<String>,
    /// Conditions.
    on: Option<String>,
}

/// How far a paper's tables were reproduced: a row for each figure of each table and the conditions that it
/// was measured under, then one for its accuracies, last one for the headline claims.
pub fn overview(findings: &Findings) -> Table {
    let mut table = Table::new(vec![
        left("table", 0),
        left("figure", 0),
        right("rows", 0),
        right("measured", 0),
        right("reproduced", 0),
        right("ordering only", 1),
        right("differs", 0),
        right("same order", 0),
        left("measured on", 2),
        left("or why not", 0),
    ]);
    for held in &findings.tables {
        for block in &held.blocks {
            let unsure = match block.unsure {
                0 => String::new(),
                n => format!(" ({n} unsure)"),
            };
            let same = block.same_order;
            table.push(row(Line {
                name: &held.name,
                figure: block.figure.name(),
                verdicts: block.rows.iter().map(|row| &row.verdict).collect(),
                measured: block.measured(),
                order: (block.pairs > 0).then(|| format!("{same} of {}{unsure}", block.pairs)),
                on: block.conditions.as_ref().map(ToString::to_string),
            }));
        }
        if !held.scores.is_empty() {
            table.push(row(Line {
                name: &held.name,
                figure: "accuracy",
                verdicts: held.scores.iter().map(|score| &score.verdict).collect(),
                measured: held.scores.iter().filter(|s| s.ours.is_some()).count(),
                order: None,
                on: None,
            }));
        }
        if held.not_comparable.is_some() {
            let mut row = vec![String::new(); 10];
            (row[0], row[9]) = (held.name.clone(), "not comparable".into());
            table.push(row);
        }
    }
    let headlines = &findings.headlines;
    if !headlines.is_empty() {
        table.push(row(Line {
            name: "headline claims",
            figure: "ratio",
            verdicts: headlines.iter().map(|h| &h.verdict).collect(),
            measured: headlines.iter().filter(|h| h.ours.is_some()).count(),
            order: None,
            on: None,
        }));
    }
    table
}

fn row(line: Line<'_>) -> Vec<String> {
    let verdicts = &line.verdicts;
    let count = |names: &[&str]| {
        let named = verdicts.iter().filter(|v| names.contains(&v.name()));
        named.count()
    };
    let unmeasured = verdicts.iter().find(|verdict| {
        matches!(
            verdict,
            Verdict::NotMeasured { .. } | Verdict::NoReference { .. }
        )
    });
    let left_out = match count(&["not comparable"]) {
        0 => None,
        n => Some(format!("{n} not comparable")),
    };
    let why = unmeasured.map(ToString::to_string).into_iter();
    let why: Vec<String> = why.chain(left_out).collect();
    vec![
        line.name.to_owned(),
        line.figure.to_owned(),
        verdicts.len().to_string(),
        line.measured.to_string(),
        count(&["ratio reproduced", "reproduced"]).to_string(),
        count(&["ordering only"]).to_string(),
        count(&["ratio differs", "differs"]).to_string(),
        or_dash(line.order),
        or_dash(line.on),
        why.join("; "),
    ]
}
