//! One recipe in one column: times, throughput, and shares of what the machine can do.

use crate::{
    record::{CaseFacts, Peak},
    stats::Estimate,
    summary::{CaseSummary, Figure},
};

/// Figures that have a limit, and are set against it: FLOPs against the matrix product, bytes against memory.
pub const COMPARED: [Figure; 4] = [
    Figure::Encode,
    Figure::Prefill,
    Figure::TtftPaper,
    Figure::Tpot,
];

/// A case in a column.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    /// Column, by position.
    pub column: usize,
    /// What was measured.
    pub summary: &'a CaseSummary,
    /// What is known of the case.
    pub facts: &'a CaseFacts,
    /// The peak of the column.
    pub peak: Option<&'a Peak>,
}

impl Cell<'_> {
    /// A latency figure, if it was measured.
    pub fn figure(&self, figure: Figure) -> Option<&Estimate> {
        self.summary.figure(figure)
    }

    /// What is done in a figure's time: FLOPs of encode and prefill, bytes of one decode step.
    pub fn work(&self, figure: Figure) -> Option<f64> {
        let stage = |name: &str| self.facts.stages.get(name);
        let work = match figure {
            Figure::Encode | Figure::Prefill => stage(figure.name())?.flops,
            Figure::TtftPaper => stage("encode")?.flops + stage("prefill")?.flops,
            Figure::Tpot | Figure::FirstDecode => stage("decode")?.bytes?,
            Figure::Preprocess | Figure::Project | Figure::TtftUser => return None,
        };
        Some(work as f64)
    }

    /// How much of it the machine can do in a second: its matrix product in the case's element type, or how fast it
    /// reads memory.
    pub fn limit(&self, figure: Figure) -> Option<f64> {
        let peak = self.peak?;
        match figure {
            Figure::Encode | Figure::Prefill | Figure::TtftPaper => {
                peak.product_flops(&self.facts.used.dtype)
            }
            Figure::Tpot | Figure::FirstDecode => Some(peak.read_bytes),
            Figure::Preprocess | Figure::Project | Figure::TtftUser => None,
        }
    }

    /// Work over time, as a share of the limit.
    pub fn share(&self, figure: Figure) -> Option<f64> {
        let seconds = self.figure(figure)?.median / 1e3;
        Some(self.work(figure)? / seconds / self.limit(figure)?)
    }

    /// Time over that of another cell.
    pub fn ratio(&self, other: &Self, figure: Figure) -> Option<f64> {
        Some(self.figure(figure)?.median / other.figure(figure)?.median)
    }

    /// The same over what the limits alone would make of it: 1 where the machines differ as their limits do, more
    /// where this one uses less of its own.
    pub fn ratio_over_limits(&self, other: &Self, figure: Figure) -> Option<f64> {
        let by_limits = other.limit(figure)? / self.limit(figure)?;
        Some(self.ratio(other, figure)? / by_limits)
    }
}

/// What is done in a second, from median times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throughput {
    /// Visual tokens over encode.
    VisualTokens,
    /// Positions of the prompt, visual ones included, over prefill.
    PromptTokens,
    /// 1 over TPOT.
    DecodeTokens,
    /// 1 over `ttft.user`: requests to their first token, one after the other.
    FirstTokens,
}

impl Throughput {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::VisualTokens,
        Self::PromptTokens,
        Self::DecodeTokens,
        Self::FirstTokens,
    ];

    /// Name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::VisualTokens => "visual tokens/s",
            Self::PromptTokens => "prompt tokens/s",
            Self::DecodeTokens => "decode tokens/s",
            Self::FirstTokens => "first tokens/s",
        }
    }

    /// Its value, if everything that it is made of is known.
    pub fn of(self, cell: &Cell<'_>) -> Option<f64> {
        let facts = cell.facts;
        let (tokens, figure) = match self {
            Self::VisualTokens => (facts.visual_tokens?, Figure::Encode),
            Self::PromptTokens => {
                let visual = facts.visual_tokens.unwrap_or(0);
                (visual + facts.prompt_tokens?, Figure::Prefill)
            }
            Self::DecodeTokens => (1, Figure::Tpot),
            Self::FirstTokens => (1, Figure::TtftUser),
        };
        Some(f64::from(tokens) / cell.figure(figure)?.median * 1e3)
    }
}
