//! Which lines of a run's records a case's figures come from.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    energy::{Consumer, joules},
    error::{Error, Result},
    record::{Firsts, Line, RECORDS_FILE, Record, Run, SampleOutcome, lines},
    summary::{CaseSummary, Figure, summarise},
    table::{Align, Table, column, milliseconds},
};

/// Where a case's figures come from. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Case id.
    pub case: String,
    /// The record log.
    pub records: String,
    /// Line of the case's facts.
    pub facts: Option<usize>,
    /// Lines of the timed repetitions that count, by launch.
    pub repetitions: BTreeMap<u32, Vec<usize>>,
    /// Lines of repetitions that do not count: warm-up, or of a launch that did not come to its end.
    pub left_out: Vec<usize>,
    /// Lines that say that a launch came to its end.
    pub launches: Vec<usize>,
    /// Lines of the samples that were answered.
    pub answered: Vec<usize>,
    /// Lines of the samples that failed.
    pub failed: Vec<usize>,
    /// Line that says how the case ended.
    pub end: Option<usize>,
    /// Every figure: its name, its value in words, and how it follows from the lines.
    pub figures: Vec<(String, String, String)>,
}

/// Explains a case of a run.
///
/// # Errors
/// [`Error::NoCase`] that lists the cases there are; those of reading the log.
pub fn explain(run: &Run, case: &str) -> Result<Explanation> {
    let Some(summary) = summarise(0, run).into_iter().find(|s| s.case == case) else {
        return Err(Error::NoCase {
            folder: run.folder.clone(),
            case: case.to_owned(),
            known: run.case_ids().into_iter().map(str::to_owned).collect(),
        });
    };
    let path = run.folder.join(RECORDS_FILE);
    let mut found = Explanation {
        case: case.to_owned(),
        records: path.display().to_string(),
        facts: None,
        repetitions: BTreeMap::new(),
        left_out: Vec::new(),
        launches: Vec::new(),
        answered: Vec::new(),
        failed: Vec::new(),
        end: None,
        figures: Vec::new(),
    };
    let ended = run.ended_launches(case);
    let mut firsts = Firsts::default();
    for Line { number, record } in lines(&path)? {
        match record {
            Record::Case(facts) if facts.case == case => {
                found.facts.get_or_insert(number);
            }
            Record::Latency(s) if s.case == case => {
                let counts = !s.warm_up && (ended.len() < 2 || ended.contains(&s.launch));
                if firsts.latency(&s) && counts {
                    found.repetitions.entry(s.launch).or_default().push(number);
                } else {
                    found.left_out.push(number);
                }
            }
            Record::Launch(launch) if launch.case == case => found.launches.push(number),
            Record::Sample(s) if s.case == case && firsts.sample(&s) => match s.outcome {
                SampleOutcome::Ok(_) => found.answered.push(number),
                SampleOutcome::Failed { .. } => found.failed.push(number),
            },
            Record::CaseEnd(end) if end.case == case => found.end = Some(number),
            _ => {}
        }
    }
    found.figures = figures(run, &summary);
    Ok(found)
}

