//! A parser for the one Python literal that data sets carry: a flat list of strings and numbers,
//! such as MMMU's `options` column (`['$6', "it's"]`).
//!
//! Tuples are accepted like lists. Numbers and the names `None`, `True`, `False` are kept as they
//! are written, since the prompt prints them. Nested lists, bytes and formatted strings are errors.

use std::iter::Peekable;
use std::str::CharIndices;

/// Why a text is not a flat Python list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a python list of strings: expected {expected} at byte {at}")]
pub struct LiteralError {
    /// Byte offset in the text.
    pub at: usize,
    /// What would have been accepted there.
    pub expected: &'static str,
}

/// Reads a Python list or tuple literal of strings and numbers.
///
/// # Errors
/// [`LiteralError`] with the place at which the text stops being such a literal.
pub fn parse_list(text: &str) -> Result<Vec<String>, LiteralError> {
    let mut parser = Parser {
        text,
        chars: text.char_indices().peekable(),
    };
    parser.skip_space();
    let close = match parser.chars.next() {
        Some((_, '[')) => ']',
        Some((_, '(')) => ')',
        Some((at, _)) => {
            return Err(LiteralError {
                at,
                expected: "`[`",
            });
        }
        None => return Err(parser.error("`[`")),
    };
    let mut items = Vec::new();
    loop {
        parser.skip_space();
        if parser.eat(close) {
            break;
        }
        items.push(parser.item()?);
        parser.skip_space();
        if parser.eat(',') {
            continue;
        }
        if parser.eat(close) {
            break;
        }
        return Err(parser.error("`,` or the end of the list"));
    }
    parser.skip_space();
    match parser.chars.peek() {
        None => Ok(items),
        Some(_) => Err(parser.error("the end of the text")),
    }
}

