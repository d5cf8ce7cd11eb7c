//! `gallery.md`: samples with their pictures, and what each model answered, failures and the worst first.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use crate::{
    plot::naming::Naming,
    record::{Answer, CaseFacts, Exhibit, Run, SampleOutcome, SampleRecord},
    report::Report,
    summary::CaseSummary,
    table::{Align, Table, column, milliseconds},
};

/// Samples of a case that the gallery lists.
const LISTED: usize = 16;

/// The samples of a case to look at, at most `most`, by rising index: the worst of those that are not all right, of
/// equals the first, and as many right ones as have room, for which a quarter is kept. `standings` has where each
/// sample stands ([`SampleOutcome::standing`]).
pub fn chosen(standings: &[f64], most: usize) -> Vec<usize> {
    let is_right = |index: &usize| standings[*index] >= 100.0;
    let (right, mut wrong): (Vec<usize>, Vec<usize>) = (0..standings.len()).partition(is_right);
    wrong.sort_by(|a, b| standings[*a].total_cmp(&standings[*b]));
    wrong.truncate(most - most.div_ceil(4).min(right.len()));
    let room = most - wrong.len();
    let all: BTreeSet<usize> = (wrong.into_iter())
        .chain(right.into_iter().take(room))
        .collect();
    all.into_iter().collect()
}

/// The gallery as Markdown for a page in `out_dir`; `None` if no run has exhibits.
pub fn render(suites: &[Suite<'_>], out_dir: &Path) -> Option<String> {
    let mut text = String::from("# Samples and answers\n");
    for shown in suites.iter().flat_map(Suite::listed) {
        text.push_str(&page(shown, out_dir));
    }
    (!suites.is_empty()).then_some(text)
}

/// The samples of a suite that runs have kept.
#[derive(Debug)]
pub struct Suite<'a> {
    /// Suite id.
    pub suite: &'a str,
    /// Prompt and scoring profile.
    pub profile: &'a str,
    /// The samples: those that a model failed at first, then by rising mean score.
    pub shown: Vec<Shown<'a>>,
}

impl<'a> Suite<'a> {
    /// Those that the gallery lists: of every case the worst and some right ones.
    pub fn listed(&self) -> impl Iterator<Item = &Shown<'a>> {
        self.shown.iter().filter(|shown| shown.listed)
    }
}

/// A sample with what all runs say of it.
#[derive(Debug)]
pub struct Shown<'a> {
    /// What was asked.
    pub exhibit: &'a Exhibit,
    /// Whether the gallery lists it; others are there to be looked at where runs differ.
    pub listed: bool,
    /// Its pictures, in the first run's folder that has them.
    pub pictures: Vec<PathBuf>,
    /// What every case answered, in the order of the report.
    pub answers: Vec<Answered>,
}

impl Shown<'_> {
    /// Mean points over those that saw the image; failed ones count as nothing.
    fn mean(&self) -> f64 {
        let seen = self.answers.iter().filter(|answer| !answer.blind);
        let points: Vec<f64> = seen.map(|answer| answer.points).collect();
        points.iter().sum::<f64>() / points.len().max(1) as f64
    }

    fn has_failure(&self) -> bool {
        self.answers.iter().any(|answer| answer.failed)
    }
}

/// Suite, profile and sample.
pub type Key<'a> = (&'a str, &'a str, &'a str);

/// What a run holds of the samples that any run has kept.
struct Known<'a> {
    run: &'a Run,
    exhibits: HashMap<Key<'a>, &'a Exhibit>,
    /// By case and sample.
    records: HashMap<(&'a str, &'a str), &'a SampleRecord>,
    /// Digests of the images that were asked about.
    images: HashMap<Key<'a>, &'a str>,
}

