//! One block: a launch of every arm on one case, side by side.

use std::collections::BTreeMap;

use serde::Serialize;
use vlmbench_reports::gate::Launched;
use vlmbench_reports::record::{CaseFacts, CaseOutcome, LatencySample, Noise, Record};
use vlmbench_reports::stats::Random;
use vlmbench_reports::summary::Figure;

use super::arm::{Arm, Timed};
use crate::context::Context;
use crate::error::Failure;
use crate::launch::{Job, JobCase, PROTOCOL, Worker};
use crate::machine;
use crate::measure::latency::Earlier;

/// Stolen share of a launch's time from which its block is measured again. It
/// falls on all arms of the block alike.
const STOLEN: f64 = 0.1;

/// What a launch measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The arm's name.
    pub arm: String,
    /// Case id.
    pub case: String,
    /// Repetitions that count, turn by turn.
    pub turns: Vec<Vec<LatencySample>>,
    /// What may have disturbed it.
    pub noise: Noise,
    /// What was measured.
    #[serde(skip)]
    pub facts: Option<CaseFacts>,
}

impl Measured {
    /// The least of each turn.
    pub fn least(&self) -> Vec<Launched> {
        self.turns.iter().map(|turn| least(turn)).collect()
    }
}

/// The least of every figure over the repetitions of a turn, which are as many on both sides. What disturbs a
/// repetition makes it slower and nothing makes it faster than the work is, so within the tenth of a second of a
/// turn the least says most about the work.
fn least(turn: &[LatencySample]) -> Launched {
    let least = |figure: Figure| {
        let values: Option<Vec<f64>> = turn.iter().map(|sample| figure.of(sample)).collect();
        let least = values?.into_iter().reduce(f64::min)?;
        Some((figure, least))
    };
    Figure::ALL.into_iter().filter_map(least).collect()
}

/// Whether the rule, fixed before, says to measure a block again.
pub fn is_disturbed(block: &[Measured]) -> bool {
    block
        .iter()
        .any(|m| m.noise.steal.is_some_and(|share| share > STOLEN))
}

/// A launch in progress.
struct Launch {
    worker: Worker,
    measured: Measured,
    /// The last request, whether it counts or not.
    request_ns: u64,
    problem: Option<String>,
}

impl Launch {
    fn start(arm: &Arm, case: &Timed, ctx: &Context) -> Result<Launch, Failure> {
        let job = Job {
            protocol: PROTOCOL,
            experiment: arm.experiment.clone(),
            flags: arm.flags.clone(),
            cases: vec![JobCase {
                id: case.id.clone(),
                launch: 0,
                earlier: Earlier::default(),
            }],
            paced: true,
            slow: arm.slow,
        };
        Ok(Launch {
            worker: Worker::start(arm.program.as_deref(), &job, ctx)?,
            measured: Measured {
                arm: arm.name.clone(),
                case: case.id.clone(),
                turns: Vec::new(),
                noise: Noise::default(),
                facts: None,
            },
            request_ns: 0,
            problem: None,
        })
    }

    /// A turn: `again` repetitions to get warm, which count for nothing, and
    /// `kept` more. A child that ends instead says why later.
    fn turn(&mut self, again: u32, kept: u32) -> Result<(), Failure> {
        let mut turn = Vec::new();
        if self.worker.go(kept + again) {
            for repetition in 0..kept + again {
                let sample = self.read(true)?;
                turn.extend(sample.filter(|s| !s.warm_up && repetition >= again));
            }
        }
        if !turn.is_empty() {
            self.measured.turns.push(turn);
        }
        Ok(())
    }

