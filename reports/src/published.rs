//! Published results as data, and how a measured case finds the figure that belongs to it.
//!
//! A file under `configs/published/` holds *series*: points that come from one training set-up and
//! one source, so that accuracies within a series may be compared. Points of two series never share
//! a front. Every point names the table and row that it was taken from, and how.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    record::CaseFacts,
};

/// A data file of published results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Id of the file, such as `fastvlm`.
    pub id: String,
    /// Title of the publication.
    pub title: String,
    /// Where to find it.
    pub url: String,
    /// Other names of encoders and decoders, by the name used in the points.
    #[serde(default)]
    pub aliases: BTreeMap<String, Vec<String>>,
    /// The series.
    pub series: Vec<Series>,
}

/// Points that may be compared with each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Id by which an experiment selects it.
    pub id: String,
    /// What it shows, for captions.
    pub title: String,
    /// Publication, for captions; filled in from the file when a series is copied into a run.
    #[serde(default)]
    pub publication: Option<Publication>,
    /// Metric of the joins and plots, a key of the points' `metrics`; `None` for latency alone.
    #[serde(default)]
    pub metric: Option<String>,
    /// What the metric is.
    #[serde(default)]
    pub metric_definition: Option<String>,
    /// Training and evaluation set-up common to the points.
    pub setup: String,
    /// Device of the latencies, short enough for a legend.
    #[serde(default)]
    pub device: Option<String>,
    /// How the latencies were measured.
    #[serde(default)]
    pub latency_setup: Option<String>,
    /// What a reader should know.
    #[serde(default)]
    pub note: Option<String>,
    /// Other names of encoders and decoders; filled in from the file when copied into a run.
    #[serde(default)]
    pub aliases: BTreeMap<String, Vec<String>>,
    /// The points, in the order of the source.
    pub points: Vec<Point>,
}

/// Where a series was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// Title.
    pub title: String,
    /// Where to find it.
    pub url: String,
}

/// One published row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Name of the whole model as printed, if it has one.
    #[serde(default)]
    pub method: Option<String>,
    /// Vision encoder.
    pub encoder: String,
    /// How this row differs from others of the same encoder and resolution.
    #[serde(default)]
    pub variant: Option<String>,
    /// Language model; `None` if not stated or none.
    #[serde(default)]
    pub decoder: Option<String>,
    /// Side of the input in pixels; `None` if several encoders with several sizes.
    #[serde(default)]
    pub resolution: Option<u32>,
    /// Visual tokens.
    #[serde(default)]
    pub visual_tokens: Option<u32>,
    /// Training data as printed, millions of samples in pretraining + instruction tuning.
    #[serde(default)]
    pub data: Option<String>,
    /// Metric values in the unit of the source, mostly per cent.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// Encoder latency in milliseconds.
    #[serde(default)]
    pub encoder_latency_ms: Option<f64>,
    /// Prefill in milliseconds.
    #[serde(default)]
    pub prefill_ms: Option<f64>,
    /// Time to first token in milliseconds, encoder + prefill.
    #[serde(default)]
    pub ttft_ms: Option<f64>,
    /// Where the row comes from.
    pub source: Source,
    /// What a reader should know about this row.
    #[serde(default)]
    pub note: Option<String>,
}

/// Where a published row comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Table or figure.
    pub table: String,
    /// Row label, if the table has them.
    #[serde(default)]
    pub row: Option<String>,
    /// How the values were obtained.
    pub method: Method,
}

/// How values were obtained from a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Printed there.
    Read,
    /// Measured off a figure.
    Digitised,
    /// Computed from printed values.
    Derived,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Digitised => "digitised",
            Self::Derived => "derived",
        })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.table)?;
        if let Some(row) = &self.row {
            write!(f, " {row}")?;
        }
        match self.method {
            Method::Read => Ok(()),
            other => write!(f, " ({other})"),
        }
    }
}

/// What a published value is looked up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Vision encoder.
    pub encoder: &'a str,
    /// Side of the input in pixels.
    pub resolution: u32,
    /// Visual tokens, if they are known.
    pub visual_tokens: Option<u32>,
    /// Language model.
    pub decoder: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    /// What a case is.
    pub fn of(facts: &'a CaseFacts) -> Self {
        Self {
            encoder: &facts.labels.encoder,
            resolution: facts.labels.resolution,
            visual_tokens: facts.visual_tokens_kept.or(facts.visual_tokens),
            decoder: facts.labels.decoder.as_deref(),
        }
    }
}

/// A published value found for a case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match<'a> {
    /// The row.
    pub point: &'a Point,
    /// Its value of the series' metric.
    pub value: f64,
    /// Whether it was obtained with the case's decoder; if not, [`Point::decoder`] says with which.
    pub same_decoder: bool,
}

