//! MMMU as lmms-eval scores it: its letter parser for multiple choice, and open questions.
//!
//! The parser follows MMMU's own with two changes that lmms-eval made: a bare letter needs no
//! space before it (so `USA` reads as A), and `X.` is tried as well.

use super::{Extraction, Judged, mmmu_open};
use crate::prompt::letters;
use crate::python;
use crate::rational::Fraction;
use crate::sample::{QuestionKind, Sample};

pub(super) fn judge(sample: &Sample, response: &str) -> Judged {
    match sample.kind {
        QuestionKind::MultipleChoice => judge_choice(sample, response),
        QuestionKind::Open => mmmu_open::judge(sample, response),
    }
}

/// lmms-eval 0.4 to 0.7.2 turns the list of parsed answers into one string before the comparison,
/// which then looks for the gold in its single characters. A gold is a number or at least two
/// characters long, so no open question can score (lmms-eval#1436).
pub(super) fn judge_open_never(sample: &Sample, response: &str) -> Judged {
    let judged = judge(sample, response);
    match sample.kind {
        QuestionKind::MultipleChoice => judged,
        QuestionKind::Open => Judged {
            points: Fraction::ZERO,
            ..judged
        },
    }
}

fn judge_choice(sample: &Sample, response: &str) -> Judged {
    let Some(letter) = parse_letter(response, &sample.choices) else {
        return Judged::unparsed();
    };
    let answer = letter.to_string();
    Judged {
        points: Fraction::all_or_nothing(sample.golds.contains(&answer)),
        answer: Extraction::Found(answer),
    }
}

/// The chosen letter; `None` where the reference would draw one at random.
fn parse_letter(response: &str, choices: &[String]) -> Option<char> {
    let mut text = response;
    for mark in [',', '.', '!', '?', ';', ':', '\''] {
        text = text.trim_matches(mark);
    }
    let text = format!(" {text} ");
    let shaped = |shape: fn(char) -> String| -> Vec<char> {
        let options = letters().take(choices.len());
        options
            .filter(|&letter| text.contains(&shape(letter)))
            .collect()
    };

    let bracketed = shaped(in_brackets);
    if !bracketed.is_empty() {
        return last(bracketed, |letter| text.rfind(&in_brackets(letter)));
    }
    for shape in [|letter| format!("{letter} "), |letter| format!("{letter}.")] {
        let found = shaped(shape);
        if !found.is_empty() {
            // The place looked up needs a space on both sides; a letter without them has none.
            return last(found, |letter| text.rfind(&format!(" {letter} ")));
        }
    }
    if python::split(&text).count() <= 5 {
        return None;
    }
    let text = text.to_lowercase();
    let place = |choice: &String| text.rfind(&choice.to_lowercase());
    let named = letters()
        .zip(choices)
        .filter(|(_, choice)| place(choice).is_some());
    let places: Vec<_> = named
        .map(|(letter, choice)| (letter, place(choice)))
        .collect();
    let of = |letter| {
        places
            .iter()
            .find(|(other, _)| *other == letter)
            .and_then(|(_, place)| *place)
    };
    last(places.iter().map(|(letter, _)| *letter).collect(), of)
}

fn in_brackets(letter: char) -> String {
    format!("({letter})")
}

/// The candidate with the furthest place, the first one of equals; `None` lies before any place.
fn last(candidates: Vec<char>, place: impl Fn(char) -> Option<usize>) -> Option<char> {
    candidates.into_iter().reduce(|best, next| {
        if place(next) > place(best) {
            next
        } else {
            best
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::testing;

    fn letter(response: &str) -> Option<char> {
        parse_letter(response, &testing::animals("A").choices)
    }

    #[test]
    fn conformance_vectors() {
        for (response, expected) in [
            ("A", Some('A')),
            ("a", None),
            ("A.", Some('A')),
            ("(B)", Some('B')),
            ("B. dog", Some('B')),
            ("B) dog", None),
            ("B: dog", None),
            ("The answer is C.", Some('C')),
            ("Answer: C", Some('C')),
            ("**B**", None),
            ("It is a dog", None),
            ("The animal shown in this image is a dog", Some('B')),
            ("USA", Some('A')),
            ("I think the CIA is involved", Some('A')),
            ("A cat is on the mat", Some('A')),
            ("Either A or B", Some('B')),
            ("A, B", Some('B')),
            ("Option D is right since it flies", Some('D')),
            ("The answer is dog", None),
            ("", None),
            ("not sure", None),
            // Marks are stripped one after the other, once.
            ("B.,", Some('B')),
            ("B,.", None),
        ] {
            assert_eq!(letter(response), expected, "{response:?}");
        }
    }

    #[test]
    fn several_candidates() {
        for (response, expected) in [
            // Brackets win over bare letters, the last bracket over the first.
            ("(A) or (C), not D ", Some('C')),
            ("(C) or (A)", Some('A')),
            // No candidate has a space on both sides: the first one stands.
            ("XB XA ", Some('A')),
            ("it might be a dog or perhaps a cat", Some('A')),
            ("it might be a cat or perhaps a dog", Some('B')),
        ] {
            assert_eq!(letter(response), expected, "{response:?}");
        }
    }

    #[test]
    fn letters_go_as_far_as_the_options() {
        let five: Vec<String> = (0..5).map(|n| format!("option number {n}")).collect();
        assert_eq!(parse_letter("E", &five), Some('E'));
        assert_eq!(parse_letter("E", &five[..4]), None);
        assert_eq!(parse_letter("A", &[]), None);
    }

    #[test]
    fn a_guess_is_unparsed_and_wrong() {
        for gold in ["A", "B", "C", "D"] {
            assert_eq!(
                judge(&testing::animals(gold), "not sure"),
                Judged::unparsed()
            );
        }
        let judged = judge(&testing::animals("A"), "USA");
        assert_eq!(judged.points, Fraction::ONE);
        assert_eq!(judge_open_never(&testing::animals("A"), "USA"), judged);
    }
}
