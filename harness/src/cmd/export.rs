//! `vlmbench export MODEL --out DIR`: a model as ONNX graphs, in the layout of
//! the published exports.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vlmbench_backends::backend::Precision;
use vlmbench_backends::onnx::{self, Target, Written};
use vlmbench_reports::table::{Align, Table, column};

use super::Format;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::measure::session::Weighed;
use crate::model_ref;

/// Files of a checkpoint that belong beside its graphs.
const COMPANIONS: [&str; 10] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from `vlmbench list models`, a checkpoint folder, a GGUF file, or a hub id
    pub model: String,
    /// Folder to write to: graphs into its folder onnx/, configuration and tokenizer beside that
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Side of the square input in pixels, where the network admits only one [default: the recipe's own]
    #[arg(long, value_name = "R")]
    pub resolution: Option<usize>,
    /// Precision of weights and activations: f32, f16 or bf16
    #[arg(long, value_name = "P", default_value = "f32")]
    pub precision: String,
    /// Operators that may be used: standard, or fused, ONNX Runtime's own attention in decoders, for it alone:
    /// without position ids, and batches padded on the right
    #[arg(long, value_name = "SET", default_value = "standard")]
    pub operators: String,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Exported<'a> {
    model: &'a str,
    weights: &'static str,
    precision: Precision,
    graphs: Vec<Written>,
    copied: Vec<PathBuf>,
}

/// Writes the graphs and says what was written.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let precision: Precision = args.precision.parse()?;
    let target = Target {
        precision,
        operators: args.operators.parse()?,
    };
    let bar = ctx.terminal.spinner(format!("looking for {}", args.model));
    let mut observe = ctx.terminal.downloads(&bar);
    let mut recipe = model_ref::resolve(&args.model, &ctx.configs, &ctx.hub, &mut observe)?.recipe;
    if let Some(side) = args.resolution {
        recipe = recipe.at_resolution(side)?;
    }
    let weighed = Weighed::open(&recipe, &ctx.hub, &mut observe)?;
    let graphs = args.out.join("onnx");
    create(&graphs)?;
    bar.set_message(format!("writing {}", recipe.name));
    let graphs = onnx::export(
        &weighed.recipe,
        &weighed.inventory,
        weighed.source.as_ref(),
        target,
        &graphs,
    )?;
    let copied = match &weighed.folder {
        Some(folder) => copy(&folder.dir, &args.out)?,
        None => Vec::new(),
    };
    bar.finish_and_clear();
    let exported = Exported {
        model: &weighed.recipe.name,
        weights: weighed.source.info().source,
        precision,
        graphs,
        copied,
    };
    match args.format {
        Format::Json => ctx.print_json(&exported)?,
        Format::Text => ctx.print(&text(&exported, ctx.terminal.width))?,
    }
    Ok(Outcome::Done)
}

fn create(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|source| Failure::Output {
        path: folder.into(),
        source,
    })
}

/// Copies what a checkpoint has beside its weights.
fn copy(from: &Path, to: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut copied = Vec::new();
    for name in COMPANIONS {
        let source = from.join(name);
        if !source.is_file() {
            continue;
        }
        let path = to.join(name);
        // Exporting into the checkpoint's own folder leaves them as they are.
        if source.canonicalize().ok() != path.canonicalize().ok() {
            std::fs::copy(&source, &path).map_err(|source| Failure::Output {
                path: path.clone(),
                source,
            })?;
        }
        copied.push(path);
    }
    Ok(copied)
}

fn text(exported: &Exported<'_>, width: usize) -> String {
    let mut table = Table::new(vec![
        column("file", Align::Left, 0),
        column("weights", Align::Left, 0),
        column("MB", Align::Right, 0),
    ]);
    for graph in &exported.graphs {
        let beside = graph.weights.as_ref().and_then(|path| path.file_name());
        table.push(vec![
            graph.model.display().to_string(),
            beside.map_or_else(
                || "in the same file".into(),
                |name| name.to_string_lossy().into_owned(),
            ),
            format!("{:.1}", graph.bytes as f64 / 1e6),
        ]);
    }
    let mut out = format!(
        "{} ({} weights) in {}\n\n{}",
        exported.model,
        exported.weights,
        exported.precision,
        table.to_text(width)
    );
    for path in &exported.copied {
        out.push_str(&format!("\ncopied {}", path.display()));
    }
    out
}
