//! `vlmbench generate MODEL`: image and question in, answer out.

use std::path::PathBuf;

use serde::Serialize;
use vlmbench_backends::generate::{Generation, ImageInput, PromptInput, Request};
use vlmbench_backends::image::{ExifPolicy, Rgb8, decode};
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::sampling::Sampling;
use vlmbench_backends::text::template;
use vlmbench_reports::record::StageTimes;

use super::Format;
use super::encode::read_file;
use super::latency::EngineArgs;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::measure::clock::{Monotonic, Stopwatch};
use crate::measure::session::{Load, Session};

/// Arguments of `generate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from `vlmbench list models`, a checkpoint folder, a GGUF file, or a hub id
    pub model: String,
    /// Image file; repeat for several images
    #[arg(long, value_name = "FILE")]
    pub image: Vec<PathBuf>,
    /// Question
    #[arg(long, value_name = "TEXT")]
    pub prompt: String,
    /// What to run it on
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Tokens to generate at most
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub max_new_tokens: usize,
    /// Sample with this softmax temperature instead of greedily
    #[arg(long, value_name = "T", value_parser = positive)]
    pub temperature: Option<f32>,
    /// Sample from the smallest set of tokens that reaches this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, requires = "temperature", value_parser = share)]
    pub top_p: f32,
    /// Seed of sampling
    #[arg(long, value_name = "N", default_value_t = 0, requires = "temperature")]
    pub seed: u64,
    /// Turn images as their EXIF orientation says
    #[arg(long)]
    pub apply_exif: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

fn positive(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|e| format!("{e}"))?;
    (value.is_finite() && value > 0.0)
        .then_some(value)
        .ok_or_else(|| "must be above 0".into())
}

fn share(text: &str) -> Result<f32, String> {
    let value = positive(text)?;
    (value <= 1.0)
        .then_some(value)
        .ok_or_else(|| "must be at most 1".into())
}

/// The answer as JSON.
#[derive(Debug, Serialize)]
struct Answered<'a> {
    model: &'a str,
    weights: &'static str,
    prompt: String,
    #[serde(flatten)]
    generation: &'a Generation,
    /// One request, not warmed up: for debugging, not a latency figure.
    stages: StageTimes,
}

/// Generates an answer and prints it.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let options = args.engine.options()?;
    let recipe = args.engine.recipe(&args.model, ctx)?;
    let max_positions = recipe.decoder()?.config.max_positions;
    if args.image.is_empty() && recipe.encoder.is_some() {
        tracing::info!("no --image: the model answers from the text alone");
    }
    let exif = match args.apply_exif {
        true => ExifPolicy::Apply,
        false => ExifPolicy::Ignore,
    };
    let mut pictures = Vec::new();
    for path in &args.image {
        let rgb = decode(&read_file(path)?, exif).map_err(|e| Failure::Input {
            path: path.clone(),
            problem: crate::error::chain(&e),
        })?;
        pictures.push(rgb);
    }
    let bar = ctx.terminal.spinner(format!("loading {}", recipe.name));
    let load = Load {
        recipe: &recipe,
        backend: &args.engine.backend,
        options: &options,
        context: context(&recipe, &pictures, &args)?.min(max_positions),
        hub: &ctx.hub,
    };
    let mut session = Session::open(&load, &mut ctx.terminal.downloads(&bar))?;
    session.require_tokenizer()?;
    let turn = template::images_first(pictures.len(), &args.prompt);
    let shown = template::display(&recipe.prompt.render(&turn));
    let sampling = match args.temperature {
        None => Sampling::Greedy,
        Some(temperature) => Sampling::Seeded {
            temperature,
            top_p: args.top_p,
            seed: args.seed,
        },
    };
    let request = Request {
        images: pictures.iter().map(ImageInput::Rgb).collect(),
        prompt: PromptInput::Turn(&turn),
        max_new_tokens: args.max_new_tokens,
        sampling,
        stop: &[],
        ignore_stop: false,
    };
    bar.set_message("generating");
    let clock = Monotonic::start();
    let mut watch = Stopwatch::start(&clock);
    let generation = session
        .runner()
        .generate(&request, &mut watch)
        .map_err(|e| Failure::Backend(*e.source))?;
    bar.finish_and_clear();
    let weights = session.facts().weights.source;
    if weights == "seeded" {
        tracing::warn!("the weights are seeded: the answer means nothing");
    }
    match args.format {
        Format::Text => ctx.print(&generation.text)?,
        Format::Json => ctx.print_json(&Answered {
            model: &recipe.name,
            weights,
            prompt: shown,
            generation: &generation,
            stages: watch.stages(),
        })?,
    }
    Ok(Outcome::Done)
}

/// Positions that surely hold the request: every byte of the prompt could be a
/// token of its own.
fn context(recipe: &Recipe, pictures: &[Rgb8], args: &Args) -> Result<usize, Failure> {
    let visual = match recipe.encoder {
        Some(_) => {
            let tokens = |p: &Rgb8| recipe.visual_tokens(p.width(), p.height());
            pictures.iter().map(tokens).sum::<Result<usize, _>>()?
        }
        None => 0,
    };
    let template = recipe.prompt.prefix.len() + recipe.prompt.suffix.len();
    Ok(visual + template + args.prompt.len() + args.image.len() * 2 + args.max_new_tokens + 8)
}
