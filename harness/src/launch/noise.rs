//! What else the machine did while a launch was measured.

use std::time::Duration;

use vlmbench_reports::record::{GpuNoise, GpuState, Noise};

use crate::machine::gpu::Card;
use crate::measure::clock::Clock;

/// Counters of the system at one moment; Linux's, `None` elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters {
    /// Ticks of all cores: all, idle, stolen.
    cores: Option<[u64; 3]>,
    /// Ticks that this process used.
    own: Option<u64>,
    preempted: Option<u64>,
    yielded: Option<u64>,
    minor_faults: Option<u64>,
    major_faults: Option<u64>,
    throttled: Option<u64>,
}

/// Watches the machine from a moment on.
pub struct Watch<'a> {
    began: Duration,
    before: Counters,
    gpu: Option<(Card<'a>, GpuState)>,
}

impl<'a> Watch<'a> {
    /// Starts now; `card` is the GPU that the launch runs on.
    pub fn start(clock: &dyn Clock, card: Option<Card<'a>>) -> Watch<'a> {
        let gpu = card.map(|card| (card, card.state()));
        Watch {
            began: clock.now(),
            before: Counters::now(),
            gpu,
        }
    }

    /// What happened since.
    pub fn noise(&self, clock: &dyn Clock) -> Noise {
        // First, for an idle GPU lowers its clock.
        let gpu = self.gpu.as_ref().map(|(card, begin)| GpuNoise {
            end: card.state(),
            begin: begin.clone(),
        });
        let seconds = (clock.now() - self.began).as_secs_f64();
        Noise {
            seconds,
            clock_mhz: clock_mhz(&read("/proc/cpuinfo")),
            gpu,
            ..between(&self.before, &Counters::now())
        }
    }
}

impl Counters {
    fn now() -> Counters {
        let stat = read("/proc/self/stat");
        let status = read("/proc/self/status");
        let [minor_faults, major_faults, own] = process(&stat);
        Counters {
            cores: cores(&read("/proc/stat")),
            own,
            preempted: field(&status, "nonvoluntary_ctxt_switches:"),
            yielded: field(&status, "voluntary_ctxt_switches:"),
            minor_faults,
            major_faults,
            throttled: throttled(),
        }
    }
}

/// The difference of two moments.
fn between(before: &Counters, after: &Counters) -> Noise {
    let more = |get: fn(&Counters) -> Option<u64>| Some(get(after)?.saturating_sub(get(before)?));
    let cores = before.cores.zip(after.cores).map(|(before, after)| {
        let more = |i: usize| after[i].saturating_sub(before[i]) as f64;
        [more(0), more(1), more(2)]
    });
    // A launch shorter than a tick says nothing.
    let cores = cores.filter(|[all, ..]| *all > 0.0);
    let own = more(|c| c.own);
    Noise {
        steal: cores.map(|[all, _, stolen]| stolen / all),
        others: cores
            .zip(own)
            .map(|([all, idle, stolen], own)| ((all - idle - stolen - own as f64) / all).max(0.0)),
        preempted: more(|c| c.preempted),
        yielded: more(|c| c.yielded),
        minor_faults: more(|c| c.minor_faults),
        major_faults: more(|c| c.major_faults),
        throttled: more(|c| c.throttled),
        ..Noise::default()
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// All, idle (waiting for disks included) and stolen ticks of the first line of
/// `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; guests
/// are in user.
fn cores(stat: &str) -> Option<[u64; 3]> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map_while(|t| t.parse().ok())
        .collect();
    let [_, _, _, idle, iowait, _, _, steal] = *ticks.get(..8)? else {
        return None;
    };
    Some([ticks[..8].iter().sum(), idle + iowait, steal])
}

/// Minor faults, major faults and ticks in user and system mode of
/// `/proc/self/stat`, whose second field may contain anything but is closed by
/// the last bracket.
fn process(stat: &str) -> [Option<u64>; 3] {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // proc(5) counts from 1, and the state, its third, is our first.
    let at = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = at(14).zip(at(15)).map(|(user, system)| user + system);
    [at(10), at(12), ticks]
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

fn clock_mhz(cpuinfo: &str) -> Option<f64> {
    let lines = cpuinfo.lines().filter(|line| line.starts_with("cpu MHz"));
    let clocks: Vec<f64> = lines
        .filter_map(|line| line.split_once(':')?.1.trim().parse().ok())
        .collect();
    (!clocks.is_empty()).then(|| clocks.iter().sum::<f64>() / clocks.len() as f64)
}

/// Throttling events of all cores, where the system counts them.
fn throttled() -> Option<u64> {
    let cores = std::fs::read_dir("/sys/devices/system/cpu").ok()?;
    let counts = cores.flatten().filter_map(|core| {
        let path = core.path().join("thermal_throttle/core_throttle_count");
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    });
    counts.reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::gpu::tests::MadeUp;
    use crate::measure::clock::tests::Manual;

    #[test]
    fn shares_are_of_all_cores() {
        assert_eq!(
            cores("cpu  100 0 50 800 10 0 20 20 5 0\ncpu0 1 2\n"),
            Some([1000, 810, 20])
        );
        assert_eq!(cores("cpu  1 2 3\n"), None);
        let moment = |all, idle, stolen, own| Counters {
            cores: Some([all, idle, stolen]),
            own: Some(own),
            preempted: Some(all / 10),
            ..Counters::default()
        };
        let noise = between(&moment(0, 0, 0, 0), &moment(1000, 400, 100, 300));
        assert_eq!((noise.steal, noise.others), (Some(0.1), Some(0.2)));
        assert_eq!((noise.preempted, noise.yielded), (Some(100), None));
        let none = between(&moment(5, 1, 1, 1), &moment(5, 1, 1, 1));
        assert_eq!((none.steal, none.others), (None, None));
    }

    #[test]
    fn the_gpu_is_looked_at_at_both_ends() {
        let state = |mhz, reason: &str| GpuState {
            sm_clock_mhz: Some(mhz),
            throttle: Some(vec![reason.into()]),
            ..GpuState::default()
        };
        let (begin, end) = (state(345, "gpu_idle"), state(1200, "sw_thermal_slowdown"));
        let driver = MadeUp::of(1);
        *driver.states.lock().unwrap() = vec![begin.clone(), end.clone()];
        let clock = Manual::default();
        let noise = Watch::start(&clock, Some(driver.card())).noise(&clock);
        assert_eq!(noise.gpu, Some(GpuNoise { begin, end }));
        assert_eq!(Watch::start(&clock, None).noise(&clock).gpu, None);
    }

    #[test]
    fn the_processs_own_counters_are_read_behind_its_name() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 100 0 9 0 40 2 0 0 20 0 1 0";
        assert_eq!(process(stat), [Some(100), Some(9), Some(42)]);
        assert_eq!(process(""), [None, None, None]);
        let status = "voluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(3));
        assert_eq!(
            clock_mhz("cpu MHz\t: 2000.0\ncpu MHz\t: 3000.0\n"),
            Some(2500.0)
        );
        assert_eq!(clock_mhz(""), None);
    }
}
