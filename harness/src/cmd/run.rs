//! `vlmbench run EXPERIMENT`: plan, measure, score, record, report.

use std::path::{Path, PathBuf};

use vlmbench_reports::record::Run;
use vlmbench_reports::report::Report;

use super::{Format, plan, report};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::plan::{Plan, Sources};
use crate::run::{execute, outcome};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Experiment file, or a name under configs/experiments/
    pub experiment: String,
    /// Run folder; the same folder resumes [default: runs/EXPERIMENT]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// What of the experiment
    #[command(flatten)]
    pub selection: plan::Selection,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Runs the experiment and prints its tables.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let flags = args.selection.overrides(args.out);
    let experiment = plan::experiment(&args.experiment, &flags, ctx)?;
    let sources = Sources {
        configs: &ctx.configs,
        hub: &ctx.hub,
    };
    let bar = ctx.terminal.spinner("planning".into());
    let plan = Plan::build(&experiment, &sources, &mut ctx.terminal.downloads(&bar))?;
    bar.finish_and_clear();
    let folder = flags
        .out
        .unwrap_or_else(|| Path::new("runs").join(&experiment.name));
    execute(&experiment, &plan, &folder, ctx)?;
    let run = Run::read(&folder)?;
    let outcome = outcome(&run);
    report::write(&Report::new(vec![run]), &folder, args.format, ctx)?;
    Ok(outcome)
}
