//! What the page's picture is drawn from: points, axes, and the front of every choice that a reader can make.
//!
//! Fronts are found here, by the code that finds them everywhere; the script only draws.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    energy::Consumer,
    pareto,
    plot::{naming::Naming, styles},
    published::{Match, Point as PublishedPoint, Series, fold},
    record::CaseFacts,
    report::{AccuracySource, Report},
    stats::{Estimate, Interval},
    summary::{CaseSummary, Figure},
    table,
};

/// Everything that the script reads.
#[derive(Debug, Clone, Serialize)]
pub struct Data {
    /// What can be set against accuracy.
    pub axes: Vec<Axis>,
    /// Where accuracies come from.
    pub sources: Vec<Choice>,
    /// By what points are told apart.
    pub groupings: Vec<Choice>,
    /// The points.
    pub points: Vec<Point>,
    /// Fronts as positions of points, by `SOURCE|AXIS|GROUPING`, then by group.
    pub fronts: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
    /// Colours and shapes of groups, in turn.
    pub styles: Vec<styles::Style>,
}

/// Something on the horizontal axis.
#[derive(Debug, Clone, Serialize)]
pub struct Axis {
    /// Name in the data.
    pub key: &'static str,
    /// Title.
    pub title: &'static str,
    /// Unit.
    pub unit: &'static str,
}

/// An entry of a menu.
#[derive(Debug, Clone, Serialize)]
pub struct Choice {
    /// Name in the data.
    pub key: String,
    /// What the reader sees.
    pub title: String,
}

/// A case, or a row of a publication.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// What it is.
    pub label: String,
    /// Place of the case among the summaries, to which its ledger belongs; `None` for a published one.
    pub case: Option<usize>,
    /// Whether the values on the axis are published, and not measured here.
    pub published: bool,
    /// Where it comes from, or what should be known.
    pub note: String,
    /// Its group, by grouping.
    pub groups: BTreeMap<&'static str, String>,
    /// Values by axis.
    pub x: BTreeMap<&'static str, Value>,
    /// Accuracies in per cent by source.
    pub y: BTreeMap<String, Value>,
}

