//! Whether an answer is as long as asked for, and where it begins and ends.

use vlmbench_backends::generate::{Finish, Generation, Marks, Phase, Request};
use vlmbench_backends::sampling::Sampling;

use super::reply::Reply;
use super::{Finding, NO_DECODER, Row, Sample, failed};
use crate::error::Failure;
use crate::measure::session::Session;

/// Tokens asked for.
pub const LIMIT: usize = 24;
/// Samples that are asked: what is checked is the loop, not the answers.
const SAMPLES: usize = 2;

/// Phases in the order of their marks.
#[derive(Default)]
struct Phases(Vec<Phase>);

impl Marks for Phases {
    fn mark(&mut self, phase: Phase) {
        self.0.push(phase);
    }
}

/// Answers to one question under different limits.
#[derive(Clone)]
struct Answers {
    /// Of the first token, by prefill alone.
    first: Option<u32>,
    /// [`LIMIT`] tokens, stops ignored, with the marks of the request.
    whole: Generation,
    phases: Vec<Phase>,
    /// Half as many.
    half: Generation,
    /// [`LIMIT`] tokens at most, stops heeded.
    stopped: Generation,
    /// The same with a stop string that occurs in its text, and that string;
    /// `None` if there is no text.
    cut: Option<(String, Generation)>,
}

/// The checks of the generation loop.
pub fn rows(session: &mut Session, samples: &[Sample]) -> Result<Vec<Row>, Failure> {
    let mut answers = Vec::new();
    if session.recipe.decoder.is_some() {
        for sample in samples.iter().take(SAMPLES) {
            answers.push(ask(session, sample)?);
        }
    }
    let eos = session.tokenizer.special().eos.clone();
    let row = |check, done, judge: &dyn Fn(&[Answers]) -> Finding| {
        let finding = match answers.is_empty() {
            true => Finding::not_applicable(NO_DECODER),
            false => judge(&answers),
        };
        Row::new(check, done, finding)
    };
    Ok(vec![
        row(
            "output.length",
            "tokens given, and decode steps marked, when stops are ignored",
            &|a| length(a, LIMIT),
        ),
        row(
            "output.first",
            "first token given against the likeliest one after prefill, and its mark",
            &first,
        ),
        row(
            "output.prefix",
            "tokens under half the limit against the whole answer's",
            &prefix,
        ),
        row(
            "output.stop_token",
            "where an answer ends when stops are heeded",
            &|a| stop_token(a, &eos),
        ),
        row(
            "output.stop_string",
            "an answer asked again with a part of it as stop string",
            &stop_string,
        ),
    ])
}

fn ask(session: &mut Session, sample: &Sample) -> Result<Answers, Failure> {
    let sees = session.recipe.encoder.is_some();
    let prompt = sample.prompt(session, sees);
    let first = Reply::of(session, Some(&sample.picture), &prompt, 0)?;
    let mut generate = |limit: usize, stops: Option<&[String]>, marks: &mut Phases| {
        let request = Request {
            images: sees.then(|| sample.image()).into_iter().collect(),
            prompt: prompt.input(),
            max_new_tokens: limit,
            sampling: Sampling::Greedy,
            stop: stops.unwrap_or(&[]),
            ignore_stop: stops.is_none(),
        };
        let generation = session.runner().generate(&request, marks);
        generation.map_err(failed)
    };
    let mut phases = Phases::default();
    let whole = generate(LIMIT, None, &mut phases)?;
    let mut unmarked = Phases::default();
    let half = generate(LIMIT / 2, None, &mut unmarked)?;
    let stopped = generate(LIMIT, Some(&[]), &mut unmarked)?;
    let cut = match stop_in(&stopped.text) {
        None => None,
        Some(stop) => {
            let cut = generate(LIMIT, Some(std::slice::from_ref(&stop)), &mut unmarked)?;
            Some((stop, cut))
        }
    };
    Ok(Answers {
        first: first.ids.first().copied(),
        whole,
        phases: phases.0,
        half,
        stopped,
        cut,
    })
}

/// The last character of a text, which so surely occurs in it.
fn stop_in(text: &str) -> Option<String> {
    let character = text.trim_end().chars().last()?;
    // What stands for bytes that are no character yet is not what a stream has.
    (character != char::REPLACEMENT_CHARACTER).then(|| character.to_string())
}

