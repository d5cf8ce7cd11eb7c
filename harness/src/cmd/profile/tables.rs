//! The tables of a profile.

use vlmbench_reports::record;
use vlmbench_reports::table::{Align, Column, Table, column, milliseconds};

use super::{Profile, Threads};
use crate::measure::peak::Peak;
use crate::measure::profile::{Figures, Operation};

/// Columns of [`cells`], after the given ones.
fn columns(first: &[&str]) -> Vec<Column> {
    let first = first.iter().map(|title| column(*title, Align::Left, 0));
    let figures = [
        ("n", 4),
        ("GFLOP", 3),
        ("MB", 3),
        ("ms", 0),
        ("least", 3),
        ("share", 1),
        ("GFLOP/s", 2),
        ("of peak", 0),
        ("floor ms", 1),
        ("x floor", 0),
    ];
    let figures = figures.map(|(title, rank)| column(title, Align::Right, rank));
    first.chain(figures).collect()
}

fn cells(f: &Figures) -> Vec<String> {
    let counted = |text: String| if f.flops > 0 { text } else { String::new() };
    vec![
        f.count.to_string(),
        counted(digits(f.flops as f64 / 1e9)),
        digits(f.bytes as f64 / 1e6),
        milliseconds(f.median_ms),
        milliseconds(f.min_ms),
        percent(f.share),
        counted(digits(f.flops_per_second / 1e9)),
        counted(percent(f.peak_share)),
        milliseconds(f.floor_ms),
        f.over_floor.map(digits).unwrap_or_default(),
    ]
}

/// About three significant digits.
fn digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// More waiting for a core than this share is worth a warning.
const WAITED: f64 = 0.02;

pub(super) fn text(p: &Profile<'_>, top: usize, width: usize) -> String {
    let mut out = heading(p);
    let mut add = |title: &str, table: Table| {
        if !table.is_empty() {
            out.push_str(&format!("\n{title}\n\n{}", table.to_text(width)));
        }
    };
    add("by stage", by_stage(p));
    add("by kind of operation", by_kind(p));
    add(
        "operations that lose most time against their floor",
        slowest(p, top),
    );
    add("what observing costs", overhead(p));
    if let Some(scaling) = &p.scaling {
        add("by threads", by_threads(scaling));
    }
    out
}

fn heading(p: &Profile<'_>) -> String {
    let mut out = format!("{}: {}\n", name(p), conditions(p));
    let rates = record::Peak::NAMES.into_iter().zip(p.peak.rates());
    let rates: Vec<String> = rates
        .filter_map(|((name, unit), rate)| Some(format!("{name} {:.0} {unit}", rate?.best / 1e9)))
        .collect();
    out.push_str(&format!("measured peak: {}\n", rates.join("; ")));
    if let Some(warning) = p.peak.disturbance() {
        out.push_str(&format!("warning: {warning}\n"));
    }
    if let Some(waited) = p.waited.filter(|waited| *waited > WAITED) {
        out.push_str(&format!(
            "warning: threads waited {:.0}% of the measured time for a core that other work had; times are too long\n",
            100.0 * waited
        ));
    }
    out
}

/// The model and its resolution.
pub(super) fn name(p: &Profile<'_>) -> String {
    let px = p.resolution.map(|r| format!(" @{r}px"));
    format!("{}{}", p.model, px.unwrap_or_default())
}

/// What it was measured on, in one line.
pub(super) fn conditions(p: &Profile<'_>) -> String {
    let visual = p.visual_tokens.map(|n| format!(", {n} visual tokens"));
    let prompt = p.prompt_tokens.map(|n| format!(", {n} prompt tokens"));
    format!(
        "{} weights{}{}, {} {} {} {}, {} threads, {} repetitions",
        p.weights,
        visual.unwrap_or_default(),
        prompt.unwrap_or_default(),
        p.used.engine,
        p.used.version,
        p.used.device,
        p.used.precision,
        p.used.threads,
        p.iterations
    )
}

