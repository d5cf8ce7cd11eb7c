//! The only reader of the clock: marks of a request become stage durations.

use std::time::{Duration, Instant, SystemTime};

use vlmbench_backends::generate::{Marks, Phase};
use vlmbench_reports::record::{DeviceTimes, StageTimes};

/// Time since some fixed moment. Tests give their own.
pub trait Clock {
    /// Time now.
    fn now(&self) -> Duration;
}

/// The system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic(Instant);

impl Monotonic {
    /// A clock that starts at zero.
    pub fn start() -> Monotonic {
        Monotonic(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Times the phases of one request: the time between two marks belongs to the
/// phase that the second one ends.
pub struct Stopwatch<'a> {
    clock: &'a dyn Clock,
    start: Duration,
    last: Duration,
    laps: Vec<(Phase, Duration)>,
    /// By the device's own clock.
    device: Vec<(Phase, Duration)>,
    first_token: Option<Duration>,
}

impl<'a> Stopwatch<'a> {
    /// Starts now: the request's encoded bytes are at hand.
    pub fn start(clock: &'a dyn Clock) -> Stopwatch<'a> {
        let now = clock.now();
        Stopwatch {
            clock,
            start: now,
            last: now,
            // Enough that recording a mark does not allocate.
            laps: Vec::with_capacity(256),
            device: Vec::with_capacity(256),
            first_token: None,
        }
    }

    /// Sum of a phase's laps; `None` if it was never marked.
    pub fn total(&self, phase: Phase) -> Option<Duration> {
        sum(&self.laps, phase)
    }

    /// The stages that the device told its own time of; `None` if it has no clock.
    fn device_times(&self) -> Option<DeviceTimes> {
        let ns = |phase| sum(&self.device, phase).map(nanoseconds);
        (!self.device.is_empty()).then(|| DeviceTimes {
            encode_ns: ns(Phase::Encode),
            project_ns: ns(Phase::Project),
            prefill_ns: ns(Phase::Prefill),
            decode_ns: each(&self.device, Phase::Decode),
        })
    }

    /// From the start to the first token, as one interval.
    pub fn first_token(&self) -> Option<Duration> {
        self.first_token
    }

    /// The stages of the record. Image decoding counts as preprocessing;
    /// prefill ends with the logits of the first token.
    pub fn stages(&self) -> StageTimes {
        let ns = |phase| self.total(phase).map(nanoseconds);
        let preprocess = match (ns(Phase::DecodeImage), ns(Phase::Preprocess)) {
            (Some(decode), Some(resize)) => Some(decode + resize),
            _ => None,
        };
        StageTimes {
            preprocess_ns: preprocess,
            encode_ns: ns(Phase::Encode),
            project_ns: ns(Phase::Project),
            prefill_ns: ns(Phase::Prefill),
            decode_ns: each(&self.laps, Phase::Decode),
            device: self.device_times(),
        }
    }
}

/// Sum of a phase's laps; `None` if it has none.
fn sum(laps: &[(Phase, Duration)], phase: Phase) -> Option<Duration> {
    let laps = laps.iter().filter(|(p, _)| *p == phase);
    laps.map(|(_, d)| *d).reduce(|a, b| a + b)
}

/// A phase's laps, in nanoseconds.
fn each(laps: &[(Phase, Duration)], phase: Phase) -> Vec<u64> {
    let laps = laps.iter().filter(|(p, _)| *p == phase);
    laps.map(|(_, d)| nanoseconds(*d)).collect()
}

impl Marks for Stopwatch<'_> {
    fn mark(&mut self, phase: Phase) {
        let now = self.clock.now();
        self.laps.push((phase, now - self.last));
        self.last = now;
        if phase == Phase::FirstToken {
            self.first_token = Some(now - self.start);
        }
    }

    fn device(&mut self, phase: Phase, time: Duration) {
        self.device.push((phase, time));
    }
}

/// Whole nanoseconds.
pub fn nanoseconds(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// The time of day as RFC 3339 in UTC, for records.
pub fn timestamp() -> String {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    rfc3339(since.as_secs())
}

/// RFC 3339 of seconds since 1970, by the civil calendar (Howard Hinnant's
/// `civil_from_days`).
fn rfc3339(seconds: u64) -> String {
    let (days, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    /// A clock that tests set by hand.
    #[derive(Default)]
    pub struct Manual(pub Cell<u64>);

    impl Manual {
        /// Lets `ms` milliseconds pass.
        pub fn pass(&self, ms: u64) {
            self.0.set(self.0.get() + ms);
        }
    }

    impl Clock for Manual {
        fn now(&self) -> Duration {
            Duration::from_millis(self.0.get())
        }
    }

    #[test]
    fn marks_become_stages_and_the_first_token_is_one_interval() {
        let clock = Manual::default();
        clock.pass(7);
        let mut watch = Stopwatch::start(&clock);
        let phases = [
            (Phase::DecodeImage, 1),
            (Phase::Preprocess, 2),
            (Phase::Encode, 30),
            (Phase::Project, 4),
            (Phase::Tokenize, 5),
            (Phase::Prefill, 60),
            (Phase::FirstToken, 7),
            (Phase::Decode, 8),
            (Phase::Decode, 9),
        ];
        for (phase, ms) in phases {
            clock.pass(ms);
            if matches!(phase, Phase::Prefill | Phase::Decode) {
                watch.device(phase, Duration::from_millis(ms - 1));
            }
            watch.mark(phase);
        }
        let ms = |v: u64| v * 1_000_000;
        let stages = watch.stages();
        assert_eq!(stages.preprocess_ns, Some(ms(3)));
        assert_eq!(stages.encode_ns, Some(ms(30)));
        assert_eq!(stages.prefill_ns, Some(ms(60)));
        assert_eq!(stages.decode_ns, [ms(8), ms(9)]);
        let device = stages.device.unwrap();
        assert_eq!((device.encode_ns, device.prefill_ns), (None, Some(ms(59))));
        assert_eq!(device.decode_ns, [ms(7), ms(8)]);
        assert_eq!(watch.first_token(), Some(Duration::from_millis(109)));
    }

    #[test]
    fn a_phase_that_did_not_happen_is_none() {
        let clock = Manual::default();
        let watch = Stopwatch::start(&clock);
        assert_eq!(watch.stages(), StageTimes::default());
        assert_eq!(watch.first_token(), None);
    }

    #[test]
    fn timestamps_follow_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_478_400), "2026-11-24T00:00:00Z");
    }
}
