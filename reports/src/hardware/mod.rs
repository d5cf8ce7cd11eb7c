//! The same recipes on several machines, engines and thread counts, beside what each machine can do at most.
//!
//! | file | question |
//! | :-- | :-- |
//! | `terms` | what must agree before two cases are called the same? |
//! | `merge` | which cases of which runs are the same recipe, and why are the others not? |
//! | `cell` | how fast, which share of the machine's peak, how many times the first machine's time? |
//! | `passport` | what are the machines? |
//! | `tables` | all of it in words, for Markdown, the terminal and a page |
//! | `data` | all of it as a data frame |
//! | `picture` | all of it as dots |
//!
//! Machines are told apart by their [fingerprint]. Nothing is joined silently: a case
//! whose definition, weights or version differ stands apart, with the key that differs.

mod cell;
mod data;
mod merge;
mod passport;
mod picture;
mod tables;
mod terms;

use std::collections::BTreeSet;

pub use cell::{COMPARED, Cell, Throughput};
pub use merge::{Apart, Recipe};
pub use passport::{facts, gpu};
pub use tables::Section;

use crate::{
    history::fingerprint,
    record::{CaseFacts, Peak, Run, Workload},
    report::Report,
    summary::CaseSummary,
};
use merge::Entry;

/// A comparison of machines, or of engines and thread counts on one.
#[derive(Debug, Clone)]
pub struct Hardware<'a> {
    /// The runs that the columns are of, and others.
    pub runs: &'a [Run],
    /// Machines with a column, in the order of their first run.
    pub machines: Vec<Site>,
    /// What is compared, machine by machine.
    pub columns: Vec<Column<'a>>,
    /// Recipes that were measured in two columns or more.
    pub recipes: Vec<Recipe<'a>>,
    /// Cases that no other column has the like of.
    pub apart: Vec<Apart>,
}

/// A machine with its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Short name in tables: `A`, `B`, ...
    pub name: String,
    /// Which machine it is.
    pub fingerprint: String,
    /// Its runs, by position in the report.
    pub runs: Vec<usize>,
}

/// One way to run recipes: a machine in one run, with an engine on a device and some threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Column<'a> {
    /// Machine, by position among [`Hardware::machines`].
    pub machine: usize,
    /// Run, by position in the report.
    pub run: usize,
    /// Engine asked for.
    pub backend: &'a str,
    /// Device asked for.
    pub device: &'a str,
    /// Worker threads.
    pub threads: Option<u32>,
    /// Name in tables: the machine's, with whatever differs between columns.
    pub label: String,
    /// What the machine can do at most on these threads, for columns of the CPU: the run's record, or that of
    /// another run of the machine.
    pub peak: Option<&'a Peak>,
}

impl Column<'_> {
    /// What makes it another column than one of the same machine's other runs.
    fn way(&self) -> (usize, &str, &str, Option<u32>) {
        (self.machine, self.backend, self.device, self.threads)
    }
}

impl<'a> Hardware<'a> {
    /// Merges the latency cases of a report that ended well. `None` if they were all run in one way: one machine,
    /// engine, device and number of threads.
    pub fn of(report: &'a Report) -> Option<Self> {
        let cases: Vec<(&CaseSummary, &CaseFacts)> = (report.summaries.iter())
            .filter(|summary| summary.ended_well())
            .filter_map(|summary| Some((summary, summary.facts.as_ref()?)))
            .filter(|(_, facts)| facts.workload != Workload::Quality)
            .collect();
        let mut machines: Vec<Site> = Vec::new();
        let mut columns: Vec<Column<'a>> = Vec::new();
        for &(summary, facts) in &cases {
            let column = column(&report.runs, summary.run, facts, &mut machines);
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let ways: BTreeSet<_> = columns.iter().map(Column::way).collect();
        if ways.len() < 2 {
            return None;
        }
        // Runs of one machine side by side, whatever lies between them.
        columns.sort_by_key(|column| column.machine);
        label(&mut columns, &machines);
        let entries = cases.into_iter().map(|(summary, facts)| {
            let run = &report.runs[summary.run];
            let is_own = |c: &Column<'_>| {
                let labels = &facts.labels;
                (c.run, c.backend, c.device, c.threads)
                    == (
                        summary.run,
                        &*labels.backend,
                        &*labels.device,
                        facts.used.threads,
                    )
            };
            let column = columns.iter().position(is_own).unwrap_or_default();
            Entry {
                terms: terms::of(run, facts),
                cell: Cell {
                    column,
                    summary,
                    facts,
                    peak: columns[column].peak,
                },
            }
        });
        let (recipes, apart) = merge::merge(entries.collect(), &columns);
        Some(Self {
            runs: &report.runs,
            machines,
            columns,
            recipes,
            apart,
        })
    }

