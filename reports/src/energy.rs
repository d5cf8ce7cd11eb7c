//! Energy of a request, from the launches of a case.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    record::{Energy, Joules, Launch},
    stats::Estimate,
};

/// What took the energy of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consumer {
    /// The device that the case ran on.
    Device,
    /// The host's packages, beside another device.
    Host,
}

impl Consumer {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Device, Self::Host];

    /// Heading in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Device => "J/request",
            Self::Host => "host J/request",
        }
    }

    /// Name in data files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "energy",
            Self::Host => "host_energy",
        }
    }

    /// Joules a request of one launch.
    fn of(self, energy: &Energy) -> Option<f64> {
        match self {
            Self::Device => energy.per_request(),
            Self::Host => energy.host_per_request(),
        }
    }

    /// Those that any of some cases has a figure of: what none has gets no column.
    pub fn known<'a>(energies: impl Iterator<Item = &'a RequestEnergy>) -> Vec<Self> {
        let known: BTreeSet<Self> = energies.flat_map(|e| e.figures.keys().copied()).collect();
        known.into_iter().collect()
    }
}

/// Joules of a request over the launches of a case that came to their end, one value a launch. A figure stands only
/// if every launch has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestEnergy {
    figures: BTreeMap<Consumer, Estimate>,
    /// Why figures are missing, each reason once; empty in runs of before energy was recorded.
    pub missing: BTreeSet<String>,
}

impl RequestEnergy {
    /// Of a case's launches.
    pub fn of(launches: &[&Launch]) -> Self {
        let estimate = |consumer: Consumer| {
            let values = launches.iter().map(|l| consumer.of(l.energy.as_ref()?));
            let values: Option<Vec<f64>> = values.collect();
            Some((consumer, Estimate::of(&values?)?))
        };
        let energies = launches.iter().filter_map(|launch| launch.energy.as_ref());
        let parts = energies.flat_map(|energy| [Some(&energy.device), energy.host.as_ref()]);
        let missing = |joules: &Joules| joules.missing.clone();
        Self {
            figures: Consumer::ALL.into_iter().filter_map(estimate).collect(),
            missing: parts.flatten().filter_map(missing).collect(),
        }
    }

    /// A figure, if it was measured.
    pub fn figure(&self, consumer: Consumer) -> Option<&Estimate> {
        self.figures.get(&consumer)
    }
}

/// Joules with about three significant digits.
pub fn joules(joules: f64) -> String {
    match joules {
        j if j < 1.0 => format!("{j:.3}"),
        j if j < 10.0 => format!("{j:.2}"),
        j if j < 100.0 => format!("{j:.1}"),
        j => format!("{j:.0}"),
    }
}
