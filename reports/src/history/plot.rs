//! A history as pictures: one a case, a panel for each figure.

use std::collections::BTreeMap;

use super::{Change, Entry, Series, check::median, series};
use crate::plot::{Panel, SeriesMark, SeriesPlot};

/// Letters of a commit on the axis.
const COMMIT: usize = 8;

/// Pictures by case id, in the order of cases, with the [`super::changes`] of the entries. Values are drawn as per cent of the median of their
/// series: machines and experiments differ by more than any change, and are not to be compared.
pub fn pictures(entries: &[Entry], changes: &[Change]) -> Vec<(String, SeriesPlot)> {
    let all = series(entries);
    let mut cases: BTreeMap<&str, Vec<&Series<'_>>> = BTreeMap::new();
    for one in &all {
        cases.entry(one.case).or_default().push(one);
    }
    let of_case = |(case, all): (&str, Vec<&Series<'_>>)| {
        let changes: Vec<&Change> = changes.iter().filter(|c| c.case == case).collect();
        (case.to_owned(), picture(case, &all, &changes))
    };
    cases.into_iter().map(of_case).collect()
}

fn picture(case: &str, all: &[&Series<'_>], changes: &[&Change]) -> SeriesPlot {
    // Runs in order of time, whatever figures and conditions they have.
    let mut runs: BTreeMap<(&str, &str), &Entry> = BTreeMap::new();
    for entry in all.iter().flat_map(|s| &s.entries) {
        runs.entry((&entry.time, &entry.run)).or_insert(entry);
    }
    let position = |entry: &Entry| {
        let key = (entry.time.as_str(), entry.run.as_str());
        runs.keys().position(|known| *known == key).unwrap_or(0)
    };
    let label = |entry: &&Entry| match &entry.commit {
        Some(commit) => commit.chars().take(COMMIT).collect(),
        None => entry.time.get(..10).unwrap_or(&entry.time).to_owned(),
    };
    let mut panels: Vec<Panel> = Vec::new();
    for one in all {
        let middle = median(&one.values());
        let line = (one.entries.iter()).map(|entry| {
            let of = |ms: f64| 100.0 * (ms / middle - 1.0);
            (position(entry), of(entry.value_ms))
        });
        let line: Vec<(usize, f64)> = line.filter(|(_, value)| value.is_finite()).collect();
        let title = format!("{}, {} ms", one.figure, crate::table::milliseconds(middle));
        let marks = changes
            .iter()
            .filter(|c| c.is_of(one))
            .filter_map(|change| {
                let after = one
                    .entries
                    .iter()
                    .find(|e| e.time == change.first_after_at && e.commit == change.first_after)?;
                Some(SeriesMark {
                    before: position(after) as f64 - 0.5,
                    label: format!("{:+.1} %", 100.0 * change.change),
                    worse: change.change > 0.0,
                })
            });
        let marks: Vec<SeriesMark> = marks.collect();
        // The newest series of a figure gives the panel its title: it is the last.
        match panels.last_mut().filter(|panel| panel.name == one.figure) {
            Some(panel) => {
                panel.title = title;
                panel.lines.push(line);
                panel.marks.extend(marks);
            }
            None => panels.push(Panel {
                name: one.figure.to_owned(),
                title,
                lines: vec![line],
                marks,
            }),
        }
    }
    SeriesPlot {
        title: case.to_owned(),
        subtitle: format!("{} runs, per cent of each series' median", runs.len()),
        caption: vec![
            "A line is a series of runs on one machine, with one engine and experiment; lines are \
             not to be compared with each other. Dashed: a lasting change, with its size."
                .to_owned(),
        ],
        labels: runs.values().map(label).collect(),
        panels,
    }
}
