//! Latency cases: every repetition becomes a record. Cases that differ only in
//! the engine are measured alternately.

use vlmbench_backends::generate::PhaseError;
use vlmbench_reports::record::{LatencySample, Record};
use vlmbench_reports::summary::ttft_paper_ns;

use super::{Execution, Failed};
use crate::config::experiment::Latency;
use crate::error::{Failure, chain};
use crate::measure::latency::{Earlier, Party, Repetition, Workload, repeat};
use crate::measure::session::Session;
use crate::plan::Case;

impl Execution<'_> {
    /// Measures `cases`, of one workload, on their loaded models; how each
    /// ended.
    pub(super) fn latency(
        &mut self,
        cases: &[&Case],
        latency: &Latency,
        sessions: Vec<Session>,
    ) -> Result<Vec<Result<(), Failed>>, Failure> {
        let mut parties = Vec::new();
        for (case, session) in cases.iter().zip(sessions) {
            parties.push(Party {
                workload: Workload::new(&session, latency, self.experiment.seed)?,
                session,
                earlier: self.earlier(case.id.as_str()),
            });
        }
        let clock = self.clock;
        let launch = self.progress.launch;
        let mut record = |party: usize, r: Repetition| {
            let kind = if r.warm_up { "warm-up" } else { "repetition" };
            let id = cases[party].id.to_string();
            self.bar
                .set_message(format!("{id}: {kind} {}", r.iteration + 1));
            self.append(&Record::Latency(LatencySample {
                case: id,
                launch,
                iteration: r.iteration,
                warm_up: r.warm_up,
                stages: r.stages,
                ttft_user_ns: r.ttft_user_ns,
            }))
        };
        let endings = repeat(&mut parties, latency, &clock, &mut record)?;
        let failed = |error: PhaseError| Failed {
            stage: error.phase.name(),
            error: chain(error.source.as_ref()),
        };
        Ok(endings.into_iter().map(|e| e.map_err(failed)).collect())
    }

    /// What an earlier launch measured of a case.
    fn earlier(&self, id: &str) -> Earlier {
        let Some(run) = &self.earlier else {
            return Earlier::default();
        };
        let timed = run.latency.iter().filter(|s| s.case == id && !s.warm_up);
        Earlier {
            iterations: self.progress.case(id).iterations,
            seconds: timed
                .filter_map(|s| {
                    ttft_paper_ns(&s.stages)
                        .or(s.stages.encode_ns)
                        .or(s.stages.prefill_ns)
                })
                .map(|ns| ns as f64 / 1e9)
                .collect(),
        }
    }
}
