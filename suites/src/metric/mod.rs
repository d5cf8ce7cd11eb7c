//! Metrics: from a response and the gold answers to exact points, extraction included.
//!
//! A metric is a pure function and one entry in [`METRICS`]. It reproduces one reference scorer
//! as it runs, flaws included; a different behaviour is a different metric, never a changed one.
//! Where a reference guesses at random, the answer is unparsed and gets no points.

mod anls;
mod choice;
mod contractions;
mod evalai;
mod mmmu;
mod mmmu_open;
mod vqa;

use serde::{Deserialize, Serialize};

use crate::error::{SuiteError, names};
use crate::rational::Fraction;
use crate::sample::Sample;

pub use evalai::normalize as evalai_normalize;

/// What a metric made of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extraction {
    /// The answer that was compared with the gold, after normalisation.
    Found(String),
    /// No answer could be made out; no points.
    Unparsed,
}

/// Points and extraction of one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) points: Fraction,
    pub(crate) answer: Extraction,
}

impl Judged {
    fn unparsed() -> Self {
        Self {
            points: Fraction::ZERO,
            answer: Extraction::Unparsed,
        }
    }
}

/// A scorer.
#[derive(Debug)]
pub struct Metric {
    /// The name in a suite's YAML.
    pub name: &'static str,
    /// One line on what it computes.
    pub description: &'static str,
    /// Whether a response can earn part of a point; decides the confidence interval.
    pub graded: bool,
    /// Scores a response to a sample that has gold answers.
    pub(crate) judge: fn(&Sample, &str) -> Judged,
}

/// Every metric, sorted by name.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "anls",
        description: "average normalised Levenshtein similarity, below one half nothing",
        graded: true,
        judge: anls::judge,
    },
    Metric {
        name: "anls-any",
        description: "full points where ANLS would give any (lmms-eval before 0.3.0)",
        graded: false,
        judge: anls::judge_any,
    },
    Metric {
        name: "first-letter",
        description: "the first character of the response is the gold letter, in either case",
        graded: false,
        judge: choice::judge_first_letter,
    },
    Metric {
        name: "mmmu",
        description: "MMMU's letter parser as lmms-eval changed it; open questions by containment",
        graded: false,
        judge: mmmu::judge,
    },
    Metric {
        name: "mmmu-open-never",
        description: "as mmmu, but no open question can score (lmms-eval 0.4 to 0.7.2)",
        graded: false,
        judge: mmmu::judge_open_never,
    },
    Metric {
        name: "vqa-accuracy",
        description: "agreement with annotators, leaving one out, after the EvalAI processor",
        graded: true,
        judge: vqa::judge,
    },
];

/// The metric that a suite names.
pub(crate) fn find(suite: &str, name: &str) -> Result<&'static Metric, SuiteError> {
    let found = METRICS.iter().find(|metric| metric.name == name);
    found.ok_or_else(|| SuiteError::UnknownMetric {
        suite: suite.to_owned(),
        metric: name.to_owned(),
        known: names(METRICS.iter().map(|metric| metric.name)),
    })
}

/// Samples for the tests of this crate.
#[cfg(test)]
pub(crate) mod testing {
    use crate::sample::{QuestionKind, RowAddress, Sample};

    pub(crate) fn open(golds: &[&str]) -> Sample {
        Sample {
            id: "1".to_owned(),
            question: "what?".to_owned(),
            kind: QuestionKind::Open,
            choices: Vec::new(),
            ocr_tokens: Vec::new(),
            golds: golds.iter().map(ToString::to_string).collect(),
            groups: Default::default(),
            row: RowAddress { file: 0, row: 0 },
        }
    }

    pub(crate) fn choice(choices: &[&str], gold: &str) -> Sample {
        Sample {
            kind: QuestionKind::MultipleChoice,
            choices: choices.iter().map(ToString::to_string).collect(),
            ..open(&[gold])
        }
    }

    /// The options of the published conformance vectors.
    pub(crate) fn animals(gold: &str) -> Sample {
        choice(&["cat", "dog", "red fox", "owl"], gold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_sorted_and_described() {
        assert!(METRICS.is_sorted_by(|a, b| a.name < b.name));
        assert!(METRICS.iter().all(|metric| !metric.description.is_empty()));
    }

    #[test]
    fn gold_is_worth_full_points_and_silence_is_not() {
        for metric in METRICS {
            let open = matches!(metric.name, "anls" | "anls-any" | "vqa-accuracy");
            let sample = if open {
                testing::open(&["dog"; 10])
            } else {
                testing::animals("B")
            };
            let gold = (metric.judge)(&sample, &sample.golds[0]);
            assert_eq!(gold.points, Fraction::ONE, "{}", metric.name);
            assert!(
                matches!(gold.answer, Extraction::Found(_)),
                "{}",
                metric.name
            );
            assert_eq!(
                (metric.judge)(&sample, "").points,
                Fraction::ZERO,
                "{}",
                metric.name
            );
        }
    }
}
