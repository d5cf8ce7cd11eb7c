//! Under which conditions cases were measured: a ratio is taken between two of the same.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    claims::{Claim, ClaimFigure},
    report::Report,
    summary::{CaseSummary, Figure},
};

/// What two cases share if their times may be divided by each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conditions {
    /// Position of the run among those of the report.
    pub run: usize,
    /// CPU model of its machine.
    pub machine: Option<String>,
    /// Engine.
    pub backend: String,
    /// Device.
    pub device: String,
    /// Precision.
    pub precision: String,
    /// Worker threads.
    pub threads: Option<u32>,
    /// Text tokens of the prompt; `None` where only the encoder counts.
    pub prompt_tokens: Option<u32>,
}

impl Conditions {
    fn of(case: &CaseSummary, figure: ClaimFigure, report: &Report) -> Option<Self> {
        let facts = case.facts.as_ref()?;
        Some(Self {
            run: case.run,
            machine: report.runs[case.run].manifest.machine.cpu_model.clone(),
            backend: facts.labels.backend.clone(),
            device: facts.labels.device.clone(),
            precision: facts.labels.precision.clone(),
            threads: facts.used.threads,
            prompt_tokens: match figure.stages().contains(&Figure::Prefill) {
                true => facts.prompt_tokens,
                false => None,
            },
        })
    }

    /// Whether only the runs differ, or threads and prompts: of such blocks the one with most rows will do.
    pub(super) fn alike(&self, other: &Self) -> bool {
        let key = |c: &Self| {
            let Self {
                machine,
                backend,
                device,
                precision,
                ..
            } = c.clone();
            (machine, backend, device, precision)
        };
        key(self) == key(other)
    }
}

impl std::fmt::Display for Conditions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            run,
            machine,
            backend,
            device,
            precision,
            threads,
            prompt_tokens,
        } = self;
        if let Some(machine) = machine {
            write!(f, "{machine}, ")?;
        }
        write!(f, "{backend} on {device}, {precision}")?;
        for (count, noun) in [(threads, "thread"), (prompt_tokens, "text token")] {
            if let Some(count) = count {
                let plural = if *count == 1 { "" } else { "s" };
                write!(f, ", {count} {noun}{plural}")?;
            }
        }
        write!(f, ", run {}", run + 1)
    }
}

/// Cases that have the figure, by the conditions they were measured under, in the order of the report.
///
/// The sides of a claim are left out: they alternate with each other and with nothing else, and are
/// reported as the claim.
pub(super) fn groups(report: &Report, figure: ClaimFigure) -> Vec<(Conditions, Vec<&CaseSummary>)> {
    let mut claimed: BTreeSet<(usize, String)> = BTreeSet::new();
    for (run, recorded) in report.runs.iter().enumerate() {
        for claim in Claim::of(recorded) {
            claimed.extend([(run, claim.baseline.case), (run, claim.contender.case)]);
        }
    }
    let mut groups: Vec<(Conditions, Vec<&CaseSummary>)> = Vec::new();
    for case in &report.summaries {
        let timed = case.figure(figure.figure()).is_some();
        if !timed || claimed.contains(&(case.run, case.case.clone())) {
            continue;
        }
        let Some(conditions) = Conditions::of(case, figure, report) else {
            continue;
        };
        match groups.iter_mut().find(|(known, _)| *known == conditions) {
            Some((_, cases)) => cases.push(case),
            None => groups.push((conditions, vec![case])),
        }
    }
    groups
}
