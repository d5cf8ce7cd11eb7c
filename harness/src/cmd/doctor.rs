//! `vlmbench doctor`: what this machine can run, and how to get the rest.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use vlmbench_backends::backend::{BACKENDS, DeviceEntry, EngineOptions, Precision, open};
use vlmbench_backends::blocks::mix::BlockMix;
use vlmbench_backends::hub::HubOptions;
use vlmbench_backends::onnxruntime::library::Library;
use vlmbench_backends::recipe::{Recipe, Weights};
use vlmbench_backends::weights::{Inventory, Part};
use vlmbench_reports::hardware;

use super::Format;
use crate::config::ConfigKind;
use crate::context::Context;
use crate::error::{Failure, Outcome, chain};
use crate::machine::gpu::{GpuNow, GpuReport};
use crate::machine::{self, MachineReport};
use crate::measure::clock::Monotonic;
use crate::measure::energy::powercap::{self, POWERCAP};
use crate::measure::peak::{self, Peak};
use crate::model_ref;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also measure what the machine can do at most, in about a second
    #[arg(long)]
    pub peak: bool,
    /// Worker threads for that [default: all cores]
    #[arg(long, value_name = "T", requires = "peak")]
    pub threads: Option<usize>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What `doctor` finds.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// Version and revision.
    pub tool: Tool,
    /// The machine.
    pub machine: MachineReport,
    /// Its graphics processors, with what is missing.
    pub gpus: GpuReport,
    /// Its counters of energy.
    pub energy: EnergyState,
    /// Its measured peak, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<Peak>,
    /// Engines and their devices.
    pub backends: Vec<BackendState>,
    /// Configurations by kind.
    pub configs: ConfigState,
    /// The hub's cache.
    pub hub: HubState,
    /// Every model: its size here and whether its weights are at hand.
    pub models: Vec<ModelState>,
}

/// The tool.
#[derive(Debug, Serialize)]
pub struct Tool {
    /// Version.
    pub version: &'static str,
    /// Git revision.
    pub revision: Option<&'static str>,
}

/// Counters of energy of the CPU.
#[derive(Debug, Serialize)]
pub struct EnergyState {
    /// What they count.
    pub counters: Vec<String>,
    /// Why there are none.
    pub missing: Option<String>,
}

/// An engine.
#[derive(Debug, Serialize)]
pub struct BackendState {
    /// Name.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Version of its library; `None` if it does not open.
    pub version: Option<String>,
    /// Instruction set of its CPU kernels.
    pub simd: Option<String>,
    /// The library that was loaded at run time, for an engine that is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<Library>,
    /// Why it does not open on the CPU.
    pub error: Option<String>,
    /// Its devices, with what is missing.
    pub devices: Vec<DeviceEntry>,
}

/// Configurations.
#[derive(Debug, Serialize)]
pub struct ConfigState {
    /// Folder looked up before the embedded files.
    pub folder: Option<String>,
    /// Number of names by kind.
    pub counts: Vec<(&'static str, usize)>,
    /// Files that do not parse or resolve.
    pub problems: Vec<String>,
}

/// The hub's cache.
#[derive(Debug, Serialize)]
pub struct HubState {
    /// Folder.
    pub cache: String,
    /// Whether it exists.
    pub exists: bool,
    /// Repositories in it.
    pub repositories: Vec<String>,
    /// Whether the network is off.
    pub offline: bool,
}

/// A model.
#[derive(Debug, Serialize)]
pub struct ModelState {
    /// Name under `configs/models/`.
    pub name: String,
    /// Bytes of the parameters in f32.
    pub f32_bytes: u64,
    /// Bytes of the parameters in f16 or bf16.
    pub half_bytes: u64,
    /// Bytes of the parameters with the decoder in `q4_k_m`; `None` without a
    /// decoder.
    pub q4_k_m_bytes: Option<u64>,
    /// Whether the f32 parameters fit the memory that can be had; `None` if
    /// the system does not say.
    pub fits_f32: Option<bool>,
    /// The same in half precision.
    pub fits_half: Option<bool>,
    /// The same in `q4_k_m`.
    pub fits_q4_k_m: Option<bool>,
    /// Why the weights are not at hand, and how to get them.
    pub missing: Option<String>,
}

/// Prints the diagnosis.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let mut diagnosis = diagnose(ctx);
    if args.peak {
        let threads = args.threads.unwrap_or_else(machine::usable_threads).max(1);
        let bar = ctx.terminal.spinner("measuring the peak".into());
        diagnosis.peak = Some(peak::measure(peak::CPU, threads, &Monotonic::start())?);
        bar.finish_and_clear();
    }
    match args.format {
        Format::Json => ctx.print_json(&diagnosis)?,
        Format::Text => ctx.print(&text(&diagnosis))?,
    }
    Ok(Outcome::Done)
}

