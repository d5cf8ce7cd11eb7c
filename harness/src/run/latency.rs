//! A latency case: every repetition becomes a record.

use vlmbench_reports::record::{LatencySample, Record};
use vlmbench_reports::summary::ttft_paper_ns;

use super::{CaseError, Execution};
use crate::config::experiment::Latency;
use crate::error::chain;
use crate::measure::latency::{Earlier, RepeatError, Repetition, Workload, repeat};
use crate::measure::session::Session;
use crate::plan::Case;

impl Execution<'_> {
    pub(super) fn latency(
        &mut self,
        case: &Case,
        latency: &Latency,
        session: &mut Session,
    ) -> Result<(), CaseError> {
        let id = case.id.to_string();
        let workload = Workload::new(session, latency, self.experiment.seed)?;
        let earlier = self.earlier(&id);
        let clock = self.clock;
        let launch = self.progress.launch;
        let mut record = |r: Repetition| {
            let kind = if r.warm_up { "warm-up" } else { "repetition" };
            self.bar
                .set_message(format!("{id}: {kind} {}", r.iteration + 1));
            self.append(&Record::Latency(LatencySample {
                case: id.clone(),
                launch,
                iteration: r.iteration,
                warm_up: r.warm_up,
                stages: r.stages,
                ttft_user_ns: r.ttft_user_ns,
            }))
        };
        let done = repeat(session, &workload, latency, &earlier, &clock, &mut record);
        done.map_err(|error| match error {
            RepeatError::Record(failure) => CaseError::Fatal(failure),
            RepeatError::Measure(error) => CaseError::Failed {
                stage: error.phase.name(),
                error: chain(error.source.as_ref()),
            },
        })
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
