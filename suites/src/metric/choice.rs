//! Multiple choice by the first character, as lmms-eval scores SEED-Bench.

use super::{Extraction, Judged};
use crate::prompt::letters;
use crate::python;
use crate::rational::Fraction;
use crate::sample::Sample;

/// The first character of the stripped response, compared with the gold letter in lower case.
///
/// A first character that is no option's letter is wrong in the reference like any other; here it
/// also counts as unparsed.
pub(super) fn judge_first_letter(sample: &Sample, response: &str) -> Judged {
    let Some(first) = python::strip(response).chars().next() else {
        return Judged::unparsed();
    };
    let first = first.to_string();
    let lower = first.to_lowercase();
    let mut letters = letters().take(sample.choices.len());
    if !letters.any(|letter| letter.to_string().to_lowercase() == lower) {
        return Judged::unparsed();
    }
    Judged {
        points: Fraction::all_or_nothing(
            sample.golds.iter().any(|gold| gold.to_lowercase() == lower),
        ),
        answer: Extraction::Found(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::testing;

    #[test]
    fn conformance_vectors() {
        for (response, found) in [
            ("A", Some("A")),
            ("a", Some("a")),
            ("A.", Some("A")),
            ("(B)", None),
            ("B. dog", Some("B")),
            ("B) dog", Some("B")),
            ("B: dog", Some("B")),
            ("The answer is C.", None),
            ("Answer: C", Some("A")),
            ("**B**", None),
            ("It is a dog", None),
            ("The animal shown in this image is a dog", None),
            ("USA", None),
            ("I think the CIA is involved", None),
            ("A cat is on the mat", Some("A")),
            ("Either A or B", None),
            ("A, B", Some("A")),
            ("Option D is right since it flies", None),
            ("The answer is dog", None),
            ("", None),
            ("not sure", None),
            ("\n D", Some("D")),
        ] {
            for gold in ["A", "B", "C", "D"] {
                let judged = judge_first_letter(&testing::animals(gold), response);
                let expected = found.map_or(Extraction::Unparsed, |letter| {
                    Extraction::Found(letter.to_owned())
                });
                assert_eq!(judged.answer, expected, "{response:?}");
                let right = found.is_some_and(|letter| letter.eq_ignore_ascii_case(gold));
                assert_eq!(
                    judged.points,
                    Fraction::all_or_nothing(right),
                    "{response:?} {gold}"
                );
            }
        }
    }
}
