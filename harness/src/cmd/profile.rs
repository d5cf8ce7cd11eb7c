//! `vlmbench profile MODEL`: where the time goes, beside the machine's peak.

use std::path::PathBuf;

use serde::Serialize;
use vlmbench_backends::backend::EngineFacts;
use vlmbench_reports::table::{Align, Column, Table, milliseconds};

use super::Format;
use super::latency::EngineArgs;
use crate::config::experiment::Latency;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::machine;
use crate::measure::clock::Monotonic;
use crate::measure::latency::Workload as Inputs;
use crate::measure::memory;
use crate::measure::peak::{self, Peak};
use crate::measure::profile::{Figures, Operation, PhaseProfile, Repeats, Scaling, repeat};
use crate::measure::session::{Load, Session};
use crate::plan::{CaseCost, Workload};

/// Tokens to generate: the first, which prefill makes, and one decode step.
const DECODE_TOKENS: usize = 2;

/// Arguments of `profile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from `vlmbench list models`, a checkpoint folder, or a hub id
    pub model: String,
    /// What to run it on
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Text tokens of the prompt, besides the visual ones
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub prompt_tokens: usize,
    /// Timed repetitions, each with and without the observer
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub iterations: u32,
    /// Repetitions that only warm up
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub warm_up: u32,
    /// Single operations to list, those that lose most time first
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// Measure 1, 2, 4 ... threads alternately, and show the speed-up
    #[arg(long)]
    pub scaling: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Write profile.json, profile.svg and profile.png into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// The profile as JSON.
#[derive(Debug, Serialize)]
struct Profile<'a> {
    model: &'a str,
    weights: &'static str,
    resolution: Option<usize>,
    visual_tokens: Option<usize>,
    prompt_tokens: Option<usize>,
    iterations: u32,
    used: &'a EngineFacts,
    peak: Peak,
    /// Arithmetic peak of this precision, FLOP/s: what shares and floors are of.
    peak_flops: f64,
    /// Memory bandwidth that floors are of, bytes/s.
    peak_bandwidth: f64,
    total_ms: f64,
    phases: Vec<PhaseProfile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scaling: Option<Threads>,
}

/// Measurements over thread counts.
#[derive(Debug, Serialize)]
struct Threads {
    threads: Vec<usize>,
    peaks: Vec<Peak>,
    rows: Vec<Scaling>,
}

/// Profiles the model and prints where its time goes.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    if args.prompt_tokens == 0 || args.iterations == 0 {
        let flag = if args.iterations == 0 {
            "iterations"
        } else {
            "prompt-tokens"
        };
        return Err(Failure::Usage(format!("--{flag} must be at least 1")));
    }
    let options = args.engine.options()?;
    let threads = thread_counts(options.threads, args.scaling)?;
    let recipe = args.engine.recipe(&args.model, ctx)?;
    let latency = Latency {
        prompt_tokens: args.prompt_tokens,
        decode_tokens: DECODE_TOKENS,
        ..Latency::default()
    };
    let workload = match recipe.decoder {
        None => Workload::EncoderLatency(latency.clone()),
        Some(_) => Workload::EndToEndLatency(latency.clone()),
    };
    let cost = CaseCost::of(&workload, &recipe, options.precision)?;
    let available = machine::report().usable_memory_bytes();
    if let Some(why) = memory::shortage(cost.memory_bytes(), available) {
        return Err(Failure::Backend(vlmbench_backends::Error::Unavailable {
            what: format!("memory for {} in {}", recipe.name, options.precision),
            why,
        }));
    }
    let clock = Monotonic::start();
    let bar = ctx.terminal.spinner(format!("loading {}", recipe.name));
    let load = Load {
        recipe: &recipe,
        backend: &args.engine.backend,
        options: &options,
        context: cost.context,
        hub: &ctx.hub,
    };
    let mut session = Session::open(&load, &mut ctx.terminal.downloads(&bar))?;
    let inputs = Inputs::new(&session, &latency, 0)?;
    bar.set_message("measuring the machine's peak");
    let peaks: Vec<Peak> = threads
        .iter()
        .map(|threads| peak::measure(*threads, &clock))
        .collect::<Result<_, _>>()?;
    let repeats = Repeats {
        warm_up: args.warm_up,
        iterations: args.iterations,
        threads: &threads,
    };
    let samples = repeat(&mut session, &inputs, &repeats, clock, &mut |i| {
        bar.set_message(format!("{}: repetition {}", recipe.name, i + 1));
    })?;
    bar.finish_and_clear();
    let peak = *peaks.last().expect("there is at least one thread count");
    let phases = samples.phases(options.precision, &peak)?;
    let profile = Profile {
        model: &recipe.name,
        weights: session.facts().weights.source,
        resolution: (recipe.resolution > 0).then_some(recipe.resolution),
        visual_tokens: cost.visual_tokens,
        prompt_tokens: cost.prompt_tokens,
        iterations: args.iterations,
        used: &session.engine,
        peak,
        peak_flops: peak.flops(options.precision),
        peak_bandwidth: peak.bandwidth(),
        total_ms: phases.iter().map(|p| p.figures.median_ms).sum(),
        phases,
        scaling: args.scaling.then(|| Threads {
            rows: samples.scaling(),
            threads,
            peaks,
        }),
    };
    match args.format {
        Format::Json => ctx.print_json(&profile)?,
        Format::Text => ctx.print(&text(&profile, args.top, ctx.terminal.width))?,
    }
    Ok(Outcome::Done)
}