/// A value with its interval.
#[derive(Debug, Clone, Serialize)]
pub struct Value {
    /// The value.
    pub v: f64,
    /// Lower end of its interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Where it is from, if it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

const AXES: [Axis; 7] = [
    Axis {
        key: "ttft",
        title: "TTFT = encode + prefill",
        unit: "ms",
    },
    Axis {
        key: "user",
        title: "TTFT from image bytes, one interval",
        unit: "ms",
    },
    Axis {
        key: "encode",
        title: "vision encoder",
        unit: "ms",
    },
    Axis {
        key: "tokens",
        title: "visual tokens",
        unit: "",
    },
    Axis {
        key: "flops",
        title: "work up to the first token",
        unit: "GFLOP",
    },
    Axis {
        key: "memory",
        title: "peak memory of the process",
        unit: "MiB",
    },
    Axis {
        key: "energy",
        title: "energy of a request, of its device",
        unit: "J",
    },
];

const GROUPINGS: [(&str, &str); 6] = [
    ("encoder", "encoder"),
    ("llm", "language model"),
    ("engine", "engine and precision"),
    ("device", "device"),
    ("run", "run"),
    ("all", "nothing: one front"),
];

impl Data {
    /// Of a report; `None` if no case has both a time and an accuracy.
    pub fn of(report: &Report) -> Option<Self> {
        let all = report.accuracy_sources();
        let key = |index: usize| format!("s{index}");
        let mut points = measured(report, &all);
        if points.is_empty() {
            return None;
        }
        for (index, source) in all.iter().enumerate() {
            points.extend(published(report, *source, &key(index)));
        }
        let has_x = |axis: &Axis| {
            points
                .iter()
                .any(|p| p.case.is_some() && p.x.contains_key(axis.key))
        };
        let axes: Vec<Axis> = AXES.into_iter().filter(has_x).collect();
        let drawn = |key: &String| {
            points
                .iter()
                .any(|p| p.case.is_some() && p.y.contains_key(key))
        };
        let sources: Vec<Choice> = (all.iter().enumerate())
            .map(|(index, source)| Choice {
                key: key(index),
                title: table::source_title(*source),
            })
            .filter(|choice| drawn(&choice.key))
            .collect();
        let groupings: Vec<Choice> = (GROUPINGS.into_iter())
            .map(|(key, title)| Choice {
                key: key.into(),
                title: title.into(),
            })
            .collect();
        let mut fronts = BTreeMap::new();
        for source in &sources {
            for axis in &axes {
                for grouping in &groupings {
                    let name = format!("{}|{}|{}", source.key, axis.key, grouping.key);
                    fronts.insert(name, front(&points, &source.key, axis.key, &grouping.key));
                }
            }
        }
        Some(Self {
            axes,
            sources,
            groupings,
            points,
            fronts,
            styles: styles::all(),
        })
    }
}

/// The front of each group. What was published was measured on another device, so it has fronts of its own.
fn front(
    points: &[Point],
    source: &str,
    axis: &str,
    grouping: &str,
) -> BTreeMap<String, Vec<usize>> {
    let mut groups: BTreeMap<String, Members> = BTreeMap::new();
    for (index, point) in points.iter().enumerate() {
        let (Some(x), Some(y)) = (point.x.get(axis), point.y.get(source)) else {
            continue;
        };
        let group = point.groups.get(grouping).cloned().unwrap_or_default();
        let group = match point.published {
            true => format!("{group} (published)"),
            false => group,
        };
        let members = groups.entry(group).or_default();
        members.positions.push(index);
        members.places.push((x.v, y.v));
    }
    let front = |members: Members| {
        let front = pareto::front(&members.places).into_iter();
        front.map(|i| members.positions[i]).collect()
    };
    groups
        .into_iter()
        .map(|(group, members)| (group, front(members)))
        .collect()
}

/// Points of a group: their positions among all, and where they stand.
#[derive(Default)]
struct Members {
    positions: Vec<usize>,
    places: Vec<(f64, f64)>,
}

fn measured(report: &Report, sources: &[AccuracySource<'_>]) -> Vec<Point> {
    let timed: Vec<(&CaseSummary, &CaseFacts)> = (report.timed())
        .filter_map(|summary| Some((summary, summary.facts.as_ref()?)))
        .collect();
    let naming = Naming::of(&timed);
    let mut points = Vec::new();
    for (summary, facts) in timed {
        let mut y = BTreeMap::new();
        for (index, source) in sources.iter().enumerate() {
            if let Some(value) = accuracy(report, summary, *source) {
                y.insert(format!("s{index}"), value);
            }
        }
        if y.is_empty() {
            continue;
        }
        let labels = &facts.labels;
        let encoder = canonical(report, &labels.encoder);
        let decoder = labels
            .decoder
            .as_deref()
            .map(|name| canonical(report, name));
        let weights = match facts.weights.is_seeded() {
            true => "time measured with seeded weights",
            false => "measured",
        };
        points.push(Point {
            label: naming.label(summary, facts, AccuracySource::Mean),
            case: position(report, summary),
            published: false,
            note: weights.into(),
            groups: BTreeMap::from([
                ("encoder", encoder),
                ("llm", decoder.unwrap_or_else(|| "none".into())),
                (
                    "engine",
                    format!("{}, {}", labels.backend, facts.used.dtype),
                ),
                ("device", device(report, summary, facts)),
                ("run", format!("run {}", summary.run + 1)),
                ("all", "all".into()),
            ]),
            x: axis_values(summary),
            y,
        });
    }
    points
}

fn position(report: &Report, summary: &CaseSummary) -> Option<usize> {
    let same = |other: &CaseSummary| other.run == summary.run && other.case == summary.case;
    report.summaries.iter().position(same)
}

fn device(report: &Report, summary: &CaseSummary, facts: &CaseFacts) -> String {
    let machine = &report.runs[summary.run].manifest.machine;
    match machine
        .cpu_model
        .as_deref()
        .filter(|_| facts.used.device == "cpu")
    {
        Some(cpu) => cpu.to_owned(),
        None => facts.used.device.clone(),
    }
}

fn axis_values(summary: &CaseSummary) -> BTreeMap<&'static str, Value> {
    let time = |figure: Figure| summary.figure(figure).map(estimated);
    let count = |count: Option<f64>| count.map(plain);
    let tokens = summary.facts.as_ref().and_then(|facts| facts.visual_tokens);
    let all = [
        ("ttft", time(Figure::TtftPaper)),
        ("user", time(Figure::TtftUser)),
        ("encode", time(Figure::Encode)),
        ("tokens", count(tokens.map(f64::from))),
        (
            "flops",
            count(summary.flops_to_first_token().map(|f| f as f64 / 1e9)),
        ),
        (
            "memory",
            count(
                summary
                    .peak_memory_bytes()
                    .map(|b| b as f64 / (1 << 20) as f64),
            ),
        ),
        (
            "energy",
            summary.energy.figure(Consumer::Device).map(estimated),
        ),
    ];
    all.into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

fn plain(v: f64) -> Value {
    Value {
        v,
        low: None,
        high: None,
        from: None,
    }
}

fn estimated(estimate: &Estimate) -> Value {
    with_interval(estimate.median, estimate.interval)
}

fn with_interval(v: f64, interval: Option<Interval>) -> Value {
    Value {
        low: interval.map(|i| i.low),
        high: interval.map(|i| i.high),
        ..plain(v)
    }
}

fn accuracy(report: &Report, summary: &CaseSummary, source: AccuracySource<'_>) -> Option<Value> {
    let (percent, interval, published) = report.percent(summary, source)?;
    let from = |found: Match<'_>| {
        let decoder = found.point.decoder.as_deref();
        let decoder = decoder.unwrap_or("a decoder not stated");
        format!("published with {decoder}, {}", found.point.source)
    };
    Some(Value {
        from: published.map(from),
        ..with_interval(percent, interval)
    })
}

/// Rows of publications that have the accuracy of a source: the series', or of a measured suite that is one of
/// its metrics.
fn published(report: &Report, source: AccuracySource<'_>, key: &str) -> Vec<Point> {
    let metric = |series: &Series| -> Option<String> {
        match source {
            AccuracySource::Published(own) => {
                (own.id == series.id).then(|| series.metric.clone())?
            }
            AccuracySource::Measured { suite, .. } => {
                let mut names = series.points.iter().flat_map(|point| point.metrics.keys());
                names.find(|name| fold(name) == fold(suite)).cloned()
            }
            AccuracySource::Mean => None,
        }
    };
    let mut points = Vec::new();
    for series in &report.series {
        let Some(metric) = metric(series) else {
            continue;
        };
        let rows = series.points.iter();
        points.extend(rows.filter_map(|row| published_point(series, row, &metric, key)));
    }
    points
}

fn published_point(
    series: &Series,
    row: &PublishedPoint,
    metric: &str,
    key: &str,
) -> Option<Point> {
    let y = row.metrics.get(metric)?;
    let all = [
        ("ttft", row.ttft_ms),
        ("encode", row.encoder_latency_ms),
        ("tokens", row.visual_tokens.map(f64::from)),
    ];
    let x: BTreeMap<&'static str, Value> = (all.into_iter())
        .filter_map(|(key, value)| Some((key, plain(value?))))
        .collect();
    let mut label = row.method.clone().unwrap_or_else(|| row.encoder.clone());
    if let Some(resolution) = row.resolution {
        label.push_str(&format!(" {resolution} px"));
    }
    if let Some(variant) = &row.variant {
        label.push_str(&format!(", {variant}"));
    }
    let device = series
        .device
        .clone()
        .unwrap_or_else(|| "device not stated".into());
    let decoder = row.decoder.clone().unwrap_or_else(|| "not stated".into());
    (!x.is_empty()).then(|| Point {
        label,
        case: None,
        published: true,
        note: format!("published, {device}, {decoder}: {}", row.source),
        groups: BTreeMap::from([
            ("encoder", row.encoder.clone()),
            ("llm", decoder.clone()),
            ("engine", "published".into()),
            ("device", device.clone()),
            ("run", "published".into()),
            ("all", "all".into()),
        ]),
        x,
        y: BTreeMap::from([(key.to_owned(), plain(*y))]),
    })
}

/// The name that the publications use, if one of them knows it, so that both have one colour.
fn canonical(report: &Report, name: &str) -> String {
    let names = report.series.iter().map(|series| series.canonical(name));
    names
        .into_iter()
        .find(|known| *known != name)
        .unwrap_or(name)
        .to_owned()
}