    /// Takes records up to the next repetition, or to the end.
    fn read(&mut self, one: bool) -> Result<Option<LatencySample>, Failure> {
        let Measured { arm, case, .. } = &self.measured;
        let place = format!("{arm}: {case}");
        let broken = |problem: String| Failure::Broken(format!("{place}: {problem}"));
        while let Some(record) = self.worker.record().map_err(broken)? {
            match record {
                Record::Case(facts) => self.measured.facts = Some(facts),
                Record::Launch(launch) => self.measured.noise = launch.noise,
                Record::CaseEnd(end) => {
                    if let CaseOutcome::Failed { stage, error } = end.outcome {
                        self.problem = Some(format!("failed in {stage}: {error}"));
                    }
                }
                Record::Latency(sample) => {
                    self.request_ns = request_ns(&sample);
                    if one {
                        return Ok(Some(sample));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn end(mut self) -> Result<Measured, Failure> {
        self.worker.enough();
        self.read(false)?;
        let death = self.worker.end().err();
        let (arm, case) = (&self.measured.arm, &self.measured.case);
        match self.problem.or(death) {
            Some(problem) => Err(Failure::Broken(format!("{arm}: {case}: {problem}"))),
            None => Ok(self.measured),
        }
    }
}

/// All stages of a repetition.
fn request_ns(sample: &LatencySample) -> u64 {
    let stages = &sample.stages;
    let first = [
        stages.preprocess_ns,
        stages.encode_ns,
        stages.project_ns,
        stages.prefill_ns,
    ];
    first.into_iter().flatten().sum::<u64>() + stages.decode_ns.iter().sum::<u64>()
}

/// How long a turn is to be at least.
const TURN_NS: u64 = 100_000_000;
/// Repetitions of a turn at most.
const MOST: u64 = 8;
/// Requests from this length on need not get warm again: a process that has
/// slept finds its caches cold and its cores asleep, which is much of a request
/// of milliseconds and nothing of one of seconds.
const LONG_NS: u64 = 500_000_000;

/// Measures a block: every arm has a turn in each of `rounds`, in a new order
/// every time. Arms that fit in memory together stay resident and take turns;
/// else one launch follows the other.
pub fn measure(
    arms: &[(&Arm, &Timed)],
    rounds: u32,
    random: &mut Random,
    ctx: &Context,
) -> Result<Vec<Measured>, Failure> {
    let needed: u64 = arms.iter().map(|(_, case)| case.memory).sum();
    let available = machine::usable_memory_bytes();
    let together = available.is_none_or(|available| needed < available / 2);
    let mut order: Vec<usize> = (0..arms.len()).collect();
    let mut ended: BTreeMap<usize, Measured> = BTreeMap::new();
    random.shuffle(&mut order);
    let sittings: Vec<Vec<usize>> = match together {
        true => vec![order],
        false => order.into_iter().map(|one| vec![one]).collect(),
    };
    for mut turn in sittings {
        let mut launches: BTreeMap<usize, Launch> = BTreeMap::new();
        for &index in &turn {
            let (arm, case) = arms[index];
            launches.insert(index, Launch::start(arm, case, ctx)?);
        }
        let mut each = |turn: &[usize], again: u32, kept: u32| -> Result<u64, Failure> {
            let mut longest = 0;
            for index in turn {
                if let Some(launch) = launches.get_mut(index) {
                    launch.turn(again, kept)?;
                    longest = longest.max(launch.request_ns);
                }
            }
            Ok(longest)
        };
        let warm_up = turn.iter().map(|index| arms[*index].1.warm_up).max();
        let mut longest = 0;
        // Where nothing warms up, the first round tells how long a request is, and counts.
        for _ in 0..warm_up.unwrap_or(0).max(1) {
            longest = each(&turn, 0, 1)?;
        }
        for _ in 0..rounds {
            random.shuffle(&mut turn);
            // By the round before: the first request of a process takes longest.
            let kept = (TURN_NS / longest.max(1)).clamp(1, MOST) as u32;
            longest = each(&turn, u32::from(longest < LONG_NS), kept)?;
        }
        for (index, launch) in launches {
            ended.insert(index, launch.end()?);
        }
    }
    Ok(ended.into_values().collect())
}

#[cfg(test)]
mod tests {
    use vlmbench_reports::record::StageTimes;

    use super::*;

    fn sample(encode_ns: u64, prefill_ns: Option<u64>) -> LatencySample {
        LatencySample {
            case: "case".into(),
            launch: 0,
            iteration: 0,
            warm_up: false,
            stages: StageTimes {
                encode_ns: Some(encode_ns),
                prefill_ns,
                ..StageTimes::default()
            },
            ttft_user_ns: None,
        }
    }

    #[test]
    fn a_turn_counts_with_the_least_of_every_figure() {
        let turn = [
            sample(5_000_000, Some(1_000_000)),
            sample(3_000_000, Some(2_000_000)),
        ];
        let least = least(&turn);
        assert_eq!(least[&Figure::Encode], 3.0);
        assert_eq!(least[&Figure::Prefill], 1.0);
        // Of the sums, not the sum of those: no request took 4 ms.
        assert_eq!(least[&Figure::TtftPaper], 5.0);
        assert!(!least.contains_key(&Figure::TtftUser));
    }

    #[test]
    fn a_figure_that_a_repetition_lacks_is_none_of_the_turn() {
        let turn = [sample(5_000_000, Some(1_000_000)), sample(3_000_000, None)];
        let least = least(&turn);
        assert!(least.contains_key(&Figure::Encode) && !least.contains_key(&Figure::Prefill));
    }
}
