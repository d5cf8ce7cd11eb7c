//! Whether a request that was seen before is answered faster, in time that a
//! benchmark of repeated requests would report.
//!
//! Requests alternate between one that repeats and one that is new each time,
//! the order within a pair thrown with a fixed seed, so that whatever slows
//! the machine slows both. The repeated request is also the one right before
//! its timed repetition, so that a cache of a single entry shows too.

use std::time::Duration;

use vlmbench_backends::generate::{ImageInput, Phase, PromptInput, Request};
use vlmbench_backends::image::{Rgb8, synthetic};
use vlmbench_backends::sampling::Sampling;
use vlmbench_reports::stats::{Random, median_interval, quantile};

use super::{Finding, NO_DECODER, NO_ENCODER, Row, failed};
use crate::error::Failure;
use crate::measure::clock::{Clock, Stopwatch};
use crate::measure::latency::prompt_ids;
use crate::measure::session::Session;

/// Fewest pairs whose median has an interval at 95 %.
pub const LEAST_PAIRS: usize = 6;
/// Most pairs where nobody says how many.
const MOST_PAIRS: usize = 24;
/// Time after which no further pair is begun where nobody says how many.
const BUDGET: Duration = Duration::from_secs(8);
/// How much faster the repeated request may be. Caches of features or prefixes
/// save most of a stage, noise does not move a median so far.
const MARGIN: f64 = 0.1;
const CONFIDENCE: f64 = 0.95;
/// Text tokens of the prompts.
const PROMPT: usize = 32;
/// Width and height in pixels of the photographs.
pub const PHOTO: (u32, u32) = (640, 480);

/// Positions that the timed requests need beside the visual tokens.
pub const POSITIONS: usize = PROMPT + 1;

/// Times of a pair.
struct Pair<T> {
    repeated: T,
    fresh: T,
}

/// The timed checks.
pub fn rows(
    session: &mut Session,
    pairs: Option<usize>,
    clock: &dyn Clock,
) -> Result<Vec<Row>, Failure> {
    let sees = session.recipe.encoder.is_some();
    let speaks = session.recipe.decoder.is_some();
    let off = (pairs == Some(0)).then_some("not asked for (--pairs 0)");
    let no_encoder = (!sees).then_some(NO_ENCODER).or(off);
    let no_decoder = (!speaks).then_some(NO_DECODER).or(off);

    let mut pictures = Vec::new();
    if no_encoder.is_none() {
        let repeated = photo(0)?;
        pictures = alternate(pairs, clock, &mut |fresh| {
            let new;
            let shown = match fresh {
                Some(index) => {
                    new = photo(index)?;
                    &new
                }
                None => &repeated,
            };
            see(session, shown, clock)
        })?;
    }
    let mut prompts = Vec::new();
    if no_decoder.is_none() {
        prompts = prefills(session, pairs, clock)?;
    }
    let stage = |of: fn(&(f64, Option<f64>)) -> Option<f64>| -> Vec<f64> {
        let ratio = |p: &Pair<_>| Some(of(&p.repeated)? / of(&p.fresh)?);
        pictures.iter().filter_map(ratio).collect()
    };
    let finding = |lacking: Option<&str>, ratios: &[f64]| match lacking {
        Some(why) => Finding::not_applicable(why),
        None => cached(ratios),
    };
    let ratios: Vec<f64> = prompts.iter().map(|p| p.repeated / p.fresh).collect();
    Ok(vec![
        Row::new(
            "cache.encode.picture",
            "time to encode a picture seen before over that of a new one",
            finding(no_encoder, &stage(|(encode, _)| Some(*encode))),
        ),
        Row::new(
            "cache.prefill.picture",
            "time of prefill with a picture seen before over that with a new one",
            finding(no_encoder.or(no_decoder), &stage(|(_, prefill)| *prefill)),
        ),
        Row::new(
            "cache.prefill.prompt",
            "time of prefill of a prompt seen before over that of a new one",
            finding(no_decoder, &ratios),
        ),
    ])
}

fn photo(seed: u64) -> Result<Rgb8, Failure> {
    let photo = synthetic::photo(PHOTO.0, PHOTO.1, seed);
    Ok(photo.map_err(vlmbench_backends::Error::from)?)
}

fn ids(session: &Session, seed: u64) -> Vec<i64> {
    let vocab = (session.recipe.decoder.as_ref()).map_or(1, |d| d.config.vocab);
    let sees = session.recipe.encoder.is_some();
    prompt_ids(PROMPT, vocab, session.recipe.image_token, sees, seed)
}

