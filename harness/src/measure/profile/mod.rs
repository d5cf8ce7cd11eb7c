//! Where the time of a request goes: its phases, stages, kinds of operation
//! and single operations, each beside the least time that the machine's
//! measured peak admits.
//!
//! Requests are repeated with and without an observer, alternately, so that
//! what observing costs is known too.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;
use vlmbench_backends::backend::Precision;
use vlmbench_backends::generate::{Phase, PhaseError};
use vlmbench_backends::ops::Shape;
use vlmbench_reports::stats::quantile;

use crate::error::Failure;
use crate::measure::clock::Clock;
use crate::measure::latency::Workload;
use crate::measure::peak::Peak;
use crate::measure::session::Session;
use crate::measure::tape::{OpRun, PhaseRun, Tape};

/// Phases that run networks, in order.
const PHASES: [Phase; 4] = [Phase::Encode, Phase::Project, Phase::Prefill, Phase::Decode];

/// How to repeat.
pub struct Repeats<'a> {
    /// Repetitions that only warm up.
    pub warm_up: u32,
    /// Timed repetitions, each observed and unobserved.
    pub iterations: u32,
    /// Thread counts to measure alternately; the last is what the profile is
    /// of.
    pub threads: &'a [usize],
}

/// Timed repetitions.
pub struct Samples {
    /// Observed requests by thread count, as in [`Repeats::threads`].
    observed: Vec<Vec<Vec<PhaseRun>>>,
    /// Unobserved requests with the last thread count.
    unobserved: Vec<Vec<PhaseRun>>,
}

/// Repeats a request; `progress` is told of each repetition.
pub fn repeat<C: Clock + Clone + Send + 'static>(
    session: &mut Session,
    workload: &Workload,
    repeats: &Repeats<'_>,
    clock: C,
    progress: &mut dyn FnMut(u32),
) -> Result<Samples, Failure> {
    let tape = Tape::start(clock);
    let mut once = |threads: Option<usize>, observed: bool| -> Result<Vec<PhaseRun>, Failure> {
        if let Some(threads) = threads {
            session.model.use_threads(threads)?;
        }
        session.model.observe(match observed {
            true => Some(Box::new(tape.clone())),
            false => None,
        })?;
        tape.cut();
        workload
            .request(session, &mut tape.clone())
            .map_err(|PhaseError { source, .. }| Failure::Backend(*source))?;
        Ok(tape.cut())
    };
    let mut samples = Samples {
        observed: vec![Vec::new(); repeats.threads.len()],
        unobserved: Vec::new(),
    };
    let last = repeats.threads.len().saturating_sub(1);
    for iteration in 0..repeats.warm_up + repeats.iterations {
        progress(iteration);
        let timed = iteration >= repeats.warm_up;
        for (i, threads) in repeats.threads.iter().enumerate() {
            let switch = (repeats.threads.len() > 1).then_some(*threads);
            // Which of both comes first alternates, as what runs second finds
            // other caches and another clock rate.
            let order = match (i == last, iteration % 2) {
                (false, _) => &[true][..],
                (true, 0) => &[false, true],
                (true, _) => &[true, false],
            };
            for &observed in order {
                let run = once(switch, observed)?;
                match (timed, observed) {
                    (false, _) => {}
                    (true, true) => samples.observed[i].push(run),
                    (true, false) => samples.unobserved.push(run),
                }
            }
        }
    }
    Ok(samples)
}

/// Figures of one operation or of several together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Number of operations.
    pub count: usize,
    /// Floating-point operations, a multiply-add as 2.
    pub flops: u64,
    /// Bytes of parameters, inputs and outputs.
    pub bytes: u64,
    /// Median over the repetitions, milliseconds.
    pub median_ms: f64,
    /// The fastest repetition, milliseconds.
    pub min_ms: f64,
    /// Share of the whole request, preprocessing and sampling aside.
    pub share: f64,
    /// FLOPs over the median.
    pub flops_per_second: f64,
    /// That, as a share of the arithmetic peak.
    pub peak_share: f64,
    /// Sum over the operations of the larger of FLOPs over the arithmetic
    /// peak and bytes over the memory bandwidth, milliseconds.
    pub floor_ms: f64,
    /// Median over floor; `None` without a floor.
    pub over_floor: Option<f64>,
}