fn diagnose(ctx: &Context) -> Diagnosis {
    let machine = machine::report();
    let mut problems = Vec::new();
    let models = models(ctx, machine::usable_memory_bytes(), &mut problems);
    let counts = ConfigKind::ALL
        .map(|kind| (kind.folder(), ctx.configs.names(kind).len()))
        .to_vec();
    for name in ctx.configs.names(ConfigKind::Suite).into_keys() {
        if let Err(error) = crate::plan::suite_spec(&name, &ctx.configs) {
            problems.push(chain(&error));
        }
    }
    Diagnosis {
        tool: Tool {
            version: crate::VERSION,
            revision: crate::revision(),
        },
        gpus: machine::gpu_report(&machine.machine.gpus),
        energy: energy(Path::new(POWERCAP)),
        machine,
        peak: None,
        backends: BACKENDS.iter().map(backend_state).collect(),
        configs: ConfigState {
            folder: ctx.configs.folder().map(|f| f.display().to_string()),
            counts,
            problems,
        },
        hub: hub_state(&ctx.hub),
        models,
    }
}

fn energy(powercap: &Path) -> EnergyState {
    let found = powercap::packages(powercap);
    let (counters, missing) = match found {
        Ok(counters) => (counters.iter().map(|c| c.name().to_owned()).collect(), None),
        Err(missing) => (Vec::new(), Some(missing.to_string())),
    };
    EnergyState { counters, missing }
}

fn backend_state(entry: &'static vlmbench_backends::backend::BackendEntry) -> BackendState {
    // Opening the engine is the proof that it works.
    let opened = open(entry.name, &EngineOptions::new("cpu", Precision::F32, 1));
    let (facts, error) = match opened {
        Ok(backend) => (Some(backend.facts().clone()), None),
        Err(error) => (None, Some(chain(&error))),
    };
    BackendState {
        name: entry.name,
        about: entry.about,
        version: facts.as_ref().map(|f| f.version.clone()),
        simd: facts.as_ref().map(|f| f.simd.clone()),
        library: facts.and_then(|f| f.library),
        error,
        devices: (entry.devices)(),
    }
}

fn hub_state(hub: &HubOptions) -> HubState {
    let entries = std::fs::read_dir(&hub.cache_dir).into_iter().flatten();
    let names = entries.flatten().map(|e| e.file_name());
    let mut repositories: Vec<String> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("models--") || name.starts_with("datasets--"))
        .map(|name| name.replacen("--", " ", 1).replace("--", "/"))
        .collect();
    repositories.sort();
    HubState {
        cache: hub.cache_dir.display().to_string(),
        exists: hub.cache_dir.is_dir(),
        repositories,
        offline: hub.offline,
    }
}

