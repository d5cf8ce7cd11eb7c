//! Where the time of a request goes, stage by stage, and how far each stage is from what the machine can do.

mod pictures;

pub use pictures::{bars, rooflines};

use crate::{
    record::{Peak, Run, StageCost},
    report::Report,
    stats::Estimate,
    summary::{CaseSummary, Figure, replicates},
    table::{self, Align, Column, Table, column, milliseconds, or_dash},
};

/// Stages of a request, in its order. The decode step is the first, which makes the second token.
pub const STAGES: [Figure; 5] = [
    Figure::Preprocess,
    Figure::Encode,
    Figure::Project,
    Figure::Prefill,
    Figure::FirstDecode,
];

/// A stage of a case: its time, its work, and the roof over it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Which one.
    pub figure: Figure,
    /// Its time in milliseconds.
    pub time: Estimate,
    /// Median of its time by the clock of the device, milliseconds.
    pub on_device: Option<f64>,
    /// What it computes and moves, where that is counted.
    pub cost: Option<StageCost>,
    /// What the machine can do at most, if that was measured on as many threads.
    pub roof: Option<Roof>,
}

/// The most that a machine can do at some intensity: `min(peak, intensity * bandwidth)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roof {
    /// Arithmetic peak of the case's precision, FLOP/s.
    pub flops: f64,
    /// Bandwidth of reading memory, bytes/s.
    pub bandwidth: f64,
}

impl Roof {
    /// Of a measured peak, for an element type.
    pub fn of(peak: &Peak, dtype: &str) -> Self {
        Self {
            flops: peak.flops(dtype),
            bandwidth: peak.read_bytes,
        }
    }

    /// The roof over an intensity in FLOPs per byte, FLOP/s.
    pub fn over(&self, intensity: f64) -> f64 {
        self.flops.min(intensity * self.bandwidth)
    }

    /// What a stage of that intensity is held back by.
    pub fn bound(&self, intensity: f64) -> &'static str {
        match intensity * self.bandwidth < self.flops {
            true => "memory",
            false => "arithmetic",
        }
    }
}

impl Stage {
    /// FLOP/s that it reached.
    pub fn rate(&self) -> Option<f64> {
        let flops = self.cost?.flops;
        (flops > 0).then(|| flops as f64 / (self.time.median / 1e3))
    }

    /// FLOPs per byte that an ideal machine without caches would move.
    pub fn intensity(&self) -> Option<f64> {
        let cost = self.cost?;
        let bytes = cost.bytes.filter(|bytes| *bytes > 0)?;
        (cost.flops > 0).then(|| cost.flops as f64 / bytes as f64)
    }

    /// Share of the arithmetic peak.
    pub fn of_peak(&self) -> Option<f64> {
        Some(self.rate()? / self.roof?.flops)
    }

    /// Share of the roof over its intensity.
    pub fn of_roof(&self) -> Option<f64> {
        Some(self.rate()? / self.roof?.over(self.intensity()?))
    }
}

/// The stages of a latency case that were measured; empty for a quality case.
pub fn stages(run: &Run, summary: &CaseSummary) -> Vec<Stage> {
    let samples = run.timed(&summary.case);
    let ended = run.ended_launches(&summary.case);
    let facts = summary.facts.as_ref();
    let roof = facts.and_then(|facts| {
        let peak = run.peak(&facts.used.device, facts.used.threads)?;
        Some(Roof::of(peak, &facts.used.dtype))
    });
    let stage = |figure: Figure| {
        let time = Estimate::of(&replicates(&samples, &ended, figure)?)?;
        let cost = facts.and_then(|facts| facts.stages.get(figure.name()).copied());
        let on_device = samples.iter().map(|sample| figure.on_device(sample));
        let on_device: Option<Vec<f64>> = on_device.collect();
        Some(Stage {
            figure,
            time,
            on_device: on_device.and_then(|ms| Some(Estimate::of(&ms)?.median)),
            cost,
            roof,
        })
    };
    STAGES.into_iter().filter_map(stage).collect()
}

