//! The peak of the machine beside the latencies that a comparison of machines
//! sets against it: measured before and after them, once a run.

use vlmbench_reports::history::fingerprint;
use vlmbench_reports::record::{CaseOutcome, Record};

use super::Execution;
use crate::error::{Failure, chain};
use crate::machine;
use crate::measure::memory;
use crate::measure::peak::{Peak, measure};
use crate::plan::{Case, Plan, Workload};

impl Execution<'_> {
    /// Measures the peak, if there are latencies on the CPU to come and the run
    /// does not have it. A quick run is there to see whether all works, and
    /// goes without.
    pub(super) fn peak_before(&self, plan: &Plan) -> Option<Peak> {
        let threads = self.experiment.threads;
        let is_to_come = |case: &&Case| {
            let is_timed = !matches!(case.workload, Workload::Quality(_));
            let done = self.progress.finished.get(case.id.as_str()) == Some(&CaseOutcome::Ok);
            is_timed && case.options.device == "cpu" && case.ready().is_some() && !done
        };
        let known = self.earlier.as_ref().is_some_and(|run| {
            let recorded = u32::try_from(threads).is_ok_and(|n| run.peaks.contains_key(&n));
            // The peak of a run is that of the machine in its manifest.
            recorded || fingerprint(&run.manifest.machine) != fingerprint(&machine::machine())
        });
        if self.experiment.flags.quick || known || !plan.cases.iter().any(|c| is_to_come(&c)) {
            return None;
        }
        self.peak()
    }

    /// Measures the peak again, because other work may have disturbed the first
    /// time, and records the better of both.
    pub(super) fn peak_after(&mut self, before: Option<Peak>) -> Result<(), Failure> {
        let Some(before) = before else { return Ok(()) };
        let peak = self.peak().map_or(before, |after| before.or_better(after));
        if let Some(warning) = peak.disturbance() {
            tracing::warn!("{warning}");
        }
        self.append(&Record::Peak(peak.record()))
    }

    /// A peak that cannot be measured costs a comparison its shares, and no run
    /// its cases.
    fn peak(&self) -> Option<Peak> {
        let threads = self.experiment.threads;
        self.bar
            .set_message(format!("measuring the machine's peak, {threads} threads"));
        let peak = measure(threads, &self.clock);
        // Its buffers are large, and the cases are measured in other processes.
        memory::release();
        peak.inspect_err(|error| tracing::warn!("no peak of the machine: {}", chain(error)))
            .ok()
    }
}
