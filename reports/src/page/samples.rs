//! Samples with their pictures and what every model answered, failures and the worst first; and where two runs
//! answered differently.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use maud::{Markup, html};

use super::data_url;
use crate::{
    gallery::{self, Key, Shown, Suite},
    gate::{self, ChangedAnswer, ScoreChange},
    record::Run,
    report::Report,
};

/// Answers that two runs gave differently, of one case; the rest are counted.
const MOST_FLIPS: usize = 200;

/// Room in the page for pictures; what finds none stays beside its run.
pub struct Room {
    bytes: usize,
}

impl Room {
    /// Of a whole page.
    pub fn new() -> Room {
        Room { bytes: 12 << 20 }
    }

    /// The picture itself while there is room, else where it lies.
    fn picture(&mut self, path: &Path, sample: &str) -> Markup {
        let bytes = fs::read(path)
            .ok()
            .filter(|bytes| bytes.len() <= self.bytes);
        let Some((bytes, mime)) = bytes.zip(mime(path)) else {
            return html! { p.note { "Picture: " code { (path.display()) } } };
        };
        self.bytes -= bytes.len();
        html! {
            img loading="lazy" src=(data_url(mime, &bytes)) alt={ "The picture that is asked about in " (sample) };
        }
    }

    fn pictures(&mut self, paths: &[PathBuf], sample: &str) -> Vec<Markup> {
        let pictures = paths.iter().map(|path| self.picture(path, sample));
        pictures.collect()
    }
}

fn mime(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        _ => return None,
    })
}

/// The samples of the gallery as a section; `None` without any.
pub fn gallery(suites: &[Suite<'_>], room: &mut Room) -> Option<Markup> {
    let mut parts = Vec::new();
    for suite in suites {
        let cards = suite.listed().map(|shown| card(shown, room));
        let cards: Vec<Markup> = cards.collect();
        parts.push(html! {
            details.gallery open {
                summary { (suite.suite) ", " (suite.profile) ": " (cards.len()) " samples" }
                @for card in &cards { (card) }
            }
        });
    }
    (!parts.is_empty()).then(|| {
        html! {
            section id="samples" {
                h2 { "Samples" }
                p {
                    "Of every case the failures, the worst answers and some right ones, with what all others answered to \
                     the same: failures first, then by rising mean score."
                }
                @for part in &parts { (part) }
            }
        }
    })
}

fn card(shown: &Shown<'_>, room: &mut Room) -> Markup {
    let exhibit = shown.exhibit;
    let pictures = room.pictures(&shown.pictures, &exhibit.sample);
    html! {
        article.sample {
            h3 { (exhibit.sample) }
            div.asked {
                div.pictures { @for picture in &pictures { (picture) } }
                div {
                    blockquote { @for line in exhibit.question.lines() { p { (line) } } }
                    p { "Right: " (right(&exhibit.references)) }
                    (answers(shown))
                }
            }
        }
    }
}

fn answers(shown: &Shown<'_>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label={ "Answers to " (shown.exhibit.sample) } { table {
            thead { tr {
                th scope="col" { "model" }
                th.number scope="col" { "input" }
                th scope="col" { "answer" }
                th.number scope="col" { "points" }
                th.number scope="col" { "encode ms" }
                th.number scope="col" { "prefill ms" }
                th.number scope="col" { "tokens out" }
            } }
            tbody { @for answer in &shown.answers {
                tr class=[class(answer.points >= 100.0, answer.points <= 0.0)] {
                    th scope="row" { (answer.model) }
                    td.number { (answer.input) }
                    td { (answer.answer) }
                    td.number { (answer.mark) }
                    td.number { (answer.encode_ms) }
                    td.number { (answer.prefill_ms) }
                    td.number { (answer.tokens) }
                }
            } }
        } }
    }
}

fn right(references: &[String]) -> Markup {
    html! {
        @for (i, reference) in references.iter().enumerate() {
            @if i > 0 { ", " } code { (reference) }
        }
    }
}

