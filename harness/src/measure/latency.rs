//! A latency request, repeated until its median is known well enough.
//!
//! The request is fixed: one synthetic photograph as JPEG bytes, a prompt of
//! an exact number of token ids, an exact number of generated tokens. Its
//! token ids are made before the clock starts, so `ttft.user` of a latency
//! workload contains no tokenization.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vlmbench_backends::generate::{ImageInput, Marks, Phase, PhaseError, PromptInput, Request};
use vlmbench_backends::image::{ExifPolicy, synthetic};
use vlmbench_backends::sampling::Sampling;
use vlmbench_backends::text::IMAGE_SENTINEL;
use vlmbench_reports::record::StageTimes;
use vlmbench_reports::stats::median_interval;

use super::clock::{Clock, Stopwatch, nanoseconds};
use super::session::Session;
use crate::config::latency::Latency;
use crate::error::Failure;
use crate::launch::{Slow, Slowed};

/// Confidence of the interval that the stop rule looks at.
const CONFIDENCE: f64 = 0.95;

/// What one repetition measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repetition {
    /// Index; warm-up and timed repetitions count separately.
    pub iteration: u32,
    /// Whether it only warms up.
    pub warm_up: bool,
    /// Stage durations.
    pub stages: StageTimes,
    /// From encoded bytes to the first token; `None` for a bare encoder.
    pub ttft_user_ns: Option<u64>,
}

impl Repetition {
    /// What the stop rule looks at: encode + prefill, or whichever of the two
    /// there is.
    fn seconds(&self) -> f64 {
        let encode = self.stages.encode_ns.unwrap_or(0);
        let prefill = self.stages.prefill_ns.unwrap_or(0);
        (encode + prefill) as f64 / 1e9
    }
}

/// The inputs of a latency workload.
pub struct Workload {
    jpeg: Option<Vec<u8>>,
    ids: Option<Vec<i64>>,
    decode_tokens: usize,
    /// Extra work.
    pub slow: Option<Slow>,
}

impl Workload {
    /// Makes the inputs for a model.
    pub fn new(session: &Session, latency: &Latency, seed: u64) -> Result<Workload, Failure> {
        let recipe = &session.recipe;
        let sees = recipe.encoder.is_some();
        let jpeg = match sees {
            true => Some(
                synthetic::jpeg(latency.image.width, latency.image.height, seed)
                    .map_err(vlmbench_backends::Error::from)?,
            ),
            false => None,
        };
        let ids = recipe.decoder.as_ref().map(|decoder| {
            prompt_ids(
                latency.prompt_tokens,
                decoder.config.vocab,
                recipe.image_token,
                sees,
                seed,
            )
        });
        Ok(Workload {
            jpeg,
            ids,
            decode_tokens: latency.decode_tokens,
            slow: None,
        })
    }

    /// Runs the request once.
    pub fn once(
        &self,
        session: &mut Session,
        clock: &dyn Clock,
    ) -> Result<(StageTimes, Option<u64>), PhaseError> {
        let mut watch = Stopwatch::start(clock);
        match self.slow {
            None => self.request(session, &mut watch)?,
            Some(slow) => {
                let mut slowed = Slowed::start(&mut watch, clock, slow);
                self.request(session, &mut slowed)?;
            }
        }
        Ok((watch.stages(), watch.first_token().map(nanoseconds)))
    }

    /// Fails if what a bare encoder makes is no number: an answer that nobody reads
    /// would hide it, and its time would be that of another computation.
    fn check(&self, session: &mut Session) -> Result<(), PhaseError> {
        let (None, Some(bytes)) = (&self.ids, &self.jpeg) else {
            return Ok(());
        };
        let image = ImageInput::Encoded(bytes, ExifPolicy::Ignore);
        let mut runner = session.runner();
        let inputs = runner.preprocess(&image, 1, &mut ())?;
        let features = runner.encode(&inputs, &mut ())?;
        let during = |source| PhaseError {
            phase: Phase::Encode,
            source: Box::new(source),
        };
        for features in &features {
            let values = session.model.read(features).map_err(during)?;
            if values.iter().any(|v| !v.is_finite()) {
                return Err(during(vlmbench_backends::Error::NonFinite {
                    stage: "the vision encoder".into(),
                }));
            }
        }
        Ok(())
    }

