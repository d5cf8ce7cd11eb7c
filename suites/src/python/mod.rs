//! The corners of Python's text functions that scores depend on.
//!
//! Every reference scorer is a Python program, so "strip", "split", "capitalize" and "float" mean
//! Python's versions, which differ from Rust's in white space, title case, digits and number
//! syntax. Everything here was compared with CPython 3.11 (Unicode 14). What Rust already does
//! alike (`to_lowercase`, `to_uppercase`, final sigma included) is used directly.

mod literal;
mod tables;

pub use literal::{LiteralError, parse_list};
use tables::{DECIMAL_ZEROS, TITLE_CASE};

/// `str.isspace` for one code point: Unicode White_Space plus the separators U+001C to U+001F.
#[must_use]
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
#[must_use]
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split()`: the words between runs of white space, none of them empty.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// The value of a Unicode decimal digit (category Nd, which is what `\d` matches in `re`), or
/// `None` for every other code point, superscripts and Roman numerals included.
#[must_use]
pub fn decimal_digit(c: char) -> Option<u32> {
    let code = u32::from(c);
    let block = DECIMAL_ZEROS.partition_point(|&zero| zero <= code);
    let zero = *DECIMAL_ZEROS.get(block.checked_sub(1)?)?;
    (code - zero < 10).then_some(code - zero)
}

/// `str.capitalize()`: the first code point in title case, everything after it in lower case.
#[must_use]
pub fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else {
        return String::new();
    };
    let mut out = String::with_capacity(text.len());
    match TITLE_CASE.binary_search_by_key(&first, |&(from, _)| from) {
        Ok(found) => out.push_str(TITLE_CASE[found].1),
        // Georgian letters have an upper case but are their own title case.
        Err(_) if ('\u{10d0}'..='\u{10ff}').contains(&first) => out.push(first),
        Err(_) => out.extend(first.to_uppercase()),
    }
    // The whole text is lowered and its first letter dropped, so that a final sigma sees the
    // letters before it.
    out.extend(
        text.to_lowercase()
            .chars()
            .skip(first.to_lowercase().count()),
    );
    out
}

/// `float(text)`: surrounding white space, `1_000`, `.5`, `5.`, `1e3`, `inf`, `nan` and decimal
/// digits of every script are accepted; `None` is Python's `ValueError`.
#[must_use]
pub fn parse_float(text: &str) -> Option<f64> {
    let mut ascii = String::with_capacity(text.len());
    let mut after_digit = false;
    // Unlike `strip`, `float` does not take U+001C to U+001F for white space; Rust's `trim` agrees.
    let mut characters = text.trim().chars().peekable();
    while let Some(c) = characters.next() {
        if c == '_' {
            let before_digit = characters
                .peek()
                .is_some_and(|&c| decimal_digit(c).is_some());
            if !(after_digit && before_digit) {
                return None;
            }
            continue;
        }
        let digit = decimal_digit(c).and_then(|value| char::from_digit(value, 10));
        after_digit = digit.is_some();
        ascii.push(digit.unwrap_or(c));
    }
    ascii.parse().ok()
}

/// `round(value, 2)`: correctly rounded from the exact binary value.
#[must_use]
pub fn round_2(value: f64) -> f64 {
    if !value.is_finite() {
        return value;
    }
    format!("{value:.2}")
        .parse()
        .expect("a formatted finite number parses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_and_strip_know_python_white_space() {
        assert_eq!(
            split("a\u{1c}b\u{85}c").collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
        assert_eq!(split("a\u{200b}b").count(), 1);
        assert_eq!(split(" \t ").count(), 0);
        assert_eq!(strip("\u{1f} x\u{a0}"), "x");
    }

    #[test]
    fn capitalize_title_cases_the_first_and_lowers_the_rest() {
        for (input, expected) in [
            ("", ""),
            ("NASA logo says WHAT", "Nasa logo says what"),
            ("ßabc", "Ssabc"),
            ("ǆ", "ǅ"),
            ("ﬁSH", "Fish"),
            ("éCOLE", "École"),
            ("ა", "ა"),
            ("İSTANBUL", "İstanbul"),
            ("ΟΔΟΣ", "Οδος"),
            ("1ST", "1st"),
            ("ᾳX", "ᾼx"),
        ] {
            assert_eq!(capitalize(input), expected, "{input:?}");
        }
    }

    #[test]
    fn digits_are_category_nd_of_every_script() {
        assert_eq!(decimal_digit('7'), Some(7));
        assert_eq!(decimal_digit('٣'), Some(3));
        assert_eq!(decimal_digit('２'), Some(2));
        assert_eq!(decimal_digit('𝟗'), Some(9));
        for c in ['²', 'Ⅷ', '½', 'x', ':', '/', '\u{0}'] {
            assert_eq!(decimal_digit(c), None, "{c:?}");
        }
    }

    #[test]
    fn float_reads_what_python_reads() {
        for (input, expected) in [
            (" 1_000.5\n", Some(1000.5)),
            ("１２", Some(12.0)),
            ("٣", Some(3.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("+5", Some(5.0)),
            ("1e3", Some(1000.0)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("\u{a0}2\u{85}", Some(2.0)),
            ("\u{1c}2", None),
            ("0x10", None),
            ("1,0", None),
            ("", None),
            ("_1", None),
            ("1__0", None),
            ("1_.5", None),
            ("1 0", None),
        ] {
            assert_eq!(parse_float(input), expected, "{input:?}");
        }
        assert!(parse_float("NaN").is_some_and(f64::is_nan));
    }

    #[test]
    fn rounding_is_of_the_binary_value() {
        assert_eq!(round_2(2.675), 2.67);
        assert_eq!(round_2(0.125), 0.12);
        assert_eq!(round_2(1.005), 1.0);
        assert_eq!(round_2(f64::INFINITY), f64::INFINITY);
    }
}