fn length(answers: &[Answers], asked: usize) -> Finding {
    let steps = |a: &Answers| a.phases.iter().filter(|p| **p == Phase::Decode).count();
    let exact = |a: &&Answers| {
        a.whole.ids.len() == asked
            && a.whole.tokens.output == asked
            && a.whole.finish == Finish::Length
            && steps(a) + 1 == asked
    };
    let shown = answers.iter().find(|a| !exact(a)).or(answers.first());
    let tokens = shown.map_or(0, |a| a.whole.ids.len());
    let steps = shown.map_or(0, steps);
    Finding::judged(
        !answers.is_empty() && answers.iter().all(|a| exact(&a)),
        format!("{tokens} tokens of {asked} asked for, {steps} decode steps"),
        format!(
            "{asked} tokens in one prefill and {} steps are expected",
            asked.saturating_sub(1)
        ),
    )
    .value("asked", asked as f64)
    .value("tokens", tokens as f64)
}

fn first(answers: &[Answers]) -> Finding {
    let marked = |a: &Answers| {
        let after = a.phases.iter().skip_while(|p| **p != Phase::Prefill);
        let next: Vec<Phase> = after.copied().skip(1).take(2).collect();
        let firsts = a.phases.iter().filter(|p| **p == Phase::FirstToken);
        next == [Phase::FirstToken, Phase::Decode] && firsts.count() == 1
    };
    let ok =
        |a: &&Answers| a.first.is_some() && a.whole.ids.first().copied() == a.first && marked(a);
    let good = answers.iter().filter(ok).count();
    Finding::judged(
        good == answers.len() && good > 0,
        format!(
            "{good} of {} equal and marked between prefill and decode",
            answers.len()
        ),
        "what is timed as the first token is not what prefill gives",
    )
    .value("equal", good as f64)
}

fn prefix(answers: &[Answers]) -> Finding {
    let ok = |a: &&Answers| !a.half.ids.is_empty() && a.whole.ids.starts_with(&a.half.ids);
    let good = answers.iter().filter(ok).count();
    let tokens = answers.first().map_or(0, |a| a.half.ids.len());
    Finding::judged(
        good == answers.len() && good > 0,
        format!(
            "{good} of {} answers begin with the same {tokens} tokens",
            answers.len()
        ),
        "a longer limit changes earlier tokens",
    )
    .value("equal", good as f64)
}

/// A heeded stop ends the unstopped answer at its first end-of-sequence token,
/// or earlier at a stop string, and nowhere else.
fn stop_token(answers: &[Answers], eos: &[u32]) -> Finding {
    let ends = |ids: &[u32]| ids.iter().position(|id| eos.contains(id));
    let ok = |a: &&Answers| {
        let (whole, ids) = (&a.whole.ids, &a.stopped.ids);
        let full = ids.len() == whole.len();
        let end = ends(whole);
        whole.starts_with(ids)
            && match a.stopped.finish {
                Finish::Length => full && end.is_none(),
                Finish::Stop => end.is_none_or(|end| ids.len() <= end + 1),
            }
    };
    let stopped = (answers.iter()).filter(|a| a.stopped.finish == Finish::Stop);
    let met = answers.iter().any(|a| ends(&a.whole.ids).is_some());
    let good = answers.iter().filter(ok).count();
    if !met && good == answers.len() {
        return Finding::not_applicable(match eos.is_empty() {
            true => "the tokenizer names no end-of-sequence token".to_owned(),
            false => format!("no answer ends within {LIMIT} tokens"),
        });
    }
    let lengths: Vec<String> = (answers.iter())
        .map(|a| a.stopped.ids.len().to_string())
        .collect();
    Finding::judged(
        good == answers.len(),
        format!(
            "answers of {} tokens, {} ended by a stop",
            lengths.join(" and "),
            stopped.count()
        ),
        "an answer goes on after its stop, or ends without one",
    )
    .value("as_expected", good as f64)
}

