//! Machines in words: what the manifest says of them, and what was measured.

use std::collections::BTreeSet;

use super::{Column, Hardware, Site, threads};
use crate::{
    record::{Cache, CaseFacts, Gpu, Machine, Peak, Run},
    table::{Align, Table, column},
};

const GIB: f64 = (1_u64 << 30) as f64;

/// The facts of a machine by name, in the order of a passport; `None` where the system did not say.
pub fn facts(machine: &Machine) -> [(&'static str, Option<String>); 12] {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / GIB);
    let list = |items: Vec<String>, between: &str| (!items.is_empty()).then(|| items.join(between));
    let clocks = [
        (machine.base_clock_mhz, "nominal"),
        (machine.max_clock_mhz, "at most"),
    ];
    let clocks = (clocks.into_iter())
        .filter_map(|(mhz, what)| Some(format!("{:.2} GHz {what}", f64::from(mhz?) / 1e3)));
    let limits = [
        machine
            .container_cores
            .map(|cores| format!("{cores} cores")),
        machine.container_memory_bytes.map(gib),
    ];
    let number = |n: Option<u32>| n.map(|n| n.to_string());
    [
        ("CPU", machine.cpu_model.clone()),
        ("cores", number(machine.cores)),
        ("hardware threads", number(machine.threads)),
        ("memory", machine.memory_bytes.map(gib)),
        (
            "caches",
            list(machine.caches.iter().map(cache).collect(), ", "),
        ),
        ("clock", list(clocks.collect(), ", ")),
        ("governor", machine.governor.clone()),
        (
            "container limits",
            list(limits.into_iter().flatten().collect(), ", "),
        ),
        ("GPU", list(machine.gpus.iter().map(gpu).collect(), "; ")),
        ("system", machine.os.clone()),
        ("kernel", machine.kernel.clone()),
        ("SIMD", list(machine.simd.clone(), " ")),
    ]
}

/// `L1 data 48 KiB`, `L3 32 MiB for 16 threads`.
fn cache(cache: &Cache) -> String {
    let kind = match cache.kind.as_str() {
        "unified" => String::new(),
        kind => format!(" {kind}"),
    };
    let size = match cache.bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes as f64 / f64::from(1 << 20)),
        bytes => format!("{} KiB", bytes as f64 / 1024.0),
    };
    let shared = cache.shared_by.filter(|n| *n > 1);
    let shared = shared.map_or(String::new(), |n| format!(" for {n} threads"));
    format!("L{}{kind} {size}{shared}", cache.level)
}

/// A graphics processor in words, without what the driver did not say.
pub fn gpu(gpu: &Gpu) -> String {
    let named = |what: &str, text: &Option<String>| text.as_ref().map(|t| format!("{what}{t}"));
    let clock = |what: &str, mhz: Option<u32>| mhz.map(|mhz| format!("{what} at most {mhz} MHz"));
    let all = [
        Some(gpu.name.clone()),
        gpu.memory_bytes
            .map(|bytes| format!("{:.1} GiB", bytes as f64 / GIB)),
        named("driver ", &gpu.driver),
        named("CUDA ", &gpu.cuda_driver),
        named("compute capability ", &gpu.compute_capability),
        clock("SM clock", gpu.max_sm_clock_mhz),
        clock("memory clock", gpu.max_memory_clock_mhz),
        gpu.power_limit_watts
            .map(|watts| format!("power limit {watts:.0} W")),
        named("bus ", &gpu.bus_id),
        gpu.uuid.clone(),
    ];
    let known: Vec<String> = all.into_iter().flatten().collect();
    known.join(", ")
}

impl Hardware<'_> {
    /// A column a machine: its passport, the tool and the engines that it ran, and its measured peaks.
    pub fn passport(&self) -> Table {
        let mut columns = vec![column("machine", Align::Left, 0)];
        let names = self.machines.iter().map(|site| site.name.clone());
        columns.extend(names.map(|name| column(name, Align::Left, 0)));
        let mut table = Table::new(columns);
        let mut row = |name: &str, of: &dyn Fn(usize, &Site) -> Vec<String>| {
            let cells: Vec<String> = (self.machines.iter().enumerate())
                .map(|(machine, site)| distinct(of(machine, site)))
                .collect();
            // What no machine says is not worth a row.
            if cells.iter().any(|cell| !cell.is_empty()) {
                let cells = cells.into_iter().map(|cell| match cell.is_empty() {
                    true => "–".to_owned(),
                    false => cell,
                });
                table.push([name.to_owned()].into_iter().chain(cells).collect());
            }
        };
        row("fingerprint", &|_, site| vec![site.fingerprint.clone()]);
        for (index, (name, _)) in facts(&Machine::default()).into_iter().enumerate() {
            row(name, &|_, site| {
                let of_run = |run: &Run| facts(&run.manifest.machine)[index].1.clone();
                self.runs_of(site).filter_map(of_run).collect()
            });
        }
        row("runs", &|_, site| {
            let started = |run: usize| {
                let manifest = &self.runs[run].manifest;
                format!("run {} of {}", run + 1, manifest.started_at)
            };
            site.runs.iter().map(|run| started(*run)).collect()
        });
        row("tool", &|_, site| self.runs_of(site).map(tool).collect());
        row("engines", &|machine, _| {
            self.columns_of(machine)
                .map(|column| self.engine(column))
                .collect()
        });
        for (index, (name, unit)) in Peak::NAMES.into_iter().enumerate() {
            row(&format!("{name}, {unit}"), &|machine, _| {
                let of = |column: &Column<'_>| {
                    let peak = column.peak?;
                    let rate = peak.rates()[index]? / 1e9;
                    let on = match peak.threads {
                        0 => column.device.to_owned(),
                        _ => threads(column.threads),
                    };
                    Some(format!("{rate:.1} on {on}"))
                };
                self.columns_of(machine).filter_map(of).collect()
            });
        }
        table
    }

    fn runs_of<'s>(&'s self, site: &'s Site) -> impl Iterator<Item = &'s Run> {
        site.runs.iter().map(|run| &self.runs[*run])
    }

    /// What the cases of a column really used.
    pub(super) fn used(&self, column: &Column<'_>) -> Option<&CaseFacts> {
        (self.runs[column.run].cases.values()).find(|facts| {
            let labels = &facts.labels;
            (&*labels.backend, &*labels.device, facts.used.threads)
                == (column.backend, column.device, column.threads)
        })
    }

    /// The engine of a column with its version, device, threads and instruction set.
    fn engine(&self, column: &Column<'_>) -> String {
        let used = self.used(column).map(|facts| &facts.used);
        let engine = used.and_then(|used| used.engine.as_deref());
        let simd = used.map_or(String::new(), |used| used.simd.join(" "));
        let parts = [
            engine.unwrap_or(column.backend).to_owned(),
            column.device.to_owned(),
            threads(column.threads),
            simd,
        ];
        let known: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        known.join(", ")
    }
}

/// Version and revision of the tool that made a run.
pub(super) fn tool(run: &Run) -> String {
    let tool = &run.manifest.tool;
    let revision = tool.revision.as_deref().unwrap_or("unknown revision");
    format!("{} {} ({revision})", tool.name, tool.version)
}

/// Values that differ, each once, in order of appearance.
fn distinct(values: Vec<String>) -> String {
    let mut seen = BTreeSet::new();
    let values: Vec<String> = (values.into_iter())
        .filter(|value| seen.insert(value.clone()))
        .collect();
    values.join("; ")
}