fn by_stage(p: &Profile<'_>) -> Table {
    let mut table = Table::new(columns(&["stage"]));
    let row = |name: String, figures: &Figures| {
        let mut row = vec![name];
        row.extend(cells(figures));
        row
    };
    for phase in &p.phases {
        table.push(row(phase.phase.to_owned(), &phase.figures));
        for stage in &phase.stages {
            table.push(row(format!("  {}", stage.group.name), &stage.group.figures));
        }
        table.push(vec![
            "  outside operations".into(),
            String::new(),
            String::new(),
            String::new(),
            milliseconds(phase.outside_ms),
            String::new(),
            percent(phase.outside_ms / p.total_ms),
        ]);
    }
    table
}

fn by_kind(p: &Profile<'_>) -> Table {
    let mut table = Table::new(columns(&["phase", "kind"]));
    for phase in &p.phases {
        for kind in &phase.kinds {
            let mut row = vec![phase.phase.to_owned(), kind.name.clone()];
            row.extend(cells(&kind.figures));
            table.push(row);
        }
    }
    table
}

fn slowest(p: &Profile<'_>, top: usize) -> Table {
    let mut columns = columns(&["phase", "operation", "kind", "output"]);
    columns.retain(|c| c.title != "n");
    columns.push(column("lost ms", Align::Right, 0));
    let mut table = Table::new(columns);
    let mut all: Vec<(&str, &Operation)> = (p.phases.iter())
        .flat_map(|phase| phase.operations.iter().map(|op| (phase.phase, op)))
        .collect();
    all.sort_by(|a, b| b.1.lost_ms.total_cmp(&a.1.lost_ms));
    for (phase, op) in all.into_iter().take(top) {
        let shape: Vec<String> = op.shape.iter().map(usize::to_string).collect();
        let mut row = vec![
            phase.to_owned(),
            op.name.clone(),
            op.kind.clone(),
            shape.join("x"),
        ];
        row.extend(cells(&op.figures).split_off(1));
        row.push(milliseconds(op.lost_ms));
        table.push(row);
    }
    table
}

fn overhead(p: &Profile<'_>) -> Table {
    let mut table = Table::new(vec![
        column("phase", Align::Left, 0),
        column("unobserved ms", Align::Right, 0),
        column("observed ms", Align::Right, 0),
        column("overhead", Align::Right, 0),
    ]);
    for phase in &p.phases {
        table.push(vec![
            phase.phase.to_owned(),
            milliseconds(phase.unobserved_ms),
            milliseconds(phase.figures.median_ms),
            format!("{:+.1}%", 100.0 * phase.overhead),
        ]);
    }
    table
}

fn by_threads(s: &Threads) -> Table {
    let mut columns = vec![column("stage", Align::Left, 0)];
    for threads in &s.threads {
        columns.push(column(format!("ms on {threads}"), Align::Right, 0));
    }
    for threads in &s.threads[1..] {
        columns.push(column(format!("speed-up {threads}"), Align::Right, 0));
    }
    let mut table = Table::new(columns);
    for row in &s.rows {
        let name = match &row.stage {
            None => row.phase.to_owned(),
            Some(stage) => format!("  {stage}"),
        };
        let times = row.median_ms.iter().map(|ms| milliseconds(*ms));
        let gains = row.speed_up[1..].iter().map(|gain| format!("{gain:.2}"));
        table.push([name].into_iter().chain(times).chain(gains).collect());
    }
    let mut peak = |name: &str, of: fn(&Peak) -> f64| {
        let mut row = vec![name.to_owned()];
        row.resize(1 + s.threads.len(), String::new());
        let base = s.peaks.first().map_or(1.0, of);
        row.extend(s.peaks[1..].iter().map(|p| format!("{:.2}", of(p) / base)));
        table.push(row);
    };
    peak("peak: f32 multiply-add", |p| p.f32_flops.best);
    peak("peak: reading memory", Peak::bandwidth);
    table
}
