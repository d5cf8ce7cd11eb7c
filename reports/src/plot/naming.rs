//! What cases are called in pictures: short, and told apart by what differs.

use std::collections::BTreeSet;

use crate::{
    record::{CaseFacts, Labels},
    report::AccuracySource,
    summary::CaseSummary,
};

/// Conditions that a legend can tell apart, and characters that it has room for.
const MOST_LINES: usize = 3;
const MOST_CHARACTERS: usize = 40;

/// The name that the publication uses, so that picture and paper can be read side by side.
pub(crate) fn encoder_name<'a>(labels: &'a Labels, source: AccuracySource<'a>) -> &'a str {
    match source {
        AccuracySource::Published(series) => series.canonical(&labels.encoder),
        AccuracySource::Measured { .. } | AccuracySource::Mean => &labels.encoder,
    }
}

/// Which labels differ between the cases, and so have to be named at each point.
pub(crate) struct Naming {
    differs: [bool; 6],
}

impl Naming {
    /// Of cases that are shown together.
    pub fn of(cases: &[(&CaseSummary, &CaseFacts)]) -> Self {
        let mut values: [BTreeSet<String>; 6] = Default::default();
        for (summary, facts) in cases {
            for (set, value) in values.iter_mut().zip(Self::values(summary, facts)) {
                set.insert(value);
            }
        }
        Self {
            differs: values.map(|set| set.len() > 1),
        }
    }

    fn values(summary: &CaseSummary, facts: &CaseFacts) -> [String; 6] {
        let labels = &facts.labels;
        let threads = facts.used.threads.map(|n| format!("{n} threads"));
        [
            labels.decoder.clone().unwrap_or_default(),
            labels.backend.clone(),
            labels.device.clone(),
            labels.precision.clone(),
            threads.unwrap_or_default(),
            format!("run {}", summary.run + 1),
        ]
    }

    /// What differs, of one case.
    pub fn suffix(&self, summary: &CaseSummary, facts: &CaseFacts) -> String {
        let values = Self::values(summary, facts);
        let named: Vec<String> = (values.into_iter().zip(self.differs))
            .filter(|(value, differs)| *differs && !value.is_empty())
            .map(|(value, _)| value)
            .collect();
        named.join(", ")
    }

    /// What the legend tells apart, if it can: the labels need not name it then.
    pub fn lines(&self, cases: &[(&CaseSummary, &CaseFacts)]) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for &(summary, facts) in cases {
            let line = self.suffix(summary, facts);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let characters: usize = lines.iter().map(|line| line.chars().count()).sum();
        let few = (2..=MOST_LINES).contains(&lines.len()) && characters <= MOST_CHARACTERS;
        if !few || lines.iter().any(String::is_empty) {
            lines.clear();
        }
        lines
    }

    /// A point's name, with everything that tells it from other points.
    pub fn label(
        &self,
        summary: &CaseSummary,
        facts: &CaseFacts,
        source: AccuracySource<'_>,
    ) -> String {
        let mut label = short_label(facts, source);
        let suffix = self.suffix(summary, facts);
        if !suffix.is_empty() {
            label.push_str(&format!(" · {suffix}"));
        }
        label
    }
}

/// Encoder, resolution and visual tokens.
pub(crate) fn short_label(facts: &CaseFacts, source: AccuracySource<'_>) -> String {
    let labels = &facts.labels;
    let encoder = encoder_name(labels, source);
    let mut label = format!("{encoder} {} px", labels.resolution);
    if let Some(tokens) = facts.visual_tokens {
        label.push_str(&format!(" · {tokens} tok"));
    }
    label
}