struct Parser<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl Parser<'_> {
    fn error(&mut self, expected: &'static str) -> LiteralError {
        let at = self.chars.peek().map_or(self.text.len(), |&(at, _)| at);
        LiteralError { at, expected }
    }

    fn skip_space(&mut self) {
        while self.chars.next_if(|&(_, c)| super::is_space(c)).is_some() {}
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.chars.next_if(|&(_, c)| c == wanted).is_some()
    }

    /// One item; adjacent strings are joined, as Python joins them.
    fn item(&mut self) -> Result<String, LiteralError> {
        let Some(&(start, first)) = self.chars.peek() else {
            return Err(self.error("an item"));
        };
        if !self.at_string(start) {
            if !(first.is_ascii_alphanumeric() || "+-.".contains(first)) {
                return Err(self.error("a string or a number"));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
            while self.chars.next_if(|&(_, c)| plain(c)).is_some() {}
            let end = self.chars.peek().map_or(self.text.len(), |&(at, _)| at);
            let word = &self.text[start..end];
            let named = matches!(word, "None" | "True" | "False");
            let number = first.is_ascii_digit() || "+-.".contains(first);
            if named || (number && super::parse_float(word).is_some()) {
                return Ok(word.to_owned());
            }
            return Err(LiteralError {
                at: start,
                expected: "a string or a number",
            });
        }
        let mut value = String::new();
        while let Some(&(at, _)) = self.chars.peek() {
            if !self.at_string(at) {
                break;
            }
            self.string(&mut value)?;
            self.skip_space();
        }
        Ok(value)
    }

    /// Whether a string literal (optionally prefixed `u` or `r`) starts at `at`.
    fn at_string(&self, at: usize) -> bool {
        let rest = self.text[at..].trim_start_matches(['u', 'U', 'r', 'R']);
        self.text.len() - at - rest.len() <= 1 && rest.starts_with(['\'', '"'])
    }

    fn string(&mut self, value: &mut String) -> Result<(), LiteralError> {
        let raw = match self.chars.next_if(|&(_, c)| c.is_ascii_alphabetic()) {
            Some((_, prefix)) => prefix.eq_ignore_ascii_case(&'r'),
            None => false,
        };
        let Some((open, quote)) = self.chars.next() else {
            return Err(self.error("a quote"));
        };
        let long = self.text[open..].starts_with(if quote == '"' { "\"\"\"" } else { "'''" });
        if long {
            self.chars.next();
            self.chars.next();
        }
        loop {
            let Some((at, c)) = self.chars.next() else {
                return Err(self.error("a closing quote"));
            };
            match c {
                _ if c == quote && !long => return Ok(()),
                _ if c == quote
                    && self.text[at..].starts_with(if quote == '"' { "\"\"\"" } else { "'''" }) =>
                {
                    self.chars.next();
                    self.chars.next();
                    return Ok(());
                }
                '\n' if !long => {
                    return Err(LiteralError {
                        at,
                        expected: "a closing quote",
                    });
                }
                '\\' if raw => {
                    value.push('\\');
                    if let Some((_, next)) = self.chars.next() {
                        value.push(next);
                    }
                }
                '\\' => self.escape(value)?,
                _ => value.push(c),
            }
        }
    }

    fn escape(&mut self, value: &mut String) -> Result<(), LiteralError> {
        let Some((at, c)) = self.chars.next() else {
            return Err(self.error("an escaped character"));
        };
        let decoded = match c {
            '\n' => return Ok(()),
            '\\' | '\'' | '"' => c,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => self.code(at, 2, 16)?,
            'u' => self.code(at, 4, 16)?,
            'U' => self.code(at, 8, 16)?,
            '0'..='7' => {
                let mut code = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    match self.chars.next_if(|&(_, c)| c.is_digit(8)) {
                        Some((_, digit)) => code = code * 8 + digit.to_digit(8).unwrap_or(0),
                        None => break,
                    }
                }
                char::from_u32(code).ok_or(LiteralError {
                    at,
                    expected: "a character code",
                })?
            }
            // Python keeps the backslash of an escape it does not know.
            _ => {
                value.push('\\');
                c
            }
        };
        value.push(decoded);
        Ok(())
    }

    fn code(&mut self, at: usize, digits: usize, radix: u32) -> Result<char, LiteralError> {
        let error = LiteralError {
            at,
            expected: "a character code",
        };
        let mut code: u32 = 0;
        for _ in 0..digits {
            let digit = self.chars.next().and_then(|(_, c)| c.to_digit(radix));
            code = code
                .wrapping_mul(radix)
                .wrapping_add(digit.ok_or(error.clone())?);
        }
        char::from_u32(code).ok_or(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_python_writes() {
        for (text, expected) in [
            ("[]", vec![]),
            ("['a', 'b']", vec!["a", "b"]),
            (r#"['a', "b's"]"#, vec!["a", "b's"]),
            (
                r#"["He said \"no\"", 'it\'s']"#,
                vec!["He said \"no\"", "it's"],
            ),
            (
                r"['1\n2', '\\frac{1}{2}', '\xe9\u20ac', '\101\0']",
                vec!["1\n2", "\\frac{1}{2}", "é€", "A\0"],
            ),
            (r"['\frac', '\d', r'\n']", vec!["\u{c}rac", "\\d", "\\n"]),
            (
                " [ 'a' 'b' , 12, -1.5, None, ] ",
                vec!["ab", "12", "-1.5", "None"],
            ),
            ("('x',)", vec!["x"]),
            ("['''a'b\nc''', u'ü,]']", vec!["a'b\nc", "ü,]"]),
            ("['$6', '<image 1>']", vec!["$6", "<image 1>"]),
        ] {
            assert_eq!(
                parse_list(text).as_deref(),
                Ok(expected
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .as_slice()),
                "{text}"
            );
        }
    }

    #[test]
    fn says_where_it_stops_being_a_list() {
        for (text, at) in [
            ("", 0),
            ("A", 0),
            ("['a'", 4),
            ("['a' 3]", 5),
            ("['a', [1]]", 6),
            ("['a]", 4),
            ("['a'] x", 6),
            ("[a]", 1),
            ("[inf]", 1),
            ("[,]", 1),
            (r"['\u12']", 3),
        ] {
            assert_eq!(
                parse_list(text).map_err(|error| error.at),
                Err(at),
                "{text}"
            );
        }
    }
}