/// A row a case and stage.
pub fn table(report: &Report) -> Table {
    let mut head = vec![
        column("case", Align::Left, 0),
        column("stage", Align::Left, 0),
    ];
    let all = (report.summaries.iter())
        .map(|summary| (summary, stages(&report.runs[summary.run], summary)))
        .collect::<Vec<_>>();
    let with_device = all.iter().any(|(_, stages)| told(stages));
    head.extend(columns(with_device));
    let mut table = Table::new(head);
    for (summary, stages) in &all {
        let total: f64 = stages.iter().map(|stage| stage.time.median).sum();
        for stage in stages {
            let mut row = vec![
                table::case_name(report, summary),
                stage.figure.name().to_owned(),
            ];
            row.extend(cells(stage, total, with_device));
            table.push(row);
        }
    }
    table
}

/// Whether a device told its own time of one of these.
pub fn told(stages: &[Stage]) -> bool {
    stages.iter().any(|stage| stage.on_device.is_some())
}

/// Headings of [`cells`].
pub fn columns(with_device: bool) -> Vec<Column> {
    let right = |title: &str, rank| column(title, Align::Right, rank);
    let mut columns = vec![right("ms", 0)];
    if with_device {
        columns.push(right("device ms", 1));
    }
    columns.extend([
        right("share", 1),
        right("GFLOP", 3),
        right("MB", 4),
        right("GFLOP/s", 2),
        right("of peak", 0),
        right("FLOP/byte", 4),
        column("bound by", Align::Left, 2),
        right("of roof", 1),
    ]);
    columns
}

/// Figures of a stage as [`table()`] shows them, of a request of `total` milliseconds.
pub fn cells(stage: &Stage, total: f64, with_device: bool) -> Vec<String> {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let giga = |value: f64| match value / 1e9 {
        value if value < 10.0 => format!("{value:.2}"),
        value => format!("{value:.0}"),
    };
    let cost = stage.cost.filter(|cost| cost.flops > 0);
    let bytes = cost.and_then(|cost| cost.bytes);
    let bound = stage.roof.zip(stage.intensity());
    let mut cells = vec![milliseconds(stage.time.median)];
    if with_device {
        cells.push(or_dash(stage.on_device.map(milliseconds)));
    }
    cells.extend([
        percent(stage.time.median / total),
        or_dash(cost.map(|cost| match cost.flops as f64 / 1e9 {
            small if small < 1.0 => format!("{small:.3}"),
            large => format!("{large:.1}"),
        })),
        or_dash(bytes.map(|bytes| format!("{:.1}", bytes as f64 / 1e6))),
        or_dash(stage.rate().map(giga)),
        or_dash(stage.of_peak().map(percent)),
        or_dash(stage.intensity().map(|i| format!("{i:.1}"))),
        or_dash(bound.map(|(roof, intensity)| roof.bound(intensity).to_owned())),
        or_dash(stage.of_roof().map(percent)),
    ]);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_held_against_the_lower_of_two_roofs() {
        let roof = Roof {
            flops: 400e9,
            bandwidth: 20e9,
        };
        let stage = |flops, bytes| Stage {
            figure: Figure::Encode,
            time: Estimate::of(&[10.0]).unwrap(),
            on_device: None,
            cost: Some(StageCost {
                flops,
                bytes: Some(bytes),
            }),
            roof: Some(roof),
        };
        // 2 GFLOP in 10 ms are 200 GFLOP/s; 100 FLOPs a byte are beyond the ridge at 20.
        let dense = stage(2_000_000_000, 20_000_000);
        assert_eq!(dense.of_peak(), Some(0.5));
        assert_eq!(dense.of_roof(), Some(0.5));
        assert_eq!(roof.bound(dense.intensity().unwrap()), "arithmetic");
        // 0.1 GFLOP in 10 ms over 0.1 GB: half of what 20 GB/s allow.
        let thin = stage(100_000_000, 100_000_000);
        assert_eq!(thin.of_peak(), Some(0.025));
        assert_eq!(thin.of_roof(), Some(0.5));
        assert_eq!(roof.bound(thin.intensity().unwrap()), "memory");
        // What computes nothing has a time and no rate.
        let idle = stage(0, 5);
        assert_eq!(
            (idle.rate(), idle.intensity(), idle.of_roof()),
            (None, None, None)
        );
    }
}
