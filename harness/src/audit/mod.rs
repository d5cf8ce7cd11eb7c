//! Honesty audits of a model on an engine: whether what is timed and scored is
//! what it seems, after MLPerf's TEST01, TEST04 and TEST06.
//!
//! One file a group of checks. Each has a pure function from what was observed
//! to a [`Finding`], which can be tested with observations that must fail, and
//! a part that makes the observations.

mod caches;
mod output;
mod picture;
mod reply;
mod sample;
mod state;
mod vision;

use std::collections::BTreeMap;

use serde::Serialize;
use vlmbench_backends::generate::PhaseError;
use vlmbench_backends::recipe::Recipe;

use crate::error::Failure;
use crate::measure::agreement::Tolerances;
use crate::measure::clock::Clock;
use crate::measure::session::Session;

pub use caches::LEAST_PAIRS;
pub use sample::{Sample, draw};

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It was measured too roughly to tell.
    Inconclusive,
    /// The model or the engine has nothing to check here.
    NotApplicable,
}

impl Verdict {
    /// As the table prints it.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Inconclusive => "inconclusive",
            Verdict::NotApplicable => "not applicable",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The figure in words; empty where the check is not applicable.
    pub figure: String,
    /// Its numbers by name.
    pub values: BTreeMap<&'static str, f64>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it failed, cannot tell, or is not applicable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Finding {
    /// A finding; `why` is kept only if it failed.
    fn judged(holds: bool, figure: impl Into<String>, why: impl Into<String>) -> Finding {
        Finding {
            figure: figure.into(),
            values: BTreeMap::new(),
            verdict: if holds { Verdict::Pass } else { Verdict::Fail },
            why: (!holds).then(|| why.into()),
        }
    }

    fn inconclusive(figure: impl Into<String>, why: impl Into<String>) -> Finding {
        Finding {
            figure: figure.into(),
            values: BTreeMap::new(),
            verdict: Verdict::Inconclusive,
            why: Some(why.into()),
        }
    }

    fn not_applicable(why: impl Into<String>) -> Finding {
        Finding {
            figure: String::new(),
            values: BTreeMap::new(),
            verdict: Verdict::NotApplicable,
            why: Some(why.into()),
        }
    }

    fn value(mut self, name: &'static str, value: f64) -> Finding {
        self.values.insert(name, value);
        self
    }
}

/// A check with what it found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name.
    pub check: &'static str,
    /// What was done.
    pub done: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
}

impl Row {
    fn new(check: &'static str, done: &'static str, finding: Finding) -> Row {
        Row {
            check,
            done,
            finding,
        }
    }
}

/// How much to check, and what to allow.
pub struct Audit<'a> {
    /// Questions with their pictures, two or more.
    pub samples: Vec<Sample>,
    /// Pairs of timed requests: `None` for as many as a few seconds allow, 0
    /// for no timing.
    pub pairs: Option<usize>,
    /// Relative errors to allow where the work is done in another way.
    pub tolerances: Tolerances,
    /// The clock of the timed checks.
    pub clock: &'a dyn Clock,
}

impl Audit<'_> {
    /// Runs every check. `open` loads the model; one at a time is in memory.
    /// `progress` hears what comes next.
    pub fn run(
        &self,
        open: &mut dyn FnMut() -> Result<Session, Failure>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Vec<Row>, Failure> {
        progress("loading");
        let mut session = open()?;
        let mut rows = Vec::new();
        progress("asking in other orders");
        let first = state::in_order(&mut session, &self.samples)?;
        rows.push(state::reversed(&mut session, &self.samples, &first)?);
        rows.push(state::twice(&mut session, &self.samples)?);
        progress("looking at what the encoder is given");
        rows.extend(vision::rows(&mut session, &self.samples, &self.tolerances)?);
        rows.push(picture::counted(&session, &first));
        progress("asking about other pictures and none");
        rows.extend(picture::matters(&mut session, &self.samples, &first)?);
        progress("counting tokens of answers");
        rows.extend(output::rows(&mut session, &self.samples)?);
        progress("timing what was seen against what was not");
        rows.extend(caches::rows(&mut session, self.pairs, self.clock)?);
        drop(session);
        progress("asking each alone");
        rows.insert(1, state::alone(open, &self.samples, &first)?);
        Ok(rows)
    }
}

/// Positions of the KV cache that the requests need.
pub fn positions(recipe: &Recipe, samples: &[Sample]) -> Result<usize, Failure> {
    let mut most = caches::POSITIONS;
    if recipe.encoder.is_some() {
        most += recipe.visual_tokens(caches::PHOTO.0, caches::PHOTO.1)?;
    }
    // Any question may be asked about any picture.
    let mut asked = 0;
    for question in samples {
        for sample in samples {
            asked = asked.max(question.positions(recipe, &sample.picture)?);
        }
    }
    Ok(most.max(asked + output::LIMIT))
}

fn failed(error: PhaseError) -> Failure {
    Failure::Backend(*error.source)
}

/// Why a check needs what a model lacks.
const NO_ENCODER: &str = "the model has no vision encoder";
const NO_DECODER: &str = "the model has no decoder";

/// Distance of `got` from `reference` over the reference's length, both as
/// vectors; not a number if their sizes differ or a value is not finite.
fn distance(got: &[f32], reference: &[f32]) -> f64 {
    if got.len() != reference.len() {
        return f64::NAN;
    }
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let off = squares(&mut got.iter().zip(reference).map(|(a, b)| f64::from(a - b)));
    let all = squares(&mut reference.iter().map(|v| f64::from(*v)));
    (off / all.max(f64::MIN_POSITIVE)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_relative_and_never_small_by_accident() {
        assert_eq!(distance(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(distance(&[3.0, 9.0], &[3.0, 4.0]), 1.0);
        assert!(distance(&[3.0], &[3.0, 4.0]).is_nan());
        assert!(distance(&[f32::NAN], &[1.0]).is_nan());
    }
}
