//! Latency cases: every repetition becomes a record. Cases that differ only in
//! the engine are measured alternately.

use std::path::Path;

use vlmbench_backends::generate::PhaseError;
use vlmbench_reports::record::{Energy, LatencySample, Launch, Noise, Record};

use super::{Execution, Failed};
use crate::config::latency::Latency;
use crate::error::{Failure, chain};
use crate::launch::Watch;
use crate::machine::{self, gpu::Card};
use crate::measure::clock::Clock;
use crate::measure::energy::{self, Begun, Meter, powercap::POWERCAP};
use crate::measure::latency::{Observer, Party, Repetition, Workload, repeat};
use crate::measure::session::Session;
use crate::plan::Case;

impl Execution<'_> {
    /// Measures `cases`, of one workload, on their loaded models in this
    /// launch; how each ended.
    pub(super) fn latency(
        &mut self,
        cases: &[&Case],
        latency: &Latency,
        sessions: Vec<Session>,
    ) -> Result<Vec<Result<(), Failed>>, Failure> {
        let mut parties = Vec::new();
        let job = self.job.clone();
        let of = |id: &str| {
            job.as_ref()
                .and_then(|job| job.cases.iter().find(|c| c.id == id))
        };
        for (case, session) in cases.iter().zip(sessions) {
            let mut workload = Workload::new(&session, latency, self.experiment.seed)?;
            workload.slow = job.as_ref().and_then(|job| job.slow);
            parties.push(Party {
                workload,
                session,
                earlier: of(case.id.as_str())
                    .map(|c| c.earlier.clone())
                    .unwrap_or_default(),
            });
        }
        let paced = job.as_ref().is_some_and(|job| job.paced);
        let mut latency = latency.of_launch();
        if paced {
            // Whoever sets the pace says when it is enough.
            (latency.min_iterations, latency.max_iterations) = (u32::MAX, u32::MAX);
        }
        let clock = self.clock;
        let launches: Vec<u32> = cases
            .iter()
            .map(|case| of(case.id.as_str()).map_or(0, |c| c.launch))
            .collect();
        // Cases that are measured together are of one device.
        let device = cases.first().map_or("cpu", |case| &case.options.device);
        let card = machine::card(device, &self.ctx.numbering);
        let meter = match (paced, cases.len()) {
            (true, _) => Meter::off(energy::PACED),
            (_, 2..) => Meter::off(energy::IN_TURNS),
            _ => Meter::of(device, card.as_ref(), Path::new(POWERCAP)),
        };
        let mut recorder = Recorder {
            execution: self,
            cases,
            launches: &launches,
            paced,
            credit: 0,
            card: card.as_ref().and_then(|card| card.clone().ok()),
            meter,
            timed: 0,
            began: None,
        };
        let endings = repeat(&mut parties, &latency, &clock, &mut recorder)?;
        let (energy, noise) = recorder.end(&clock);
        let peaks = parties.iter().map(|p| p.session.model.peak_device_memory());
        self.device_peak = peaks.flatten().max();
        let failed = |error: PhaseError| Failed {
            stage: error.phase.name().into(),
            error: chain(error.source.as_ref()),
        };
        let endings: Vec<_> = endings.into_iter().map(|e| e.map_err(failed)).collect();
        for ((case, launch), ending) in cases.iter().zip(&launches).zip(&endings) {
            if ending.is_ok() {
                self.append(&Record::Launch(Launch {
                    case: case.id.to_string(),
                    launch: *launch,
                    noise: noise.clone(),
                    energy: energy.clone(),
                }))?;
            }
        }
        Ok(endings)
    }
}

/// Records repetitions, and watches the machine from the first that counts.
struct Recorder<'a, 'e> {
    execution: &'a mut Execution<'e>,
    cases: &'a [&'a Case],
    launches: &'a [u32],
    paced: bool,
    /// Repetitions that a paced child may still measure without asking.
    credit: u32,
    /// The GPU that the cases run on.
    card: Option<Card<'static>>,
    meter: Meter<'static>,
    /// Repetitions that counted.
    timed: u32,
    began: Option<(Watch<'static>, Begun)>,
}

impl Recorder<'_, '_> {
    /// What the repetitions that counted took, and what may have disturbed them. Energy first: it is of the
    /// repetitions only.
    fn end(&self, clock: &dyn Clock) -> (Option<Energy>, Noise) {
        let Some((watch, begun)) = &self.began else {
            return Default::default();
        };
        let energy = self.meter.end(begun, self.timed, clock);
        (Some(energy), watch.noise(clock))
    }
}

impl Observer for Recorder<'_, '_> {
    fn go(&mut self) -> Result<bool, Failure> {
        if self.paced && self.credit == 0 {
            let Some(line) = self.execution.ctx.next_line()? else {
                return Ok(false);
            };
            // How many at once; any other word is one.
            self.credit = line.trim().parse().unwrap_or(1).max(1);
        }
        self.credit = self.credit.saturating_sub(1);
        Ok(true)
    }

    fn timed(&mut self) {
        let clock = &self.execution.clock;
        let watch = Watch::start(clock, self.card);
        self.began = Some((watch, self.meter.begin(clock)));
    }

    fn record(&mut self, party: usize, r: Repetition) -> Result<(), Failure> {
        self.timed += u32::from(!r.warm_up);
        self.execution.append(&Record::Latency(LatencySample {
            case: self.cases[party].id.to_string(),
            launch: self.launches[party],
            iteration: r.iteration,
            warm_up: r.warm_up,
            stages: r.stages,
            ttft_user_ns: r.ttft_user_ns,
        }))
    }
}
