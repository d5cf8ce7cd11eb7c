//! `vlmbench plan EXPERIMENT`: the cases with their costs and how long they will
//! take here, before any of them runs. Nothing is fetched; what is loaded are
//! the estimate's small probes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use vlmbench_reports::table::{Align, Table, column};

use super::Format;
use crate::config::experiment::ExperimentFile;
use crate::config::overrides::Only;
use crate::config::{ConfigKind, Experiment, Overrides};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::estimate::{CaseTime, EngineRates, Estimates, Fitted, Kind, Rates};
use crate::machine;
use crate::measure::clock::Monotonic;
use crate::measure::memory;
use crate::measure::session::usable_memory;
use crate::plan::{Case, CaseState, Plan, Sources, Workload};

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Experiment file, or a name under configs/experiments/
    pub experiment: String,
    /// What of it
    #[command(flatten)]
    pub selection: Selection,
    /// Only count: do not run the probes, a few seconds for each engine and precision, that times are estimated from
    #[arg(long)]
    pub no_estimate: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Flags that beat an experiment's file.
#[derive(Clone, Debug, clap::Args)]
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
    /// Only what is timed, or only what is scored
    #[arg(long, value_enum, value_name = "KIND")]
    pub only: Option<Only>,
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
            only: self.only,
        }
    }
}

/// Reads an experiment by path or name and applies flags to it.
pub fn experiment(name: &str, flags: &Overrides, ctx: &Context) -> Result<Experiment, Failure> {
    let found = ctx.configs.find(ConfigKind::Experiment, name)?;
    let file: ExperimentFile = found.parse()?;
    let cores = machine::usable_threads();
    let experiment = Experiment::resolve(&found.name, &found.origin, file, flags, cores)?;
    Ok(Experiment {
        asked: name.to_owned(),
        ..experiment
    })
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
    let estimates = match args.no_estimate {
        true => None,
        false => Some(estimates(&experiment, &plan, ctx)?),
    };
    match args.format {
        Format::Text => {
            let width = ctx.terminal.width;
            let estimates = estimates.as_ref();
            ctx.print(&text(&experiment, &plan, estimates, width))?
        }
        Format::Json => {
            let time = |index: usize| estimates.as_ref().and_then(|e| e.cases[index]);
            let cases = plan.cases.iter().enumerate();
            let cases: Vec<Value> = cases.map(|(i, case)| case_json(case, time(i))).collect();
            ctx.print_json(&json!({
                "experiment": plan.manifest_experiment(&experiment)?,
                "cases": cases,
                "rates": estimates.as_ref().map(|e| &e.engines),
                "seconds": estimates.as_ref().map(|e| e.seconds().0),
            }))?
        }
    }
    Ok(Outcome::Done)
}

/// Runs the probes, with a word about what takes a moment.
fn estimates(experiment: &Experiment, plan: &Plan, ctx: &Context) -> Result<Estimates, Failure> {
    machine::use_threads(experiment.threads);
    let bar = ctx.terminal.spinner("".into());
    let mut say = |engine: &EngineRates| {
        bar.set_message(format!("probing {}", engine_name(engine)));
    };
    let engines = EngineRates::measure(plan, &Monotonic::start(), &mut say);
    bar.finish_and_clear();
    Estimates::of(plan, engines, &ctx.hub.cache_only())
}

fn engine_name(engine: &EngineRates) -> String {
    format!(
        "{} on {} in {}",
        engine.backend, engine.device, engine.precision
    )
}

fn case_json(case: &Case, time: Option<CaseTime>) -> Value {
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
        "time": time,
        "seconds": time.map(|t| t.seconds()),
    })
}