    /// Runs the request once under the caller's marks.
    pub fn request(&self, session: &mut Session, marks: &mut dyn Marks) -> Result<(), PhaseError> {
        let image = |bytes| ImageInput::Encoded(bytes, ExifPolicy::Ignore);
        let mut runner = session.runner();
        match &self.ids {
            Some(ids) => {
                let request = Request {
                    images: self.jpeg.iter().map(|b| image(b)).collect(),
                    prompt: PromptInput::Ids(ids),
                    max_new_tokens: self.decode_tokens,
                    sampling: Sampling::Greedy,
                    stop: &[],
                    ignore_stop: true,
                };
                runner.generate(&request, marks)?;
            }
            None => {
                if let Some(bytes) = &self.jpeg {
                    let inputs = runner.preprocess(&image(bytes), 1, marks)?;
                    runner.encode(&inputs, marks)?;
                }
            }
        }
        Ok(())
    }
}

/// `tokens` ids below `vocab`, none of them the image token, with the image
/// sentinel after the first half.
pub(crate) fn prompt_ids(
    tokens: usize,
    vocab: usize,
    image_token: Option<u32>,
    image: bool,
    seed: u64,
) -> Vec<i64> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % vocab.max(1) as u64
    };
    let mut ids: Vec<i64> = Vec::with_capacity(tokens + 1);
    while ids.len() < tokens {
        let id = next();
        if image_token.map(u64::from) != Some(id) {
            ids.push(id as i64);
        }
    }
    if image {
        ids.insert(tokens / 2, IMAGE_SENTINEL);
    }
    ids
}

/// When to stop repeating.
#[derive(Clone, Debug)]
pub struct StopRule<'a> {
    latency: &'a Latency,
    started: Duration,
    seconds: Vec<f64>,
}

impl<'a> StopRule<'a> {
    /// Starts the budget; `earlier` are timed repetitions of an interrupted
    /// run.
    pub fn start(latency: &'a Latency, clock: &dyn Clock, earlier: Vec<f64>) -> StopRule<'a> {
        StopRule {
            latency,
            started: clock.now(),
            seconds: earlier,
        }
    }

    /// Counts a timed repetition.
    pub fn count(&mut self, seconds: f64) {
        self.seconds.push(seconds);
    }

    /// Whether enough is known, or the budget is spent.
    pub fn done(&self, clock: &dyn Clock) -> bool {
        let n = self.seconds.len() as u32;
        if n < self.latency.min_iterations {
            return false;
        }
        let spent = (clock.now() - self.started).as_secs_f64();
        n >= self.latency.max_iterations || spent >= self.latency.budget_seconds || self.narrow()
    }

    /// Whether the interval's half-width over the median is below the target.
    fn narrow(&self) -> bool {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(interval) = median_interval(&sorted, CONFIDENCE) else {
            return false;
        };
        let median = sorted[sorted.len() / 2];
        let half = (interval.high - interval.low) / 2.0;
        half < self.latency.target_relative_interval * median
    }
}

/// What was measured before, in an interrupted run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    /// Indices of the timed repetitions done.
    pub iterations: BTreeSet<u32>,
    /// Their `ttft.paper`, seconds.
    pub seconds: Vec<f64>,
}

/// Who is told of repetitions. A closure that takes the finished ones lets all
/// of them go ahead.
pub trait Observer {
    /// Before each repetition, warm-ups included, outside of what is timed:
    /// whether it is to go ahead. `false` ends the measurement early.
    fn go(&mut self) -> Result<bool, Failure> {
        Ok(true)
    }

    /// Once, right before the first repetition that counts: nothing else lies between. The last one that counts has
    /// just been recorded when [`repeat`] returns.
    fn timed(&mut self) {}

    /// After each repetition, of the party with this index.
    fn record(&mut self, party: usize, repetition: Repetition) -> Result<(), Failure>;
}

impl<F: FnMut(usize, Repetition) -> Result<(), Failure>> Observer for F {
    fn record(&mut self, party: usize, repetition: Repetition) -> Result<(), Failure> {
        self(party, repetition)
    }
}

/// A model to be measured.
pub struct Party {
    /// The model.
    pub session: Session,
    /// What it is asked.
    pub workload: Workload,
    /// What was measured of it before.
    pub earlier: Earlier,
}

/// How a party's measurement ended: its first failed request, if one failed.
pub type Ending = Result<(), PhaseError>;

/// A party in the course of the measurement.
struct Running<'a> {
    party: &'a mut Party,
    rule: StopRule<'a>,
    iteration: u32,
    ending: Ending,
}

