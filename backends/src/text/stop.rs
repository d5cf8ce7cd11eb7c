//! Where an answer ends: at an end-of-sequence id, or before a stop string.
//!
//! Ids are tested as they are generated; stop strings are cut from the decoded text, as lmms-eval
//! and LLaVA do, because one string can be many tokenizations.

/// What ends an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopRule {
    /// Ids that end the answer and are not part of it.
    pub eos: Vec<u32>,
    strings: Vec<String>,
}

/// Why generation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// An end-of-sequence id.
    Eos,
    /// A stop string.
    String,
}

impl StopRule {
    /// Empty strings, which would end every answer at once, are left out.
    pub fn new(eos: Vec<u32>, strings: impl IntoIterator<Item = String>) -> Self {
        let strings = strings
            .into_iter()
            .filter(|string| !string.is_empty())
            .collect();
        Self { eos, strings }
    }

    /// The stop strings.
    pub fn strings(&self) -> &[String] {
        &self.strings
    }

    /// Whether generation ends with the id `last`, after which all text so far is `text`.
    pub fn check(&self, last: u32, text: &str) -> Option<Stop> {
        if self.eos.contains(&last) {
            return Some(Stop::Eos);
        }
        (self.cut(text).len() < text.len()).then_some(Stop::String)
    }

    /// The text before the first stop string in it; all of it if there is none.
    pub fn cut<'a>(&self, text: &'a str) -> &'a str {
        let first = self
            .strings
            .iter()
            .filter_map(|string| text.find(string.as_str()))
            .min();
        &text[..first.unwrap_or(text.len())]
    }
}