impl<'a> Known<'a> {
    fn of(run: &'a Run, wanted: &HashSet<&str>) -> Known<'a> {
        let mut known = Known {
            run,
            exhibits: run.exhibits.iter().map(|e| (e.key(), e)).collect(),
            records: HashMap::new(),
            images: HashMap::new(),
        };
        let records = run.samples.iter();
        for record in records.filter(|record| wanted.contains(record.sample.as_str())) {
            let sample = record.sample.as_str();
            known.records.insert((&record.case, sample), record);
            let facts = run.cases.get(&record.case);
            if let Some((key, images)) = facts
                .and_then(|facts| key(facts, sample))
                .zip(record.images.as_deref())
            {
                known.images.insert(key, images);
            }
        }
        known
    }

    /// What the gallery lists of this run.
    fn listed(&self) -> HashSet<Key<'a>> {
        let mut listed = HashSet::new();
        for (case, facts) in self
            .run
            .cases
            .iter()
            .filter(|(_, facts)| !facts.labels.blind)
        {
            let samples = self.run.samples.iter().filter(|s| s.case == *case);
            let kept: Vec<(Key<'_>, f64)> = samples
                .filter_map(|s| Some((key(facts, &s.sample)?, s.outcome.standing())))
                .filter(|(key, _)| self.exhibits.contains_key(key))
                .collect();
            let standings: Vec<f64> = kept.iter().map(|(_, standing)| *standing).collect();
            listed.extend(chosen(&standings, LISTED).into_iter().map(|i| kept[i].0));
        }
        listed
    }

    /// Whether the sample of this name is the same as in the run that kept it: its question where both did, else its
    /// images.
    fn shares(&self, exhibit: &Exhibit, other: &Known<'_>) -> bool {
        let key = exhibit.key();
        match self.exhibits.get(&key) {
            Some(own) => own.question == exhibit.question,
            None => {
                let images = self.images.get(&key);
                images.is_some() && images == other.images.get(&key)
            }
        }
    }

    fn pictures(&self, exhibit: &Exhibit) -> Option<Vec<PathBuf>> {
        let own = self.exhibits.get(&exhibit.key())?.images.iter();
        Some(own.map(|image| self.run.folder.join(image)).collect())
    }
}

/// What a sample of a case is called among exhibits.
pub fn key<'a>(facts: &'a CaseFacts, sample: &'a str) -> Option<Key<'a>> {
    let labels = &facts.labels;
    Some((labels.suite.as_deref()?, labels.profile.as_deref()?, sample))
}

/// The samples that runs have kept, by suite. One that several runs asked stands there once.
pub fn suites(report: &Report) -> Vec<Suite<'_>> {
    let exhibits = report.runs.iter().flat_map(|run| &run.exhibits);
    let wanted: HashSet<&str> = exhibits.map(|e| e.sample.as_str()).collect();
    let known: Vec<Known<'_>> = (report.runs.iter())
        .map(|run| Known::of(run, &wanted))
        .collect();
    let asked: Vec<(&CaseSummary, &CaseFacts)> = (report.summaries.iter())
        .filter_map(|summary| Some((summary, summary.facts.as_ref()?)))
        .filter(|(_, facts)| facts.labels.suite.is_some())
        .collect();
    let naming = Naming::of(&asked);
    let listed: Vec<HashSet<Key<'_>>> = known.iter().map(Known::listed).collect();
    let mut suites: Vec<Suite<'_>> = Vec::new();
    let mut done: HashSet<(Key<'_>, &str)> = HashSet::new();
    for first in &known {
        for exhibit in &first.run.exhibits {
            let (suite, profile, _) = exhibit.key();
            if !done.insert((exhibit.key(), &exhibit.question)) {
                continue;
            }
            let same: Vec<Option<&Known<'_>>> = (known.iter())
                .map(|run| run.shares(exhibit, first).then_some(run))
                .collect();
            let pictures = (same.iter().flatten()).filter_map(|run| run.pictures(exhibit));
            let lists = |(run, listed): (&Option<&Known<'_>>, &HashSet<Key<'_>>)| {
                run.is_some() && listed.contains(&exhibit.key())
            };
            let shown = Shown {
                exhibit,
                listed: same.iter().zip(&listed).any(lists),
                pictures: pictures
                    .min_by_key(|all| Reverse(all.iter().filter(|p| p.is_file()).count()))
                    .unwrap_or_default(),
                answers: answers(&asked, &naming, &same, exhibit),
            };
            match (suites.iter_mut()).find(|s| (s.suite, s.profile) == (suite, profile)) {
                Some(known) => known.shown.push(shown),
                None => suites.push(Suite {
                    suite,
                    profile,
                    shown: vec![shown],
                }),
            }
        }
    }
    for suite in &mut suites {
        // What went wrong is what one looks for.
        suite.shown.sort_by(|a, b| {
            let failed = b.has_failure().cmp(&a.has_failure());
            failed.then(a.mean().total_cmp(&b.mean()))
        });
    }
    suites
}

fn page(shown: &Shown<'_>, out_dir: &Path) -> String {
    let Exhibit {
        suite,
        profile,
        sample,
        question,
        references,
        ..
    } = shown.exhibit;
    let mut text = format!("\n## {suite}, {profile}: {sample}\n\n");
    for picture in &shown.pictures {
        // Beside the run's own report the folder need not be named.
        let path = picture.strip_prefix(out_dir).unwrap_or(picture);
        text.push_str(&format!(
            "<img src=\"{}\" width=\"320\">\n\n",
            path.display()
        ));
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
        column("encode ms", Align::Right, 0),
        column("prefill ms", Align::Right, 0),
    ]);
    for one in &shown.answers {
        table.push(vec![
            one.model.clone(),
            one.input.clone(),
            one.answer.clone(),
            one.mark.clone(),
            one.encode_ms.clone(),
            one.prefill_ms.clone(),
        ]);
    }
    text.push_str(&table.to_markdown());
    text
}

