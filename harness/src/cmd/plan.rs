//! `vlmbench plan EXPERIMENT`: the cases with their costs, before anything
//! runs. Nothing is fetched or loaded.

use std::path::PathBuf;

use serde_json::{Value, json};
use vlmbench_reports::table::{Align, Table, column};

use super::Format;
use crate::config::experiment::ExperimentFile;
use crate::config::{ConfigKind, Experiment, Overrides};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::machine;
use crate::measure::memory;
use crate::plan::{Case, CaseState, Plan, Sources, Workload};

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Experiment file, or a name under configs/experiments/
    pub experiment: String,
    /// What of it
    #[command(flatten)]
    pub selection: Selection,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Flags that beat an experiment's file.
#[derive(Debug, clap::Args)]
pub struct Selection {
    /// Samples of every suite
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Only this engine
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Only this device
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Worker threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Time everything once and without warming up: a rehearsal, whose figures have no interval
    #[arg(long)]
    pub quick: bool,
}

impl Selection {
    /// The flags, with the run folder if one is given.
    pub fn overrides(self, out: Option<PathBuf>) -> Overrides {
        Overrides {
            out,
            limit: self.limit,
            backend: self.backend,
            device: self.device,
            threads: self.threads,
            quick: self.quick,
        }
    }
}

/// Reads an experiment by path or name and applies flags to it.
pub fn experiment(name: &str, flags: &Overrides, ctx: &Context) -> Result<Experiment, Failure> {
    let found = ctx.configs.find(ConfigKind::Experiment, name)?;
    let file: ExperimentFile = found.parse()?;
    let cores = machine::usable_threads();
    Ok(Experiment::resolve(
        &found.name,
        &found.origin,
        file,
        flags,
        cores,
    )?)
}

/// Prints the plan.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let flags = args.selection.overrides(None);
    let experiment = experiment(&args.experiment, &flags, ctx)?;
    let hub = ctx.hub.cache_only();
    let sources = Sources {
        configs: &ctx.configs,
        hub: &hub,
    };
    let plan = Plan::build(&experiment, &sources, &mut |_| {})?;
    let available = machine::report().usable_memory_bytes();
    match args.format {
        Format::Text => ctx.print(&text(&experiment, &plan, available, ctx.terminal.width))?,
        Format::Json => ctx.print_json(&json!({
            "experiment": plan.manifest_experiment(&experiment)?,
            "cases": plan.cases.iter().map(case_json).collect::<Vec<_>>(),
        }))?,
    }
    Ok(Outcome::Done)
}

fn case_json(case: &Case) -> Value {
    let (state, cost) = match &case.state {
        CaseState::Ready(ready) => ("ready", Some(&ready.cost)),
        CaseState::Failed { .. } => ("failed", None),
        CaseState::Skipped { .. } => ("skipped", None),
    };
    json!({
        "id": case.id,
        "workload": match &case.workload {
            Workload::EncoderLatency(_) => "encoder_latency",
            Workload::EndToEndLatency(_) => "end_to_end_latency",
            Workload::Quality(_) => "quality",
        },
        "model": case.model,
        "backend": case.backend,
        "device": case.options.device,
        "precision": case.options.precision,
        "threads": case.options.threads,
        "resolution": case.resolution,
        "state": state,
        "reason": case.reason(),
        "cost": cost,
        "memory_bytes": cost.map(|c| c.memory_bytes()),
    })
}

fn text(experiment: &Experiment, plan: &Plan, available: Option<u64>, width: usize) -> String {
    let right = |title: &str, rank| column(title, Align::Right, rank);
    let mut table = Table::new(vec![
        column("case", Align::Left, 0),
        right("visual", 3),
        right("text", 6),
        right("encode GFLOP", 1),
        right("project GFLOP", 7),
        right("prefill GFLOP", 2),
        right("decode GFLOP", 5),
        right("params M", 4),
        right("memory GB", 1),
    ]);
    let mut problems = String::new();
    for case in &plan.cases {
        let id = case.id.to_string();
        let Some(ready) = case.ready() else {
            let what = match case.state {
                CaseState::Skipped { .. } => "skipped",
                _ => "cannot run",
            };
            let reason = case.reason().unwrap_or_default();
            problems.push_str(&format!("{what}: {id}: {reason}\n"));
            continue;
        };
        let cost = &ready.cost;
        let count = |n: Option<usize>| n.map_or_else(String::new, |n| n.to_string());
        let stage = |name| cost.stage(name).map_or_else(String::new, |s| giga(s.flops));
        table.push(vec![
            id,
            match cost.visual_tokens_kept {
                Some(kept) => format!("{} ({kept})", count(cost.visual_tokens)),
                None => count(cost.visual_tokens),
            },
            count(cost.prompt_tokens),
            stage("encode"),
            stage("project"),
            stage("prefill"),
            stage("decode"),
            format!("{:.1}", cost.total_params() as f64 / 1e6),
            format!("{:.2}", cost.memory_bytes() as f64 / 1e9),
        ]);
    }
    let mut text = format!(
        "{}: {}\n{} cases, {} threads\n\n",
        experiment.name,
        experiment.about,
        plan.cases.len(),
        experiment.threads
    );
    if !table.is_empty() {
        text.push_str(&table.to_text(width));
    }
    for group in plan.groups() {
        let cases = || group.iter().map(|index| &plan.cases[*index]);
        let needed = cases().filter_map(|c| c.ready().map(|r| r.cost.memory_bytes()));
        if let Some(why) = memory::shortage(needed.sum(), available) {
            let ids: Vec<String> = cases().map(|c| c.id.to_string()).collect();
            problems.push_str(&format!("will not fit: {}: {why}\n", ids.join(" beside ")));
        }
    }
    if !problems.is_empty() {
        text.push('\n');
        text.push_str(&problems);
    }
    text
}

/// FLOPs in units of 10^9.
fn giga(flops: u64) -> String {
    format!("{:.1}", flops as f64 / 1e9)
}
