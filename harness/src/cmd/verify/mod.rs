//! `vlmbench verify MODEL`: outputs against reference tensors
//! (`--reference DIR`), or against another engine's on the same input
//! (`--against BACKEND`).
//!
//! The tolerances are those of f32 parity between engines; half precision gets
//! what its rounding needs.

mod reference;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vlmbench_backends::backend::EngineOptions;
use vlmbench_reports::table::{Align, Table, column};

use self::reference::Reference;
use super::Format;
use super::latency::EngineArgs;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::measure::agreement::{Check, Outputs, Tolerances, positions};
use crate::measure::session::{Load, Session};

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from `vlmbench list models`, a checkpoint folder, a GGUF file, or a hub id
    pub model: String,
    /// Folder with output.npy and the input it belongs to: input.npy (pixels) for a vision encoder,
    /// input_ids.npy for a decoder, both for a vision-language model; optionally image_features.npy and
    /// greedy_ids.npy. Further references have a suffix: input_S.npy, output_S.npy, ...
    #[arg(long, value_name = "DIR", required_unless_present = "against")]
    pub reference: Option<PathBuf>,
    /// Engine to compare with, on the same device or another one, stage by stage, on a synthetic photograph and
    /// prompt; tokens that it chooses are fed to both
    #[arg(long, value_name = "B[@D]")]
    pub against: Option<String>,
    /// What to run it on
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Relative error to allow on every output [default: in f32 5e-5 on features and 1e-3 on logits, else
    /// 5e-2 on both]
    #[arg(long, value_name = "X")]
    pub tolerance: Option<f64>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// All comparisons.
#[derive(Debug, Serialize)]
struct Verified<'a> {
    model: &'a str,
    /// Recognised checkpoint layout, where references were compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<String>,
    checks: &'a [Check],
    ok: bool,
}

/// Compares the model with the references and prints the verdict.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let options = args.engine.options()?;
    let recipe = args.engine.recipe(&args.model, ctx)?;
    let tolerances = Tolerances::new(options.precision, args.tolerance);
    let mut checks = Vec::new();
    let mut layout = None;
    if let Some(folder) = &args.reference {
        let load = Load {
            recipe: &recipe,
            backend: &args.engine.backend,
            options: &options,
            context: 0,
            hub: &ctx.hub,
        };
        layout = Some(references(folder, load, &tolerances, ctx, &mut checks)?);
    }
    if let Some(asked) = &args.against {
        let (other, device) = asked.split_once('@').unwrap_or((asked, &options.device));
        let bar = ctx.terminal.spinner(String::new());
        let context = positions(&recipe)?;
        let outputs = |backend: &str, options, fed: Option<&Outputs>| {
            bar.set_message(format!("{} on {backend}", recipe.name));
            let load = Load {
                recipe: &recipe,
                backend,
                options,
                context,
                hub: &ctx.hub,
            };
            let mut session = Session::open(&load, &mut ctx.terminal.downloads(&bar))?;
            Outputs::of(&mut session, fed)
        };
        // An instruction set is asked of one engine, not of both.
        let plain = EngineOptions {
            device: device.to_owned(),
            simd: None,
            ..options.clone()
        };
        let theirs = outputs(other, &plain, None)?;
        let ours = outputs(&args.engine.backend, &options, Some(&theirs))?;
        bar.finish_and_clear();
        checks.extend(ours.against(asked, &theirs, &tolerances));
    }
    let ok = checks.iter().all(|c| c.ok);
    match args.format {
        Format::Json => ctx.print_json(&Verified {
            model: &recipe.name,
            layout,
            checks: &checks,
            ok,
        })?,
        Format::Text => ctx.print(&text(&checks, ok, ctx.terminal.width))?,
    }
    Ok(match ok {
        true => Outcome::Done,
        false => Outcome::Mismatch,
    })
}

/// Compares with every reference of a folder; the checkpoint's layout.
fn references(
    folder: &Path,
    mut load: Load<'_>,
    tolerances: &Tolerances,
    ctx: &Context,
    checks: &mut Vec<Check>,
) -> Result<String, Failure> {
    let mut references = Vec::new();
    for suffix in suffixes(folder)? {
        references.push(Reference::read(folder, &suffix)?);
    }
    for reference in &references {
        load.context = load.context.max(reference.positions(load.recipe)?);
    }
    let bar = ctx
        .terminal
        .spinner(format!("loading {}", load.recipe.name));
    let mut session = Session::open(&load, &mut ctx.terminal.downloads(&bar))?;
    for reference in &references {
        bar.set_message(format!("reference {}", reference.suffix));
        reference.compare(&mut session, tolerances, checks)?;
    }
    bar.finish_and_clear();
    Ok(session.facts().weights.layout.clone())
}

/// Suffixes `S` of every `input_S.npy` and `input_ids_S.npy`, sorted, the empty one first.
fn suffixes(folder: &Path) -> Result<BTreeSet<String>, Failure> {
    let unusable = |problem: String| Failure::Input {
        path: folder.into(),
        problem,
    };
    let entries = std::fs::read_dir(folder).map_err(|e| unusable(e.to_string()))?;
    let suffixes: BTreeSet<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| {
            let stem = name.strip_suffix(".npy")?.strip_prefix("input")?;
            let own = stem.strip_prefix("_ids").unwrap_or(stem);
            (own.is_empty() || own.starts_with('_')).then(|| own.to_owned())
        })
        .collect();
    match suffixes.is_empty() {
        true => Err(unusable(
            "it holds no input.npy and no input_ids.npy; put preprocessed pixels, f32 (1, 3, H, W), \
             or token ids, i64 (1, N), there"
                .into(),
        )),
        false => Ok(suffixes),
    }
}

fn text(checks: &[Check], ok: bool, width: usize) -> String {
    let mut table = Table::new(vec![
        column("reference", Align::Left, 0),
        column("output", Align::Left, 0),
        column("shape", Align::Left, 0),
        column("max error", Align::Right, 0),
        column("relative", Align::Right, 0),
        column("allowed", Align::Right, 0),
        column("verdict", Align::Left, 0),
    ]);
    let number = |v: Option<f64>| v.map(|v| format!("{v:.2e}")).unwrap_or_default();
    for c in checks {
        let verdict = if c.ok { "ok" } else { "MISMATCH" };
        let note = c
            .note
            .as_ref()
            .map(|n| format!(": {n}"))
            .unwrap_or_default();
        table.push(vec![
            if c.suffix.is_empty() {
                "-".into()
            } else {
                c.suffix.clone()
            },
            c.output.into(),
            format!("{:?}", c.shape),
            number(c.max_abs_error),
            number(c.relative_error),
            number(c.tolerance),
            format!("{verdict}{note}"),
        ]);
    }
    let verdict = if ok {
        "all outputs agree"
    } else {
        "outputs differ"
    };
    format!("{}\n{verdict}", table.to_text(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_and_token_ids_of_one_suffix_are_one_reference() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "input.npy",
            "input_b.npy",
            "input_ids.npy",
            "input_ids_b.npy",
            "output.npy",
            "input_ids_text.npy",
            "inputs.npy",
            "output_c.npy",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = suffixes(dir.path()).unwrap();
        assert_eq!(Vec::from_iter(found), ["", "_b", "_text"]);
    }
}
