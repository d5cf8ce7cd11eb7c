//! What the timed repetitions of a launch took, by counters of energy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Energy over the timed repetitions of a launch, all back to back: from right before the first to right after the
/// last. It is everything that a counter counts in that time, whoever's work it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// Length of the window, seconds.
    pub seconds: f64,
    /// Requests in it.
    pub requests: u32,
    /// The device that the case ran on: of the CPU its packages, with their memory where that is counted; else the
    /// GPU.
    pub device: Joules,
    /// The host's packages, of a case that did not run on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Joules>,
}

/// Joules by counter, or why they are not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Joules {
    /// `package-0`, `package-0/dram`, `gpu`, ...; `None` if any of them is no measurement.
    pub joules: Option<BTreeMap<String, f64>>,
    /// Why, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

impl From<Result<BTreeMap<String, f64>, String>> for Joules {
    fn from(measured: Result<BTreeMap<String, f64>, String>) -> Self {
        let (joules, missing) = match measured {
            Ok(joules) => (Some(joules), None),
            Err(why) => (None, Some(why)),
        };
        Self { joules, missing }
    }
}

impl Energy {
    /// Joules a request, of the device.
    pub fn per_request(&self) -> Option<f64> {
        self.share(&self.device)
    }

    /// Joules a request, of the host of another device.
    pub fn host_per_request(&self) -> Option<f64> {
        self.share(self.host.as_ref()?)
    }

    fn share(&self, joules: &Joules) -> Option<f64> {
        let total: f64 = joules.joules.as_ref()?.values().sum();
        (self.requests > 0).then(|| total / f64::from(self.requests))
    }
}