fn stop_string(answers: &[Answers]) -> Finding {
    let cut: Vec<_> = (answers.iter())
        .filter_map(|a| a.cut.as_ref().map(|(stop, cut)| (a, stop, cut)))
        .collect();
    if cut.is_empty() {
        return Finding::not_applicable("no answer has text");
    }
    let ok = |(a, stop, cut): &&(&Answers, &String, &Generation)| {
        let before = a.stopped.text.split(stop.as_str()).next();
        cut.finish == Finish::Stop
            && before == Some(cut.text.as_str())
            && a.stopped.ids.starts_with(&cut.ids)
    };
    let good = cut.iter().filter(ok).count();
    Finding::judged(
        good == cut.len(),
        format!("{good} of {} answers end before it", cut.len()),
        "an answer goes on after its stop string",
    )
    .value("as_expected", good as f64)
}

#[cfg(test)]
mod tests {
    use vlmbench_backends::generate::TokenCounts;

    use super::super::Verdict;
    use super::*;

    fn generation(text: &str, ids: &[u32], finish: Finish) -> Generation {
        Generation {
            text: text.into(),
            ids: ids.to_vec(),
            finish,
            tokens: TokenCounts {
                output: ids.len(),
                ..TokenCounts::default()
            },
        }
    }

    /// Four tokens, of which 9 ends the sequence; stop string `c`.
    fn good() -> Answers {
        Answers {
            first: Some(1),
            whole: generation("", &[1, 2, 9, 4], Finish::Length),
            phases: vec![
                Phase::Tokenize,
                Phase::Prefill,
                Phase::FirstToken,
                Phase::Decode,
                Phase::Decode,
                Phase::Decode,
            ],
            half: generation("", &[1, 2], Finish::Length),
            stopped: generation("abc", &[1, 2, 9], Finish::Stop),
            cut: Some(("c".into(), generation("ab", &[1, 2], Finish::Stop))),
        }
    }

    /// The verdicts of all five checks after a change.
    fn failing(change: impl FnOnce(&mut Answers)) -> Vec<&'static str> {
        let mut answers = [good()];
        change(&mut answers[0]);
        let all = [
            ("length", length(&answers, 4)),
            ("first", first(&answers)),
            ("prefix", prefix(&answers)),
            ("stop_token", stop_token(&answers, &[9])),
            ("stop_string", stop_string(&answers)),
        ];
        let failing = all.into_iter().filter(|(_, f)| f.verdict == Verdict::Fail);
        failing.map(|(name, _)| name).collect()
    }

    #[test]
    fn every_check_of_an_answer_can_fail() {
        assert!(failing(|_| ()).is_empty());
        // One token short, though the marks are there.
        let short = |a: &mut Answers| a.whole = generation("", &[1, 2, 9], Finish::Length);
        assert_eq!(failing(short), ["length"]);
        assert_eq!(failing(|a| a.phases.truncate(5)), ["length"]);
        assert_eq!(failing(|a| a.first = Some(2)), ["first"]);
        // The first token is marked before prefill has ended.
        assert_eq!(failing(|a| a.phases.swap(1, 2)), ["first"]);
        assert_eq!(failing(|a| a.half.ids[1] = 3), ["prefix"]);
        let on = |a: &mut Answers| a.stopped = generation("abc", &[1, 2, 9, 4], Finish::Length);
        assert_eq!(failing(on), ["stop_token"]);
        let other = |a: &mut Answers| a.stopped.ids[0] = 7;
        assert_eq!(failing(other), ["stop_token", "stop_string"]);
        let early = |a: &mut Answers| a.stopped = generation("abc", &[1, 2], Finish::Length);
        assert_eq!(failing(early), ["stop_token"]);
        let past =
            |a: &mut Answers| a.cut = Some(("b".into(), generation("ab", &[1, 2], Finish::Stop)));
        assert_eq!(failing(past), ["stop_string"]);
        let unheard = |a: &mut Answers| {
            a.cut = Some(("c".into(), generation("ab", &[1, 2], Finish::Length)));
        };
        assert_eq!(failing(unheard), ["stop_string"]);
    }

    #[test]
    fn what_cannot_be_seen_is_not_applicable() {
        let mut endless = good();
        endless.whole.ids[2] = 3;
        endless.stopped = generation("", &[1, 2, 3, 4], Finish::Length);
        endless.cut = None;
        let answers = [endless];
        for eos in [&[9][..], &[]] {
            assert_eq!(stop_token(&answers, eos).verdict, Verdict::NotApplicable);
        }
        assert_eq!(stop_string(&answers).verdict, Verdict::NotApplicable);
        assert_eq!(stop_in(" ab "), Some("b".into()));
        assert_eq!(stop_in("  "), None);
    }
}
