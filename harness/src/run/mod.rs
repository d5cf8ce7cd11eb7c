//! Running a plan: case by case into the run folder, resuming what an earlier
//! launch of the same experiment left.
//!
//! The manifest is written before the first case, every repetition and every
//! sample is a record as soon as it is measured, and a case that fails is a
//! recorded outcome: the rest goes on.

mod digests;
mod latency;
mod quality;

use std::path::Path;

use indicatif::ProgressBar;
use vlmbench_reports::record::{
    CaseEnd, CaseFacts, CaseOutcome, FORMAT_VERSION, Labels, Manifest, Progress, Record, Run,
    RunWriter, Tool, Workload as RecordedWorkload, experiment_digest,
};

use crate::config::Experiment;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::machine;
use crate::measure::clock::{Monotonic, timestamp};
use crate::measure::memory;
use crate::measure::session::{Load, Session, recorded_stages};
use crate::plan::{Case, CaseState, Plan, Ready, Workload};

/// Why a case did not come to its end.
#[derive(Debug)]
pub(crate) enum CaseError {
    /// An outcome of the case.
    Failed { stage: &'static str, error: String },
    /// The run itself cannot go on.
    Fatal(Failure),
}

impl From<Failure> for CaseError {
    fn from(failure: Failure) -> CaseError {
        CaseError::Fatal(failure)
    }
}

/// A run in progress.
pub(crate) struct Execution<'a> {
    ctx: &'a Context,
    experiment: &'a Experiment,
    writer: RunWriter,
    progress: Progress,
    earlier: Option<Run>,
    digests: digests::Digests,
    bar: ProgressBar,
    clock: Monotonic,
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
        writer,
        progress,
        earlier,
        digests,
        bar,
        clock: Monotonic::start(),
    };
    execution.publish(plan)?;
    for (index, case) in plan.cases.iter().enumerate() {
        execution.case(case, index, plan.cases.len())?;
        execution.bar.inc(1);
    }
    execution.bar.finish_and_clear();
    Ok(())
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
                self.writer.append(&Record::Published(series.clone()))?;
            }
        }
        Ok(())
    }

    fn case(&mut self, case: &Case, index: usize, total: usize) -> Result<(), Failure> {
        let id = case.id.to_string();
        let before = self.progress.finished.get(&id).cloned();
        if before == Some(CaseOutcome::Ok) {
            self.say(index, total, &id, "done before");
            return Ok(());
        }
        self.bar.set_message(id.clone());
        let mut failed_samples = 0;
        let outcome = match &case.state {
            CaseState::Failed { error } => CaseOutcome::Failed {
                stage: "plan".into(),
                error: error.clone(),
            },
            CaseState::Skipped { reason } => CaseOutcome::Skipped {
                reason: reason.clone(),
            },
            CaseState::Ready(ready) => {
                memory::release();
                memory::reset_peak();
                match self.measure(case, ready) {
                    Ok(failed) => {
                        failed_samples = failed;
                        CaseOutcome::Ok
                    }
                    Err(CaseError::Failed { stage, error }) => CaseOutcome::Failed {
                        stage: stage.into(),
                        error,
                    },
                    Err(CaseError::Fatal(failure)) => return Err(failure),
                }
            }
        };
        let text = match &outcome {
            CaseOutcome::Ok if failed_samples > 0 => format!("{failed_samples} samples failed"),
            CaseOutcome::Ok => "ok".to_owned(),
            CaseOutcome::Failed { stage, error } => format!("failed in {stage}: {error}"),
            CaseOutcome::Skipped { reason } => format!("skipped: {reason}"),
        };
        self.say(index, total, &id, &text);
        // What is skipped again for the same reason is on record already.
        if matches!(outcome, CaseOutcome::Skipped { .. }) && before.as_ref() == Some(&outcome) {
            return Ok(());
        }
        self.writer.append(&Record::CaseEnd(CaseEnd {
            case: id,
            outcome,
            peak_rss_bytes: case.ready().and_then(|_| memory::peak_bytes()),
            ended_at: timestamp(),
        }))?;
        Ok(())
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

    /// Measures a case; returns how many samples failed.
    fn measure(&mut self, case: &Case, ready: &Ready) -> Result<usize, CaseError> {
        let available = machine::report().usable_memory_bytes();
        if let Some(error) = memory::shortage(ready.cost.memory_bytes(), available) {
            return Err(CaseError::Failed {
                stage: "load",
                error,
            });
        }
        let load = Load {
            recipe: &ready.recipe,
            backend: &case.backend,
            options: &case.options,
            context: ready.cost.context,
            hub: &self.ctx.hub,
        };
        let mut observe = self
            .ctx
            .terminal
            .downloads(&self.ctx.terminal.spinner("".into()));
        let mut session =
            Session::open(&load, &mut observe).map_err(|failure| CaseError::Failed {
                stage: "load",
                error: crate::error::chain(&failure),
            })?;
        if !self.progress.case(case.id.as_str()).described {
            let facts = self.facts(case, ready, &session);
            self.append(&Record::Case(facts))?;
        }
        match &case.workload {
            Workload::EncoderLatency(latency) | Workload::EndToEndLatency(latency) => {
                self.latency(case, latency, &mut session).map(|()| 0)
            }
            Workload::Quality(quality) => self.quality(case, quality, &mut session),
        }
    }

    fn append(&mut self, record: &Record) -> Result<(), Failure> {
        Ok(self.writer.append(record)?)
    }

    fn facts(&self, case: &Case, ready: &Ready, session: &Session) -> CaseFacts {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (workload, suite) = match &case.workload {
            Workload::EncoderLatency(_) => (RecordedWorkload::EncoderLatency, None),
            Workload::EndToEndLatency(_) => (RecordedWorkload::EndToEndLatency, None),
            Workload::Quality(q) => (RecordedWorkload::Quality, Some(&q.suite)),
        };
        let recipe = &ready.recipe;
        CaseFacts {
            case: case.id.to_string(),
            workload,
            labels: Labels {
                model: recipe.name.clone(),
                encoder: recipe.encoder.as_ref().map_or("", |e| &e.label).to_owned(),
                decoder: recipe.decoder.as_ref().map(|d| d.label.clone()),
                suite: suite.map(|s| s.spec.id.clone()),
                profile: suite.map(|s| s.profile.clone()),
                backend: case.backend.clone(),
                device: case.options.device.clone(),
                precision: case.options.precision.to_string(),
                resolution: narrow(recipe.resolution),
            },
            weights: session.weights(self.digests.weights(recipe)),
            visual_tokens: match recipe.decoder {
                Some(_) => ready.cost.visual_tokens.map(narrow),
                None => None,
            },
            // A suite's prompts differ by sample.
            prompt_tokens: match suite {
                Some(_) => None,
                None => ready.cost.prompt_tokens.map(narrow),
            },
            components: session.components(),
            stages: recorded_stages(&ready.cost),
            activation_peak_bytes: Some(ready.cost.activation_peak_bytes),
            used: session.used(),
        }
    }
}
