//! `gallery.md`: samples with their pictures, and what each model answered.

use std::{collections::HashMap, path::Path};

use crate::{
    record::{Answer, Exhibit, Run, SampleOutcome},
    report::Report,
    table::{Align, Table, column},
};

/// The gallery as Markdown for a page in `out_dir`; `None` if no run has exhibits.
pub fn render(report: &Report, out_dir: &Path) -> Option<String> {
    let mut text = String::from("# Samples and answers\n");
    let mut any = false;
    for run in &report.runs {
        let outcomes = run.samples.iter();
        let outcomes: Outcomes<'_> = outcomes
            .map(|s| ((s.case.as_str(), s.sample.as_str()), &s.outcome))
            .collect();
        for exhibit in &run.exhibits {
            any = true;
            text.push_str(&page(run, &outcomes, exhibit, out_dir));
        }
    }
    any.then_some(text)
}

/// What came of samples, by case and sample id.
type Outcomes<'a> = HashMap<(&'a str, &'a str), &'a SampleOutcome>;

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
    text.push_str(&answers(run, outcomes, exhibit).to_markdown());
    text
}

fn answers(run: &Run, outcomes: &Outcomes<'_>, exhibit: &Exhibit) -> Table {
    let mut table = Table::new(vec![
        column("model", Align::Left, 0),
        column("input", Align::Right, 0),
        column("answer", Align::Left, 0),
        column("points", Align::Right, 0),
    ]);
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
        let input = match labels.blind {
            true => "image withheld".to_owned(),
            false => format!("{} px", labels.resolution),
        };
        let (answer, points) = match outcome {
            SampleOutcome::Ok(answer) => (answer.response.clone(), points(answer)),
            SampleOutcome::Failed { stage, .. } => (format!("failed in {stage}"), "–".to_owned()),
        };
        let model = match labels.backend.as_str() {
            "candle" => labels.model.clone(),
            other => format!("{}, {other}", labels.model),
        };
        table.push(vec![model, input, answer, points]);
    }
    table
}

fn points(answer: &Answer) -> String {
    let score = answer.score;
    let (numerator, denominator) = (score.numerator as f64, score.denominator.get() as f64);
    match numerator / denominator {
        share if share >= 1.0 => "✓".to_owned(),
        share if share <= 0.0 => "✗".to_owned(),
        share => format!("{:.0} %", 100.0 * share),
    }
}