/// What a case answered to an exhibit.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// Model, with what else tells the case from others.
    pub model: String,
    /// Resolution, or that the image was withheld.
    pub input: String,
    /// Whether it was.
    pub blind: bool,
    /// The answer, or where it failed and why.
    pub answer: String,
    /// Whether it failed.
    pub failed: bool,
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

/// What every case answered to an exhibit. `runs` has those that asked the same.
fn answers(
    asked: &[(&CaseSummary, &CaseFacts)],
    naming: &Naming,
    runs: &[Option<&Known<'_>>],
    exhibit: &Exhibit,
) -> Vec<Answered> {
    let mut all = Vec::new();
    for &(summary, facts) in asked {
        if key(facts, &exhibit.sample) != Some(exhibit.key()) {
            continue;
        }
        let records = runs[summary.run].map(|run| &run.records);
        let sample = (summary.case.as_str(), exhibit.sample.as_str());
        let Some(record) = records.and_then(|records| records.get(&sample)) else {
            continue;
        };
        let suffix = naming.suffix(summary, facts);
        let model = match suffix.is_empty() {
            true => facts.labels.model.clone(),
            false => format!("{} · {suffix}", facts.labels.model),
        };
        all.push(answered(model, facts, &record.outcome));
    }
    all
}

fn answered(model: String, facts: &CaseFacts, outcome: &SampleOutcome) -> Answered {
    let none = || "–".to_owned();
    let ms = |ns: Option<u64>| ns.map_or_else(none, |ns| milliseconds(ns as f64 / 1e6));
    let labels = &facts.labels;
    let (answer, mark, times, tokens) = match outcome {
        SampleOutcome::Ok(answer) => (
            answer.response.clone(),
            mark(answer),
            (ms(answer.stages.encode_ns), ms(answer.stages.prefill_ns)),
            answer.tokens.output.to_string(),
        ),
        SampleOutcome::Failed { stage, error } => (
            format!("failed in {stage}: {error}"),
            none(),
            (none(), none()),
            none(),
        ),
    };
    Answered {
        model,
        input: match labels.blind {
            true => "image withheld".to_owned(),
            false => format!("{} px", labels.resolution),
        },
        blind: labels.blind,
        answer,
        failed: matches!(outcome, SampleOutcome::Failed { .. }),
        points: outcome.points(),
        mark,
        encode_ms: times.0,
        prefill_ms: times.1,
        tokens,
    }
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

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn failures_come_first_then_the_worst_and_some_right_ones() {
        let standings = [100.0, 0.0, 30.0, -1.0, 100.0, 0.0, 60.0, 0.0, 100.0];
        // Of eight a quarter is for right ones.
        assert_eq!(chosen(&standings, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(chosen(&standings, 4), [0, 1, 3, 5]);
        assert_eq!(chosen(&standings, 2), [0, 3]);
        assert_eq!(chosen(&standings, 1), [0]);
        assert_eq!(chosen(&standings, 0), [0; 0]);
        assert_eq!(chosen(&standings, 99).len(), standings.len());
        // Room that one kind leaves is the other's.
        assert_eq!(chosen(&[100.0; 9], 4), [0, 1, 2, 3]);
        assert_eq!(chosen(&[0.0; 9], 4), [0, 1, 2, 3]);
    }
}
