//! Energy of requests, from counters that run all the time.
//!
//! A counter counts a whole device, whoever's work it was, and moves in steps. So it is read before the first and
//! after the last of many requests and never between them, and a window that is short beside its steps is no
//! measurement: its value is left out, with the reason.

pub mod powercap;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use vlmbench_reports::record::{Energy, Joules};

use super::clock::Clock;
use crate::machine::gpu::Card;

/// A window has this many periods of its slowest counter at least: the count at either end is up to one period old,
/// so that both together are off by a fiftieth of the window.
const PERIODS: u32 = 100;

/// And it lasts at least so long, or what else the machine does in it weighs as much as the requests.
const LEAST: Duration = Duration::from_secs(1);

/// More than any package or its memory draws: in a time in which so much could make a counter start again, it could
/// have done so unseen.
const MOST_WATTS: f64 = 1000.0;

/// NVML's counter is fed by a sensor that is read about ten times a second.
const GPU_PERIOD: Duration = Duration::from_millis(100);

/// Why repetitions that wait for another program have no energy.
pub const PACED: &str = "repetitions waited for another program, whose work lies between them";

/// Why cases in turns have no energy.
pub const IN_TURNS: &str =
    "measured in turns with another case, whose work the counters cannot tell from this one's";

/// A counter of energy that runs all the time.
pub struct Counter<'a> {
    name: String,
    /// The count at which it starts again from 0; `None` if it never does.
    wraps_at_uj: Option<u64>,
    /// How often it moves.
    period: Duration,
    /// The count, microjoules.
    read: Box<dyn Fn() -> Result<u64, String> + 'a>,
}

impl Counter<'_> {
    /// What it counts.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The counter of a GPU.
fn gpu(card: Card<'_>) -> Counter<'_> {
    Counter {
        name: "gpu".into(),
        wraps_at_uj: None,
        period: GPU_PERIOD,
        read: Box::new(move || Ok(card.energy_mj()?.saturating_mul(1000))),
    }
}

/// Counters that are read together, or why there are none.
type Counters<'a> = Result<Vec<Counter<'a>>, String>;

/// The count of each counter.
type Counts = Result<Vec<u64>, String>;

/// Measures the energy of a case.
pub struct Meter<'a> {
    device: Counters<'a>,
    /// The host's packages, where the case does not run on them.
    host: Option<Counters<'a>>,
}

/// The counts at the begin of a window.
pub struct Begun {
    at: Duration,
    device: Counts,
    host: Option<Counts>,
}

impl<'a> Meter<'a> {
    /// Of a case on `device`, which is `card` if it is one of NVIDIA's; packages are looked for below `powercap`.
    pub fn of(device: &str, card: Option<&Result<Card<'a>, String>>, powercap: &Path) -> Meter<'a> {
        let packages = || powercap::packages(powercap).map_err(|missing| missing.to_string());
        match (device, card) {
            ("cpu", _) => Meter {
                device: packages(),
                host: None,
            },
            (_, Some(card)) => Meter {
                device: card.clone().map(|card| vec![gpu(card)]),
                host: Some(packages()),
            },
            (other, None) => Meter {
                device: Err(format!("no counter of energy is known for `{other}`")),
                host: Some(packages()),
            },
        }
    }

    /// Measures nothing, for this reason.
    pub fn off(why: &str) -> Meter<'a> {
        Meter {
            device: Err(why.to_owned()),
            host: None,
        }
    }

    /// Begins a window, right before the first request.
    pub fn begin(&self, clock: &dyn Clock) -> Begun {
        let host = self.host.as_ref().map(counts);
        let device = counts(&self.device);
        Begun {
            at: clock.now(),
            device,
            host,
        }
    }

    /// Ends it, right after the last of so many.
    pub fn end(&self, begun: &Begun, requests: u32, clock: &dyn Clock) -> Energy {
        let device = counts(&self.device);
        let host = self.host.as_ref().map(counts);
        let window = Window {
            seconds: (clock.now() - begun.at).as_secs_f64(),
            requests,
        };
        let of = |counters: &Counters<'_>, before: &Counts, after: &Counts| -> Joules {
            let measured = counters.as_ref().map_err(String::clone);
            let joules = measured.and_then(|counters| window.joules(counters, before, after));
            joules.into()
        };
        Energy {
            seconds: window.seconds,
            requests,
            device: of(&self.device, &begun.device, &device),
            host: match (&self.host, &begun.host, &host) {
                (Some(counters), Some(before), Some(after)) => Some(of(counters, before, after)),
                _ => None,
            },
        }
    }
}

fn counts(counters: &Counters<'_>) -> Counts {
    let counters = counters.as_ref().map_err(String::clone)?;
    counters.iter().map(|counter| (counter.read)()).collect()
}

/// How long, and for how much.
struct Window {
    seconds: f64,
    requests: u32,
}

impl Window {
    /// Joules by counter, if they are a measurement.
    fn joules(
        &self,
        counters: &[Counter<'_>],
        before: &Counts,
        after: &Counts,
    ) -> Result<BTreeMap<String, f64>, String> {
        self.long_enough(counters)?;
        let mut joules = BTreeMap::new();
        let counts = before.clone()?.into_iter().zip(after.clone()?);
        for (counter, (before, after)) in counters.iter().zip(counts) {
            let spent = self.spent_uj(counter, before, after)?;
            // Two zones of one name are two parts of one thing.
            *joules.entry(counter.name.clone()).or_insert(0.0) += spent as f64 / 1e6;
        }
        Ok(joules)
    }

    fn long_enough(&self, counters: &[Counter<'_>]) -> Result<(), String> {
        let slowest = counters
            .iter()
            .map(|counter| counter.period * PERIODS)
            .max();
        let least = slowest.unwrap_or_default().max(LEAST).as_secs_f64();
        if self.seconds >= least {
            return Ok(());
        }
        let enough = (least / self.seconds * f64::from(self.requests)).ceil();
        Err(format!(
            "{} requests in {:.2} s are too few for counters that need {least} s: take {enough} or more a launch \
             (`latency.min_iterations`, or `--iterations` of `vlmbench latency`)",
            self.requests, self.seconds
        ))
    }

    /// What a counter has counted, microjoules.
    fn spent_uj(&self, counter: &Counter<'_>, before: u64, after: u64) -> Result<u64, String> {
        let name = &counter.name;
        let spent = match counter.wraps_at_uj {
            Some(wraps_at) => {
                let seconds = wraps_at as f64 / 1e6 / MOST_WATTS;
                if self.seconds >= seconds {
                    return Err(format!(
                        "in {:.0} s the counter {name} can start again from 0 more than once; {seconds:.0} s are the \
                         most that is certain (`latency.budget_seconds`, `latency.max_iterations`)",
                        self.seconds
                    ));
                }
                match after >= before {
                    true => after - before,
                    false => wraps_at.saturating_sub(before) + after,
                }
            }
            None => after.checked_sub(before).ok_or_else(|| {
                format!("the counter {name} started again: its driver was loaded anew")
            })?,
        };
        match spent {
            0 => Err(format!("the counter {name} stood still")),
            spent => Ok(spent),
        }
    }
}

#[cfg(test)]
mod tests;