fn text(
    experiment: &Experiment,
    plan: &Plan,
    estimates: Option<&Estimates>,
    width: usize,
) -> String {
    let right = |title: &str, rank| column(title, Align::Right, rank);
    let mut columns = vec![
        column("case", Align::Left, 0),
        right("visual", 3),
        right("text", 6),
        right("encode GFLOP", 1),
        right("project GFLOP", 7),
        right("prefill GFLOP", 2),
        right("decode GFLOP", 5),
        right("params M", 4),
        right("memory GB", 1),
    ];
    if estimates.is_some() {
        columns.extend([right("TTFT ms", 1), right("time", 0)]);
    }
    let mut table = Table::new(columns);
    let mut not_run = NotRun::default();
    for (index, case) in plan.cases.iter().enumerate() {
        let id = case.id.to_string();
        let Some(ready) = case.ready() else {
            let what = match case.state {
                CaseState::Skipped { .. } => "skipped",
                _ => "cannot run",
            };
            not_run.add(what, case.reason().unwrap_or_default(), id);
            continue;
        };
        let cost = &ready.cost;
        let count = |n: Option<usize>| n.map_or_else(String::new, |n| n.to_string());
        let stage = |name| cost.stage(name).map_or_else(String::new, |s| giga(s.flops));
        let mut row = vec![
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
        ];
        if let Some(estimates) = estimates {
            let time = estimates.cases[index];
            let ttft = time.and_then(|t| t.ttft_paper_seconds);
            row.push(ttft.map_or_else(String::new, |s| format!("{:.0}", s * 1e3)));
            row.push(time.map_or_else(|| "?".into(), case_time));
        }
        table.push(row);
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
    let mut problems = not_run.text();
    let mut free = BTreeMap::new();
    for group in plan.groups() {
        let cases = || group.iter().map(|index| &plan.cases[*index]);
        let needed = cases().filter_map(|c| c.ready().map(|r| r.cost.memory_bytes()));
        let first = &plan.cases[group[0]];
        let (backend, options) = (&first.backend, &first.options);
        let available = (free.entry((backend, options.device.as_str())))
            .or_insert_with(|| usable_memory(backend, options));
        if let Some(why) = memory::shortage(needed.sum(), *available) {
            let ids: Vec<String> = cases().map(|c| c.id.to_string()).collect();
            problems.push_str(&format!("will not fit: {}: {why}\n", ids.join(" beside ")));
        }
    }
    if let Some(estimates) = estimates {
        text.push('\n');
        text.push_str(&time_text(estimates));
    }
    if !problems.is_empty() {
        text.push('\n');
        text.push_str(&problems);
    }
    text
}

/// Cases that are not run, those of one reason together.
#[derive(Default)]
struct NotRun(Vec<(&'static str, String, Vec<String>)>);

impl NotRun {
    fn add(&mut self, what: &'static str, reason: &str, id: String) {
        let same = |(w, r, _): &&mut (&str, String, Vec<String>)| *w == what && r == reason;
        match self.0.iter_mut().find(same) {
            Some((_, _, ids)) => ids.push(id),
            None => self.0.push((what, reason.to_owned(), vec![id])),
        }
    }

    fn text(&self) -> String {
        let text = |(what, reason, ids): &(&str, String, Vec<String>)| match &ids[..] {
            [id] => format!("{what}: {id}: {reason}\n"),
            ids => format!(
                "{what}, {} cases: {reason}\n  {}\n",
                ids.len(),
                ids.join("\n  ")
            ),
        };
        self.0.iter().map(text).collect()
    }
}

/// A case's time; of a suite that is not here, a sample's.
fn case_time(time: CaseTime) -> String {
    match time.requests {
        Some(_) => duration(time.seconds()),
        None => format!("{:.2} s a sample", time.request_seconds),
    }
}

/// The sum, and the rates it was made with.
fn time_text(estimates: &Estimates) -> String {
    let (seconds, loading) = estimates.seconds();
    let mut text = format!(
        "about {}, {} of it to load weights",
        duration(seconds),
        duration(loading)
    );
    let uncounted = estimates.cases.iter().flatten();
    let uncounted = uncounted.filter(|time| time.requests.is_none()).count();
    if uncounted > 0 {
        text.push_str(&format!(
            ", and the samples of {uncounted} cases whose data are not here"
        ));
    }
    text.push_str(";\nlatency cases stop earlier where their median is known earlier\n");
    for engine in &estimates.engines {
        let name = engine_name(engine);
        match (&engine.fitted, &engine.problem) {
            (Some(fitted), _) => text.push_str(&format!("{name}: {}\n", rates(fitted))),
            (None, Some(problem)) => text.push_str(&format!("{name}: no estimate: {problem}\n")),
            (None, None) => {}
        }
    }
    text
}

/// Rates as people say them.
fn rates(fitted: &Fitted) -> String {
    let rate = |(kind, rates): (&Kind, &Rates)| {
        let per_second =
            |seconds: f64, unit| (seconds > 0.0).then(|| format!("{:.0} {unit}", 1e-9 / seconds));
        let flops = per_second(rates.seconds_per_flop, "GFLOP/s");
        let bytes = per_second(rates.seconds_per_byte, "GB/s");
        let both: Vec<String> = flops.into_iter().chain(bytes).collect();
        format!("{} {}", kind.label(), both.join(" and "))
    };
    let all: Vec<String> = fitted.rates.iter().map(rate).collect();
    all.join(", ")
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// FLOPs in units of 10^9.
fn giga(flops: u64) -> String {
    format!("{:.1}", flops as f64 / 1e9)
}
