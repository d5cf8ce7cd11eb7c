//! The EvalAI answer processor (facebookresearch/mmf), which LLaVA's TextVQA script and lmms-eval
//! use on both sides of the comparison.
//!
//! Two of its lines do not do what they seem to: the look-behind of the period rule is mistyped,
//! so it never constrains, and the regular expression flag lands in the place of a count, so at
//! most 32 periods are removed. Both are kept.

use super::contractions::CONTRACTIONS;
use crate::python;

/// The marks in the order in which they are processed.
const PUNCTUATION: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',',
    '?', '!',
];

/// The value of Python's `re.UNICODE`, passed as the number of replacements.
const MAX_PERIODS: usize = 32;

const NUMBER_WORDS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];

/// Brings an answer into the form in which answers are compared.
#[must_use]
pub fn normalize(answer: &str) -> String {
    let text = answer
        .to_lowercase()
        .replace([',', '?'], "")
        .replace("'s", " 's");
    let text = python::strip(&text).replace(['\n', '\t'], " ");
    let text = drop_periods(&drop_punctuation(python::strip(&text)));
    let mut words = Vec::new();
    for word in python::split(&text.to_lowercase()) {
        let number = NUMBER_WORDS.iter().find(|(name, _)| *name == word);
        let word = number.map_or(word, |(_, digits)| digits);
        if matches!(word, "a" | "an" | "the") {
            continue;
        }
        let contraction = CONTRACTIONS.binary_search_by_key(&word, |&(key, _)| key);
        words.push(
            contraction
                .map_or(word, |found| CONTRACTIONS[found].1)
                .to_owned(),
        );
    }
    words.join(" ")
}

/// Deletes a mark where it ever stands beside a space, else puts a space in its place. Whether it
/// does is asked of the text as it was before the first mark. (The processor also looks for a
/// comma between digits, but all commas are gone by then.)
fn drop_punctuation(text: &str) -> String {
    let mut out = text.to_owned();
    for mark in PUNCTUATION {
        let beside_space = text.contains(&format!("{mark} ")) || text.contains(&format!(" {mark}"));
        out = out.replace(mark, if beside_space { "" } else { " " });
    }
    out
}

/// Deletes the first 32 periods that no decimal digit follows.
fn drop_periods(text: &str) -> String {
    let mut left = MAX_PERIODS;
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let digit_next = characters.peek().copied().and_then(python::decimal_digit);
        if c == '.' && left > 0 && digit_next.is_none() {
            left -= 1;
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_contraction_map_is_the_official_one() {
        assert_eq!(CONTRACTIONS.len(), 120);
        assert!(CONTRACTIONS.is_sorted());
        let mut hash = Sha256::new();
        for (key, value) in CONTRACTIONS {
            hash.update(format!("{key}={value}\n"));
        }
        let digest: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            digest,
            "9275f6c79840cd25399fded5327e0fb1eeafb5677ed42e7b9268322c18731dc3"
        );
    }

    #[test]
    fn conformance_vectors() {
        let periods = format!("{}x", ".".repeat(40));
        let eight = format!("{}x", ".".repeat(8));
        for (input, expected) in [
            ("Yes.", "yes"),
            ("yes", "yes"),
            ("3.", "3"),
            ("3.5.", "3.5"),
            ("1. 2", "1 2"),
            ("1..2", "1.2"),
            ("1,000", "1000"),
            ("1,000.", "1000"),
            ("1,,000", "1000"),
            ("1,000 red/blue", "1000 red blue"),
            ("a,b", "ab"),
            ("a, b", "b"),
            ("it's", "it 's"),
            ("who's", "who 's"),
            ("St. John's", "st john 's"),
            ("whos", "who's"),
            ("dont", "don't"),
            ("don’t", "don’t"),
            ("Im", "im"),
            ("U.S.A.", "usa"),
            ("mr.t", "mrt"),
            ("Dr.Pepper", "drpepper"),
            ("no.5", "no.5"),
            ("No. 5", "no 5"),
            ("no. 5.", "no 5"),
            ("12:30", "12:30"),
            ("100%", "100%"),
            ("$5", "$5"),
            ("#1", "#1"),
            ("r&b", "r&b"),
            ("-5", "5"),
            ("- 5", "5"),
            ("1/2", "1 2"),
            ("1 / 2", "1 2"),
            ("coca-cola", "coca cola"),
            ("e-mail", "e mail"),
            ("a-b", "b"),
            ("x@y.com", "x ycom"),
            ("http://a.b/c", "http: ab c"),
            ("None.", "0"),
            ("[none]", "0"),
            ("Ten apples", "10 apples"),
            ("twenty", "twenty"),
            ("a", ""),
            ("The", ""),
            ("?", ""),
            ("...", ""),
            ("yes\u{1c}no", "yes no"),
            (&periods, &eight),
        ] {
            assert_eq!(normalize(input), expected, "{input:?}");
        }
    }

    #[test]
    fn a_digit_of_any_script_protects_its_period() {
        assert_eq!(normalize("5.٣"), "5.٣");
        assert_eq!(normalize("5.²"), "5²");
    }
}
