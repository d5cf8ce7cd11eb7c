//! What a picture shows, before any pixel: points, front, titles and where they come from.

use super::{
    naming::{Naming, encoder_name, short_label},
    words::{caption, conditions, title, x_title, y_title},
};
use crate::{
    pareto,
    published::{Match, Series, Wanted},
    record::CaseFacts,
    report::{AccuracySource, Report},
    stats::Interval,
    summary::{CaseSummary, Figure},
};

/// A picture of accuracy (upwards, per cent) against time to first token (milliseconds).
#[derive(Debug, Clone, PartialEq)]
pub struct ParetoPlot {
    /// Headline.
    pub title: String,
    /// What was run, where.
    pub subtitle: String,
    /// Title of the time axis, which says how the times came about.
    pub x_title: String,
    /// Title of the accuracy axis, which says *published* or *measured*.
    pub y_title: String,
    /// Encoders of all timed cases, drawn here or not: the place in the list chooses shape and colour,
    /// so that an encoder looks the same in every picture of a report.
    pub encoders: Vec<String>,
    /// Conditions that the legend tells apart, such as engines; empty if there is one only, or if there
    /// are too many for the legend, and labels name them instead.
    pub lines: Vec<String>,
    /// The points, in the order of the cases.
    pub points: Vec<PlotPoint>,
    /// Indices of the points on the front, by rising time.
    pub front: Vec<usize>,
    /// Published times for the same points, on another device.
    pub reference: Option<Reference>,
    /// Sources, and what could not be drawn.
    pub caption: Vec<String>,
}

/// One case in the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct PlotPoint {
    /// Case id.
    pub case: String,
    /// Encoder, which chooses shape and colour.
    pub encoder: String,
    /// Points with the same encoder and line are joined by resolution.
    pub line: String,
    /// Side of the input in pixels.
    pub resolution: u32,
    /// Label, such as `FastViTHD 1024 px · 256 tok`.
    pub label: String,
    /// Median time to first token in milliseconds.
    pub ttft_ms: f64,
    /// Its interval.
    pub ttft_interval: Option<Interval>,
    /// Accuracy in per cent.
    pub accuracy: f64,
    /// Its interval in per cent, for measured accuracies.
    pub accuracy_interval: Option<Interval>,
}

/// Published times beside the measured ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Legend entry: device and decoder.
    pub title: String,
    /// The points.
    pub points: Vec<ReferencePoint>,
}

/// One published time.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferencePoint {
    /// Encoder, spelt as in the measured points.
    pub encoder: String,
    /// Side of the input in pixels.
    pub resolution: u32,
    /// Published time to first token in milliseconds.
    pub ttft_ms: f64,
    /// Accuracy in per cent, the same as that of the measured point.
    pub accuracy: f64,
    /// Where the time comes from.
    pub source: String,
}

/// A case with its place in the picture.
pub(super) struct Placed<'a> {
    pub summary: &'a CaseSummary,
    pub facts: &'a CaseFacts,
    point: PlotPoint,
    pub published: Option<Match<'a>>,
}

impl ParetoPlot {
    /// Puts every timed case that has an accuracy from `source` into a picture.
    pub fn new(report: &Report, source: AccuracySource<'_>) -> Self {
        let timed: Vec<(&CaseSummary, &CaseFacts)> = (report.timed())
            .filter_map(|summary| Some((summary, summary.facts.as_ref()?)))
            .collect();
        let naming = Naming::of(&timed);
        let lines = naming.lines(&timed);
        let mut placed = Vec::new();
        let mut missing = Vec::new();
        for &(summary, facts) in &timed {
            let label = match lines.is_empty() {
                true => naming.label(summary, facts, source),
                false => short_label(facts, source),
            };
            let line = naming.suffix(summary, facts);
            match place(report, source, summary, facts, label, line) {
                Some(point) => placed.push(point),
                None => missing.push(naming.label(summary, facts, source)),
            }
        }
        let coordinates: Vec<(f64, f64)> = (placed.iter())
            .map(|p| (p.point.ttft_ms, p.point.accuracy))
            .collect();
        let reference = reference(report, source, &placed);
        let caption = caption(report, source, &placed, &missing, reference.as_ref());
        let cases: Vec<_> = placed.iter().map(|p| (p.summary, p.facts)).collect();
        let mut encoders: Vec<String> = Vec::new();
        for (_, facts) in &timed {
            let name = encoder_name(&facts.labels, source);
            if !encoders.iter().any(|known| known == name) {
                encoders.push(name.to_owned());
            }
        }
        Self {
            encoders,
            lines,
            title: title(source),
            subtitle: conditions(report, &cases),
            x_title: x_title(source, &placed),
            y_title: y_title(source),
            front: pareto::front(&coordinates),
            points: placed.into_iter().map(|placed| placed.point).collect(),
            reference,
            caption,
        }
    }
}

fn place<'a>(
    report: &Report,
    source: AccuracySource<'a>,
    summary: &'a CaseSummary,
    facts: &'a CaseFacts,
    label: String,
    line: String,
) -> Option<Placed<'a>> {
    let (accuracy, accuracy_interval, published) = report.percent(summary, source)?;
    let ttft = summary.figure(Figure::TtftPaper)?;
    Some(Placed {
        summary,
        facts,
        published,
        point: PlotPoint {
            case: summary.case.clone(),
            encoder: encoder_name(&facts.labels, source).to_owned(),
            line,
            resolution: facts.labels.resolution,
            label,
            ttft_ms: ttft.median,
            ttft_interval: ttft.interval,
            accuracy,
            accuracy_interval,
        },
    })
}

/// Published times for the placed points. A time belongs to a decoder, so the case's own is looked
/// for in every series; only if no series has it, the picture's own series gives its times.
fn reference(
    report: &Report,
    source: AccuracySource<'_>,
    placed: &[Placed<'_>],
) -> Option<Reference> {
    let same_decoder: Vec<Found<'_>> = (placed.iter())
        .filter_map(|placed| {
            let published = |series| published_ttft(placed, series);
            let mut found = report.series.iter().filter_map(published);
            found.find(|found| found.time.same_decoder)
        })
        .collect();
    let found = match source {
        AccuracySource::Published(series) if same_decoder.is_empty() => {
            let published = |placed| published_ttft(placed, series);
            placed.iter().filter_map(published).collect()
        }
        _ => same_decoder,
    };
    let series = found.first()?.series;
    let mut title = String::from("published");
    let decoder = found.first()?.time.point.decoder.as_ref();
    for part in [series.device.as_ref(), decoder].into_iter().flatten() {
        title.push_str(&format!(", {part}"));
    }
    let mut points: Vec<ReferencePoint> = Vec::new();
    for found in &found {
        let point = ReferencePoint {
            encoder: found.placed.encoder.clone(),
            resolution: found.placed.resolution,
            ttft_ms: found.time.value,
            accuracy: found.placed.accuracy,
            source: found.time.point.source.to_string(),
        };
        // The same case on two engines has one published time.
        if !points.contains(&point) {
            points.push(point);
        }
    }
    Some(Reference { title, points })
}

/// A published time and the point that it belongs to.
struct Found<'a> {
    placed: &'a PlotPoint,
    series: &'a Series,
    time: Match<'a>,
}

fn published_ttft<'a>(placed: &'a Placed<'_>, series: &'a Series) -> Option<Found<'a>> {
    let time = series.ttft_ms(Wanted::of(placed.facts))?;
    Some(Found {
        placed: &placed.point,
        series,
        time,
    })
}
