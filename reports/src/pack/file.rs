//! A pack as written, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::select::{self, Row};
use crate::{claims::ClaimFigure, published::Series};

/// A paper's tables, and how they are measured here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// Id, such as `fastvlm`; names the files that are written.
    pub id: String,
    /// Title of the paper.
    pub title: String,
    /// Where to find it.
    pub url: String,
    /// Name of the file under `configs/published/` that has the numbers.
    pub published: String,
    /// Experiment whose claims are the paper's headlines.
    #[serde(default)]
    pub claims: Option<String>,
    /// Factor, either way, within which a ratio counts as reproduced.
    pub tolerance: f64,
    /// How published metrics are asked here; the others are not.
    #[serde(default)]
    pub metrics: BTreeMap<String, Asked>,
    /// Tables and figures of the paper.
    pub tables: Vec<PaperTable>,
}

/// The suite and profile that a published metric was computed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Suite id.
    pub suite: String,
    /// Prompt and scoring profile.
    pub profile: String,
}

/// A table or figure of the paper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperTable {
    /// Its name, such as `Table 3`.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// Experiment that measures its times.
    #[serde(default)]
    pub experiment: Option<String>,
    /// Times that are compared.
    #[serde(default)]
    pub figures: Vec<ClaimFigure>,
    /// Experiment that measures its accuracies.
    #[serde(default)]
    pub scores: Option<String>,
    /// Its rows. A published point belongs to the first entry that selects it.
    #[serde(default)]
    pub rows: Vec<Rows>,
    /// In place of the pack's own.
    #[serde(default)]
    pub tolerance: Option<f64>,
    /// Why nothing of it can be compared.
    #[serde(default)]
    pub not_comparable: Option<String>,
    /// What a reader should know.
    #[serde(default)]
    pub note: Option<String>,
}

/// Published points that have all that is given, and what holds of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// Series of the published file.
    pub series: String,
    /// Table or figure that a point names as its source.
    #[serde(default)]
    pub table: Option<String>,
    /// Row label of its source.
    #[serde(default)]
    pub row: Option<String>,
    /// Name of the whole model as printed.
    #[serde(default)]
    pub method: Option<String>,
    /// Variant.
    #[serde(default)]
    pub variant: Option<String>,
    /// Vision encoder, under any of its names.
    #[serde(default)]
    pub encoder: Option<String>,
    /// Language model, under any of its names.
    #[serde(default)]
    pub decoder: Option<String>,
    /// Side of the input in pixels.
    #[serde(default)]
    pub resolution: Option<u32>,
    /// Training data as printed.
    #[serde(default)]
    pub data: Option<String>,
    /// Whether it is the row that ratios are taken against.
    #[serde(default)]
    pub reference: bool,
    /// What it is here, where that differs from what is printed.
    #[serde(default)]
    pub here: Here,
    /// Models here that have the weights of the row, by name; without any its accuracies are not compared.
    #[serde(default)]
    pub weights: Vec<String>,
    /// Why its times cannot be compared.
    #[serde(default)]
    pub not_comparable: Option<String>,
}

/// How a published row is called here, in place of what is printed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Here {
    /// Model; then nothing else that is printed has to agree.
    #[serde(default)]
    pub model: Option<String>,
    /// Vision encoder.
    #[serde(default)]
    pub encoder: Option<String>,
    /// Language model.
    #[serde(default)]
    pub decoder: Option<String>,
    /// Side of the encoder's input, of a tile where the image is cut.
    #[serde(default)]
    pub resolution: Option<u32>,
    /// Visual tokens.
    #[serde(default)]
    pub visual_tokens: Option<u32>,
}

impl Pack {
    /// Every experiment that it names, each once.
    pub fn experiments(&self) -> BTreeSet<&str> {
        let tables = self.tables.iter();
        let named = tables.flat_map(|t| [t.experiment.as_deref(), t.scores.as_deref()]);
        named.chain([self.claims.as_deref()]).flatten().collect()
    }

    /// Whether it can be held to anything; or what is wrong with it.
    pub(super) fn sound(&self, series: &[Series]) -> Result<(), String> {
        factor("the pack", self.tolerance)?;
        let mut names = BTreeSet::new();
        for table in &self.tables {
            let of_table = |reason: String| format!("{}: {reason}", table.name);
            if !names.insert(&table.name) {
                return Err(of_table("is there twice".into()));
            }
            if let Some(tolerance) = table.tolerance {
                factor(&table.name, tolerance)?;
            }
            table
                .sound(&select::rows(table, series)?)
                .map_err(of_table)?;
        }
        Ok(())
    }
}

fn factor(of: &str, tolerance: f64) -> Result<(), String> {
    if tolerance.is_finite() && tolerance > 1.0 {
        return Ok(());
    }
    Err(format!(
        "{of}: `tolerance` is {tolerance}, expected a factor above 1"
    ))
}

impl PaperTable {
    fn sound(&self, rows: &[Row<'_>]) -> Result<(), String> {
        let must = |holds: bool, otherwise: &str| match holds {
            true => Ok(()),
            false => Err(otherwise.to_owned()),
        };
        let nothing = self.figures.is_empty() && self.scores.is_none();
        if self.not_comparable.is_some() {
            let expected =
                "`not_comparable` is said of all of it; leave out `figures` and `scores`";
            return must(nothing, expected);
        }
        must(
            !nothing && !rows.is_empty(),
            "expected `rows` and `figures` or `scores`, or `not_comparable` with the reason",
        )?;
        let weights = rows.iter().any(|row| !row.spec.weights.is_empty());
        must(
            weights || self.scores.is_none(),
            "`scores` need a row with `weights`",
        )?;
        must(
            !weights || self.scores.is_some(),
            "`weights` need `scores`, the experiment that asks them",
        )?;
        if self.figures.is_empty() {
            return Ok(());
        }
        must(
            self.experiment.is_some(),
            "`figures` need the `experiment` that measures them",
        )?;
        let references: Vec<&Row<'_>> = rows.iter().filter(|r| r.spec.reference).collect();
        let [reference] = references.as_slice() else {
            return Err(format!(
                "`reference: true` holds of {} published points, expected one",
                references.len()
            ));
        };
        must(
            reference.spec.not_comparable.is_none(),
            "its reference is not comparable; take another row",
        )?;
        let absent = |figure: &&ClaimFigure| figure.published(reference.point).is_none();
        match self.figures.iter().find(absent) {
            Some(figure) => Err(format!("its reference has no published {}", figure.name())),
            None => Ok(()),
        }
    }
}