/// Operations of a stage or of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// A stage of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// Its operations together.
    #[serde(flatten)]
    pub group: Group,
    /// By kind of operation, the longest first.
    pub kinds: Vec<Group>,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operation {
    /// Stage.
    pub stage: String,
    /// Kind.
    pub kind: String,
    /// Path of its parameters, or of its block and its kind.
    pub name: String,
    /// Shape of its output: `(b, c, h, w)` of a map, `(b, n, d)` of tokens.
    pub shape: Vec<usize>,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Median less floor, milliseconds: what a perfect kernel would gain.
    pub lost_ms: f64,
}

/// A phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseProfile {
    /// Its name.
    pub phase: &'static str,
    /// Its figures, time between operations included.
    #[serde(flatten)]
    pub figures: Figures,
    /// The same time without an observer, median, milliseconds.
    pub unobserved_ms: f64,
    /// What observing adds, as a share of the unobserved time.
    pub overhead: f64,
    /// Time outside of operations: copies to and from the engine, sampling,
    /// the observer; median, milliseconds.
    pub outside_ms: f64,
    /// By stage, in order.
    pub stages: Vec<Stage>,
    /// By kind of operation, the longest first.
    pub kinds: Vec<Group>,
    /// Operations in order.
    pub operations: Vec<Operation>,
}

/// How a phase or a stage gains from threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scaling {
    /// Phase.
    pub phase: &'static str,
    /// Stage; `None` for the whole phase.
    pub stage: Option<String>,
    /// Median by thread count, milliseconds.
    pub median_ms: Vec<f64>,
    /// First median over each.
    pub speed_up: Vec<f64>,
}

impl Samples {
    /// The phases of the profile.
    pub fn phases(&self, precision: Precision, peak: &Peak) -> Result<Vec<PhaseProfile>, Failure> {
        let runs = self.observed.last().map_or(&[][..], Vec::as_slice);
        let phases: Vec<(Phase, Runs<'_>)> = PHASES
            .into_iter()
            .filter_map(|phase| Some((phase, Runs::of(runs, phase)?)))
            .collect();
        let limits = Limits {
            flops: peak.flops(precision),
            bytes: peak.bandwidth(),
            total_ms: phases.iter().map(|(_, runs)| median(&runs.times())).sum(),
        };
        phases
            .into_iter()
            .map(|(phase, runs)| {
                let plain = Runs::of(&self.unobserved, phase).ok_or_else(|| {
                    Failure::Internal(format!("{} ran only while observed", phase.name()))
                })?;
                runs.check(phase)?;
                Ok(profile(phase, &runs, median(&plain.times()), &limits))
            })
            .collect()
    }

    /// Medians by thread count, phase by phase and stage by stage.
    pub fn scaling(&self) -> Vec<Scaling> {
        let mut rows = Vec::new();
        for phase in PHASES {
            let by_threads: Vec<Runs<'_>> = (self.observed.iter())
                .filter_map(|runs| Runs::of(runs, phase))
                .collect();
            let Some(first) = by_threads.first() else {
                continue;
            };
            let mut row = |stage: Option<String>, times: Vec<f64>| {
                rows.push(Scaling {
                    phase: phase.name(),
                    stage,
                    speed_up: times.iter().map(|ms| times[0] / ms).collect(),
                    median_ms: times,
                });
            };
            row(
                None,
                by_threads.iter().map(|r| median(&r.times())).collect(),
            );
            for (stage, ops) in first.grouped(&first.all(), |op| op.stage.clone()) {
                let times = by_threads.iter().map(|r| median(&r.times_of(&ops)));
                row(Some(stage), times.collect());
            }
        }
        rows
    }
}

/// One phase in every repetition.
struct Runs<'a>(Vec<&'a PhaseRun>);

/// What floors and shares are made of.
struct Limits {
    /// FLOP/s.
    flops: f64,
    /// Bytes/s.
    bytes: f64,
    /// Milliseconds of all phases.
    total_ms: f64,
}

impl<'a> Runs<'a> {
    /// `None` if no repetition has the phase. Of a phase that comes several
    /// times in a request, the first is taken.
    fn of(requests: &'a [Vec<PhaseRun>], phase: Phase) -> Option<Runs<'a>> {
        let runs = requests.iter();
        let runs: Vec<&PhaseRun> = runs
            .filter_map(|request| request.iter().find(|run| run.phase == phase))
            .collect();
        (!runs.is_empty()).then_some(Runs(runs))
    }

    fn ops(&self) -> &'a [OpRun] {
        &self.0[0].ops
    }

    /// Repetitions are summed operation by operation, so they must be alike.
    fn check(&self, phase: Phase) -> Result<(), Failure> {
        match self.0.iter().find(|run| run.ops.len() != self.ops().len()) {
            None => Ok(()),
            Some(other) => Err(Failure::Internal(format!(
                "{} had {} operations in one repetition and {} in another",
                phase.name(),
                self.ops().len(),
                other.ops.len()
            ))),
        }
    }

