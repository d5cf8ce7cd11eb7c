//! `vlmbench latency MODEL`: one model, no experiment file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use vlmbench_backends::backend::{EngineFacts, EngineOptions, Level, Precision, Settings};
use vlmbench_reports::energy::joules;
use vlmbench_reports::record::{Energy, LatencySample};
use vlmbench_reports::stats::Estimate;
use vlmbench_reports::summary::Figure;
use vlmbench_reports::table::{Align, Table, column, milliseconds};

use super::Format;
use crate::config::latency::{ImageSize, Latency};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::machine;
use crate::measure::clock::Monotonic;
use crate::measure::energy::{self, Begun, Meter, powercap::POWERCAP};
use crate::measure::latency::{Earlier, Observer, Party, Repetition, Workload as Inputs, repeat};
use crate::measure::memory;
use crate::measure::session::{Load, Session, affordable};
use crate::model_ref;
use crate::plan::CaseCost;

/// Arguments of `latency`.
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
    /// Tokens to generate, the first included
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub decode_tokens: usize,
    /// Timed repetitions [default: until the median is known to 5 %, 50 or half a minute at most]
    #[arg(long, value_name = "N")]
    pub iterations: Option<u32>,
    /// Repetitions that only warm up
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub warm_up: u32,
    /// Before each repetition, warm-ups included, wait for a line on standard input, and print the repetition's
    /// stage times as one line of JSON after it; the end of the input ends the measurement, and the usual output
    /// follows. Another program can so measure something else in between [default: at full speed, no lines]
    #[arg(long)]
    pub paced: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What a single model is run on.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    /// Side of the square input in pixels [default: the recipe's own]
    #[arg(long, value_name = "R")]
    pub resolution: Option<usize>,
    /// Precision of weights and activations: f32, f16 or bf16; q8_0 or q4_k_m: as bf16, with the decoder's matrices in
    /// llama.cpp's blocks
    #[arg(long, value_name = "P", default_value = "f32")]
    pub precision: String,
    /// Device
    #[arg(long, value_name = "D", default_value = "cpu")]
    pub device: String,
    /// Engine
    #[arg(long, value_name = "B", default_value = "candle")]
    pub backend: String,
    /// Worker threads [default: all cores]
    #[arg(long, value_name = "T")]
    pub threads: Option<usize>,
    /// Instruction set of the engine's own CPU kernels: portable, avx2, avx512,
    /// avx512-bf16 or amx-bf16 [default: the best of the machine]
    #[arg(long, value_name = "LEVEL")]
    pub simd: Option<String>,
    /// What ONNX Runtime may do to a graph before it runs it: disabled, basic, extended or all
    #[arg(long, value_name = "LEVEL", default_value = "all")]
    pub graph_optimization: String,
    /// Operators of the graphs that ONNX Runtime is given: standard, or fused, its own attention in decoders
    #[arg(long, value_name = "SET", default_value = "standard")]
    pub graph_operators: String,
    /// Have ONNX Runtime give activations' memory back after each run, in place of keeping it in an arena
    #[arg(long)]
    pub no_arena: bool,
    /// Which graphs of a folder that has several to run, as in their names: q4, int8, quantized, ...
    /// [default: those of the precision]
    #[arg(long, value_name = "V")]
    pub graph_variant: Option<String>,
}

impl EngineArgs {
    /// The engine's options; the harness's own threads follow them.
    pub fn options(&self) -> Result<EngineOptions, Failure> {
        let threads = self.threads.unwrap_or_else(machine::usable_threads);
        machine::use_threads(threads.max(1));
        let precision = self.precision.parse::<Precision>()?;
        Ok(EngineOptions {
            simd: self.simd.as_deref().map(str::parse::<Level>).transpose()?,
            onnxruntime: Settings {
                optimization: self.graph_optimization.parse()?,
                operators: self.graph_operators.parse()?,
                arena: !self.no_arena,
                variant: self.graph_variant.clone(),
            },
            ..EngineOptions::new(&self.device, precision, threads)
        })
    }

