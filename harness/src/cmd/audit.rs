//! `vlmbench audit MODEL`: whether what is timed and scored is what it seems.

use serde::Serialize;
use vlmbench_backends::backend::EngineFacts;
use vlmbench_reports::table::{Align, Table, column};

use super::Format;
use super::latency::EngineArgs;
use crate::audit::{self, Audit, LEAST_PAIRS, Row, Verdict};
use crate::config::latency::{ImageSize, Latency};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::measure::agreement::Tolerances;
use crate::measure::clock::Monotonic;
use crate::measure::session::{Load, Session, affordable};

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from `vlmbench list models`, a checkpoint folder, a GGUF file, or a hub id
    pub model: String,
    /// What to run it on
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Drawn questions to ask, in every order and each of a model just loaded
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub samples: usize,
    /// Pairs of timed requests in the search for caches; 0 for no timing
    /// [default: 24, fewer but at least 6 if they take more than eight seconds]
    #[arg(long, value_name = "N")]
    pub pairs: Option<usize>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// The audit as JSON.
#[derive(Debug, Serialize)]
struct Audited<'a> {
    model: &'a str,
    weights: &'static str,
    resolution: Option<usize>,
    samples: usize,
    checks: &'a [Row],
    ok: bool,
    used: &'a EngineFacts,
}

/// Audits the model and prints the checks.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    if args.samples < 2 {
        return Err(Failure::Usage(
            "--samples must be at least 2: answers and pictures are compared".into(),
        ));
    }
    if args.pairs.is_some_and(|n| (1..LEAST_PAIRS).contains(&n)) {
        return Err(Failure::Usage(format!(
            "--pairs must be 0 or at least {LEAST_PAIRS}: fewer have no interval"
        )));
    }
    let options = args.engine.options()?;
    let recipe = args.engine.recipe(&args.model, ctx)?;
    let samples = audit::draw(args.samples)?;
    let context = match &recipe.decoder {
        None => 0,
        Some(decoder) => {
            let needed = audit::positions(&recipe, &samples)?;
            needed.min(decoder.config.max_positions)
        }
    };
    let sizes = samples
        .iter()
        .map(|s| (s.picture.width(), s.picture.height()));
    let (width, height) = sizes.max_by_key(|(w, h)| w * h).unwrap_or((1, 1));
    let latency = Latency {
        image: ImageSize { width, height },
        ..Latency::default()
    };
    affordable(&recipe, &latency, &args.engine.backend, &options)?;
    let bar = ctx.terminal.spinner(format!("loading {}", recipe.name));
    let load = Load {
        recipe: &recipe,
        backend: &args.engine.backend,
        options: &options,
        context,
        hub: &ctx.hub,
    };
    let mut facts = None;
    let mut open = || {
        let session = Session::open(&load, &mut ctx.terminal.downloads(&bar))?;
        facts.get_or_insert_with(|| (session.engine.clone(), session.facts().weights.source));
        Ok(session)
    };
    let clock = Monotonic::start();
    let audit = Audit {
        samples,
        pairs: args.pairs,
        tolerances: Tolerances::new(options.precision, None),
        clock: &clock,
    };
    let rows = audit.run(&mut open, &mut |next| {
        bar.set_message(format!("{}: {next}", recipe.name));
    })?;
    bar.finish_and_clear();
    let (used, weights) = facts.ok_or_else(|| Failure::Internal("no model was loaded".into()))?;
    let ok = rows.iter().all(|row| row.finding.verdict != Verdict::Fail);
    let audited = Audited {
        model: &recipe.name,
        weights,
        resolution: (recipe.resolution > 0).then_some(recipe.resolution),
        samples: args.samples,
        checks: &rows,
        ok,
        used: &used,
    };
    match args.format {
        Format::Json => ctx.print_json(&audited)?,
        Format::Text => ctx.print(&text(&audited, ctx.terminal.width))?,
    }
    Ok(match ok {
        true => Outcome::Done,
        false => Outcome::Mismatch,
    })
}

fn text(audited: &Audited<'_>, width: usize) -> String {
    let mut table = Table::new(vec![
        column("check", Align::Left, 0),
        column("verdict", Align::Left, 0),
        column("figure", Align::Left, 0),
        column("what was done", Align::Left, 1),
    ]);
    for Row {
        check,
        done,
        finding,
    } in audited.checks
    {
        table.push(vec![
            (*check).into(),
            finding.verdict.label().into(),
            match finding.verdict {
                Verdict::NotApplicable => finding.why.clone().unwrap_or_default(),
                _ => finding.figure.clone(),
            },
            (*done).into(),
        ]);
    }
    let of = |verdict: Verdict| -> Vec<String> {
        let rows = audited.checks.iter();
        let rows = rows.filter(|row| row.finding.verdict == verdict);
        rows.filter_map(|row| Some(format!("{}: {}", row.check, row.finding.why.as_deref()?)))
            .collect()
    };
    let (failed, unsure) = (of(Verdict::Fail), of(Verdict::Inconclusive));
    let mut lines = vec![match failed.len() {
        0 => "no check failed".to_owned(),
        n => format!("{n} failed"),
    }];
    lines.extend(failed);
    if !unsure.is_empty() {
        lines.push(format!("{} inconclusive", unsure.len()));
        lines.extend(unsure);
    }
    let verdict = lines.join("\n");
    let px = audited.resolution.map(|r| format!(" @{r}px"));
    format!(
        "{}{}: {} weights, {} questions, {} {} {} {}, {} threads\n\n{}\n{verdict}",
        audited.model,
        px.unwrap_or_default(),
        audited.weights,
        audited.samples,
        audited.used.engine,
        audited.used.version,
        audited.used.device,
        audited.used.precision,
        audited.used.threads,
        table.to_text(width)
    )
}
