//! `gallery.md`: samples with their pictures, and what each model answered.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use crate::{
    record::{Answer, Exhibit, Run, SampleOutcome},
    report::Report,
    table::{Align, Table, column, milliseconds},
};

/// The gallery as Markdown for a page in `out_dir`; `None` if no run has exhibits.
pub fn render(report: &Report, out_dir: &Path) -> Option<String> {
    let mut text = String::from("# Samples and answers\n");
    let mut any = false;
    for run in &report.runs {
        let outcomes = outcomes(run);
        for exhibit in &run.exhibits {
            any = true;
            text.push_str(&page(run, &outcomes, exhibit, out_dir));
        }
    }
    any.then_some(text)
}

/// What came of samples, by case and sample id.
pub type Outcomes<'a> = HashMap<(&'a str, &'a str), &'a SampleOutcome>;

/// What came of a run's samples that it exhibits.
pub fn outcomes(run: &Run) -> Outcomes<'_> {
    let shown: HashSet<&str> = run.exhibits.iter().map(|e| e.sample.as_str()).collect();
    (run.samples.iter())
        .filter(|s| shown.contains(s.sample.as_str()))
        .map(|s| ((s.case.as_str(), s.sample.as_str()), &s.outcome))
        .collect()
}

fn page(run: &Run, outcomes: &Outcomes<'_>, exhibit: &Exhibit, out_dir: &Path) -> String {
    let Exhibit {
        suite,
        profile,
        sample,
        question,
        references,
        images,
    } = exhibit;
    let mut text = format!("\n## {suite}, {profile}: {sample}\n\n");
    for image in images {
        // Beside the run's own report the folder need not be named.
        let path = match run.folder == out_dir {
            true => image.clone(),
            false => run.folder.join(image).display().to_string(),
        };
        text.push_str(&format!("<img src=\"{path}\" width=\"320\">\n\n"));
    }
    for line in question.lines() {
        text.push_str(&format!("> {line}  \n"));
    }
    let right: Vec<String> = references.iter().map(|r| format!("`{r}`")).collect();
    text.push_str(&format!("\nRight: {}\n\n", right.join(", ")));
    let mut table = Table::new(vec![
        column("model", Align::Left, 0),
        column("input", Align::Right, 0),
        column("answer", Align::Left, 0),
        column("points", Align::Right, 0),
    ]);
    for one in answers(run, outcomes, exhibit) {
        table.push(vec![one.model, one.input, one.answer, one.mark]);
    }
    text.push_str(&table.to_markdown());
    text
}

/// What a case answered to an exhibit.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// Model, with its engine where that is not candle.
    pub model: String,
    /// Resolution, or that the image was withheld.
    pub input: String,
    /// Whether it was.
    pub blind: bool,
    /// The answer, or where it failed.
    pub answer: String,
    /// Points of 100; none for a failure.
    pub points: f64,
    /// The points as a mark.
    pub mark: String,
    /// Time in the encoder, milliseconds, in words.
    pub encode_ms: String,
    /// Time in prefill, milliseconds, in words.
    pub prefill_ms: String,
    /// Tokens generated, in words.
    pub tokens: String,
}

/// What every case of a run answered to an exhibit, in the order of the plan.
pub fn answers(run: &Run, outcomes: &Outcomes<'_>, exhibit: &Exhibit) -> Vec<Answered> {
    let mut all = Vec::new();
    for id in run.case_ids() {
        let Some(labels) = run.cases.get(id).map(|facts| &facts.labels) else {
            continue;
        };
        let asked = (labels.suite.as_deref(), labels.profile.as_deref());
        if asked != (Some(&exhibit.suite), Some(&exhibit.profile)) {
            continue;
        }
        let Some(outcome) = outcomes.get(&(id, exhibit.sample.as_str())) else {
            continue;
        };
        let ms = |ns: Option<u64>| ns.map_or("–".to_owned(), |ns| milliseconds(ns as f64 / 1e6));
        let (answer, mark, times, tokens) = match outcome {
            SampleOutcome::Ok(answer) => (
                answer.response.clone(),
                mark(answer),
                (ms(answer.stages.encode_ns), ms(answer.stages.prefill_ns)),
                answer.tokens.output.to_string(),
            ),
            SampleOutcome::Failed { stage, .. } => {
                let none = || "–".to_owned();
                (
                    format!("failed in {stage}"),
                    none(),
                    (none(), none()),
                    none(),
                )
            }
        };
        all.push(Answered {
            model: match labels.backend.as_str() {
                "candle" => labels.model.clone(),
                other => format!("{}, {other}", labels.model),
            },
            input: match labels.blind {
                true => "image withheld".to_owned(),
                false => format!("{} px", labels.resolution),
            },
            blind: labels.blind,
            answer,
            points: outcome.points(),
            mark,
            encode_ms: times.0,
            prefill_ms: times.1,
            tokens,
        });
    }
    all
}

fn mark(answer: &Answer) -> String {
    let score = answer.score;
    let (numerator, denominator) = (score.numerator as f64, score.denominator.get() as f64);
    match numerator / denominator {
        share if share >= 1.0 => "✓".to_owned(),
        share if share <= 0.0 => "✗".to_owned(),
        share => format!("{:.0} %", 100.0 * share),
    }
}