fn models(ctx: &Context, memory: Option<u64>, problems: &mut Vec<String>) -> Vec<ModelState> {
    let hub = ctx.hub.cache_only();
    let mut states = Vec::new();
    for name in ctx.configs.names(ConfigKind::Model).into_keys() {
        let found = model_ref::resolve(&name, &ctx.configs, &hub, &mut |_| {});
        let sized = found.and_then(|found| {
            let params = parameters(&found.recipe)?;
            let quantised = quantised(&found.recipe)?;
            Ok((found.recipe, params, quantised))
        });
        let (recipe, params, q4_k_m_bytes) = match sized {
            Ok(sized) => sized,
            Err(failure) => {
                problems.push(chain(&failure));
                continue;
            }
        };
        let at_hand = model_ref::weights_folder(&recipe.weights, &hub, &mut |_| {});
        let fits = |bytes: u64| memory.map(|memory| bytes <= memory);
        states.push(ModelState {
            name,
            f32_bytes: params * 4,
            half_bytes: params * 2,
            q4_k_m_bytes,
            fits_f32: fits(params * 4),
            fits_half: fits(params * 2),
            fits_q4_k_m: q4_k_m_bytes.and_then(fits),
            missing: at_hand
                .err()
                .map(|failure| missing(&recipe.weights, &failure)),
        });
    }
    states
}

fn parameters(recipe: &Recipe) -> Result<u64, Failure> {
    let inventory = Inventory::of(recipe)?;
    let elements = inventory.iter().map(|(_, spec)| spec.elements() as u64);
    Ok(elements.sum())
}

/// Bytes of the parameters in `q4_k_m`, if there is a decoder.
fn quantised(recipe: &Recipe) -> Result<Option<u64>, Failure> {
    let precision = Precision::Q4KM;
    let Some(decoder) = &recipe.decoder else {
        return Ok(None);
    };
    let mix = BlockMix::of(precision, &decoder.config);
    let inventory = Inventory::of(recipe)?;
    let bytes = inventory.iter().map(|(part, spec)| {
        let mix = mix.as_ref().filter(|_| part == Part::Decoder);
        let blocks = mix.and_then(|mix| mix.bytes(spec));
        blocks.unwrap_or((spec.elements() * precision.bytes()) as u64)
    });
    Ok(Some(bytes.sum()))
}

/// A model on the hub that is not cached is nothing wrong; it says how to get
/// it.
fn missing(weights: &Weights, failure: &Failure) -> String {
    match weights {
        Weights::Hub { id, revision } => {
            format!(
                "not cached; fetched on first use, or by `hf download {id} --revision {revision}`"
            )
        }
        _ => chain(failure),
    }
}

/// Graphics processors in words, each with its state, and what is missing.
fn gpu_lines(report: &GpuReport) -> Vec<String> {
    let mut lines = Vec::new();
    for GpuNow { gpu, now } in &report.found {
        lines.push(format!("  {}", hardware::gpu(gpu)));
        let Some(now) = now else { continue };
        let clock = |what: &str, mhz: Option<u32>| mhz.map(|mhz| format!("{what} {mhz} MHz"));
        let held = now
            .throttle
            .as_ref()
            .map(|reasons| match reasons.is_empty() {
                true => "clocks not held back".to_owned(),
                false => format!("clocks held back by {}", reasons.join(", ")),
            });
        let state = [
            now.temperature_c.map(|celsius| format!("{celsius} °C")),
            clock("SM clock", now.sm_clock_mhz),
            clock("memory clock", now.memory_clock_mhz),
            held,
        ];
        let state: Vec<String> = state.into_iter().flatten().collect();
        if !state.is_empty() {
            lines.push(format!("    now       {}", state.join(", ")));
        }
    }
    if let Some(missing) = &report.missing {
        lines.push(format!("  NVIDIA    {missing}"));
    }
    lines
}

