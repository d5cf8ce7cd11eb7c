//! `vlmbench peak [RUN...]`: what this machine can do at most, printed and
//! recorded in the runs that were measured on it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use vlmbench_reports::history::fingerprint;
use vlmbench_reports::record::{self, Record, Run, RunWriter};

use super::Format;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::machine;
use crate::measure::clock::Monotonic;
use crate::measure::peak::{Peak, measure};

/// Arguments of `peak`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folders of this machine to record it in, for comparisons of machines [default: only print it]
    #[arg(value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Worker threads [default: as many as the cases of the runs had; without runs all cores]
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// A run folder that is written to, with the thread counts that it wants, at
/// least one.
struct Folder {
    writer: RunWriter,
    threads: BTreeSet<usize>,
}

/// Measures the peak, records it and prints it.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let asked = args.threads.map(|threads| threads as usize);
    // All are opened before anything is measured, so that one that cannot be written fails at once.
    let machine = fingerprint(&machine::machine());
    let folders: Result<Vec<Folder>, Failure> = (args.runs.iter())
        .map(|path| open(path, asked, &machine))
        .collect();
    let mut folders = folders?;
    let wanted = folders.iter().flat_map(|folder| folder.threads.clone());
    let mut counts: BTreeSet<usize> = wanted.collect();
    if counts.is_empty() {
        counts.insert(asked.unwrap_or_else(machine::usable_threads));
    }
    let clock = Monotonic::start();
    let bar = ctx.terminal.spinner(String::new());
    let mut peaks = Vec::new();
    for threads in counts {
        bar.set_message(format!("measuring the peak of {threads} threads"));
        let peak = measure(threads, &clock)?;
        for folder in &mut folders {
            if folder.threads.contains(&threads) {
                folder.writer.append(&Record::Peak(peak.record()))?;
            }
        }
        peaks.push(peak);
    }
    bar.finish_and_clear();
    match args.format {
        Format::Json => ctx.print_json(&json!({
            "machine": machine,
            "peaks": peaks,
            "runs": args.runs,
        }))?,
        Format::Text => {
            let tables: Vec<String> = peaks.iter().map(text).collect();
            let mut out = tables.join("\n");
            for run in &args.runs {
                out.push_str(&format!("recorded in {}\n", run.display()));
            }
            ctx.print(&out)?;
        }
    }
    Ok(Outcome::Done)
}

/// Opens a run of this machine for writing.
fn open(path: &Path, asked: Option<usize>, here: &str) -> Result<Folder, Failure> {
    let run = Run::read(path)?;
    let there = fingerprint(&run.manifest.machine);
    if there != here {
        let cpu = run.manifest.machine.cpu_model.as_deref();
        return Err(Failure::Input {
            path: path.to_path_buf(),
            problem: format!(
                "it was measured on another machine ({}, fingerprint {there}; this one is {here}), whose peak this \
                 machine cannot tell: give the command there",
                cpu.unwrap_or("CPU unknown")
            ),
        });
    }
    let (writer, progress) = RunWriter::resume(path, &run.manifest.experiment_digest)?;
    if progress.dropped_torn_line {
        tracing::warn!(
            run = %path.display(),
            "the last record was torn and has been dropped; resume the run to repeat it"
        );
    }
    let used = run.cases.values().filter_map(|facts| facts.used.threads);
    let mut threads: BTreeSet<usize> = match asked {
        Some(threads) => BTreeSet::from([threads]),
        None => used.map(|threads| threads as usize).collect(),
    };
    if threads.is_empty() {
        threads.insert(machine::usable_threads());
    }
    Ok(Folder { writer, threads })
}

/// The table of a peak, which `doctor` prints too.
pub fn text(peak: &Peak) -> String {
    let plural = if peak.threads == 1 { "" } else { "s" };
    let mut out = format!(
        "measured peak of {} thread{plural} (best, median)\n",
        peak.threads
    );
    for ((name, unit), rate) in record::Peak::NAMES.into_iter().zip(peak.rates()) {
        out.push_str(&match rate {
            Some(r) => format!(
                "  {name:<28} {:>6.1}, {:>6.1} {unit}\n",
                r.best / 1e9,
                r.median / 1e9
            ),
            None => format!("  {name:<28} no instruction for it\n"),
        });
    }
    if let Some(warning) = peak.disturbance() {
        out.push_str(&format!("  warning   {warning}\n"));
    }
    out
}