fn figures(run: &Run, summary: &CaseSummary) -> Vec<(String, String, String)> {
    let several = run.ended_launches(&summary.case).len() > 1;
    let over = match several {
        true => "median over launches of the median within each",
        false => "median over the timed repetitions",
    };
    let mut all = Vec::new();
    for figure in Figure::ALL {
        if let Some(e) = summary.figure(figure) {
            let interval = e
                .interval
                .map(|i| format!(" ({} – {})", milliseconds(i.low), milliseconds(i.high)));
            all.push((
                figure.name().to_owned(),
                format!(
                    "{} ms{}",
                    milliseconds(e.median),
                    interval.unwrap_or_default()
                ),
                format!("{over} of {}; n = {}", formula(figure), e.n),
            ));
        }
    }
    for consumer in Consumer::ALL {
        if let Some(e) = summary.energy.figure(consumer) {
            let what = match consumer {
                Consumer::Device => "`device`",
                Consumer::Host => "`host`",
            };
            all.push((
                consumer.name().to_owned(),
                format!("{} J", joules(e.median)),
                format!(
                    "median over launches of the sum of `joules` of {what} / `requests`; n = {}",
                    e.n
                ),
            ));
        }
    }
    all.extend((summary.energy.missing.iter()).map(|why| {
        let what = "energy".to_owned();
        (what, "–".to_owned(), why.clone())
    }));
    if let Some(accuracy) = &summary.accuracy {
        let sum = accuracy.sum.fraction().map(|(n, d)| format!("{n}/{d}"));
        all.push((
            "accuracy".into(),
            format!("{:.2} %", 100.0 * accuracy.mean()),
            format!(
                "sum of scores {} / {} samples, {} failed ones with score 0 among them",
                sum.unwrap_or_else(|| format!("{}", accuracy.sum.value())),
                accuracy.n,
                accuracy.failed
            ),
        ));
    }
    for (name, key, bytes) in [
        ("peak memory", "peak_rss_bytes", summary.peak_rss_bytes()),
        (
            "peak memory of the device",
            "peak_device_bytes",
            summary.peak_device_bytes(),
        ),
    ] {
        if let Some(bytes) = bytes {
            all.push((
                name.into(),
                format!("{} MiB", bytes >> 20),
                format!("`{key}` of the case's end"),
            ));
        }
    }
    all
}

/// A figure in the keys of a repetition's record.
fn formula(figure: Figure) -> &'static str {
    match figure {
        Figure::Preprocess => "`preprocess_ns`",
        Figure::Encode => "`encode_ns`",
        Figure::Project => "`project_ns`",
        Figure::Prefill => "`prefill_ns`",
        Figure::TtftPaper => "`encode_ns + prefill_ns`",
        Figure::TtftUser => "`ttft_user_ns`",
        Figure::Tpot => "the mean of `decode_ns`",
        Figure::FirstDecode => "the first of `decode_ns`",
    }
}

impl Explanation {
    /// As text for a terminal.
    pub fn to_text(&self, width: usize) -> String {
        let mut lines = Table::new(vec![
            column("lines", Align::Left, 0),
            column("what", Align::Left, 0),
        ]);
        let mut row = |numbers: &[usize], what: &str| {
            if !numbers.is_empty() {
                lines.push(vec![ranges(numbers), what.to_owned()]);
            }
        };
        row(
            self.facts.as_slice(),
            "facts of the case: labels, weights, costs, what was really used",
        );
        for (launch, numbers) in &self.repetitions {
            row(
                numbers,
                &format!("{} timed repetitions of launch {launch}", numbers.len()),
            );
        }
        row(&self.left_out, "warm-up and repetitions that do not count");
        row(&self.launches, "launches that came to the end of the case");
        row(
            &self.answered,
            &format!("{} samples answered", self.answered.len()),
        );
        row(
            &self.failed,
            &format!("{} samples failed", self.failed.len()),
        );
        row(
            self.end.as_slice(),
            "how the case ended, with the peak of its memory",
        );
        let mut figures = Table::new(vec![
            column("figure", Align::Left, 0),
            column("value", Align::Right, 0),
            column("how", Align::Left, 0),
        ]);
        for (name, value, how) in &self.figures {
            figures.push(vec![name.clone(), value.clone(), how.clone()]);
        }
        let mut text = format!(
            "{}\nin {}\n\n{}",
            self.case,
            self.records,
            lines.to_text(width)
        );
        if !self.figures.is_empty() {
            text.push('\n');
            text.push_str(&figures.to_text(width));
        }
        text
    }
}

/// Rising numbers as ranges: `3-5, 8`.
fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let text: Vec<String> = parts
        .into_iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    text.join(", ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_in_a_row_are_a_range() {
        assert_eq!(super::ranges(&[3, 4, 5, 8, 10, 11]), "3-5, 8, 10-11");
        assert_eq!(super::ranges(&[]), "");
    }
}
