//! ANLS, the average normalised Levenshtein similarity of DocVQA, as lmms-eval computes it.
//!
//! The distance is between texts in lower case with single spaces; it is divided by the length of
//! the longer *raw* text in upper case. Lengths and distances count code points.

use super::{Extraction, Judged};
use crate::python;
use crate::rational::Fraction;
use crate::sample::Sample;

/// The best similarity over the golds; nothing if that is below one half.
pub(super) fn judge(sample: &Sample, response: &str) -> Judged {
    let scores = sample.golds.iter().map(|gold| similarity(response, gold));
    let best = scores.reduce(larger).unwrap_or(Fraction::ZERO);
    Judged {
        points: best,
        answer: Extraction::Found(comparable(response)),
    }
}

/// Before 0.3.0, lmms-eval's path for several golds turned any non-zero ANLS into full points
/// (lmms-eval#363).
pub(super) fn judge_any(sample: &Sample, response: &str) -> Judged {
    let judged = judge(sample, response);
    Judged {
        points: Fraction::all_or_nothing(!judged.points.is_zero()),
        ..judged
    }
}

fn larger(a: Fraction, b: Fraction) -> Fraction {
    let cross = |x: Fraction, y: Fraction| u128::from(x.numerator()) * u128::from(y.denominator());
    if cross(b, a) > cross(a, b) { b } else { a }
}

fn comparable(text: &str) -> String {
    python::split(&text.to_lowercase())
        .collect::<Vec<_>>()
        .join(" ")
}

/// `1 - distance / length`, or nothing where that is below one half.
fn similarity(response: &str, gold: &str) -> Fraction {
    let upper = |text: &str| text.to_uppercase().chars().count() as u64;
    let length = upper(response).max(upper(gold));
    if length == 0 {
        return Fraction::ONE;
    }
    let distance = levenshtein(&comparable(response), &comparable(gold)) as u64;
    if 2 * distance > length {
        return Fraction::ZERO;
    }
    Fraction::new(length - distance, length)
}

/// Edit distance with unit costs over code points.
fn levenshtein(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::testing;

    #[test]
    fn conformance_vectors() {
        for (response, gold, num, den) in [
            ("ab", "ac", 1, 2),
            ("abcd", "abxy", 1, 2),
            ("Hello World", "hello  world", 1, 1),
            ("a  b", "a c", 3, 4),
            ("$1,000", "1000", 2, 3),
            ("STRASSE", "straße", 5, 7),
            ("the cat", "cat", 0, 1),
            ("", "hello", 0, 1),
            ("", "", 1, 1),
        ] {
            let judged = judge(&testing::open(&[gold]), response);
            assert_eq!(
                judged.points,
                Fraction::new(num, den),
                "{response:?} {gold:?}"
            );
            let any = judge_any(&testing::open(&[gold]), response);
            assert_eq!(
                any.points,
                Fraction::all_or_nothing(num > 0),
                "{response:?} {gold:?}"
            );
        }
    }

    #[test]
    fn the_best_gold_counts() {
        let sample = testing::open(&["zzzz", "abxd", "abcx yz"]);
        assert_eq!(judge(&sample, "abcd").points, Fraction::new(3, 4));
        assert_eq!(judge_any(&sample, "abcd").points, Fraction::ONE);
    }

    #[test]
    fn raw_length_counts_spaces_that_the_distance_does_not_see() {
        // Distance 1 over length 5: the doubled space is part of the length only.
        assert_eq!(
            judge(&testing::open(&["a  bx"]), "a by").points,
            Fraction::new(4, 5)
        );
        assert_eq!(levenshtein("kitten", "sitting"), 3);
        assert_eq!(levenshtein("", "abc"), 3);
        assert_eq!(levenshtein("ëx", "ex"), 1);
    }
}
