//! Running a plan: case by case into the run folder, resuming what an earlier
//! launch of the same experiment left.
//!
//! The manifest is written before the first case, every repetition and every
//! sample is a record as soon as it is measured, and a case that fails is a
//! recorded outcome: the rest goes on.

mod digests;
mod facts;
mod gallery;
mod latency;
mod launches;
mod peak;
mod quality;

pub(crate) use facts::planned_facts;
pub use launches::work;

use std::path::Path;

use indicatif::ProgressBar;
use vlmbench_reports::record::{
    CaseEnd, CaseFacts, CaseOutcome, FORMAT_VERSION, Manifest, Progress, Record, Run, RunWriter,
    Tool, experiment_digest,
};

use crate::config::Experiment;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::launch::Job;
use crate::machine;
use crate::measure::agreement::{Check, Outputs, Tolerances, positions};
use crate::measure::clock::{Monotonic, timestamp};
use crate::measure::energy::powercap::{self, Missing, POWERCAP};
use crate::measure::memory::{self, Peaks};
use crate::measure::session::{Load, Session, usable_memory};
use crate::plan::{Case, CaseState, Plan, Ready, Workload};

/// Why a case did not come to its end: an outcome of the case. What the run
/// itself cannot survive is a [`Failure`].
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    stage: String,
    error: String,
}

/// A case that can run, with its place in the plan.
#[derive(Clone, Copy)]
struct Runnable<'a> {
    index: usize,
    case: &'a Case,
    ready: &'a Ready,
}

/// How a case ended, with how many samples failed, and the peak of its memory.
type Ending = (Result<usize, Failed>, Peaks);

/// A run in progress, or one launch of it in a process of its own.
pub(crate) struct Execution<'a> {
    ctx: &'a Context,
    experiment: &'a Experiment,
    /// Where records go; to standard output from a launch.
    writer: Option<RunWriter>,
    /// Of a launch.
    job: Option<Job>,
    progress: Progress,
    earlier: Option<Run>,
    digests: digests::Digests,
    bar: ProgressBar,
    clock: Monotonic,
    /// Most memory in use on the device of the case that was measured last.
    device_peak: Option<u64>,
}

/// Runs every case of a plan that is not finished yet, into `folder`.
pub fn execute(
    experiment: &Experiment,
    plan: &Plan,
    folder: &Path,
    ctx: &Context,
) -> Result<(), Failure> {
    machine::use_threads(experiment.threads);
    let bar = ctx.terminal.bar(plan.cases.len() as u64);
    let value = plan.manifest_experiment(experiment)?;
    bar.set_message("digests of weights and data");
    let digests = digests::Digests::of(plan, &ctx.hub);
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        tool: Tool {
            name: "vlmbench".into(),
            version: crate::VERSION.into(),
            revision: crate::revision().map(str::to_owned),
        },
        started_at: timestamp(),
        experiment_digest: experiment_digest(&value),
        experiment: value,
        plan: plan.ids(),
        machine: machine::machine(),
        digests: digests.all(),
        notes: Vec::new(),
    };
    let (writer, progress) = RunWriter::create_or_resume(folder, &manifest)?;
    let earlier = match progress.cases.is_empty() && progress.finished.is_empty() {
        true => None,
        false => Some(Run::read(folder)?),
    };
    if let Some(run) = &earlier {
        digests::check(folder, &run.manifest.digests, &manifest.digests)?;
    }
    if progress.dropped_torn_line {
        tracing::warn!("a record that was being written when the run stopped is measured again");
    }
    let mut execution = Execution {
        ctx,
        experiment,
        writer: Some(writer),
        job: None,
        progress,
        earlier,
        digests,
        bar,
        clock: Monotonic::start(),
        device_peak: None,
    };
    execution.publish(plan)?;
    warn_of_energy(plan);
    let is_quality =
        |group: &Vec<usize>| matches!(plan.cases[group[0]].workload, Workload::Quality(_));
    let (asked, timed): (Vec<_>, Vec<_>) = plan.groups().into_iter().partition(is_quality);
    // What is timed comes first in a plan, too. The machine's peak belongs to its minutes.
    let peaks = execution.peaks_before(plan);
    execution.groups(plan, &timed)?;
    execution.peaks_after(peaks)?;
    execution.groups(plan, &asked)?;
    execution.bar.finish_and_clear();
    Ok(())
}

/// Says once what somebody could do about energy that will not be known; every launch records why.
fn warn_of_energy(plan: &Plan) {
    let timed = |case: &Case| !matches!(case.workload, Workload::Quality(_));
    if plan.cases.iter().any(timed)
        && let Err(Missing::Refused(why)) = powercap::packages(Path::new(POWERCAP))
    {
        tracing::warn!("the energy of the CPU is not recorded: {why}");
    }
}

/// Failed cases and samples of a finished run.
pub fn outcome(run: &Run) -> Outcome {
    let failed = |end: &&CaseEnd| matches!(end.outcome, CaseOutcome::Failed { .. });
    let cases = run.ends.values().filter(failed).count();
    let samples = run.failed_samples();
    match (cases, samples) {
        (0, 0) => Outcome::Done,
        _ => Outcome::FailedCases { cases, samples },
    }
}