    fn times(&self) -> Vec<f64> {
        self.0.iter().map(|run| ms(run.time)).collect()
    }

    /// Summed time of some operations, by repetition.
    fn times_of(&self, ops: &[usize]) -> Vec<f64> {
        let sum = |run: &&PhaseRun| ops.iter().map(|&i| ms(run.ops[i].time)).sum();
        self.0.iter().map(sum).collect()
    }

    /// Positions of all operations.
    fn all(&self) -> Vec<usize> {
        (0..self.ops().len()).collect()
    }

    /// Positions of operations by a name, in order of first appearance.
    fn grouped(&self, ops: &[usize], name: impl Fn(&OpRun) -> String) -> Vec<(String, Vec<usize>)> {
        let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
        for &i in ops {
            let name = name(&self.ops()[i]);
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, members)) => members.push(i),
                None => groups.push((name, vec![i])),
            }
        }
        groups
    }

    fn figures(&self, ops: &[usize], times: &[f64], limits: &Limits) -> Figures {
        let median_ms = median(times);
        let all = || ops.iter().map(|&i| &self.ops()[i]);
        let flops = all().map(|op| op.flops).sum::<u64>();
        let floor_ms = all().map(|op| limits.floor_ms(op)).sum::<f64>();
        let rate = match median_ms > 0.0 {
            true => flops as f64 / (median_ms / 1e3),
            false => 0.0,
        };
        Figures {
            count: ops.len(),
            flops,
            bytes: all().map(|op| op.bytes).sum(),
            median_ms,
            min_ms: times.iter().copied().fold(f64::INFINITY, f64::min),
            share: median_ms / limits.total_ms,
            flops_per_second: rate,
            peak_share: rate / limits.flops,
            floor_ms,
            over_floor: (floor_ms > 0.0).then_some(median_ms / floor_ms),
        }
    }

    fn group(&self, name: String, ops: &[usize], limits: &Limits) -> Group {
        Group {
            name,
            figures: self.figures(ops, &self.times_of(ops), limits),
        }
    }

    fn stages(&self, limits: &Limits) -> Vec<Stage> {
        let stages = self.grouped(&self.all(), |op| op.stage.clone()).into_iter();
        stages
            .map(|(name, ops)| Stage {
                group: self.group(name, &ops, limits),
                kinds: self.kinds(&ops, limits),
            })
            .collect()
    }

    /// The longest first.
    fn kinds(&self, ops: &[usize], limits: &Limits) -> Vec<Group> {
        let kinds = self.grouped(ops, |op| op.kind.to_string()).into_iter();
        let mut kinds: Vec<Group> = kinds
            .map(|(name, ops)| self.group(name, &ops, limits))
            .collect();
        kinds.sort_by(|a, b| b.figures.median_ms.total_cmp(&a.figures.median_ms));
        kinds
    }
}

impl Limits {
    fn floor_ms(&self, op: &OpRun) -> f64 {
        1e3 * f64::max(op.flops as f64 / self.flops, op.bytes as f64 / self.bytes)
    }
}

fn profile(phase: Phase, runs: &Runs<'_>, unobserved_ms: f64, limits: &Limits) -> PhaseProfile {
    let all = runs.all();
    let times = runs.times();
    let inside = runs.times_of(&all);
    let outside: Vec<f64> = (times.iter().zip(&inside))
        .map(|(whole, inside)| whole - inside)
        .collect();
    let operation = |i: usize| {
        let op = &runs.ops()[i];
        let figures = runs.figures(&[i], &runs.times_of(&[i]), limits);
        Operation {
            stage: op.stage.clone(),
            kind: op.kind.to_string(),
            name: op.name.clone(),
            shape: match op.shape {
                Shape::Map { b, c, h, w } => vec![b, c, h, w],
                Shape::Tokens { b, n, d } => vec![b, n, d],
            },
            lost_ms: figures.median_ms - figures.floor_ms,
            figures,
        }
    };
    PhaseProfile {
        phase: phase.name(),
        figures: runs.figures(&all, &times, limits),
        unobserved_ms,
        overhead: median(&times) / unobserved_ms - 1.0,
        outside_ms: median(&outside),
        stages: runs.stages(limits),
        kinds: runs.kinds(&all, limits),
        operations: all.iter().map(|&i| operation(i)).collect(),
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Median of samples, of which there is at least one.
fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5).unwrap_or_default()
}
