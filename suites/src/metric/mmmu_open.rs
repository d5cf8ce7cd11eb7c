//! MMMU's open questions: short answers are cut out of the response and searched for the gold.

use std::sync::LazyLock;

use fancy_regex::Regex;

use super::{Extraction, Judged};
use crate::python;
use crate::rational::Fraction;
use crate::sample::Sample;

/// Words after which an answer is expected.
const INDICATORS: [&str; 8] = [
    "could be ",
    "so ",
    "is ",
    "thus ",
    "therefore ",
    "final ",
    "answer ",
    "result ",
];

/// A text or number in the form in which they are compared.
#[derive(Clone, Debug, PartialEq)]
enum Normal {
    Text(String),
    /// Rounded to two decimals.
    Number(f64),
}

/// Right if a candidate text contains a gold text, or a candidate number equals a gold number.
/// A gold that is a list of answers is compared as the text that it is, brackets included.
pub(super) fn judge(sample: &Sample, response: &str) -> Judged {
    let golds: Vec<Normal> = sample
        .golds
        .iter()
        .flat_map(|gold| normalize(gold))
        .collect();
    let key = key_responses(response);
    let numbers: Vec<String> = key.iter().flat_map(|text| numbers(text)).collect();
    let candidates: Vec<Normal> = key
        .iter()
        .chain(&numbers)
        .flat_map(|text| normalize(text))
        .collect();
    let right = candidates.iter().any(|candidate| {
        golds.iter().any(|gold| match (gold, candidate) {
            (Normal::Text(gold), Normal::Text(text)) => text.contains(gold.as_str()),
            (Normal::Number(gold), Normal::Number(number)) => gold == number,
            _ => false,
        })
    });
    Judged {
        points: Fraction::all_or_nothing(right),
        answer: if python::strip(response).is_empty() {
            Extraction::Unparsed
        } else {
            Extraction::Found(key.join(" | "))
        },
    }
}

fn normalize(text: &str) -> Vec<Normal> {
    let text = python::strip(text);
    if let Some(number) = python::parse_float(&text.replace(',', "")) {
        return vec![Normal::Number(python::round_2(number))];
    }
    let text = text.to_lowercase();
    if text.chars().count() == 1 {
        // A single letter would be found nearly everywhere.
        return vec![
            Normal::Text(format!(" {text}")),
            Normal::Text(format!("{text} ")),
        ];
    }
    vec![Normal::Text(text)]
}

/// Of every line, the shortest text that follows an indicator word; the whole response if there
/// is none. (The reference also splits at sentence ends before a capital, but in lower case there
/// are none.)
fn key_responses(response: &str) -> Vec<String> {
    let text = python::strip(response).trim_matches('.').to_lowercase();
    let lines: Vec<&str> = text.split('\n').collect();
    let mut key = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        // In the last line an equation counts as well.
        let equation = (index + 1 == lines.len()).then_some("=");
        let mut shortest = "";
        for indicator in INDICATORS.into_iter().chain(equation) {
            let Some((_, tail)) = line.rsplit_once(indicator) else {
                continue;
            };
            let tail = python::strip(tail);
            if shortest.is_empty() || tail.chars().count() < shortest.chars().count() {
                shortest = tail;
            }
        }
        if !matches!(shortest, "" | ":" | "," | "." | "!" | "?" | ";" | "'") {
            key.push(shortest.to_owned());
        }
    }
    if key.is_empty() {
        return vec![text];
    }
    key
}

/// Every number in a text: with thousands separators, in scientific notation, plain.
fn numbers(text: &str) -> Vec<String> {
    static PATTERNS: LazyLock<[Regex; 3]> = LazyLock::new(|| {
        [
            // Word boundaries are spelled out: Python takes letters, numbers and `_` for parts of
            // a word, the engine combining marks as well.
            r"-?(?<![\p{L}\p{N}_])\d{1,3}(?:,\d{3})+(?![\p{L}\p{N}_])",
            r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
            r"-?(?:\d+\.\d+|\.\d+|\d+(?![\p{L}\p{N}_]))(?![eE][+-]?\d+)(?![,\d])",
        ]
        .map(|pattern| Regex::new(pattern).expect("the pattern is valid"))
    });
    // The engine gives up on runs of hundreds of thousands of digits, which are no answer.
    let found = |pattern: &Regex| -> Vec<String> {
        let matches = pattern.find_iter(text).map_while(Result::ok);
        matches.map(|found| found.as_str().to_owned()).collect()
    };
    PATTERNS.iter().flat_map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{mmmu, testing};

    #[test]
    fn numbers_in_all_their_forms() {
        for (text, expected) in [
            ("1,234,567 and 12", vec!["1,234,567", "567", "12"]),
            ("-1.5e-3", vec!["-1.5e-3", "-1", "-3"]),
            ("2e5 or .5", vec!["2e5", "5", ".5"]),
            ("3.14.", vec!["3.14"]),
            ("1,23", vec!["23"]),
            ("5kg", vec![]),
            ("5 kg", vec!["5"]),
            ("-7", vec!["-7"]),
            ("٣ km", vec!["٣"]),
            ("i\u{307}1,000", vec!["1,000", "000"]),
        ] {
            assert_eq!(numbers(text), expected, "{text}");
        }
    }

    #[test]
    fn the_shortest_tail_of_each_line_is_a_key_response() {
        for (response, expected) in [
            ("42", vec!["42"]),
            ("So the final answer is 42.", vec!["42"]),
            ("It is blue.\nThus x = 3", vec!["blue.", "3"]),
            ("x = 3\nand more", vec!["x = 3\nand more"]),
            ("The answer is :", vec!["the answer is :"]),
            ("", vec![""]),
        ] {
            assert_eq!(key_responses(response), expected, "{response:?}");
        }
    }

    #[test]
    fn right_and_wrong_answers() {
        for (gold, response, right) in [
            ("8.4", "The result is 8.40 million", true),
            ("1,000", "it is 1000", true),
            ("0.67", "= 2/3 = 0.667", true),
            ("0.67", "0.66", false),
            ("Transformer", "They are transformers", true),
            ("transformer", "transform", false),
            ("B", "B", true),
            ("B", "vitamin B12", true),
            ("c", "the answer is cat", false),
            ("24/7", "", false),
            ("-5", "is 5", false),
            ("nan", "nan", false),
            ("inf", "is infinity", true),
        ] {
            let sample = testing::open(&[gold]);
            let judged = judge(&sample, response);
            assert_eq!(
                judged.points,
                Fraction::all_or_nothing(right),
                "{gold:?} {response:?}"
            );
            assert_eq!(
                mmmu::judge_open_never(&sample, response).points,
                Fraction::ZERO,
                "{gold:?}"
            );
        }
    }

    #[test]
    fn a_list_of_golds_is_never_looked_into() {
        let sample = testing::open(&["['1.5', 'one and a half']"]);
        assert_eq!(judge(&sample, "1.5").points, Fraction::ZERO);
        assert_eq!(judge(&sample, "one and a half").points, Fraction::ZERO);
    }

    #[test]
    fn a_long_run_of_digits_is_survived() {
        let digits = format!("{}x", "1".repeat(20_000));
        assert_eq!(
            judge(&testing::open(&["5"]), &digits).points,
            Fraction::ZERO
        );
    }
}
