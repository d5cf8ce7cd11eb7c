//! Pictures of stages: stacked bars, and points under the machine's roof.

use std::collections::BTreeMap;

use super::{Roof, STAGES, Stage, stages};
use crate::{
    plot::{Bar, BarPlot, Roofline, RooflinePoint, naming::Naming, words::conditions},
    record::{CaseFacts, Run},
    report::{AccuracySource, Report},
    summary::CaseSummary,
};

/// More bars than this are no picture any more; the table has them all.
const MOST_BARS: usize = 48;
/// Of more points than this no label could be told from its neighbours.
const MOST_LABELS: usize = 24;

/// A case with stages, and what it is called.
struct Named<'a> {
    summary: &'a CaseSummary,
    facts: &'a CaseFacts,
    label: String,
    stages: Vec<Stage>,
}

impl<'a> Named<'a> {
    fn case(&self) -> (&'a CaseSummary, &'a CaseFacts) {
        (self.summary, self.facts)
    }
}

fn named(report: &Report) -> Vec<Named<'_>> {
    let cases: Vec<(&CaseSummary, &CaseFacts)> = (report.summaries.iter())
        .filter(|summary| !summary.latency.is_empty())
        .filter_map(|summary| Some((summary, summary.facts.as_ref()?)))
        .collect();
    let naming = Naming::of(&cases);
    let named = cases.iter().map(|&(summary, facts)| Named {
        summary,
        facts,
        // No publication's names: the cases are ours.
        label: naming.label(summary, facts, AccuracySource::Mean),
        stages: stages(&report.runs[summary.run], summary),
    });
    named.filter(|named| !named.stages.is_empty()).collect()
}

/// Stages of every latency case as stacked bars; `None` without any.
pub fn bars(report: &Report) -> Option<BarPlot> {
    let cases = named(report);
    let bars = cases.iter().take(MOST_BARS).map(|case| Bar {
        label: case.label.clone(),
        parts: (STAGES.iter())
            .map(|figure| {
                let stage = case.stages.iter().find(|stage| stage.figure == *figure)?;
                Some(stage.time.median)
            })
            .collect(),
    });
    let bars: Vec<Bar> = bars.collect();
    let mut caption = vec![
        "Medians of stages, measured here; decode is the first decode step, which makes the second token.".to_owned(),
    ];
    if cases.len() > MOST_BARS {
        caption.push(format!("The first {MOST_BARS} of {} cases.", cases.len()));
    }
    (!bars.is_empty()).then(|| BarPlot {
        title: "Where the time of a request goes".into(),
        subtitle: conditions(report, &cases.iter().map(Named::case).collect::<Vec<_>>()),
        parts: names(),
        bars,
        caption,
    })
}

/// A picture for each run whose machine was measured.
pub fn rooflines(report: &Report) -> Vec<Roofline> {
    let all = named(report);
    let of_run = |(index, run): (usize, &Run)| {
        let cases = all.iter().filter(|case| case.summary.run == index);
        roofline(report, run, &cases.collect::<Vec<_>>())
    };
    report.runs.iter().enumerate().filter_map(of_run).collect()
}

fn roofline(report: &Report, run: &Run, cases: &[&Named<'_>]) -> Option<Roofline> {
    let mut roofs: BTreeMap<(String, &str), Roof> = BTreeMap::new();
    let mut points = Vec::new();
    for case in cases {
        for stage in &case.stages {
            let placed = stage.roof.zip(stage.intensity()).zip(stage.rate());
            let Some(((roof, intensity), flops)) = placed else {
                continue;
            };
            let used = &case.facts.used;
            let on = match used.device.as_str() {
                "cpu" => format!("{} threads", used.threads.unwrap_or_default()),
                device => device.to_owned(),
            };
            roofs.insert((on, &used.dtype), roof);
            points.push(RooflinePoint {
                kind: STAGES.iter().position(|figure| *figure == stage.figure)?,
                label: case.label.clone(),
                intensity,
                flops,
            });
        }
    }
    if points.is_empty() {
        return None;
    }
    if points.len() > MOST_LABELS {
        points.iter_mut().for_each(|point| point.label.clear());
    }
    let several = roofs
        .keys()
        .any(|(on, _)| Some(on) != roofs.keys().next().map(|(first, _)| first));
    let name = |(on, dtype): &(String, &str)| match several {
        true => format!("{dtype}, {on}"),
        false => (*dtype).to_owned(),
    };
    let read: Vec<String> = (run.peaks.iter())
        .map(|peak| {
            let on = match peak.threads {
                0 => peak.device.clone(),
                n => format!("{n} threads"),
            };
            format!("{:.1} GB/s on {on}", peak.read_bytes / 1e9)
        })
        .collect();
    Some(Roofline {
        title: "Stages under the roof of the machine".into(),
        subtitle: conditions(report, &cases.iter().map(|c| c.case()).collect::<Vec<_>>()),
        roofs: roofs.iter().map(|(key, roof)| (name(key), *roof)).collect(),
        kinds: names(),
        points,
        caption: vec![format!(
            "Level lines: measured peak of multiply-adds in each precision; slope: measured bandwidth of reading memory ({}). \
             FLOPs and bytes are counted, times are medians. Bytes are those of a machine without caches, so a stage whose \
             operands stay in a cache may lie above the slope.",
            read.join(", ")
        )],
    })
}

fn names() -> Vec<String> {
    STAGES
        .iter()
        .map(|figure| figure.name().to_owned())
        .collect()
}
