//! Which case is what a published row was measured on.

use super::select::Row;
use crate::{claims::ClaimFigure, record::CaseFacts, summary::CaseSummary};

/// The case of each row, the best that fits, of equals the first.
///
/// The reference's own case is nobody else's: its ratio to itself would be 1, whatever was measured.
pub(super) fn assign<'a>(
    rows: &[Row<'_>],
    figure: ClaimFigure,
    cases: &[&'a CaseSummary],
) -> Vec<Option<&'a CaseSummary>> {
    let find = |row: &Row<'_>, not: Option<&CaseSummary>| {
        let others = cases.iter();
        let others = others.filter(|case| !not.is_some_and(|not| std::ptr::eq(not, **case)));
        let fitting =
            others.filter_map(|case| Some((row.fit(figure, case.facts.as_ref()?)?, *case)));
        // `min_by_key` returns the first of equals.
        fitting.min_by_key(|(fit, _)| *fit).map(|(_, case)| case)
    };
    let reference = rows.iter().find(|row| row.spec.reference);
    let base = reference.and_then(|row| find(row, None));
    rows.iter()
        .map(|row| match row.spec.reference {
            true => base,
            false => find(row, base),
        })
        .collect()
}

/// How well a case fits a row, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// All that is printed agrees.
    Whole,
    /// The encoder alone.
    EncoderAlone,
    /// The same encoder on the same image, before another language model.
    OtherDecoder,
}

impl Row<'_> {
    /// How well a case is what the row was measured on; `None` if it is something else.
    pub(super) fn fit(&self, figure: ClaimFigure, facts: &CaseFacts) -> Option<Fit> {
        let (point, here, labels) = (self.point, &self.spec.here, &facts.labels);
        let side = here.resolution.or(point.resolution);
        if let Some(model) = &here.model {
            let as_large = here.resolution.is_none_or(|s| s == labels.resolution);
            return (*model == labels.model && as_large).then_some(Fit::Whole);
        }
        let encoder = here.encoder.as_ref().unwrap_or(&point.encoder);
        if !self.series.same(encoder, &labels.encoder) || side != Some(labels.resolution) {
            return None;
        }
        let seen = facts.visual_tokens_kept.or(facts.visual_tokens);
        let as_many = match (here.visual_tokens.or(point.visual_tokens), seen) {
            (Some(there), Some(ours)) => Some(there == ours),
            _ => None,
        };
        if as_many == Some(false) {
            return None;
        }
        let decoder = here.decoder.as_ref().or(point.decoder.as_ref());
        match (decoder, &labels.decoder) {
            (Some(there), Some(ours)) if self.series.same(there, ours) => Some(Fit::Whole),
            _ if figure != ClaimFigure::Encode => None,
            // An encoder alone runs once, on the whole image; a row in tiles has another side here.
            (_, None) => (point.resolution == Some(labels.resolution)).then_some(Fit::EncoderAlone),
            // As many tokens, so as many inputs.
            (_, Some(_)) => (as_many == Some(true)).then_some(Fit::OtherDecoder),
        }
    }
}