    /// The recipe of a MODEL argument at the resolution asked for.
    pub fn recipe(
        &self,
        model: &str,
        ctx: &Context,
    ) -> Result<vlmbench_backends::recipe::Recipe, Failure> {
        let bar = ctx.terminal.spinner(format!("looking for {model}"));
        let mut observe = ctx.terminal.downloads(&bar);
        let recipe = model_ref::resolve(model, &ctx.configs, &ctx.hub, &mut observe)?.recipe;
        bar.finish_and_clear();
        Ok(match self.resolution {
            Some(side) => recipe.at_resolution(side)?,
            None => recipe,
        })
    }
}

/// A stage as JSON.
#[derive(Debug, Serialize)]
struct Stage {
    /// Raw samples, milliseconds; decode steps of all repetitions in order.
    samples_ms: Vec<f64>,
    median_ms: Option<f64>,
    /// Floating-point operations of one execution; null where none are counted.
    flops: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimate: Option<Estimate>,
}

/// The measurement as JSON.
#[derive(Debug, Serialize)]
struct Measured<'a> {
    model: &'a str,
    weights: &'static str,
    resolution: Option<usize>,
    visual_tokens: Option<usize>,
    prompt_tokens: Option<usize>,
    decode_tokens: usize,
    iterations: usize,
    stages: BTreeMap<&'static str, Stage>,
    /// Medians of the derived figures.
    ttft_paper_ms: Option<f64>,
    ttft_user_ms: Option<f64>,
    ttft_paper_samples_ms: Vec<f64>,
    ttft_user_samples_ms: Vec<f64>,
    parameters: u64,
    peak_rss_bytes: Option<u64>,
    /// Energy of a request on the device, joules, and what it was measured from.
    joules_per_request: Option<f64>,
    energy: Option<Energy>,
    used: &'a EngineFacts,
}

/// Measures the model and prints its stages.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let latency = latency(&args)?;
    let options = args.engine.options()?;
    let recipe = args.engine.recipe(&args.model, ctx)?;
    let cost = affordable(&recipe, &latency, &args.engine.backend, &options)?;
    let bar = ctx.terminal.spinner(format!("loading {}", recipe.name));
    memory::reset_peak();
    let load = Load {
        recipe: &recipe,
        backend: &args.engine.backend,
        options: &options,
        context: cost.context,
        hub: &ctx.hub,
    };
    let session = Session::open(&load, &mut ctx.terminal.downloads(&bar))?;
    let mut parties = [Party {
        workload: Inputs::new(&session, &latency, 0)?,
        session,
        earlier: Earlier::default(),
    }];
    let mut progress = Progress {
        ctx,
        model: &recipe.name,
        bar: &bar,
        paced: args.paced,
        samples: Vec::new(),
        clock: Monotonic::start(),
        meter: match args.paced {
            true => Meter::off(energy::PACED),
            false => {
                let device = &args.engine.device;
                let card = machine::card(device, &ctx.numbering);
                Meter::of(device, card.as_ref(), Path::new(POWERCAP))
            }
        },
        began: None,
    };
    let clock = progress.clock;
    for ending in repeat(&mut parties, &latency, &clock, &mut progress)? {
        ending.map_err(|error| Failure::Backend(*error.source))?;
    }
    let energy = progress.energy();
    let samples = progress.samples;
    let [Party { session, .. }] = &parties;
    bar.finish_and_clear();
    let of = |figure: Figure| -> Vec<f64> { samples.iter().filter_map(|s| figure.of(s)).collect() };
    let (paper, user) = (of(Figure::TtftPaper), of(Figure::TtftUser));
    let measured = Measured {
        model: &recipe.name,
        weights: session.facts().weights.source,
        resolution: (recipe.resolution > 0).then_some(recipe.resolution),
        visual_tokens: cost.visual_tokens,
        prompt_tokens: cost.prompt_tokens,
        decode_tokens: latency.decode_tokens,
        iterations: samples.len(),
        stages: stages(&samples, &cost),
        ttft_paper_ms: Estimate::of(&paper).map(|e| e.median),
        ttft_user_ms: Estimate::of(&user).map(|e| e.median),
        ttft_paper_samples_ms: paper,
        ttft_user_samples_ms: user,
        parameters: cost.total_params(),
        peak_rss_bytes: memory::peak_bytes(),
        joules_per_request: energy.as_ref().and_then(Energy::per_request),
        energy,
        used: &session.engine,
    };
    match args.format {
        // With --paced the whole output is one JSON value a line.
        Format::Json if args.paced => ctx.print_json_line(&measured)?,
        Format::Json => ctx.print_json(&measured)?,
        Format::Text => ctx.print(&text(&measured, ctx.terminal.width))?,
    }
    Ok(Outcome::Done)
}