fn text(d: &Diagnosis) -> String {
    let mut out = String::new();
    let unknown = || "unknown".to_owned();
    let gigabytes =
        |bytes: Option<u64>| bytes.map_or_else(unknown, |b| format!("{:.1} GB", b as f64 / 1e9));
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let revision = d.tool.revision.unwrap_or("revision unknown");
    line(format!("vlmbench {} ({revision})", d.tool.version));
    line(String::new());
    line("machine".into());
    let m = &d.machine.machine;
    let word = |value: &Option<String>| value.clone().unwrap_or_else(unknown);
    let number = |value: Option<u32>| value.map_or_else(unknown, |n| n.to_string());
    line(format!(
        "  cpu       {}, {} cores, {} usable threads",
        word(&m.cpu_model),
        number(m.cores),
        number(m.threads)
    ));
    line(format!("  simd      {}", m.simd.join(" ")));
    line(format!(
        "  memory    {}, {} available",
        gigabytes(m.memory_bytes),
        gigabytes(d.machine.available_memory_bytes)
    ));
    if m.container_cores.is_some() || m.container_memory_bytes.is_some() {
        let cores = m.container_cores;
        line(format!(
            "  container {} cores, {}",
            cores.map_or_else(|| "all".into(), |c| format!("{c:.1}")),
            gigabytes(m.container_memory_bytes)
        ));
    }
    line(format!(
        "  system    {}, kernel {}",
        word(&m.os),
        word(&m.kernel)
    ));
    match m.governor.as_deref() {
        Some("performance") | None => {}
        Some(other) => line(format!(
            "  warning   CPU governor is `{other}`: the clock varies; set `performance` to measure"
        )),
    }
    line(match &d.energy.missing {
        None => format!("  energy    counted of {}", d.energy.counters.join(", ")),
        Some(why) => format!("  energy    not counted: {why}"),
    });
    line(String::new());
    line("gpus".into());
    gpu_lines(&d.gpus).into_iter().for_each(&mut line);
    if let Some(peak) = &d.peak {
        line(String::new());
        line(super::peak::text(peak).trim_end().to_owned());
    }
    line(String::new());
    line("backends".into());
    for backend in &d.backends {
        line(match (&backend.version, &backend.error) {
            (Some(version), _) => format!(
                "  {} {version}: {}, kernels: {}",
                backend.name,
                backend.about,
                backend.simd.as_deref().unwrap_or("scalar")
            ),
            (None, error) => format!(
                "  {}: does not work: {}",
                backend.name,
                error.as_deref().unwrap_or("unknown")
            ),
        });
        if let Some(library) = &backend.library {
            line(format!("    library  {}", library.path.display()));
            line(format!("    built for {}", library.providers.join(", ")));
        }
        for device in &backend.devices {
            let state = device.missing.as_deref();
            let state = state.map_or_else(|| "ready".into(), |why| format!("missing: {why}"));
            line(format!("    {:<8} {state}", device.name));
        }
    }
    line(String::new());
    line("configurations".into());
    let folder = d.configs.folder.as_deref();
    line(format!(
        "  folder    {}",
        folder.unwrap_or("none; embedded files only")
    ));
    let counts = d.configs.counts.iter();
    let counts: Vec<String> = counts.map(|(kind, n)| format!("{n} {kind}")).collect();
    line(format!("  known     {}", counts.join(", ")));
    for problem in &d.configs.problems {
        line(format!("  problem   {problem}"));
    }
    line(String::new());
    line("hub cache".into());
    let state = match (d.hub.exists, d.hub.repositories.len()) {
        (false, _) => "not there yet; made on first use".to_owned(),
        (true, n) => format!("{n} repositories"),
    };
    line(format!("  {} ({state})", d.hub.cache));
    for repository in &d.hub.repositories {
        line(format!("    {repository}"));
    }
    line(String::new());
    line("models".into());
    for model in &d.models {
        let mut text = format!(
            "  {:<28} {:>5.1} GB in f32, {:>5.1} GB in half precision",
            model.name,
            model.f32_bytes as f64 / 1e9,
            model.half_bytes as f64 / 1e9
        );
        if let Some(bytes) = model.q4_k_m_bytes {
            let _ = write!(text, ", {:>4.1} GB in q4_k_m", bytes as f64 / 1e9);
        }
        match (model.fits_f32, model.fits_half, model.fits_q4_k_m) {
            (Some(false), Some(false), Some(true)) => text.push_str("; fits in q4_k_m only"),
            (Some(false), Some(false), _) => text.push_str("; too large for the free memory"),
            (Some(false), ..) => text.push_str("; does not fit in f32"),
            _ => {}
        }
        if let Some(missing) = &model.missing {
            let _ = write!(text, "; {missing}");
        }
        line(text);
    }
    out
}
