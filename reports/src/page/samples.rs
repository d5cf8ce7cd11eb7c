//! Samples with their pictures and what every model answered, worst first; and where two runs answered differently.

use std::{collections::HashMap, fs, path::Path};

use maud::{Markup, html};

use super::data_url;
use crate::{
    gallery::{Answered, answers, outcomes},
    gate,
    record::{Exhibit, Run},
    report::Report,
};

/// Pictures of samples are part of the page up to so many bytes; the rest stay beside the run.
const PICTURE_BYTES: usize = 12 << 20;
/// Answers that two runs gave differently, of one case; the rest are counted.
const MOST_FLIPS: usize = 200;

/// Samples that the runs exhibit, as a section; `None` without any.
pub fn gallery(report: &Report) -> Option<Markup> {
    let mut room = PICTURE_BYTES;
    let mut cards = Vec::new();
    for run in &report.runs {
        let outcomes = outcomes(run);
        let mut exhibits: Vec<(&Exhibit, Vec<Answered>)> = (run.exhibits.iter())
            .map(|exhibit| (exhibit, answers(run, &outcomes, exhibit)))
            .collect();
        // Worst first: what went wrong is what one looks for.
        exhibits.sort_by(|(_, a), (_, b)| mean(a).total_cmp(&mean(b)));
        for (exhibit, answers) in exhibits {
            cards.push(card(run, exhibit, &answers, &mut room));
        }
    }
    (!cards.is_empty()).then(|| {
        html! {
            section id="samples" {
                h2 { "Samples" }
                p { "Questions with every model's answer, those with the lowest mean score first." }
                @for card in &cards { (card) }
            }
        }
    })
}

/// Mean points over those that saw the image; failed ones count as nothing.
fn mean(answers: &[Answered]) -> f64 {
    let seen = answers.iter().filter(|answer| !answer.blind);
    let points: Vec<f64> = seen.map(|answer| answer.points).collect();
    points.iter().sum::<f64>() / points.len().max(1) as f64
}

fn card(run: &Run, exhibit: &Exhibit, answers: &[Answered], room: &mut usize) -> Markup {
    let name = format!("{}, {}: {}", exhibit.suite, exhibit.profile, exhibit.sample);
    html! {
        article.sample {
            h3 { (name) }
            @for image in &exhibit.images { (picture(run, exhibit, image, room)) }
            blockquote { @for line in exhibit.question.lines() { p { (line) } } }
            p { "Right: " @for (i, reference) in exhibit.references.iter().enumerate() {
                @if i > 0 { ", " } code { (reference) }
            } }
            div.scroll tabindex="0" role="region" aria-label={ "Answers to " (name) } { table {
                thead { tr {
                    th scope="col" { "model" }
                    th.number scope="col" { "input" }
                    th scope="col" { "answer" }
                    th.number scope="col" { "points" }
                    th.number scope="col" { "encode ms" }
                    th.number scope="col" { "prefill ms" }
                    th.number scope="col" { "tokens out" }
                } }
                tbody { @for answer in answers {
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
}

/// How a row is tinted. The points beside say the same.
fn class(right: bool, wrong: bool) -> Option<&'static str> {
    match (right, wrong) {
        (true, _) => Some("right"),
        (_, true) => Some("wrong"),
        _ => None,
    }
}

/// The picture itself while there is room, else where it lies.
fn picture(run: &Run, exhibit: &Exhibit, image: &str, room: &mut usize) -> Markup {
    let path = run.folder.join(image);
    let bytes = fs::read(&path).ok().filter(|bytes| bytes.len() <= *room);
    let Some((bytes, mime)) = bytes.zip(mime(image)) else {
        return html! { p.note { "Picture: " code { (path.display()) } } };
    };
    *room -= bytes.len();
    html! {
        img loading="lazy" src=(data_url(mime, &bytes)) alt={ "The picture that is asked about in " (exhibit.sample) };
    }
}

fn mime(image: &str) -> Option<&'static str> {
    let extension = Path::new(image).extension()?.to_str()?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "bmp" => "image/bmp",
        _ => return None,
    })
}

/// Samples that two runs scored differently, side by side; `None` unless there are two runs with scored cases in
/// common. The pairs are those of the gate.
pub fn flips(report: &Report) -> Option<Markup> {
    let [base, candidate] = report.runs.as_slice() else {
        return None;
    };
    let changes = gate::scored(base, candidate, &gate::Settings::default());
    if changes.is_empty() {
        return None;
    }
    let asked: HashMap<&str, &Exhibit> = (base.exhibits.iter().chain(&candidate.exhibits))
        .map(|exhibit| (exhibit.sample.as_str(), exhibit))
        .collect();
    Some(html! {
        section id="flips" {
            h2 { "Answers that differ" }
            p { "Samples that run 1 and run 2 scored differently, by case." }
            @for change in &changes {
                details open[!change.changed.is_empty() && change.changed.len() <= 20] {
                    summary {
                        (change.case) ": " (change.changed.len()) " of " (change.samples) ", "
                        (format!("{:.1} to {:.1} points", change.base, change.candidate))
                    }
                    @if change.changed.len() > MOST_FLIPS {
                        p.note { "The first " (MOST_FLIPS) "; all of them are in the runs' records." }
                    }
                    @if !change.changed.is_empty() {
                        div.scroll tabindex="0" role="region" aria-label={ "Changed answers of " (change.case) } { table {
                            thead { tr {
                                th scope="col" { "sample" }
                                th scope="col" { "right" }
                                th scope="col" { "run 1" }
                                th.number scope="col" { "points" }
                                th scope="col" { "run 2" }
                                th.number scope="col" { "points" }
                            } }
                            tbody { @for answer in change.changed.iter().take(MOST_FLIPS) {
                                tr class=[class(answer.candidate_points > answer.base_points, answer.candidate_points < answer.base_points)] {
                                    th scope="row" { (answer.sample) }
                                    td { (asked.get(answer.sample.as_str()).map_or(String::new(), |e| e.references.join(", "))) }
                                    td { (answer.base.as_deref().unwrap_or("failed")) }
                                    td.number { (format!("{:.0}", answer.base_points)) }
                                    td { (answer.candidate.as_deref().unwrap_or("failed")) }
                                    td.number { (format!("{:.0}", answer.candidate_points)) }
                                }
                            } }
                        } }
                    }
                }
            }
        }
    })
}