/// Keeps the timed repetitions, shows how far it is, and with `--paced` lets
/// another program say when.
struct Progress<'a> {
    ctx: &'a Context,
    model: &'a str,
    bar: &'a indicatif::ProgressBar,
    paced: bool,
    samples: Vec<LatencySample>,
    clock: Monotonic,
    meter: Meter<'static>,
    began: Option<Begun>,
}

impl Progress<'_> {
    /// What the repetitions that counted took.
    fn energy(&self) -> Option<Energy> {
        let requests = self.samples.len() as u32;
        let begun = self.began.as_ref()?;
        Some(self.meter.end(begun, requests, &self.clock))
    }
}

impl Observer for Progress<'_> {
    fn go(&mut self) -> Result<bool, Failure> {
        match self.paced {
            true => Ok(self.ctx.next_line()?.is_some()),
            false => Ok(true),
        }
    }

    fn timed(&mut self) {
        self.began = Some(self.meter.begin(&self.clock));
    }

    fn record(&mut self, _: usize, r: Repetition) -> Result<(), Failure> {
        let kind = if r.warm_up { "warm-up" } else { "repetition" };
        let message = format!("{}: {kind} {}", self.model, r.iteration + 1);
        self.bar.set_message(message);
        if self.paced {
            self.ctx.print_json_line(&Paced::of(&r))?;
        }
        if !r.warm_up {
            self.samples.push(LatencySample {
                case: String::new(),
                launch: 0,
                iteration: r.iteration,
                warm_up: false,
                stages: r.stages,
                ttft_user_ns: r.ttft_user_ns,
            });
        }
        Ok(())
    }
}

/// One repetition as a line of `--paced`: its stages in milliseconds, null
/// where there is none.
#[derive(Debug, Serialize)]
struct Paced {
    iteration: u32,
    warm_up: bool,
    preprocess_ms: Option<f64>,
    encode_ms: Option<f64>,
    project_ms: Option<f64>,
    prefill_ms: Option<f64>,
    /// One value a decode step.
    decode_ms: Vec<f64>,
    ttft_user_ms: Option<f64>,
}

impl Paced {
    fn of(r: &Repetition) -> Paced {
        Paced {
            iteration: r.iteration,
            warm_up: r.warm_up,
            preprocess_ms: r.stages.preprocess_ns.map(ms),
            encode_ms: r.stages.encode_ns.map(ms),
            project_ms: r.stages.project_ns.map(ms),
            prefill_ms: r.stages.prefill_ns.map(ms),
            decode_ms: r.stages.decode_ns.iter().map(|ns| ms(*ns)).collect(),
            ttft_user_ms: r.ttft_user_ns.map(ms),
        }
    }
}

/// Milliseconds.
fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn latency(args: &Args) -> Result<Latency, Failure> {
    let defaults = Latency::default();
    let count = |name: &str, n: u64| match n {
        0 => Err(Failure::Usage(format!("--{name} must be at least 1"))),
        _ => Ok(()),
    };
    count("prompt-tokens", args.prompt_tokens as u64)?;
    count("decode-tokens", args.decode_tokens as u64)?;
    count("iterations", args.iterations.map_or(1, u64::from))?;
    // Whoever sets the pace says when it is enough.
    let (least, most) = match args.paced {
        true => (u32::MAX, u32::MAX),
        false => (defaults.min_iterations, defaults.max_iterations),
    };
    Ok(Latency {
        prompt_tokens: args.prompt_tokens,
        decode_tokens: args.decode_tokens,
        image: args.image_size,
        warm_up: args.warm_up,
        min_iterations: args.iterations.unwrap_or(least),
        max_iterations: args.iterations.unwrap_or(most),
        ..defaults
    })
}

