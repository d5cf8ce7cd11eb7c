//! A sitting: blocks until all is decided or the last look is over.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use vlmbench_reports::gate::{
    self, CaseChange, Control, NULL, Pair, Pairs, SLOWED, Settings, Verdict,
};
use vlmbench_reports::record::{CaseFacts, Noise};
use vlmbench_reports::stats::Random;

use super::arm::{Arm, Timed};
use super::block::{Measured, is_disturbed, measure};
use crate::context::Context;
use crate::error::Failure;
use crate::launch::Slow;

/// Blocks that may be measured again, as a share of those that are wanted.
const AGAIN: f64 = 0.5;

/// What is measured.
pub struct Sitting<'a> {
    /// The base first; every other arm is compared with it.
    pub arms: &'a [Arm],
    /// Its cases, and what the second arm calls them.
    pub cases: &'a [(Timed, Timed)],
    /// How verdicts are reached.
    pub settings: &'a Settings,
    /// Turns of a launch.
    pub rounds: u32,
    /// Seed of all orders.
    pub seed: u64,
}

/// What was measured.
#[derive(Default)]
pub struct Blocks {
    /// By case: blocks, each with a launch of every arm.
    pub of_case: Vec<Vec<Vec<Measured>>>,
    /// Blocks that were measured again.
    pub again: usize,
}

/// A line of `launches.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    block: usize,
    discarded: bool,
    #[serde(flatten)]
    measured: &'a Measured,
}

impl Sitting<'_> {
    /// Measures block by block, each with all cases in a new order, and asks
    /// `enough` at every look, with its number and what there is. Raw values are
    /// written to `raw` as they come.
    pub fn measure(
        &self,
        raw: &Path,
        ctx: &Context,
        say: &mut dyn FnMut(String),
        enough: &mut dyn FnMut(usize, &Blocks) -> bool,
    ) -> Result<Blocks, Failure> {
        let output = |source| Failure::Output {
            path: raw.to_path_buf(),
            source,
        };
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(raw)
            .map_err(output)?;
        let mut random = Random::seeded(self.seed);
        let mut blocks = Blocks {
            of_case: vec![Vec::new(); self.cases.len()],
            again: 0,
        };
        let last = self.settings.looks.last().copied().unwrap_or(0);
        let spare = (last as f64 * AGAIN) as usize * self.cases.len();
        let mut order: Vec<usize> = (0..self.cases.len()).collect();
        for block in 0..last {
            random.shuffle(&mut order);
            for &index in &order {
                let (base, candidate) = &self.cases[index];
                say(format!("pair {} of {last} at most: {}", block + 1, base.id));
                let arms: Vec<(&Arm, &Timed)> = self
                    .arms
                    .iter()
                    .map(|arm| {
                        (
                            arm,
                            if arm.name == "candidate" {
                                candidate
                            } else {
                                base
                            },
                        )
                    })
                    .collect();
                loop {
                    let measured = measure(&arms, self.rounds, &mut random, ctx)?;
                    let discarded = is_disturbed(&measured) && blocks.again < spare;
                    for measured in &measured {
                        let line = Line {
                            block,
                            discarded,
                            measured,
                        };
                        let line = serde_json::to_string(&line)
                            .map_err(|e| Failure::Internal(e.to_string()))?;
                        writeln!(file, "{line}").map_err(output)?;
                    }
                    if !discarded {
                        blocks.of_case[index].push(measured);
                        break;
                    }
                    blocks.again += 1;
                }
            }
            let look = self
                .settings
                .looks
                .iter()
                .position(|pairs| *pairs == block + 1);
            if look.is_some_and(|look| enough(look, &blocks)) {
                break;
            }
        }
        Ok(blocks)
    }

    /// What is said of an arm beside the base, after the first `pairs` blocks.
    pub fn changes(&self, blocks: &Blocks, arm: usize, pairs: usize) -> Vec<CaseChange> {
        let of_case = self.cases.iter().zip(&blocks.of_case);
        let paired: Vec<Pairs> = of_case
            .clone()
            .map(|((base, _), blocks)| Pairs {
                case: base.id.clone(),
                launches: blocks
                    .iter()
                    .take(pairs)
                    .map(|block| Pair {
                        base: block[0].least(),
                        candidate: block[arm].least(),
                    })
                    .collect(),
            })
            .collect();
        let mut changes = gate::paired(&paired, self.settings);
        for (change, (_, blocks)) in changes.iter_mut().zip(of_case) {
            let noises = |arm: usize| -> Vec<Noise> {
                blocks
                    .iter()
                    .take(pairs)
                    .map(|block| block[arm].noise.clone())
                    .collect()
            };
            let facts = |arm: usize| -> Option<&CaseFacts> { blocks.first()?[arm].facts.as_ref() };
            if let (Some(base), Some(other)) = (facts(0), facts(arm)) {
                change.differences = gate::differences(base, other);
            }
            change
                .differences
                .extend(gate::clock(&noises(0), &noises(arm)));
            let both: Vec<Noise> = noises(0).into_iter().chain(noises(arm)).collect();
            change.flags = gate::flags(&both, false);
        }
        changes
    }
}

/// Whether nothing is inconclusive.
pub fn is_decided(changes: &[CaseChange]) -> bool {
    gate::gated(changes).all(|(_, l)| l.verdict != Verdict::Inconclusive)
}

/// Figures that are said to have regressed, with their cases.
pub fn regressed(changes: &[CaseChange]) -> Vec<String> {
    let found = gate::gated(changes).filter(|(_, l)| l.verdict == Verdict::Regressed);
    let told =
        found.map(|(case, l)| format!("{} of {case} by {:+.1} %", l.figure, 100.0 * l.change));
    told.collect()
}

/// The control that compares the base with itself.
pub fn null(changes: &[CaseChange]) -> Control {
    let fired = regressed(changes);
    Control {
        name: NULL.into(),
        what: "base against base".into(),
        held: fired.is_empty(),
        found: match fired.is_empty() {
            true => "no slowdown".into(),
            false => format!("slowdowns that are not there: {}", fired.join(", ")),
        },
    }
}

/// The control that compares the base with itself, slowed down: every case must
/// show it, where the stage is gated.
pub fn slowed(changes: &[CaseChange], slow: Slow) -> Control {
    let figure = slow.stage.figure();
    let missed = changes.iter().filter(|case| {
        let own = case
            .latencies
            .iter()
            .filter(|l| l.gated && l.figure == figure);
        own.clone().next().is_some() && own.clone().all(|l| l.verdict != Verdict::Regressed)
    });
    let missed: Vec<&str> = missed.map(|case| case.case.as_str()).collect();
    Control {
        name: SLOWED.into(),
        what: format!("base with {slow}"),
        held: missed.is_empty(),
        found: match missed.is_empty() {
            true => regressed(changes).join(", "),
            false => format!("not seen in {}", missed.join(", ")),
        },
    }
}