impl Execution<'_> {
    /// Copies the published series into the run, once.
    fn publish(&mut self, plan: &Plan) -> Result<(), Failure> {
        for series in &plan.published {
            if !self.progress.published.contains(&series.id) {
                self.append(&Record::Published(series.clone()))?;
            }
        }
        Ok(())
    }

    /// Runs groups of cases, one after the other.
    fn groups(&mut self, plan: &Plan, groups: &[Vec<usize>]) -> Result<(), Failure> {
        for group in groups {
            self.group(plan, group)?;
            self.bar.inc(group.len() as u64);
        }
        Ok(())
    }

    /// Runs cases that are measured together.
    fn group(&mut self, plan: &Plan, group: &[usize]) -> Result<(), Failure> {
        let total = plan.cases.len();
        let mut runnable = Vec::new();
        for &index in group {
            let case = &plan.cases[index];
            if self.progress.finished.get(case.id.as_str()) == Some(&CaseOutcome::Ok) {
                self.say(index, total, case.id.as_str(), "done before");
                continue;
            }
            let outcome = match &case.state {
                CaseState::Ready(ready) => {
                    runnable.push(Runnable { index, case, ready });
                    continue;
                }
                CaseState::Failed { error } => CaseOutcome::Failed {
                    stage: "plan".into(),
                    error: error.clone(),
                },
                CaseState::Skipped { reason } => CaseOutcome::Skipped {
                    reason: reason.clone(),
                },
            };
            self.end(index, total, case, outcome, 0, Peaks::default())?;
        }
        if runnable.is_empty() {
            return Ok(());
        }
        let quality = matches!(runnable[0].case.workload, Workload::Quality(_));
        let endings = match quality {
            true => self.in_this_process(&runnable)?,
            false => self.launches(&runnable)?,
        };
        for (Runnable { index, case, .. }, (ending, peaks)) in runnable.into_iter().zip(endings) {
            let (outcome, samples) = match ending {
                Ok(samples) => (CaseOutcome::Ok, samples),
                Err(Failed { stage, error }) => (CaseOutcome::Failed { stage, error }, 0),
            };
            self.end(index, total, case, outcome, samples, peaks)?;
        }
        Ok(())
    }

    /// Measures cases together; how each ended, with the peak of its memory.
    fn in_this_process(&mut self, group: &[Runnable<'_>]) -> Result<Vec<Ending>, Failure> {
        memory::release();
        memory::reset_peak();
        self.device_peak = None;
        let endings = self.measure(group)?;
        // Two models in memory have one peak between them.
        let peaks = match group.len() {
            1 => Peaks {
                rss_bytes: memory::peak_bytes(),
                device_bytes: self.device_peak,
            },
            _ => Peaks::default(),
        };
        Ok(endings.into_iter().map(|ending| (ending, peaks)).collect())
    }

    /// Says how a case ended and records it.
    fn end(
        &mut self,
        index: usize,
        total: usize,
        case: &Case,
        outcome: CaseOutcome,
        failed_samples: usize,
        peaks: Peaks,
    ) -> Result<(), Failure> {
        let id = case.id.to_string();
        let text = match &outcome {
            CaseOutcome::Ok if failed_samples > 0 => format!("{failed_samples} samples failed"),
            CaseOutcome::Ok => "ok".to_owned(),
            CaseOutcome::Failed { stage, error } => format!("failed in {stage}: {error}"),
            CaseOutcome::Skipped { reason } => format!("skipped: {reason}"),
        };
        self.say(index, total, &id, &text);
        // What is skipped again for the same reason is on record already.
        let skipped = matches!(outcome, CaseOutcome::Skipped { .. });
        if skipped && self.progress.finished.get(&id) == Some(&outcome) {
            return Ok(());
        }
        self.append(&Record::CaseEnd(CaseEnd {
            case: id,
            outcome,
            peak_rss_bytes: peaks.rss_bytes,
            peak_device_bytes: peaks.device_bytes,
            ended_at: timestamp(),
        }))
    }

    /// A line about a case; above the bar on a terminal, plain elsewhere.
    fn say(&self, index: usize, total: usize, id: &str, text: &str) {
        let line = format!("[{}/{total}] {id}: {text}", index + 1);
        if self.ctx.terminal.progress {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
    }

    /// Measures cases together; how many samples of each failed, or how it
    /// failed itself.
    fn measure(&mut self, group: &[Runnable<'_>]) -> Result<Vec<Result<usize, Failed>>, Failure> {
        let needed: u64 = group.iter().map(|r| r.ready.cost.memory_bytes()).sum();
        let first = &group[0].case;
        let available = usable_memory(&first.backend, &first.options);
        if let Some(error) = memory::shortage(needed, available) {
            let stage = "load".into();
            return Ok(vec![Err(Failed { stage, error }); group.len()]);
        }
        let mut endings: Vec<Result<usize, Failed>> = vec![Ok(0); group.len()];
        let mut sessions: Vec<Option<Session>> = Vec::new();
        for (r, ending) in group.iter().zip(&mut endings) {
            match self.open(r, group.len() > 1 && r.case.claim.is_none()) {
                Ok(session) => sessions.push(Some(session)),
                Err(failed) => {
                    *ending = Err(failed);
                    sessions.push(None);
                }
            }
        }
        // The sides of a claim are different models.
        if group.len() > 1 && group[0].case.claim.is_none() {
            self.compare(group, &mut sessions, &mut endings);
        }
        let loaded = sessions.into_iter().enumerate();
        let loaded = loaded.filter_map(|(index, session)| Some((index, session?)));
        let (going, sessions): (Vec<usize>, Vec<Session>) =
            loaded.filter(|(index, _)| endings[*index].is_ok()).unzip();
        for (index, session) in going.iter().zip(&sessions) {
            let r = &group[*index];
            if !self.progress.case(r.case.id.as_str()).described {
                let facts = self.facts(r.case, r.ready, session);
                self.append(&Record::Case(facts))?;
            }
        }
        let cases: Vec<&Case> = going.iter().map(|index| group[*index].case).collect();
        let measured = match cases.first().map(|case| &case.workload) {
            None => Vec::new(),
            Some(Workload::EncoderLatency(latency) | Workload::EndToEndLatency(latency)) => {
                let done = self.latency(&cases, latency, sessions)?;
                done.into_iter().map(|e| e.map(|()| 0)).collect()
            }
            Some(Workload::Quality(quality)) => {
                let mut done = Vec::new();
                for (case, mut session) in cases.iter().zip(sessions) {
                    done.push(self.quality(case, quality, &mut session)?);
                    self.device_peak = session.model.peak_device_memory();
                }
                done
            }
        };
        for (index, ending) in going.into_iter().zip(measured) {
            endings[index] = ending;
        }
        Ok(endings)
    }

    /// Loads a case's model, with room for a comparison if it is to be
    /// `compared`.
    fn open(&self, r: &Runnable<'_>, compared: bool) -> Result<Session, Failed> {
        let failed = |failure: Failure| Failed {
            stage: "load".into(),
            error: crate::error::chain(&failure),
        };
        let recipe = &r.ready.recipe;
        let room = match compared {
            true => positions(recipe).map_err(failed)?,
            false => 0,
        };
        let load = Load {
            recipe,
            backend: &r.case.backend,
            options: &r.case.options,
            context: r.ready.cost.context.max(room),
            hub: &self.ctx.hub,
        };
        let terminal = &self.ctx.terminal;
        let mut observe = terminal.downloads(&terminal.spinner("".into()));
        Session::open(&load, &mut observe).map_err(failed)
    }

    /// Fails those of several loaded engines that must not be timed against
    /// each other: one that gives nothing fails alone, those that give
    /// different things fail together. The first that works is what the others
    /// are compared with.
    fn compare(
        &self,
        group: &[Runnable<'_>],
        sessions: &mut [Option<Session>],
        endings: &mut [Result<usize, Failed>],
    ) {
        let failed = |error| Failed {
            stage: "verify".into(),
            error,
        };
        let mut reference: Option<(&str, Outputs)> = None;
        let mut differences = Vec::new();
        for ((r, session), ending) in group.iter().zip(sessions).zip(endings.iter_mut()) {
            let Some(session) = session else { continue };
            let name = r.case.backend.as_str();
            self.bar
                .set_message(format!("{}: outputs of {name}", r.case.id));
            let fed = reference.as_ref().map(|(_, outputs)| outputs);
            let ours = match Outputs::of(session, fed) {
                Ok(ours) => ours,
                Err(failure) => {
                    *ending = Err(failed(crate::error::chain(&failure)));
                    continue;
                }
            };
            let Some((first, theirs)) = &reference else {
                reference = Some((name, ours));
                continue;
            };
            let tolerances = Tolerances::new(r.case.options.precision, None);
            let checks = ours.against(first, theirs, &tolerances);
            let off = checks.iter().filter(|c| !c.ok).map(Check::verdict);
            let off: Vec<String> = off.collect();
            if !off.is_empty() {
                differences.push(format!("{name} and {first} differ: {}", off.join("; ")));
            }
        }
        if !differences.is_empty() {
            let error = format!("not compared in time: {}", differences.join(". "));
            for ending in endings.iter_mut().filter(|ending| ending.is_ok()) {
                *ending = Err(failed(error.clone()));
            }
        }
    }

    fn append(&mut self, record: &Record) -> Result<(), Failure> {
        match &mut self.writer {
            Some(writer) => Ok(writer.append(record)?),
            None => self.ctx.print_json_line(record),
        }
    }

    fn facts(&self, case: &Case, ready: &Ready, session: &Session) -> CaseFacts {
        CaseFacts {
            weights: session.weights(self.digests.weights(&ready.recipe)),
            components: session.components(),
            used: session.used(),
            ..planned_facts(case, ready)
        }
    }
}