/// Seconds of encode, and of prefill if there is a decoder, under a fixed
/// prompt.
fn see(
    session: &mut Session,
    picture: &Rgb8,
    clock: &dyn Clock,
) -> Result<(f64, Option<f64>), Failure> {
    let image = ImageInput::Rgb(picture);
    let ids = ids(session, 0);
    let speaks = session.recipe.decoder.is_some();
    let mut runner = session.runner();
    let mut watch = Stopwatch::start(clock);
    if speaks {
        let request = Request {
            images: vec![image],
            prompt: PromptInput::Ids(&ids),
            max_new_tokens: 1,
            sampling: Sampling::Greedy,
            stop: &[],
            ignore_stop: true,
        };
        runner.generate(&request, &mut watch).map_err(failed)?;
    } else {
        let inputs = runner.preprocess(&image, 1, &mut watch).map_err(failed)?;
        runner.encode(&inputs, &mut watch).map_err(failed)?;
    }
    let seconds = |phase| watch.total(phase).map(|d| d.as_secs_f64());
    let encode = seconds(Phase::Encode).unwrap_or(f64::NAN);
    Ok((encode, seconds(Phase::Prefill)))
}

/// Pairs of prefills, with one picture that was encoded before if the model
/// sees.
fn prefills(
    session: &mut Session,
    pairs: Option<usize>,
    clock: &dyn Clock,
) -> Result<Vec<Pair<f64>>, Failure> {
    let mut images = Vec::new();
    if session.recipe.encoder.is_some() {
        let picture = photo(0)?;
        let mut runner = session.runner();
        let inputs = runner.preprocess(&ImageInput::Rgb(&picture), 1, &mut ());
        let seen = runner.see(&inputs.map_err(failed)?, &mut ());
        images.push(seen.map_err(failed)?);
    }
    let visual: Vec<usize> = images.iter().map(|image| image.tokens).collect();
    alternate(pairs, clock, &mut |fresh| {
        let ids = ids(session, fresh.unwrap_or(0));
        let prompt = session.runner().tokenize(&PromptInput::Ids(&ids), &visual);
        let prompt = prompt.map_err(failed)?;
        let start = clock.now();
        session.model.prefill(&prompt, &images)?;
        session.model.synchronize()?;
        Ok((clock.now() - start).as_secs_f64())
    })
}

/// Pairs of requests after one of each that only warms up. `request` is given
/// a number that no earlier request had, or none for the one that repeats.
fn alternate<T>(
    pairs: Option<usize>,
    clock: &dyn Clock,
    request: &mut dyn FnMut(Option<u64>) -> Result<T, Failure>,
) -> Result<Vec<Pair<T>>, Failure> {
    let mut number = 1;
    let mut new = || {
        number += 1;
        Some(number)
    };
    request(new())?;
    request(None)?;
    let mut last_repeats = true;
    let started = clock.now();
    let mut done = Vec::new();
    let mut coin = Random::seeded(0);
    while more(pairs, done.len(), clock.now() - started) {
        let repeat_first = heads(&mut coin);
        if repeat_first && !last_repeats {
            request(None)?;
        }
        let (repeated, fresh);
        if repeat_first {
            repeated = request(None)?;
            fresh = request(new())?;
        } else {
            fresh = request(new())?;
            request(None)?;
            repeated = request(None)?;
        }
        last_repeats = !repeat_first;
        done.push(Pair { repeated, fresh });
    }
    Ok(done)
}

fn more(asked: Option<usize>, done: usize, spent: Duration) -> bool {
    match asked {
        Some(asked) => done < asked,
        None => done < LEAST_PAIRS || (done < MOST_PAIRS && spent < BUDGET),
    }
}

fn heads(coin: &mut Random) -> bool {
    coin.bits() & 1 == 1
}

