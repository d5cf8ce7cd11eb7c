//! `vlmbench synth SUITE --out FILE`: a data set that is drawn, in the layout
//! of the published one.

use std::path::PathBuf;

use vlmbench_suites::{Split, SynthRequest, synthesize};

use super::Format;
use crate::context::Context;
use crate::error::{Failure, Outcome};

/// Arguments of `synth`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// textvqa, docvqa or seedbench
    pub suite: String,
    /// Part of the data set: train, validation or test; no two share a sample, whatever their seeds
    #[arg(long, value_name = "S", default_value = "test")]
    pub split: String,
    /// Number of samples; more of them begin with the same ones
    #[arg(long = "n", value_name = "N", default_value_t = 300)]
    pub samples: usize,
    /// Another seed draws other samples
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub seed: u64,
    /// Parquet file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Also write where every character and object stands and what else could be asked, as JSON lines, for training
    #[arg(long, value_name = "FILE")]
    pub places: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Draws the data set and says what it holds.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let request = SynthRequest {
        suite: args.suite,
        split: args.split.parse::<Split>()?,
        samples: args.samples,
        seed: args.seed,
    };
    let drawn = synthesize(&request, &args.out, args.places.as_deref())?;
    match args.format {
        Format::Json => ctx.print_json(&drawn)?,
        Format::Text => ctx.print(&format!(
            "{}: {} samples of {}, {:.1} MB of pictures\n",
            args.out.display(),
            drawn.samples,
            request.suite,
            drawn.image_bytes as f64 / 1e6
        ))?,
    }
    Ok(Outcome::Done)
}
