//! Whether an answer depends on what was asked before.

use super::reply::Reply;
use super::{Finding, Row, Sample};
use crate::error::Failure;
use crate::measure::session::Session;

/// Tokens decoded after the first.
pub const STEPS: usize = 7;

fn ask(session: &mut Session, sample: &Sample) -> Result<Reply, Failure> {
    let sees = session.recipe.encoder.is_some();
    let prompt = sample.prompt(session, sees);
    Reply::of(session, Some(&sample.picture), &prompt, STEPS)
}

/// The replies to all samples, in order.
pub fn in_order(session: &mut Session, samples: &[Sample]) -> Result<Vec<Reply>, Failure> {
    samples.iter().map(|sample| ask(session, sample)).collect()
}

/// All samples once more from the last to the first.
pub fn reversed(
    session: &mut Session,
    samples: &[Sample],
    first: &[Reply],
) -> Result<Row, Failure> {
    let mut again = Vec::new();
    for sample in samples.iter().rev() {
        again.push(ask(session, sample)?);
    }
    again.reverse();
    Ok(Row::new(
        "state.order",
        "questions in order, then in reverse",
        equal(samples, first, &again),
    ))
}

/// Every sample as the only one of a model that was just loaded.
pub fn alone(
    open: &mut dyn FnMut() -> Result<Session, Failure>,
    samples: &[Sample],
    first: &[Reply],
) -> Result<Row, Failure> {
    let mut again = Vec::new();
    for sample in samples {
        again.push(ask(&mut open()?, sample)?);
    }
    Ok(Row::new(
        "state.alone",
        "questions in order, then each in a model just loaded",
        equal(samples, first, &again),
    ))
}

/// The first sample twice, one right after the other.
pub fn twice(session: &mut Session, samples: &[Sample]) -> Result<Row, Failure> {
    let first = &samples[..1];
    let (a, b) = (in_order(session, first)?, in_order(session, first)?);
    Ok(Row::new(
        "determinism",
        "one question twice in a row",
        equal(first, &a, &b),
    ))
}

/// Replies must be equal bit by bit: nothing was computed in another way.
fn equal(samples: &[Sample], expected: &[Reply], got: &[Reply]) -> Finding {
    let names = samples.iter().map(|s| s.name.as_str());
    compare(names, expected, got)
}

fn compare<'a>(names: impl Iterator<Item = &'a str>, expected: &[Reply], got: &[Reply]) -> Finding {
    let pairs = names.zip(expected.iter().zip(got));
    let differing: Vec<(&str, &str)> = pairs
        .filter_map(|(name, (a, b))| Some((name, a.first_difference(b)?)))
        .collect();
    let missing = expected.len() != got.len() || expected.is_empty();
    let equal = expected.len().min(got.len()) - differing.len();
    let why = match differing.first() {
        Some((name, output)) => format!("{output} of {name} differ"),
        None => "not every question was answered".to_owned(),
    };
    let figure = format!("{equal} of {} equal", expected.len());
    Finding::judged(!missing && differing.is_empty(), figure, why)
        .value("samples", expected.len() as f64)
        .value("equal", equal as f64)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn reply(feature: f32, logit: f32, id: u32) -> Reply {
        Reply {
            features: vec![1.0, feature],
            logits: vec![0.0, logit],
            ids: vec![id],
            ..Reply::default()
        }
    }

    #[test]
    fn a_single_bit_of_any_output_is_a_difference_and_is_named() {
        let base = [reply(1.0, 2.0, 3), reply(4.0, 5.0, 6)];
        let judge = |got: &[Reply]| compare(["a", "b"].into_iter(), &base, got);
        assert_eq!(judge(&base).verdict, Verdict::Pass);
        let bit = f32::from_bits(4_f32.to_bits() + 1);
        for (other, why) in [
            (reply(bit, 5.0, 6), "features of b differ"),
            (reply(4.0, 5.5, 6), "logits of the first token of b differ"),
            (reply(4.0, 5.0, 7), "greedy tokens of b differ"),
        ] {
            let found = judge(&[base[0].clone(), other]);
            assert_eq!(found.verdict, Verdict::Fail);
            assert_eq!(found.why.as_deref(), Some(why));
            assert_eq!(found.values["equal"], 1.0);
        }
        assert_eq!(judge(&base[..1]).verdict, Verdict::Fail);
    }
}