/// Judges ratios of repeated over fresh: it fails if the whole interval of
/// their median is more than the margin below 1, and cannot tell if a part is.
fn cached(ratios: &[f64]) -> Finding {
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    let found = quantile(&sorted, 0.5).zip(median_interval(&sorted, CONFIDENCE));
    let finite = sorted.iter().all(|r| r.is_finite());
    let Some((median, interval)) = found.filter(|_| finite) else {
        return Finding::judged(
            false,
            format!("{} pairs", ratios.len()),
            format!("there is no interval; {LEAST_PAIRS} pairs are needed"),
        );
    };
    let least = 1.0 - MARGIN;
    let figure = format!(
        "{median:.3} ({:.3} to {:.3}, {} pairs)",
        interval.low,
        interval.high,
        ratios.len()
    );
    // Neither within the margin nor beyond it.
    let finding = if interval.low < least && interval.high >= least {
        let why = format!("the interval reaches below {least:.2} and above; try more --pairs");
        Finding::inconclusive(figure, why)
    } else {
        let why = format!(
            "what repeats is faster by more than {:.0} %: a cache answers",
            100.0 * MARGIN
        );
        Finding::judged(interval.high >= least, figure, why)
    };
    finding
        .value("ratio", median)
        .value("low", interval.low)
        .value("high", interval.high)
        .value("pairs", ratios.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::measure::clock::tests::Manual;

    /// Ratios of a request that takes 100 ms, give or take one, and of one
    /// that takes `ms` when repeated.
    fn ratios(ms: f64) -> Vec<f64> {
        (0..8).map(|i| ms / (100.0 + f64::from(i % 3))).collect()
    }

    #[test]
    fn what_repeats_must_not_be_faster() {
        assert_eq!(cached(&ratios(100.0)).verdict, Verdict::Pass);
        assert_eq!(cached(&ratios(130.0)).verdict, Verdict::Pass);
        // 8 % is within the margin, 1 ms in place of 100 is a cache.
        assert_eq!(cached(&ratios(92.0)).verdict, Verdict::Pass);
        assert_eq!(cached(&ratios(85.0)).verdict, Verdict::Fail);
        let found = cached(&ratios(1.0));
        assert_eq!(found.verdict, Verdict::Fail);
        assert!(found.values["high"] < 0.02);
    }

    #[test]
    fn a_noisy_median_decides_only_with_its_whole_interval() {
        let noisy = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.95, 1.1];
        let found = cached(&noisy);
        assert_eq!(found.verdict, Verdict::Inconclusive);
        assert!(found.why.unwrap().contains("--pairs") && found.values["low"] < 0.9);
        assert_eq!(cached(&noisy[..6]).verdict, Verdict::Fail);
        assert_eq!(cached(&noisy[..5]).verdict, Verdict::Fail);
        assert_eq!(cached(&[f64::NAN; 8]).verdict, Verdict::Fail);
    }

    /// A model that needs 100 ms, and 1 ms for a request that `knows` of the
    /// earlier ones.
    fn ask(knows: fn(&[Option<u64>], Option<u64>) -> bool) -> Finding {
        let clock = Manual::default();
        let mut earlier = Vec::new();
        let pairs = alternate(Some(12), &clock, &mut |request| {
            let known = knows(&earlier, request);
            earlier.push(request);
            Ok(if known { 1.0 } else { 100.0 })
        });
        let pairs = pairs.unwrap();
        let fresh: Vec<_> = earlier.iter().filter(|r| r.is_some()).collect();
        let distinct: std::collections::BTreeSet<_> = fresh.iter().collect();
        assert_eq!(distinct.len(), fresh.len());
        let ratios: Vec<f64> = pairs.iter().map(|p| p.repeated / p.fresh).collect();
        assert_eq!(ratios.len(), 12);
        cached(&ratios)
    }

    #[test]
    fn caches_of_any_size_are_found() {
        assert_eq!(ask(|_, _| false).verdict, Verdict::Pass);
        assert_eq!(ask(|all, this| all.contains(&this)).verdict, Verdict::Fail);
        let last = |all: &[Option<u64>], this| all.last() == Some(&this);
        assert_eq!(ask(last).verdict, Verdict::Fail);
    }

    #[test]
    fn pairs_end_with_the_budget_but_not_before_there_is_an_interval() {
        let late = BUDGET * 2;
        assert!(more(None, LEAST_PAIRS - 1, late));
        assert!(!more(None, LEAST_PAIRS, late));
        assert!(more(None, LEAST_PAIRS, Duration::ZERO));
        assert!(!more(None, MOST_PAIRS, Duration::ZERO));
        assert!(more(Some(50), 49, late) && !more(Some(50), 50, Duration::ZERO));
        let mut coin = Random::seeded(0);
        let throws = (0..64).filter(|_| heads(&mut coin)).count();
        assert!((20..=44).contains(&throws), "{throws}");
    }
}