/// How a row is tinted. The points beside say the same.
fn class(right: bool, wrong: bool) -> Option<&'static str> {
    match (right, wrong) {
        (true, _) => Some("right"),
        (_, true) => Some("wrong"),
        _ => None,
    }
}

/// Samples that two runs scored differently, side by side; `None` unless there are two runs with scored cases in
/// common. The pairs are those of the gate.
pub fn flips(report: &Report, suites: &[Suite<'_>], room: &mut Room) -> Option<Markup> {
    let [base, candidate] = report.runs.as_slice() else {
        return None;
    };
    let changes = gate::scored(base, candidate, &gate::Settings::default());
    if changes.is_empty() {
        return None;
    }
    let shown = suites.iter().flat_map(|suite| &suite.shown);
    let shown: HashMap<Key<'_>, &Shown<'_>> = shown.map(|s| (s.exhibit.key(), s)).collect();
    let parts = changes.iter().map(|change| html! {
        details open[!change.changed.is_empty() && change.changed.len() <= 20] {
            summary {
                (change.case) ": " (change.changed.len()) " of " (change.samples) ", "
                (format!("{:.1} to {:.1} points", change.base, change.candidate))
            }
            @if change.changed.len() > MOST_FLIPS {
                p.note { "The " (MOST_FLIPS) " that changed most; all of them are in the runs' records." }
            }
            @if !change.changed.is_empty() { (changed(base, change, &shown, room)) }
        }
    });
    let parts: Vec<Markup> = parts.collect();
    Some(html! {
        section id="flips" {
            h2 { "Answers that differ" }
            p {
                "Samples that run 1 and run 2 scored differently, by case: what was lost first, then what was gained. \
                 Pictures and questions of those that either run's gallery has."
            }
            @for part in &parts { (part) }
        }
    })
}

fn changed(
    base: &Run,
    change: &ScoreChange,
    shown: &HashMap<Key<'_>, &Shown<'_>>,
    room: &mut Room,
) -> Markup {
    let mut changed: Vec<&ChangedAnswer> = change.changed.iter().collect();
    let gain = |answer: &ChangedAnswer| answer.candidate_points - answer.base_points;
    changed.sort_by(|a, b| gain(b).abs().total_cmp(&gain(a).abs()));
    changed.truncate(MOST_FLIPS);
    changed.sort_by(|a, b| gain(a).total_cmp(&gain(b)));
    let facts = base.cases.get(&change.case);
    let rows = changed.into_iter().map(|answer| {
        let key = facts.and_then(|facts| gallery::key(facts, &answer.sample));
        let shown = key.and_then(|key| shown.get(&key));
        let pictures = shown.map_or(Vec::new(), |s| room.pictures(&s.pictures, &answer.sample));
        html! {
            tr class=[class(gain(answer) > 0.0, gain(answer) < 0.0)] {
                th scope="row" { (answer.sample) @for picture in &pictures { (picture) } }
                td { @if let Some(shown) = shown { @for line in shown.exhibit.question.lines() { p { (line) } } } }
                td { @if let Some(shown) = shown { (right(&shown.exhibit.references)) } }
                td { (answer.base.as_deref().unwrap_or("failed")) }
                td.number { (format!("{:.0}", answer.base_points)) }
                td { (answer.candidate.as_deref().unwrap_or("failed")) }
                td.number { (format!("{:.0}", answer.candidate_points)) }
            }
        }
    });
    let rows: Vec<Markup> = rows.collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label={ "Changed answers of " (change.case) } { table.flips {
            thead { tr {
                th scope="col" { "sample" }
                th scope="col" { "question" }
                th scope="col" { "right" }
                th scope="col" { "run 1" }
                th.number scope="col" { "points" }
                th scope="col" { "run 2" }
                th.number scope="col" { "points" }
            } }
            tbody { @for row in &rows { (row) } }
        } }
    }
}
