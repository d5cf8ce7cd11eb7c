//! `vlmbench encode MODEL IMAGE`: one image in, features out.

use std::path::PathBuf;

use serde::Serialize;
use vlmbench_backends::backend::EngineFacts;
use vlmbench_backends::generate::ImageInput;
use vlmbench_backends::image::ExifPolicy;
use vlmbench_backends::nets::EncoderConfig;
use vlmbench_backends::npy::{Array, write_f32};

use super::Format;
use super::latency::EngineArgs;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::measure::session::{Load, Session};

/// Arguments of `encode`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from `vlmbench list models`, a checkpoint folder, or a hub id
    pub model: String,
    /// Image file
    pub image: PathBuf,
    /// What to run it on
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Project the features into the decoder's embedding space
    #[arg(long)]
    pub project: bool,
    /// Write the features to this .npy file, (1, tokens, dim) in f32
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What was encoded.
#[derive(Debug, Serialize)]
struct Encoded<'a> {
    model: &'a str,
    weights: &'static str,
    resolution: usize,
    /// Encoder inputs that the image became; 1 once they are projected into one
    /// sequence.
    inputs: usize,
    /// Of each.
    visual_tokens: usize,
    dim: usize,
    mean: f64,
    std: f64,
    min: f32,
    max: f32,
    /// First values of the first token.
    head: &'a [f32],
    non_finite: usize,
    used: &'a EngineFacts,
}

/// Encodes the image and prints what came out.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let options = args.engine.options()?;
    let mut recipe = args.engine.recipe(&args.model, ctx)?;
    if matches!(recipe.encoder()?.config, EncoderConfig::Towers(_)) && !args.project {
        return Err(Failure::Usage(format!(
            "{} has several encoders, whose features have channels of their own; add --project",
            recipe.name
        )));
    }
    // Only the parts that are asked for are loaded.
    recipe.decoder = None;
    if args.project {
        recipe.projector()?;
    } else {
        recipe.projector = None;
    }
    let bytes = read_file(&args.image)?;
    let bar = ctx.terminal.spinner(format!("loading {}", recipe.name));
    let load = Load {
        recipe: &recipe,
        backend: &args.engine.backend,
        options: &options,
        context: 0,
        hub: &ctx.hub,
    };
    let mut session = Session::open(&load, &mut ctx.terminal.downloads(&bar))?;
    let mut runner = session.runner();
    let image = ImageInput::Encoded(&bytes, ExifPolicy::Ignore);
    let features = runner
        .preprocess(&image, 1, &mut ())
        .and_then(|inputs| match args.project {
            true => Ok(vec![runner.see(&inputs, &mut ())?]),
            false => runner.encode(&inputs, &mut ()),
        })
        .map_err(|e| Failure::Backend(*e.source))?;
    bar.finish_and_clear();
    let mut data = Vec::new();
    for part in &features {
        data.extend(session.model.read(part)?);
    }
    let inputs: usize = features.iter().map(|f| f.inputs).sum();
    let (tokens, dim) = features.first().map_or((0, 0), |f| (f.tokens, f.dim));
    let n = data.len() as f64;
    let mean = data.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = data
        .iter()
        .map(|v| (f64::from(*v) - mean).powi(2))
        .sum::<f64>()
        / n;
    let encoded = Encoded {
        model: &recipe.name,
        weights: session.facts().weights.source,
        resolution: recipe.resolution,
        inputs,
        visual_tokens: tokens,
        dim,
        mean,
        std: variance.sqrt(),
        min: data.iter().copied().fold(f32::INFINITY, f32::min),
        max: data.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        head: &data[..data.len().min(8)],
        non_finite: data.iter().filter(|v| !v.is_finite()).count(),
        used: &session.engine,
    };
    match args.format {
        Format::Json => ctx.print_json(&encoded)?,
        Format::Text => ctx.print(&format!(
            "{} @{}px ({} weights): {} visual tokens of {} features\n\
             mean {:.5}, std {:.5}, min {:.5}, max {:.5}, non-finite {}\nfirst {:?}",
            encoded.model,
            encoded.resolution,
            encoded.weights,
            encoded.visual_tokens,
            encoded.dim,
            encoded.mean,
            encoded.std,
            encoded.min,
            encoded.max,
            encoded.non_finite,
            encoded.head
        ))?,
    }
    if let Some(path) = &args.out {
        let array = Array {
            shape: vec![inputs, tokens, dim],
            data,
        };
        write_f32(path, &array).map_err(|e| Failure::Output {
            path: path.clone(),
            source: std::io::Error::other(e),
        })?;
    }
    Ok(Outcome::Done)
}

/// The bytes of an input file.
pub fn read_file(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|source| Failure::Input {
        path: path.clone(),
        problem: source.to_string(),
    })
}
