//! Latency cases in processes of their own: the parent's side, and the child's.

use vlmbench_reports::record::{CaseEnd, CaseOutcome, Progress, Record, Weights};
use vlmbench_reports::summary::ttft_paper_ns;

use super::{Ending, Execution, Failed, Runnable, digests};
use crate::cmd::plan;
use crate::context::Context;
use crate::error::Failure;
use crate::launch::{Job, JobCase, PROTOCOL, Worker};
use crate::machine;
use crate::measure::clock::{Monotonic, timestamp};
use crate::measure::latency::Earlier;
use crate::measure::memory::Peaks;
use crate::plan::{Plan, Sources, Workload};

impl Execution<'_> {
    /// Measures cases together, launch by launch; how each ended, with the
    /// largest peak of its memory.
    pub(super) fn launches(&mut self, group: &[Runnable<'_>]) -> Result<Vec<Ending>, Failure> {
        let launches = match &group[0].case.workload {
            Workload::EncoderLatency(l) | Workload::EndToEndLatency(l) => l.launches,
            Workload::Quality(_) => 1,
        };
        let mut endings: Vec<Ending> = vec![(Ok(0), Peaks::default()); group.len()];
        let done = |r: &Runnable<'_>| self.progress.case(r.case.id.as_str()).launches;
        let done = group.iter().map(done).min().unwrap_or(0);
        for launch in done..launches.max(1) {
            let going: Vec<usize> = (0..group.len()).filter(|i| endings[*i].0.is_ok()).collect();
            if going.is_empty() {
                break;
            }
            let cases = going
                .iter()
                .map(|i| self.job_case(group[*i].case.id.as_str(), launches, launch - done));
            let job = Job {
                protocol: PROTOCOL,
                experiment: self.experiment.asked.clone(),
                flags: self.experiment.flags.clone(),
                cases: cases.collect(),
                paced: false,
                slow: None,
            };
            let mut ended = self.launch(group, &job)?;
            for index in going {
                let (ending, peak) = &mut endings[index];
                let (new, new_peak) = ended.remove(0);
                *ending = new;
                *peak = (*peak).max(new_peak);
            }
        }
        Ok(endings)
    }

    /// What a launch is told of a case: `later` is how many this run has made before it.
    fn job_case(&self, id: &str, launches: u32, later: u32) -> JobCase {
        let known = self.progress.case(id);
        JobCase {
            id: id.to_owned(),
            launch: known.next_launch + later,
            // What an interrupted launch measured counts on, unless launches are what is counted.
            earlier: match (launches, later) {
                (1, 0) => self.earlier(id),
                _ => Earlier::default(),
            },
        }
    }

    /// One launch: its records become the run's; how each of its cases ended.
    fn launch(&mut self, group: &[Runnable<'_>], job: &Job) -> Result<Vec<Ending>, Failure> {
        let mut endings: Vec<Option<Ending>> = vec![None; job.cases.len()];
        let place = |id: &str| job.cases.iter().position(|case| case.id == id);
        let mut worker = Worker::start(None, job, self.ctx)?;
        let death = loop {
            let record = match worker.record() {
                Ok(Some(record)) => record,
                Ok(None) => break worker.end().err(),
                Err(problem) => break Some(problem),
            };
            match record {
                Record::Case(mut facts) => {
                    let known = self.progress.cases.entry(facts.case.clone()).or_default();
                    if std::mem::replace(&mut known.described, true) {
                        continue;
                    }
                    // The files were hashed before the first case.
                    if let Some(r) = group.iter().find(|r| r.case.id.as_str() == facts.case)
                        && let Weights::Checkpoint { digests, .. } = &mut facts.weights
                    {
                        *digests = self.digests.weights(&r.ready.recipe).clone();
                    }
                    self.append(&Record::Case(facts))?;
                }
                Record::Latency(sample) => {
                    let kind = if sample.warm_up {
                        "warm-up"
                    } else {
                        "repetition"
                    };
                    let Some(JobCase { launch, .. }) = place(&sample.case).map(|i| &job.cases[i])
                    else {
                        continue;
                    };
                    self.bar.set_message(format!(
                        "{}: launch {}, {kind} {}",
                        sample.case,
                        launch + 1,
                        sample.iteration + 1
                    ));
                    self.append(&Record::Latency(sample))?;
                }
                Record::CaseEnd(end) => {
                    let ending = match end.outcome {
                        CaseOutcome::Failed { stage, error } => Err(Failed { stage, error }),
                        CaseOutcome::Ok | CaseOutcome::Skipped { .. } => Ok(0),
                    };
                    if let Some(index) = place(&end.case) {
                        let peaks = Peaks {
                            rss_bytes: end.peak_rss_bytes,
                            device_bytes: end.peak_device_bytes,
                        };
                        endings[index] = Some((ending, peaks));
                    }
                }
                record => self.append(&record)?,
            }
        };
        let lost = || {
            let error = death
                .clone()
                .unwrap_or_else(|| "the worker said nothing of it".into());
            let stage = "launch".into();
            (Err(Failed { stage, error }), Peaks::default())
        };
        Ok(endings
            .into_iter()
            .map(|ending| ending.unwrap_or_else(lost))
            .collect())
    }

    /// What an earlier process measured of a case without coming to its end.
    fn earlier(&self, id: &str) -> Earlier {
        let Some(run) = &self.earlier else {
            return Earlier::default();
        };
        let timed = run.latency.iter().filter(|s| s.case == id && !s.warm_up);
        let seconds = timed.filter_map(|s| {
            ttft_paper_ns(&s.stages)
                .or(s.stages.encode_ns)
                .or(s.stages.prefill_ns)
        });
        Earlier {
            iterations: self.progress.case(id).iterations,
            seconds: seconds.map(|ns| ns as f64 / 1e9).collect(),
        }
    }
}

/// Does a job: its records go to standard output.
pub fn work(job: &Job, ctx: &Context) -> Result<(), Failure> {
    if job.protocol != PROTOCOL {
        return Err(Failure::Usage(format!(
            "a job of protocol {}; this version speaks {PROTOCOL}: measure builds of one protocol",
            job.protocol
        )));
    }
    let experiment = plan::experiment(&job.experiment, &job.flags, ctx)?;
    machine::use_threads(experiment.threads);
    let sources = Sources {
        configs: &ctx.configs,
        hub: &ctx.hub,
    };
    let plan = Plan::build(&experiment, &sources, &mut |_| {})?;
    let mut group = Vec::new();
    for JobCase { id, .. } in &job.cases {
        let found = plan
            .cases
            .iter()
            .enumerate()
            .find(|(_, c)| c.id.as_str() == id);
        let found = found.and_then(|(index, case)| {
            let ready = case.ready()?;
            Some(Runnable { index, case, ready })
        });
        group.push(found.ok_or_else(|| {
            Failure::Usage(format!(
                "`{}` has no case `{id}` that can run",
                job.experiment
            ))
        })?);
    }
    let mut execution = Execution {
        ctx,
        experiment: &experiment,
        writer: None,
        job: Some(job.clone()),
        progress: Progress::default(),
        earlier: None,
        digests: digests::Digests::default(),
        bar: indicatif::ProgressBar::hidden(),
        clock: Monotonic::start(),
        device_peak: None,
    };
    let endings = execution.in_this_process(&group)?;
    for (r, (ending, peaks)) in group.iter().zip(endings) {
        let outcome = match ending {
            Ok(_) => CaseOutcome::Ok,
            Err(Failed { stage, error }) => CaseOutcome::Failed { stage, error },
        };
        execution.append(&Record::CaseEnd(CaseEnd {
            case: r.case.id.to_string(),
            outcome,
            peak_rss_bytes: peaks.rss_bytes,
            peak_device_bytes: peaks.device_bytes,
            ended_at: timestamp(),
        }))?;
    }
    Ok(())
}