impl Published {
    /// Checks what types cannot: unique ids, aliases that lead to one name, and series whose points
    /// carry their metric.
    ///
    /// # Errors
    /// [`Error::Published`] naming the series or alias.
    pub fn check(&self) -> Result<()> {
        let fail = |reason: String| {
            Err(Error::Published {
                file: self.id.clone(),
                reason,
            })
        };
        let mut names = BTreeSet::new();
        for (name, others) in &self.aliases {
            for name in std::iter::once(name).chain(others) {
                if !names.insert(fold(name)) {
                    return fail(format!("alias {name:?} is given twice"));
                }
            }
        }
        let mut ids = BTreeSet::new();
        for series in &self.series {
            if !ids.insert(&series.id) {
                return fail(format!("series id {:?} is given twice", series.id));
            }
            if let Some(metric) = &series.metric
                && !series.points.iter().any(|p| p.metrics.contains_key(metric))
            {
                return fail(format!("no point of series {:?} has {metric:?}", series.id));
            }
        }
        Ok(())
    }

    /// A series by id, complete in itself and ready to be copied into a run.
    ///
    /// # Errors
    /// [`Error::Published`] that lists the ids there are.
    pub fn series(&self, id: &str) -> Result<Series> {
        let Some(series) = self.series.iter().find(|series| series.id == id) else {
            let known: Vec<&str> = self
                .series
                .iter()
                .map(|series| series.id.as_str())
                .collect();
            return Err(Error::Published {
                file: self.id.clone(),
                reason: format!("there is no series {id:?}; it has {}", known.join(", ")),
            });
        };
        let mut series = series.clone();
        series.publication = Some(Publication {
            title: self.title.clone(),
            url: self.url.clone(),
        });
        series.aliases.extend(self.aliases.clone());
        Ok(series)
    }
}

impl Series {
    /// The series' metric for the same encoder *and* resolution. A row with the same decoder wins,
    /// then one without a variant, then the first of the source. `None` means that nothing was
    /// published: values are never carried over from another resolution or encoder.
    pub fn accuracy(&self, what: Wanted<'_>) -> Option<Match<'_>> {
        let metric = self.metric.as_ref()?;
        self.matching(what, |point| point.metrics.get(metric).copied())
    }

    /// The published time to first token in milliseconds, chosen as in [`Series::accuracy`].
    pub fn ttft_ms(&self, what: Wanted<'_>) -> Option<Match<'_>> {
        self.matching(what, |point| point.ttft_ms)
    }

    /// Distinct decoders of the points, in order of appearance.
    pub fn decoders(&self) -> Vec<&str> {
        let mut distinct: Vec<&str> = Vec::new();
        for decoder in self
            .points
            .iter()
            .filter_map(|point| point.decoder.as_deref())
        {
            if !distinct.contains(&decoder) {
                distinct.push(decoder);
            }
        }
        distinct
    }

    fn matching<'a>(
        &'a self,
        what: Wanted<'_>,
        value: impl Fn(&Point) -> Option<f64>,
    ) -> Option<Match<'a>> {
        let same_decoder = |point: &Point| match (what.decoder, &point.decoder) {
            (Some(asked), Some(found)) => self.same(asked, found),
            _ => false,
        };
        // An image in tiles, or fewer tokens of it, is another thing at the same resolution.
        let as_many = |point: &Point| match (what.visual_tokens, point.visual_tokens) {
            (Some(asked), Some(found)) => asked == found,
            _ => true,
        };
        (self.points.iter())
            .filter(|point| point.resolution == Some(what.resolution))
            .filter(|point| self.same(&point.encoder, what.encoder) && as_many(point))
            .filter_map(|point| {
                Some(Match {
                    point,
                    value: value(point)?,
                    same_decoder: same_decoder(point),
                })
            })
            // `min_by_key` returns the first of equals.
            .min_by_key(|found| (!found.same_decoder, found.point.variant.is_some()))
    }

    /// The name that the points use for an encoder or decoder, if they know it.
    pub fn canonical<'a>(&'a self, name: &'a str) -> &'a str {
        let wanted = fold(name);
        (self.aliases.iter())
            .find(|(key, others)| fold(key) == wanted || others.iter().any(|o| fold(o) == wanted))
            .map_or(name, |(key, _)| key)
    }

    /// Whether two names mean the same encoder or decoder.
    pub(crate) fn same(&self, a: &str, b: &str) -> bool {
        fold(self.canonical(a)) == fold(self.canonical(b))
    }
}

/// Names differ in case and punctuation between papers, hubs and files: `ViT-L/14`, `vit_l_14`.
pub(crate) fn fold(name: &str) -> String {
    (name.chars().filter(|c| c.is_alphanumeric()))
        .flat_map(char::to_lowercase)
        .collect()
}