impl Running<'_> {
    /// One repetition; a party whose request fails is done.
    fn once(
        &mut self,
        index: usize,
        warm_up: Option<u32>,
        clock: &dyn Clock,
        observer: &mut dyn Observer,
    ) -> Result<(), Failure> {
        let Party {
            session, workload, ..
        } = &mut *self.party;
        let (stages, ttft_user_ns) = match workload.once(session, clock) {
            Ok(measured) => measured,
            Err(error) => {
                self.ending = Err(error);
                return Ok(());
            }
        };
        let repetition = Repetition {
            iteration: warm_up.unwrap_or(self.iteration),
            warm_up: warm_up.is_some(),
            stages,
            ttft_user_ns,
        };
        if warm_up.is_none() {
            self.rule.count(repetition.seconds());
            self.iteration += 1;
        }
        observer.record(index, repetition)
    }
}

/// Warms up, then repeats until the stop rule holds or `observer` ends it.
/// Every repetition is handed to `observer` as soon as it is measured.
///
/// Several parties are measured alternately, the one that begins taking turns,
/// until the rule holds for all of them: whatever slows the machine for a
/// while slows all. The time budget is one party's times their number.
pub fn repeat(
    parties: &mut [Party],
    latency: &Latency,
    clock: &dyn Clock,
    observer: &mut dyn Observer,
) -> Result<Vec<Ending>, Failure> {
    let shared = Latency {
        budget_seconds: latency.budget_seconds * parties.len() as f64,
        ..latency.clone()
    };
    let mut running: Vec<Running<'_>> = (parties.iter_mut())
        .map(|party| Running {
            rule: StopRule::start(&shared, clock, party.earlier.seconds.clone()),
            iteration: party.earlier.iterations.last().map_or(0, |last| last + 1),
            ending: party.workload.check(&mut party.session),
            party,
        })
        .collect();
    let going = |r: &Running<'_>| r.ending.is_ok() && !r.rule.done(clock);
    let mut round = 0;
    let mut timed = false;
    while running.iter().any(going) {
        let warm_up = (round < latency.warm_up).then_some(round);
        if round == latency.warm_up {
            // The budget is for what counts.
            running
                .iter_mut()
                .for_each(|r| r.rule.started = clock.now());
        }
        let n = running.len();
        for turn in 0..n {
            let index = (turn + round as usize) % n;
            let r = &mut running[index];
            let enough = r.iteration >= latency.max_iterations;
            if r.ending.is_err() || (warm_up.is_none() && enough) {
                continue;
            }
            if !observer.go()? {
                return Ok(running.into_iter().map(|r| r.ending).collect());
            }
            if warm_up.is_none() && !std::mem::replace(&mut timed, true) {
                observer.timed();
            }
            r.once(index, warm_up, clock, observer)?;
        }
        round += 1;
    }
    Ok(running.into_iter().map(|r| r.ending).collect())
}

#[cfg(test)]
mod tests {
    use super::super::clock::tests::Manual;
    use super::*;

    fn latency() -> Latency {
        Latency {
            min_iterations: 3,
            max_iterations: 10,
            budget_seconds: 60.0,
            target_relative_interval: 0.05,
            ..Latency::default()
        }
    }

    #[test]
    fn a_steady_median_stops_before_the_maximum_and_not_before_it_is_known() {
        let latency = latency();
        let clock = Manual::default();
        let mut rule = StopRule::start(&latency, &clock, Vec::new());
        let mut n = 0;
        while !rule.done(&clock) {
            rule.count(1.0 + f64::from(n % 3) / 1000.0);
            n += 1;
        }
        // Six samples are the least with an interval at 95%.
        assert_eq!(n, 6);
    }

    #[test]
    fn a_noisy_one_stops_at_the_maximum_or_with_the_budget() {
        let latency = latency();
        let clock = Manual::default();
        let run = |ms_each: u64| {
            let mut rule = StopRule::start(&latency, &clock, Vec::new());
            let mut n = 0_u32;
            while !rule.done(&clock) {
                clock.pass(ms_each);
                rule.count(f64::from(1 + n % 2));
                n += 1;
            }
            n
        };
        assert_eq!(run(1), 10);
        assert_eq!(run(25_000), 3);
        assert_eq!(run(100_000), 3);
        assert_eq!(run(15_000), 4);
    }

    #[test]
    fn earlier_repetitions_count() {
        let latency = latency();
        let clock = Manual::default();
        let rule = StopRule::start(&latency, &clock, vec![1.0; 10]);
        assert!(rule.done(&clock));
    }

    #[test]
    fn the_prompt_has_exactly_the_tokens_asked_for() {
        let ids = prompt_ids(32, 100, Some(7), true, 5);
        assert_eq!(ids.len(), 33);
        assert_eq!(ids[16], IMAGE_SENTINEL);
        assert!(ids.iter().all(|id| *id != 7 && *id < 100));
        assert_eq!(prompt_ids(4, 10, None, false, 1).len(), 4);
    }
}
