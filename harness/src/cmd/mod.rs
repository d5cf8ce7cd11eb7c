//! The command line: one file per subcommand, and the one match that names
//! them all.

pub mod audit;
pub mod calibrate;
pub mod compare;
pub mod completions;
pub mod doctor;
pub mod encode;
pub mod export;
pub mod export_to;
pub mod generate;
pub mod history;
pub mod latency;
pub mod list;
pub mod peak;
pub mod plan;
pub mod profile;
pub mod report;
pub mod report_pack;
pub mod run;
pub mod score;
pub mod synth;
pub mod verify;
pub mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use vlmbench_backends::onnxruntime::library;

use crate::config::Configs;
use crate::context::{Context, hub_options};
use crate::error::{Exit, Failure, Outcome};
use crate::machine::gpu::Numbering;
use crate::terminal::{ColorChoice, Terminal};

/// Accuracy against time to first token, for vision-language models.
#[derive(Debug, Parser)]
#[command(
    name = "vlmbench",
    version = long_version(),
    about = "Accuracy against time to first token, for vision-language models",
    after_help = after_help(),
    propagate_version = false
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Folder with models/, suites/, experiments/, published/ and packs/; beats the embedded files
    /// [default: ./configs if it exists]
    #[arg(long, global = true, value_name = "DIR")]
    pub configs: Option<PathBuf>,
    /// Never use the network
    #[arg(long, global = true)]
    pub offline: bool,
    /// ONNX Runtime's shared library, for that engine [default: ORT_DYLIB_PATH, or the one in the active
    /// Python's onnxruntime wheel]
    #[arg(long, global = true, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// When to colour diagnostics
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColorChoice,
    /// More diagnostics; repeat for more still
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Global {
    /// The flags that say where things are, for a process started by this one.
    fn inherited(&self) -> Vec<OsString> {
        let paths = [
            ("--configs", &self.configs),
            ("--onnxruntime", &self.onnxruntime),
        ];
        let given = paths
            .into_iter()
            .filter_map(|(flag, path)| Some((flag, path.as_ref()?)));
        let mut flags: Vec<OsString> = Vec::new();
        for (flag, path) in given {
            flags.extend([flag.into(), path.into()]);
        }
        flags.extend(self.offline.then(|| "--offline".into()));
        flags
    }
}

/// How data is written to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Plan, measure, score, record, report; resumes an interrupted run
    Run(run::Args),
    /// Show the cases of an experiment with their costs, before anything runs
    Plan(plan::Args),
    /// List what this build and its configurations know
    List(list::Args),
    /// Show what this machine can run, and how to get the rest
    Doctor(doctor::Args),
    /// Measure one model, no experiment file
    Latency(latency::Args),
    /// Show where a model's time goes, beside the machine's measured peak
    Profile(profile::Args),
    /// Measure what this machine can do at most, and record it in runs of it
    Peak(peak::Args),
    /// Encode one image and print or save its features
    Encode(encode::Args),
    /// Answer a question about an image
    Generate(generate::Args),
    /// Compare a model's outputs with reference tensors, or with another engine's
    Verify(verify::Args),
    /// Check that what is timed and scored is what it seems: caches, state, batches, inputs, outputs
    Audit(audit::Args),
    /// Write a model as ONNX graphs
    Export(export::Args),
    /// Score answers made elsewhere
    Score(score::Args),
    /// Draw a data set, in the layout of the published one
    Synth(synth::Args),
    /// Write a page, tables and pictures over finished runs
    Report(report::Args),
    /// Keep latencies over commits, and say since when they are slower
    History(history::Args),
    /// Say whether a candidate is slower or worse than a base: the gate
    Compare(compare::Args),
    /// Count how often the gate is wrong on this machine
    Calibrate(calibrate::Args),
    /// Print a shell completion script
    Completions(completions::Args),
    /// Measure what standard input says, for another process of this program
    #[command(hide = true)]
    Worker,
}

/// Parses the command line, runs the command, prints its failure, and returns
/// the exit code.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no failure.
            let exit = match error.use_stderr() {
                true => Exit::Usage,
                false => Exit::Ok,
            };
            // Whoever closed the pipe has read enough.
            let _ = error.print();
            return exit;
        }
    };
    let terminal = Terminal::detect(cli.global.color);
    terminal.start_tracing(cli.global.verbose);
    let exit = match run(cli, terminal) {
        Ok(outcome) => outcome.exit(),
        Err(failure) => {
            if let Some(message) = failure.message() {
                terminal.print_error(&message);
            }
            failure.exit()
        }
    };
    tracing::debug!(exit = exit as u8, "done");
    exit
}

fn run(cli: Cli, terminal: Terminal) -> Result<Outcome, Failure> {
    let inherited = cli.global.inherited();
    let named = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty());
    if let Some(path) = cli.global.onnxruntime.or(named.map(PathBuf::from)) {
        library::set_path(path);
    }
    let variable = |name: &str| std::env::var(name).ok();
    let ctx = Context {
        configs: Configs::new(cli.global.configs.as_deref())?,
        hub: hub_options(variable, cli.global.offline),
        numbering: Numbering::of(variable),
        terminal,
        inherited,
    };
    match cli.command {
        Command::Plan(args) => plan::run(args, &ctx),
        Command::List(args) => list::run(args, &ctx),
        Command::Doctor(args) => doctor::run(args, &ctx),
        Command::Run(args) => self::run::run(args, &ctx),
        Command::Latency(args) => latency::run(args, &ctx),
        Command::Profile(args) => profile::run(args, &ctx),
        Command::Peak(args) => peak::run(args, &ctx),
        Command::Encode(args) => encode::run(args, &ctx),
        Command::Generate(args) => generate::run(args, &ctx),
        Command::Verify(args) => verify::run(args, &ctx),
        Command::Audit(args) => audit::run(args, &ctx),
        Command::Export(args) => export::run(args, &ctx),
        Command::Score(args) => score::run(args, &ctx),
        Command::Synth(args) => synth::run(args, &ctx),
        Command::Report(args) => report::run(args, &ctx),
        Command::History(args) => history::run(args, &ctx),
        Command::Compare(args) => compare::run(args, &ctx),
        Command::Calibrate(args) => calibrate::run(args, &ctx),
        Command::Completions(args) => completions::run(args, &ctx),
        Command::Worker => worker::run(&ctx),
    }
}

/// The whole command line, for completions and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

fn long_version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let revision = crate::revision().unwrap_or("revision unknown");
        format!("{} ({revision})", crate::VERSION)
    });
    &VERSION
}

fn after_help() -> String {
    format!(
        "{}\n\nEnvironment: NO_COLOR, RUST_LOG; Hugging Face's HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, \
         HF_TOKEN, HF_HUB_OFFLINE; ONNX Runtime's ORT_DYLIB_PATH; GITHUB_SHA or CI_COMMIT_SHA for \
         `history add`.",
        Exit::help()
    )
}
