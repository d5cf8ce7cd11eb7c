//! The peak of the machine beside the latencies that a comparison of machines
//! sets against it: measured before and after them, once a run.

use std::collections::BTreeSet;

use vlmbench_reports::history::fingerprint;
use vlmbench_reports::record::{CaseOutcome, Record};

use super::Execution;
use crate::error::{Failure, chain};
use crate::machine;
use crate::measure::memory;
use crate::measure::peak::{Peak, is_measured, measure};
use crate::plan::{Case, Plan, Workload};

impl Execution<'_> {
    /// Measures the peak of every device that has latencies to come and whose peak
    /// the run does not have. A quick run is there to see whether all works, and
    /// goes without.
    pub(super) fn peaks_before(&self, plan: &Plan) -> Vec<Peak> {
        let is_to_come = |case: &&Case| {
            let is_timed = !matches!(case.workload, Workload::Quality(_));
            let done = self.progress.finished.get(case.id.as_str()) == Some(&CaseOutcome::Ok);
            let is_measured = is_measured(&case.backend, &case.options.device);
            is_timed && is_measured && case.ready().is_some() && !done
        };
        let threads = u32::try_from(self.experiment.threads).ok();
        let known = |device: &str| {
            self.earlier.as_ref().is_some_and(|run| {
                let recorded = run.peak(device, threads).is_some();
                // The peak of a run is that of the machine in its manifest.
                recorded || fingerprint(&run.manifest.machine) != fingerprint(&machine::machine())
            })
        };
        if self.experiment.flags.quick {
            return Vec::new();
        }
        let to_come = plan.cases.iter().filter(is_to_come);
        let devices: BTreeSet<&str> = to_come.map(|c| c.options.device.as_str()).collect();
        let unknown = devices.into_iter().filter(|device| !known(device));
        unknown.filter_map(|device| self.peak(device)).collect()
    }

    /// Measures the peaks again, because other work may have disturbed the first
    /// time, and records the better of both.
    pub(super) fn peaks_after(&mut self, before: Vec<Peak>) -> Result<(), Failure> {
        for before in before {
            let after = self.peak(&before.device);
            let peak = match after {
                Some(after) => before.or_better(after),
                None => before,
            };
            if let Some(warning) = peak.disturbance() {
                tracing::warn!("{warning}");
            }
            self.append(&Record::Peak(peak.record()))?;
        }
        Ok(())
    }

    /// A peak that cannot be measured costs a comparison its shares, and no run
    /// its cases.
    fn peak(&self, device: &str) -> Option<Peak> {
        let threads = self.experiment.threads;
        self.bar
            .set_message(format!("measuring the peak of {device}, {threads} threads"));
        let peak = measure(device, threads, &self.clock);
        // Its buffers are large, and the cases are measured in other processes.
        memory::release();
        peak.inspect_err(|error| tracing::warn!("no peak of the machine: {}", chain(error)))
            .ok()
    }
}