fn stages(samples: &[LatencySample], cost: &CaseCost) -> BTreeMap<&'static str, Stage> {
    let one = |get: fn(&LatencySample) -> Option<u64>| -> Vec<f64> {
        samples.iter().filter_map(get).map(ms).collect()
    };
    let decode = samples.iter().flat_map(|s| &s.stages.decode_ns);
    let all = [
        ("preprocess", one(|s| s.stages.preprocess_ns)),
        ("encode", one(|s| s.stages.encode_ns)),
        ("project", one(|s| s.stages.project_ns)),
        ("prefill", one(|s| s.stages.prefill_ns)),
        ("decode", decode.map(|ns| ms(*ns)).collect()),
    ];
    all.into_iter()
        .map(|(name, samples_ms)| {
            let estimate = Estimate::of(&samples_ms);
            let stage = Stage {
                median_ms: estimate.as_ref().map(|e| e.median),
                flops: cost.stage(name).map(|s| s.flops),
                estimate,
                samples_ms,
            };
            (name, stage)
        })
        .collect()
}

fn text(m: &Measured<'_>, width: usize) -> String {
    let mut table = Table::new(vec![
        column("stage", Align::Left, 0),
        column("median ms", Align::Right, 0),
        column("95 % interval", Align::Right, 0),
        column("n", Align::Right, 0),
        column("GFLOP", Align::Right, 0),
        column("GFLOP/s", Align::Right, 0),
    ]);
    let order = ["preprocess", "encode", "project", "prefill", "decode"];
    for name in order {
        let Some((stage, e)) = m
            .stages
            .get(name)
            .and_then(|s| Some((s, s.estimate.as_ref()?)))
        else {
            continue;
        };
        let gflop = stage.flops.map(|f| f as f64 / 1e9);
        let digits = |v: f64| format!("{v:.1}");
        table.push(vec![
            name.into(),
            milliseconds(e.median),
            interval(e),
            e.n.to_string(),
            gflop.map(digits).unwrap_or_default(),
            gflop
                .map(|g| digits(g / e.median * 1e3))
                .unwrap_or_default(),
        ]);
    }
    let totals = [
        ("ttft.paper", &m.ttft_paper_samples_ms),
        ("ttft.user", &m.ttft_user_samples_ms),
    ];
    for (name, samples) in totals {
        if let Some(e) = Estimate::of(samples) {
            let cells = [
                name.into(),
                milliseconds(e.median),
                interval(&e),
                e.n.to_string(),
            ];
            let mut row = cells.to_vec();
            row.extend([String::new(), String::new()]);
            table.push(row);
        }
    }
    let px = m.resolution.map(|r| format!(" @{r}px")).unwrap_or_default();
    let visual = m.visual_tokens.map(|n| format!(", {n} visual tokens"));
    let prompt = m.prompt_tokens.map(|n| format!(", {n} prompt tokens"));
    let peak = m
        .peak_rss_bytes
        .map(|b| format!(", peak {:.2} GiB", b as f64 / f64::from(1 << 30)));
    let energy = m
        .joules_per_request
        .map(|energy| format!(", {} J a request", joules(energy)));
    format!(
        "{}{px}: {} weights{}{}, {} {} {} {}, {} threads{}{}\n\n{}",
        m.model,
        m.weights,
        visual.unwrap_or_default(),
        prompt.unwrap_or_default(),
        m.used.engine,
        m.used.version,
        m.used.device,
        m.used.precision,
        m.used.threads,
        peak.unwrap_or_default(),
        energy.unwrap_or_default(),
        table.to_text(width)
    )
}

fn interval(e: &Estimate) -> String {
    match &e.interval {
        Some(i) => format!("{} to {}", milliseconds(i.low), milliseconds(i.high)),
        None => "n < 6".into(),
    }
}