    /// Columns of a machine.
    fn columns_of(&self, machine: usize) -> impl Iterator<Item = &Column<'a>> {
        (self.columns.iter()).filter(move |column| column.machine == machine)
    }

    /// The CPU of a machine in words.
    fn cpu(&self, machine: usize) -> &str {
        let run = &self.runs[self.machines[machine].runs[0]];
        let cpu = run.manifest.machine.cpu_model.as_deref();
        cpu.unwrap_or("CPU unknown")
    }
}

/// The column of a case, without its label; its machine is added to those known.
fn column<'a>(
    runs: &'a [Run],
    run: usize,
    facts: &'a CaseFacts,
    machines: &mut Vec<Site>,
) -> Column<'a> {
    let identity = fingerprint(&runs[run].manifest.machine);
    let known = (machines.iter()).position(|site| site.fingerprint == identity);
    let machine = known.unwrap_or_else(|| {
        machines.push(Site {
            name: name(machines.len()),
            fingerprint: identity,
            runs: Vec::new(),
        });
        machines.len() - 1
    });
    let site = &mut machines[machine];
    if !site.runs.contains(&run) {
        site.runs.push(run);
    }
    let labels = &facts.labels;
    let threads = facts.used.threads;
    Column {
        machine,
        run,
        backend: &labels.backend,
        device: &labels.device,
        threads,
        label: String::new(),
        peak: peak(runs, run, &site.fingerprint, (&labels.device, threads)),
    }
}

/// The run's own record of the peak, or that of another run of its machine.
fn peak<'a>(
    runs: &'a [Run],
    run: usize,
    machine: &str,
    (device, threads): (&str, Option<u32>),
) -> Option<&'a Peak> {
    let of_machine = |run: &&Run| fingerprint(&run.manifest.machine) == machine;
    let own = std::iter::once(&runs[run]);
    let mut all = own.chain(runs.iter().filter(of_machine));
    all.find_map(|run| run.peak(device, threads))
}

/// `A` to `Z`, then numbers.
fn name(machine: usize) -> String {
    match u8::try_from(machine) {
        Ok(index) if index < 26 => char::from(b'A' + index).to_string(),
        _ => format!("#{}", machine + 1),
    }
}

/// Names the columns: by machine, by what differs between columns, and by run where nothing does.
fn label(columns: &mut [Column<'_>], machines: &[Site]) {
    let parts: [fn(&Column<'_>) -> String; 3] = [
        |column| column.backend.to_owned(),
        |column| column.device.to_owned(),
        |column| threads(column.threads),
    ];
    let differing = parts.into_iter().filter(|part| {
        let values: BTreeSet<String> = columns.iter().map(part).collect();
        values.len() > 1
    });
    let differing: Vec<_> = differing.collect();
    let labels: Vec<String> = (columns.iter())
        .map(|column| {
            let twins = columns.iter().filter(|other| other.way() == column.way());
            let run = (twins.count() > 1).then(|| format!("run {}", column.run + 1));
            let machine = machines[column.machine].name.clone();
            let parts = differing.iter().map(|part| part(column));
            let all: Vec<String> = [machine].into_iter().chain(parts).chain(run).collect();
            all.join(" · ")
        })
        .collect();
    for (column, label) in columns.iter_mut().zip(labels) {
        column.label = label;
    }
}

/// A number of threads in words.
fn threads(threads: Option<u32>) -> String {
    match threads {
        Some(1) => "1 thread".to_owned(),
        Some(n) => format!("{n} threads"),
        None => "threads unknown".to_owned(),
    }
}
