//! `vlmbench report RUN...`: a page, tables and pictures over run folders.

use std::path::{Path, PathBuf};

use serde_json::json;
use vlmbench_reports::{explain::explain, gate::RunExport, report::Report, table};

use super::export_to::ExportTo;
use super::{Format, report_pack};
use crate::config::pack::LoadedPack;
use crate::context::Context;
use crate::error::{Failure, Outcome};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folders
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Folder to write to [default: the run folder, if there is one only]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Also write a file for another tool: bencher, action-benchmark-latency or action-benchmark-scores
    /// [default file: FORMAT.json in the report's folder], or lm-eval, a folder with a results file for
    /// each model; may be given several times
    #[arg(long, value_name = "FORMAT[=FILE]")]
    pub export: Vec<ExportTo<RunExport>>,
    /// Write nothing, and say which lines of the records the figures of this case come from; may be given
    /// several times
    #[arg(long, value_name = "CASE")]
    pub explain: Vec<String>,
    /// Hold the runs to a paper's tables: a pack file, or a name under configs/packs/. Prints its tables in
    /// place of the report's and writes pack-ID.md and pack-ID.csv
    #[arg(long, value_name = "PACK")]
    pub pack: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Writes the report and prints its tables.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    if !args.explain.is_empty() {
        return explained(&args, ctx);
    }
    let out = match (&args.out, args.runs.as_slice()) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.clone(),
        (None, _) => {
            return Err(Failure::Usage(
                "several runs need --out DIR for their common report".into(),
            ));
        }
    };
    let load = |name: &String| LoadedPack::load(&ctx.configs, name);
    let pack = args.pack.as_ref().map(load).transpose()?;
    let report = Report::read(&args.runs)?;
    for run in report.runs.iter().filter(|run| run.torn) {
        tracing::warn!(
            run = %run.folder.display(),
            "the last record is torn and was left out: the run was killed while writing it"
        );
    }
    // Before the tables, so that what is printed is printed last.
    for ExportTo { format, file } in &args.export {
        let path = file.clone().unwrap_or_else(|| out.join(format.file_name()));
        let files = format.write(&report, &path)?;
        if files.is_empty() {
            tracing::warn!(
                "no case has what {} holds, so it was not written",
                path.display()
            );
        }
        for file in files {
            tracing::info!("wrote {}", file.display());
        }
    }
    match pack {
        None => write(&report, &out, args.format, ctx)?,
        Some(pack) => report_pack::write(&pack, &report, &out, args.format, ctx)?,
    }
    Ok(Outcome::Done)
}

/// Prints where figures come from.
fn explained(args: &Args, ctx: &Context) -> Result<Outcome, Failure> {
    let report = Report::read(&args.runs)?;
    let mut all = Vec::new();
    for case in &args.explain {
        let has = |run: &&vlmbench_reports::record::Run| run.case_ids().contains(&case.as_str());
        // A case that no run has is an error of the first, which lists what it has.
        let with: Vec<_> = report.runs.iter().filter(has).collect();
        let asked = if with.is_empty() {
            vec![&report.runs[0]]
        } else {
            with
        };
        for run in asked {
            all.push(explain(run, case)?);
        }
    }
    match args.format {
        Format::Json => ctx.print_json(&all)?,
        Format::Text => {
            let texts: Vec<String> = all.iter().map(|e| e.to_text(ctx.terminal.width)).collect();
            ctx.print(&texts.join("\n"))?;
        }
    }
    Ok(Outcome::Done)
}

/// Writes a report into a folder and prints its tables and where its files
/// are; `run` ends with it too.
pub fn write(report: &Report, out: &Path, format: Format, ctx: &Context) -> Result<(), Failure> {
    let files = report.write(out)?;
    match format {
        Format::Text => {
            let mut text = table::terminal(report, ctx.terminal.width);
            text.push_str(&format!("\npage     {}\n", files.page.display()));
            text.push_str(&format!("report   {}\n", files.markdown.display()));
            text.push_str(&format!("tables   {}\n", files.tables.display()));
            for picture in &files.pictures {
                text.push_str(&format!("picture  {}\n", picture.png.display()));
            }
            ctx.print(&text)
        }
        Format::Json => ctx.print_json(&json!({
            "page": files.page,
            "report": files.markdown,
            "tables": files.tables,
            "csv": files.csv,
            "parquet": files.parquet,
            "pictures": files.pictures.iter().map(|picture| json!({
                "title": picture.title,
                "svg": picture.svg,
                "png": picture.png,
            })).collect::<Vec<_>>(),
            "failed_samples": report.runs.iter().map(|r| r.failed_samples()).sum::<usize>(),
        })),
    }
}
