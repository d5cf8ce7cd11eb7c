//! Whether the decoder sees the picture, and as many tokens of it as planned.

use vlmbench_backends::image::Rgb8;

use super::reply::{Reply, Visual};
use super::{Finding, NO_DECODER, NO_ENCODER, Row, Sample, distance};
use crate::error::Failure;
use crate::measure::session::Session;

/// Least relative change of the first token's logits that counts as one. What
/// does not reach the decoder changes nothing at all: the same engine computes
/// the same sums.
const SEEN: f64 = 1e-4;

/// The plan's count of visual tokens against the engine's and the prompt's.
pub fn counted(session: &Session, replies: &[Reply]) -> Row {
    let finding = match session.recipe.encoder {
        None => Finding::not_applicable(NO_ENCODER),
        Some(_) => counts(replies.iter().map(|r| &r.visual)),
    };
    Row::new(
        "tokens.visual",
        "tokens planned from the picture's size against rows and positions in use",
        finding,
    )
}

fn counts<'a>(counts: impl Iterator<Item = &'a Visual>) -> Finding {
    let counts: Vec<&Visual> = counts.collect();
    let fits = |v: &&Visual| v.planned == v.read && v.prompt.is_none_or(|p| p == v.planned);
    let odd = counts.iter().find(|v| !fits(v) || v.planned == 0);
    let words = |v: &Visual| {
        let prompt = v.prompt.map(|n| format!(", {n} positions"));
        let prompt = prompt.unwrap_or_default();
        format!("planned {}, {} rows{prompt}", v.planned, v.read)
    };
    let shown = odd.or(counts.first()).map(|v| words(v));
    let first = counts.first().map_or(0, |v| v.planned);
    Finding::judged(
        odd.is_none() && !counts.is_empty(),
        shown.unwrap_or_default(),
        "the counts differ",
    )
    .value("planned", first as f64)
}

/// The first token's logits with the picture against those with another one,
/// and with none.
pub fn matters(
    session: &mut Session,
    samples: &[Sample],
    with: &[Reply],
) -> Result<Vec<Row>, Failure> {
    let lacking = match (&session.recipe.encoder, &session.recipe.decoder) {
        (None, _) => Some(NO_ENCODER),
        (_, None) => Some(NO_DECODER),
        _ => None,
    };
    let mut replaced = Vec::new();
    let mut withheld = Vec::new();
    if lacking.is_none() {
        for (index, sample) in samples.iter().enumerate() {
            let other = &samples[(index + 1) % samples.len()].picture;
            let mut ask = |picture: Option<&Rgb8>| {
                let prompt = sample.prompt(session, picture.is_some());
                Reply::of(session, picture, &prompt, 0)
            };
            replaced.push(ask(Some(other))?);
            withheld.push(ask(None)?);
        }
    }
    let row = |check, done, without: &[Reply]| {
        let finding = match lacking {
            Some(why) => Finding::not_applicable(why),
            None => differ(with, without),
        };
        Row::new(check, done, finding)
    };
    Ok(vec![
        row(
            "picture.replaced",
            "each question with the next one's picture: logits of the first token",
            &replaced,
        ),
        row(
            "picture.withheld",
            "each question without a picture: logits of the first token",
            &withheld,
        ),
    ])
}

/// Logits must differ for every question; the figure is the least difference.
fn differ(with: &[Reply], without: &[Reply]) -> Finding {
    let pairs = || with.iter().zip(without);
    let least = pairs()
        .map(|(a, b)| distance(&b.logits, &a.logits))
        .fold(f64::INFINITY, |m, v| if v.is_nan() { v } else { m.min(v) });
    let first = |r: &Reply| r.ids.first().copied();
    let changed = pairs().filter(|(a, b)| first(a) != first(b)).count();
    let figure = format!(
        "logits differ by {least:.1e} at least; {changed} of {} first tokens change",
        with.len()
    );
    let why =
        format!("the logits of a question hardly depend on the picture: {SEEN:.0e} is expected");
    let seen = !with.is_empty() && with.len() == without.len() && least > SEEN && least.is_finite();
    Finding::judged(seen, figure, why)
        .value("least_difference", least)
        .value("first_tokens_changed", changed as f64)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn visual(planned: usize, read: usize, prompt: Option<usize>) -> Visual {
        Visual {
            planned,
            read,
            prompt,
        }
    }

    #[test]
    fn any_count_of_visual_tokens_that_differs_is_a_failure() {
        let judge = |v: &[Visual]| counts(v.iter()).verdict;
        let good = visual(16, 16, Some(16));
        assert_eq!(judge(&[good.clone(), visual(9, 9, None)]), Verdict::Pass);
        assert_eq!(
            judge(&[good.clone(), visual(16, 15, Some(16))]),
            Verdict::Fail
        );
        assert_eq!(judge(&[good, visual(16, 16, Some(17))]), Verdict::Fail);
        assert_eq!(judge(&[visual(0, 0, Some(0))]), Verdict::Fail);
        assert_eq!(judge(&[]), Verdict::Fail);
    }

    #[test]
    fn a_model_that_ignores_its_picture_fails() {
        let reply = |logits: [f32; 2], id| Reply {
            logits: logits.to_vec(),
            ids: vec![id],
            ..Reply::default()
        };
        let with = [reply([1.0, 2.0], 1), reply([3.0, 1.0], 0)];
        let found = differ(&with, &[reply([2.0, 1.0], 0), reply([3.0, 2.0], 0)]);
        assert_eq!(found.verdict, Verdict::Pass);
        assert_eq!(found.values["first_tokens_changed"], 1.0);
        // One question whose picture is ignored is enough.
        let found = differ(&with, &[reply([2.0, 1.0], 0), with[1].clone()]);
        assert_eq!(found.verdict, Verdict::Fail);
        assert_eq!(differ(&with, &with).verdict, Verdict::Fail);
        let nan = reply([f32::NAN, 1.0], 1);
        assert_eq!(differ(&with, &[nan.clone(), nan]).verdict, Verdict::Fail);
        assert_eq!(differ(&[], &[]).verdict, Verdict::Fail);
    }
}