/// One thread count, or the powers of two up to it and itself.
fn thread_counts(threads: usize, scaling: bool) -> Result<Vec<usize>, Failure> {
    if !scaling {
        return Ok(vec![threads]);
    }
    if threads < 2 {
        return Err(Failure::Usage(
            "--scaling compares thread counts; it needs --threads 2 or more".into(),
        ));
    }
    let powers = std::iter::successors(Some(1), |n| Some(2 * n));
    let mut counts: Vec<usize> = powers.take_while(|n| *n < threads).collect();
    counts.push(threads);
    Ok(counts)
}

fn column(title: &str, align: Align, rank: u8) -> Column {
    Column {
        title: title.into(),
        align,
        rank,
    }
}

/// Columns of [`cells`], after the given ones.
fn columns(first: &[&str]) -> Vec<Column> {
    let first = first.iter().map(|title| column(title, Align::Left, 0));
    let figures = [
        ("n", 4),
        ("GFLOP", 3),
        ("MB", 3),
        ("ms", 0),
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
        f.operations.to_string(),
        counted(digits(f.flops as f64 / 1e9)),
        digits(f.bytes as f64 / 1e6),
        milliseconds(f.median_ms),
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

fn text(p: &Profile<'_>, top: usize, width: usize) -> String {
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
    let px = p.resolution.map(|r| format!(" @{r}px")).unwrap_or_default();
    let visual = p.visual_tokens.map(|n| format!(", {n} visual tokens"));
    let prompt = p.prompt_tokens.map(|n| format!(", {n} prompt tokens"));
    format!(
        "{}{px}: {} weights{}{}, {} {} {} {}, {} threads, {} repetitions\n{}\n",
        p.model,
        p.weights,
        visual.unwrap_or_default(),
        prompt.unwrap_or_default(),
        p.used.engine,
        p.used.version,
        p.used.device,
        p.used.precision,
        p.peak.threads,
        p.iterations,
        super::doctor::peak_line(&p.peak),
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
            table.push(row(format!("  {}", stage.name), &stage.figures));
        }
        table.push(vec![
            "  outside operations".into(),
            String::new(),
            String::new(),
            String::new(),
            milliseconds(phase.outside_ms),
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
        columns.push(column(&format!("ms on {threads}"), Align::Right, 0));
    }
    for threads in &s.threads[1..] {
        columns.push(column(&format!("speed-up {threads}"), Align::Right, 0));
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
    let peaks: [(&str, fn(&Peak) -> f64); 2] = [
        ("peak: f32 multiply-add", |p| p.f32_flops.best),
        ("peak: reading memory", |p| p.bandwidth()),
    ];
    for (name, of) in peaks {
        let mut row = vec![name.to_owned()];
        row.resize(1 + s.threads.len(), String::new());
        let base = s.peaks.first().map_or(1.0, of);
        row.extend(s.peaks[1..].iter().map(|p| format!("{:.2}", of(p) / base)));
        table.push(row);
    }
    table
}
