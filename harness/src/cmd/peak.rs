//! `vlmbench peak [RUN...]`: what this machine can do at most, printed and
//! recorded in the runs that were measured on it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use vlmbench_reports::history::fingerprint;
use vlmbench_reports::record::{self, CaseFacts, Record, Run, RunWriter};

use super::Format;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::machine;
use crate::measure::clock::Monotonic;
use crate::measure::peak::{CPU, Peak, is_measured, measure};

/// Arguments of `peak`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folders of this machine to record it in, for comparisons of machines [default: only print it]
    #[arg(value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Worker threads [default: as many as the cases of the runs had; without runs all cores]
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Device [default: those of the cases of the runs; without runs cpu]
    #[arg(long, value_name = "D")]
    pub device: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// A device, and of a CPU so many threads; 0 of a GPU.
type Place = (String, usize);

/// A run folder that is written to, with what it wants measured, at least one.
struct Folder {
    writer: RunWriter,
    places: BTreeSet<Place>,
}

impl Args {
    /// What is measured of a device that ran on so many threads; `None` if something
    /// else was asked for.
    fn place(&self, device: &str, threads: usize) -> Option<Place> {
        let asked = self.device.as_deref().is_none_or(|asked| asked == device);
        let threads = match device {
            CPU => self.threads.map_or(threads, |threads| threads as usize),
            _ => 0,
        };
        asked.then(|| (device.to_owned(), threads))
    }

    /// What is measured where no case says.
    fn default_place(&self) -> Place {
        let device = self.device.as_deref().unwrap_or(CPU);
        let place = self.place(device, machine::usable_threads());
        place.unwrap_or_default()
    }
}

/// Measures the peak, records it and prints it.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    // All are opened before anything is measured, so that one that cannot be written fails at once.
    let machine = fingerprint(&machine::machine());
    let folders: Result<Vec<Folder>, Failure> = (args.runs.iter())
        .map(|path| open(path, &args, &machine))
        .collect();
    let mut folders = folders?;
    let wanted = folders.iter().flat_map(|folder| folder.places.clone());
    let mut places: BTreeSet<Place> = wanted.collect();
    if places.is_empty() {
        places.insert(args.default_place());
    }
    let clock = Monotonic::start();
    let bar = ctx.terminal.spinner(String::new());
    let mut peaks = Vec::new();
    for place in places {
        let (device, threads) = &place;
        bar.set_message(format!("measuring the peak of {device}"));
        let peak = measure(device, *threads, &clock)?;
        for folder in &mut folders {
            if folder.places.contains(&place) {
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
fn open(path: &Path, args: &Args, here: &str) -> Result<Folder, Failure> {
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
    let of_case = |facts: &CaseFacts| {
        let place = args.place(&facts.used.device, facts.used.threads? as usize);
        place.filter(|_| is_measured(&facts.labels.backend, &facts.used.device))
    };
    let mut places: BTreeSet<Place> = run.cases.values().filter_map(of_case).collect();
    if places.is_empty() {
        places.insert(args.default_place());
    }
    Ok(Folder { writer, places })
}

/// The table of a peak, which `doctor` prints too.
pub fn text(peak: &Peak) -> String {
    let of = match peak.threads {
        0 => peak.device.clone(),
        1 => "1 thread".into(),
        n => format!("{n} threads"),
    };
    let mut out = format!("measured peak of {of} (best, median)\n");
    let figures = record::Peak::NAMES.into_iter().zip(peak.rates());
    // A GPU has no figures of registers.
    for ((name, unit), rate) in figures.filter(|(_, rate)| peak.device == CPU || rate.is_some()) {
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
