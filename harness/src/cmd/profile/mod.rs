//! `vlmbench profile MODEL`: where the time goes, beside the machine's peak.

mod picture;
mod tables;

use std::path::{Path, PathBuf};

use serde::Serialize;
use vlmbench_backends::backend::EngineFacts;
use vlmbench_reports::plot::Draw;

use super::Format;
use super::latency::EngineArgs;
use crate::config::latency::{ImageSize, Latency};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::machine;
use crate::measure::clock::{Clock, Monotonic};
use crate::measure::latency::Workload as Inputs;
use crate::measure::peak::{self, Peak};
use crate::measure::profile::{PhaseProfile, Repeats, Scaling, repeat};
use crate::measure::session::{Load, Session, affordable};

/// Tokens to generate: the first, which prefill makes, and one decode step.
const DECODE_TOKENS: usize = 2;

/// Arguments of `profile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from `vlmbench list models`, a checkpoint folder, a GGUF file, or a hub id
    pub model: String,
    /// What to run it on
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Text tokens of the prompt, besides the visual ones
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub prompt_tokens: usize,
    /// Size of the synthetic photograph: what decides how many tiles and visual tokens a model that cuts images has
    #[arg(long, value_name = "WxH", default_value = "1024x768")]
    pub image_size: ImageSize,
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
    /// Share of their time that threads waited for a core that other work had.
    waited: Option<f64>,
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
    if let Some(folder) = &args.out {
        // Before the work, so that a bad path fails at once.
        std::fs::create_dir_all(folder).map_err(|source| Failure::Output {
            path: folder.clone(),
            source,
        })?;
    }
    let options = args.engine.options()?;
    let threads = thread_counts(options.threads, args.scaling)?;
    let recipe = args.engine.recipe(&args.model, ctx)?;
    let latency = Latency {
        prompt_tokens: args.prompt_tokens,
        decode_tokens: DECODE_TOKENS,
        image: args.image_size,
        ..Latency::default()
    };
    let cost = affordable(&recipe, &latency, &args.engine.backend, &options)?;
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
    let peaks = |clock: &Monotonic| -> Result<Vec<Peak>, Failure> {
        let counts = threads.iter();
        let of = |n: &usize| peak::measure(&options.device, *n, clock);
        counts.map(of).collect()
    };
    let before = peaks(&clock)?;
    let repeats = Repeats {
        warm_up: args.warm_up,
        iterations: args.iterations,
        threads: &threads,
    };
    let (began, waited_before) = (clock.now(), machine::waited());
    let samples = repeat(&mut session, &inputs, &repeats, clock, &mut |i| {
        bar.set_message(format!("{}: repetition {}", recipe.name, i + 1));
    })?;
    let waited = peak::waited_share(waited_before, began, &clock, options.threads);
    // Again, because other work may have disturbed the first time.
    bar.set_message("measuring the machine's peak");
    let both = before.into_iter().zip(peaks(&clock)?);
    let peaks: Vec<Peak> = both.map(|(a, b)| a.or_better(b)).collect();
    bar.finish_and_clear();
    let peak = peaks
        .last()
        .expect("there is at least one thread count")
        .clone();
    let phases = samples.phases(options.precision, &peak)?;
    let profile = Profile {
        model: &recipe.name,
        weights: session.facts().weights.source,
        resolution: (recipe.resolution > 0).then_some(recipe.resolution),
        visual_tokens: cost.visual_tokens,
        prompt_tokens: cost.prompt_tokens,
        iterations: args.iterations,
        waited,
        used: &session.engine,
        peak_flops: peak.flops(options.precision),
        peak_bandwidth: peak.bandwidth(),
        peak,
        total_ms: phases.iter().map(|p| p.figures.median_ms).sum(),
        phases,
        scaling: args.scaling.then(|| Threads {
            rows: samples.scaling(),
            threads,
            peaks,
        }),
    };
    if let Some(folder) = &args.out {
        write(&profile, folder)?;
    }
    match args.format {
        Format::Json => ctx.print_json(&profile)?,
        Format::Text => ctx.print(&tables::text(&profile, args.top, ctx.terminal.width))?,
    }
    if let (Some(folder), Format::Text) = (&args.out, args.format) {
        ctx.print(&format!("\nwritten to {}", folder.display()))?;
    }
    Ok(Outcome::Done)
}

/// Writes the profile as data and as a picture.
fn write(profile: &Profile<'_>, folder: &Path) -> Result<(), Failure> {
    let path = folder.join("profile.json");
    let json = serde_json::to_string_pretty(profile)
        .map_err(|e| Failure::Internal(format!("cannot encode the profile as JSON: {e}")))?;
    std::fs::write(&path, json).map_err(|source| Failure::Output { path, source })?;
    let picture = picture::icicle(profile);
    picture.draw_svg(&folder.join("profile.svg"))?;
    picture.draw_png(&folder.join("profile.png"))?;
    Ok(())
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
