//! A slowdown on purpose: real work in a stage, so that what looks for
//! slowdowns can be seen to find one.

use std::hint::black_box;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vlmbench_backends::generate::{Marks, Phase};

use crate::measure::clock::Clock;

/// A stage that takes longer than it must.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    /// The stage.
    pub stage: SlowStage,
    /// By what share of its own time.
    pub by: f64,
}

/// A stage that can be slowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlowStage {
    /// Resizing and normalising.
    Preprocess,
    /// Vision encoder.
    Encode,
    /// Projector.
    Project,
    /// Prompt.
    Prefill,
    /// Every decode step.
    Decode,
}

impl SlowStage {
    const ALL: [(&'static str, SlowStage, Phase); 5] = [
        ("preprocess", SlowStage::Preprocess, Phase::Preprocess),
        ("encode", SlowStage::Encode, Phase::Encode),
        ("project", SlowStage::Project, Phase::Project),
        ("prefill", SlowStage::Prefill, Phase::Prefill),
        ("decode", SlowStage::Decode, Phase::Decode),
    ];

    fn row(self) -> (&'static str, SlowStage, Phase) {
        let found = Self::ALL.into_iter().find(|(_, stage, _)| *stage == self);
        found.unwrap_or(Self::ALL[0])
    }

    /// The figure that it shows in.
    pub fn figure(self) -> &'static str {
        match self {
            SlowStage::Decode => "tpot",
            _ => self.row().0,
        }
    }
}

impl std::fmt::Display for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} slowed by {} %", self.stage.row().0, 100.0 * self.by)
    }
}

impl FromStr for Slow {
    type Err = String;

    fn from_str(text: &str) -> Result<Slow, String> {
        let names = SlowStage::ALL.map(|(name, ..)| name).join(", ");
        let wrong = || format!("expected STAGE=PERCENT, such as encode=5, with a stage of {names}");
        let (name, percent) = text.split_once('=').ok_or_else(wrong)?;
        let (_, stage, _) = SlowStage::ALL
            .into_iter()
            .find(|(known, ..)| *known == name)
            .ok_or_else(wrong)?;
        let percent: f64 = percent.trim_end_matches('%').parse().map_err(|_| wrong())?;
        match percent.is_finite() && percent > 0.0 {
            true => Ok(Slow {
                stage,
                by: percent / 100.0,
            }),
            false => Err(wrong()),
        }
    }
}

/// Marks under which a stage takes longer: before its mark is made, this thread
/// computes for the share of the time that the stage has taken.
pub struct Slowed<'a> {
    marks: &'a mut dyn Marks,
    clock: &'a dyn Clock,
    slow: Slow,
    last: Duration,
}

impl<'a> Slowed<'a> {
    /// Starts now.
    pub fn start(marks: &'a mut dyn Marks, clock: &'a dyn Clock, slow: Slow) -> Slowed<'a> {
        Slowed {
            marks,
            clock,
            slow,
            last: clock.now(),
        }
    }
}

impl Marks for Slowed<'_> {
    fn mark(&mut self, phase: Phase) {
        if phase == self.slow.stage.row().2 {
            let now = self.clock.now();
            let until = now + (now - self.last).mul_f64(self.slow.by);
            let mut x = 1.0_f64;
            while self.clock.now() < until {
                for _ in 0..64 {
                    x = black_box(x).mul_add(1.000_000_1, 1e-9);
                }
            }
        }
        self.marks.mark(phase);
        self.last = self.clock.now();
    }

    fn device(&mut self, phase: Phase, time: Duration) {
        self.marks.device(phase, time);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A clock on which looking takes a millisecond.
    #[derive(Default)]
    struct Looked(Cell<u64>);

    impl Clock for Looked {
        fn now(&self) -> Duration {
            self.0.set(self.0.get() + 1);
            Duration::from_millis(self.0.get())
        }
    }

    struct Kept(Vec<Phase>);

    impl Marks for Kept {
        fn mark(&mut self, phase: Phase) {
            self.0.push(phase);
        }
    }

    #[test]
    fn only_its_own_stage_takes_longer_and_every_mark_is_passed_on() {
        let clock = Looked::default();
        let mut kept = Kept(Vec::new());
        let slow = "encode=50".parse().unwrap();
        let mut slowed = Slowed::start(&mut kept, &clock, slow);
        let pass = |ms: u64| clock.0.set(clock.0.get() + ms);
        let at = || clock.0.get();
        pass(100);
        let before = at();
        slowed.mark(Phase::Preprocess);
        assert_eq!(at() - before, 1);
        pass(100);
        let before = at();
        slowed.mark(Phase::Encode);
        assert!((50..55).contains(&(at() - before)), "{}", at() - before);
        assert_eq!(kept.0, [Phase::Preprocess, Phase::Encode]);
    }

    #[test]
    fn slowdowns_are_read_as_stage_and_percent() {
        let slow: Slow = "decode=2.5%".parse().unwrap();
        assert_eq!((slow.stage, slow.by), (SlowStage::Decode, 0.025));
        assert_eq!(slow.stage.figure(), "tpot");
        assert_eq!(slow.to_string(), "decode slowed by 2.5 %");
        for wrong in [
            "encode",
            "encode=0",
            "encode=x",
            "tokenize=5",
            "=5",
            "encode=inf",
        ] {
            let e = wrong.parse::<Slow>().unwrap_err();
            assert!(e.contains("encode=5"), "{e}");
        }
    }
}
