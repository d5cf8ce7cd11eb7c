//! `vlmbench compare BASE CANDIDATE`: did it get slower, and does it still
//! answer right?

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vlmbench_reports::fronts::area_change;
use vlmbench_reports::gate::{
    self, Comparison, Conclusion, Design, Export, FrontChange, Settings, Side,
};
use vlmbench_reports::record::{CaseFacts, MANIFEST_FILE, Run};
use vlmbench_reports::report::{AccuracySource, Report};

use super::Format;
use super::export_to::ExportTo;
use super::plan::Selection;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::gate::{Arm, Blocks, Sitting, experiment_of, is_decided, matched, null, slowed};
use crate::launch::{Slow, SlowStage, program_or_this};
use crate::measure::clock::timestamp;

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What it is compared with: a run folder; with --live an experiment, or a MODEL
    pub base: String,
    /// What may have become slower, or worse: the same kinds
    pub candidate: String,
    /// Measure now: launches of both side by side, in pairs, until all is decided or the last look is over
    #[arg(long)]
    pub live: bool,
    /// The program that measures the base [default: this one]
    #[arg(long, value_name = "FILE", requires = "live")]
    pub base_program: Option<PathBuf>,
    /// The program that measures the candidate [default: this one]
    #[arg(long, value_name = "FILE", requires = "live")]
    pub candidate_program: Option<PathBuf>,
    /// How verdicts are reached
    #[command(flatten)]
    pub rule: Rule,
    /// Slow the candidate down on purpose, to see what the gate says
    #[arg(long, value_name = "STAGE=PERCENT", requires = "live")]
    pub slow: Option<Slow>,
    /// Slowdown of the base that the sitting must find in itself; the base is compared with itself as it is, too
    /// [default: encode=5, or prefill=5 where nothing is encoded]
    #[arg(long, value_name = "STAGE=PERCENT", requires = "live")]
    pub control: Option<Slow>,
    /// Without those controls: half of the launches
    #[arg(long, requires = "live")]
    pub no_controls: bool,
    /// Of both experiments
    #[command(flatten)]
    pub selection: Selection,
    /// Folder for what was measured and found [default: runs/compare]
    #[arg(long, value_name = "DIR", default_value = "runs/compare")]
    pub out: PathBuf,
    /// Also write it as junit, summary, annotations, bencher, action-benchmark-latency, action-benchmark-scores,
    /// csv or parquet; repeat for more [default file: in --out, annotations to standard output]
    #[arg(long, value_name = "FORMAT[=FILE]")]
    pub export: Vec<ExportTo<Export>>,
    /// Folder of `vlmbench history` that says how far sittings differ, for run folders
    #[arg(long, value_name = "DIR")]
    pub history: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// The rule of verdicts, fixed before anything is measured.
#[derive(Debug, clap::Args)]
pub struct Rule {
    /// Chance of any false alarm in the whole comparison
    #[arg(long, value_name = "P", default_value_t = 0.01)]
    pub alpha: f64,
    /// Change of a latency, percent, below which it is irrelevant even if it is real
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub relevant: f64,
    /// Slowdown, percent, that is tolerated: a figure passes if its interval ends below
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0)]
    pub tolerated: f64,
    /// Change of a score, points of 100, below which it is irrelevant
    #[arg(long, value_name = "POINTS", default_value_t = 0.5)]
    pub relevant_points: f64,
    /// Loss of a score, points of 100, that is tolerated
    #[arg(long, value_name = "POINTS", default_value_t = 2.0)]
    pub tolerated_points: f64,
    /// Pairs of launches after which it is looked whether all is decided
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = [12, 24, 48])]
    pub looks: Vec<usize>,
    /// Turns of a launch, each of about 100 ms or of one repetition
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub rounds: u32,
    /// Seed of all orders
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl Rule {
    /// The settings, if they can work.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let usage = |holds: bool, what: &str| match holds {
            true => Ok(()),
            false => Err(Failure::Usage(what.to_owned())),
        };
        usage(
            self.alpha > 0.0 && self.alpha < 1.0,
            "--alpha must be between 0 and 1",
        )?;
        usage(self.rounds >= 1, "--rounds must be at least 1")?;
        let rising = self.looks.windows(2).all(|two| two[0] < two[1]);
        usage(
            rising && self.looks.first().is_some_and(|n| *n >= 1),
            "--looks must rise, from at least 1",
        )?;
        let positive = [
            self.relevant,
            self.tolerated,
            self.relevant_points,
            self.tolerated_points,
        ];
        usage(
            positive.iter().all(|v| v.is_finite() && *v >= 0.0),
            "thresholds must not be negative",
        )?;
        Ok(Settings {
            alpha: self.alpha,
            relevant: self.relevant / 100.0,
            tolerated: self.tolerated / 100.0,
            relevant_points: self.relevant_points,
            tolerated_points: self.tolerated_points,
            looks: self.looks.clone(),
            ..Settings::default()
        })
    }
}

/// Compares, prints and writes what was found.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let settings = args.rule.settings()?;
    std::fs::create_dir_all(&args.out).map_err(|source| Failure::Output {
        path: args.out.clone(),
        source,
    })?;
    let mut comparison = match args.live {
        true => live(&args, &settings, ctx)?,
        false => finished(&args, &settings)?,
    };
    comparison.ended_at = timestamp();
    comparison.conclude();
    Export::Json.write(&comparison, &args.out.join("comparison.json"))?;
    Export::Summary.write(&comparison, &args.out.join("summary.md"))?;
    for ExportTo { format, file } in &args.export {
        match (format, file) {
            (Export::Annotations, None) => ctx.print(&gate::annotations(&comparison))?,
            (format, Some(file)) => format.write(&comparison, file)?,
            (format, None) => format.write(&comparison, &args.out.join(format.file_name()))?,
        }
    }
    match args.format {
        Format::Text => ctx.print(&gate::summary(&comparison))?,
        Format::Json => ctx.print_json(&comparison)?,
    }
    Ok(Outcome::Compared(comparison.conclusion))
}

fn empty(base: Side, candidate: Side, settings: &Settings) -> Comparison {
    Comparison {
        ended_at: String::new(),
        base,
        candidate,
        design: None,
        settings: settings.clone(),
        cases: Vec::new(),
        scores: Vec::new(),
        tradeoffs: Vec::new(),
        fronts: Vec::new(),
        controls: Vec::new(),
        problems: Vec::new(),
        conclusion: Conclusion::Inconclusive,
    }
}

/// Two run folders.
fn finished(args: &Args, settings: &Settings) -> Result<Comparison, Failure> {
    let [base, candidate] = [&args.base, &args.candidate].map(|dir| Run::read(Path::new(dir)));
    let (base, candidate) = (base?, candidate?);
    let settings = Settings {
        looks: Vec::new(),
        ..settings.clone()
    };
    let side = |run: &Run| Side {
        name: run.folder.display().to_string(),
        version: Some(run.manifest.tool.version.clone()),
        revision: run.manifest.tool.revision.clone(),
    };
    let mut comparison = empty(side(&base), side(&candidate), &settings);
    let spread = super::history::spread(args.history.as_deref(), &base)?;
    let scored = !gate::matched(&base, &candidate).is_empty();
    let timed = base
        .launches
        .iter()
        .any(|l| candidate.cases.contains_key(&l.case));
    let part = settings.shared(timed && scored);
    comparison.cases = gate::unpaired(&base, &candidate, &part, &spread);
    for change in &mut comparison.cases {
        let both = base
            .cases
            .get(&change.case)
            .zip(candidate.cases.get(&change.case));
        change.differences = both
            .map(|(a, b)| gate::differences(a, b))
            .unwrap_or_default();
    }
    if base.manifest.machine != candidate.manifest.machine && !comparison.cases.is_empty() {
        comparison.problems.push(
            "the runs are from different machines: their latencies cannot be compared for a regression".into(),
        );
    }
    comparison.design = (!comparison.cases.is_empty()).then_some(Design::Runs);
    comparison.scores = gate::scored(&base, &candidate, &part);
    comparison.tradeoffs = gate::tradeoffs(&comparison.cases, &comparison.scores, &|id| {
        base.cases.get(id)
    });
    comparison.fronts = fronts(&base, &candidate);
    if comparison.cases.is_empty() && comparison.scores.is_empty() {
        comparison.problems.push(
            "no case of both runs can be compared: latencies need launches that came to their end, scores the same \
             suites and samples"
                .into(),
        );
    }
    Ok(comparison)
}

/// Areas under the fronts of two runs that measured time and answers.
fn fronts(base: &Run, candidate: &Run) -> Vec<FrontChange> {
    let (ours, theirs) = (
        Report::new(vec![base.clone()]),
        Report::new(vec![candidate.clone()]),
    );
    let sources = ours.accuracy_sources().into_iter();
    let change = |source: AccuracySource<'_>| {
        let (change, interval) = area_change(&ours, &theirs, source)?;
        let suite = match source {
            AccuracySource::Measured { suite, profile } => format!("{suite}.{profile}"),
            AccuracySource::Mean => "mean".into(),
            AccuracySource::Published(_) => return None,
        };
        Some(FrontChange {
            suite,
            change,
            interval,
        })
    };
    sources.filter_map(change).collect()
}

/// Two sides, measured now.
fn live(args: &Args, settings: &Settings, ctx: &Context) -> Result<Comparison, Failure> {
    let flags = || args.selection.clone().overrides(None);
    let arm = |name: &str, what: &str, program: &Option<PathBuf>| -> Result<Arm, Failure> {
        Ok(Arm {
            name: name.into(),
            program: program.clone(),
            experiment: experiment_of(what, name, &args.out, ctx)?,
            flags: flags(),
            slow: None,
        })
    };
    let base = arm("base", &args.base, &args.base_program)?;
    let mut candidate = arm("candidate", &args.candidate, &args.candidate_program)?;
    candidate.slow = args.slow;
    let side = |what: &str, program: &Option<PathBuf>| Side {
        name: match program {
            Some(program) => format!("{what} by {}", program.display()),
            None => what.to_owned(),
        },
        version: program.is_none().then(|| crate::VERSION.to_owned()),
        revision: program
            .is_none()
            .then(crate::revision)
            .flatten()
            .map(str::to_owned),
    };
    let sides = (
        side(&args.base, &args.base_program),
        side(&args.candidate, &args.candidate_program),
    );
    let mut comparison = empty(sides.0, sides.1, settings);
    let (ours, theirs) = (base.cases(ctx)?, candidate.cases(ctx)?);
    for (name, cases) in [("base", &ours), ("candidate", &theirs)] {
        let broken = cases.broken.iter();
        comparison
            .problems
            .extend(broken.map(|why| format!("{name}: {why}")));
    }
    let cases = matched(&ours.timed, &theirs.timed).map_err(Failure::Usage)?;
    let asks = ours.asks && theirs.asks;
    let part = settings.shared(asks && !cases.is_empty());
    enough_pairs(&part, cases.len())?;
    let mut timed = Vec::new();
    if !cases.is_empty() {
        let stage = match cases.iter().all(|(base, _)| base.encodes) {
            true => SlowStage::Encode,
            false => SlowStage::Prefill,
        };
        let usual = Slow { stage, by: 0.05 };
        let control = (!args.no_controls).then(|| args.control.unwrap_or(usual));
        let both = [base.clone(), candidate.clone()];
        let measured = latencies(args, &part, both, &cases, control, ctx, &mut comparison);
        timed = unless_broken(measured, &mut comparison)?.unwrap_or_default();
    }
    let answers = asks.then(|| {
        Ok((
            asked(&base, &args.out, ctx)?,
            asked(&candidate, &args.out, ctx)?,
        ))
    });
    let answers = answers
        .map(|answers| unless_broken(answers, &mut comparison))
        .transpose()?;
    if let Some(Some((base, candidate))) = answers {
        comparison.scores = gate::scored(&base, &candidate, &part);
        let of_run = |id: &str| base.cases.get(id);
        let facts = |id: &str| of_run(id).or_else(|| timed.iter().find(|f| f.case == id));
        comparison.tradeoffs = gate::tradeoffs(&comparison.cases, &comparison.scores, &facts);
    }
    if cases.is_empty() && !asks {
        comparison
            .problems
            .push("there is nothing to compare".into());
    }
    Ok(comparison)
}

/// Gated figures of a case at most: preprocess, encode, project, prefill, TPOT.
const FIGURES: usize = 5;

/// Errors where no slowdown, however large, could be told from chance: one sign
/// in all pairs has a p of `2^-pairs`, times the figures it is one of.
pub(super) fn enough_pairs(settings: &Settings, cases: usize) -> Result<(), Failure> {
    let last = settings.looks.last().copied().unwrap_or(0);
    let wanted = settings.alpha / settings.looks.len().max(1) as f64;
    let figures = (FIGURES * cases) as f64;
    let least = (figures / wanted).log2().ceil() as usize;
    match cases == 0 || last >= least {
        true => Ok(()),
        false => Err(Failure::Usage(format!(
            "--looks ends at {last} pairs, after which no slowdown of one of up to {figures} figures can be told from \
             chance at an alpha of {}: {least} pairs are the least",
            settings.alpha
        ))),
    }
}

/// A side that does not run breaks the comparison, and is part of it: whoever
/// reads its files is to find it there.
fn unless_broken<T>(
    measured: Result<T, Failure>,
    comparison: &mut Comparison,
) -> Result<Option<T>, Failure> {
    match measured {
        Err(Failure::Broken(problem)) => {
            comparison.problems.push(problem);
            Ok(None)
        }
        measured => measured.map(Some),
    }
}

/// Pairs of launches of the cases that are timed; what was measured of the base.
fn latencies(
    args: &Args,
    settings: &Settings,
    [base, candidate]: [Arm; 2],
    cases: &[(crate::gate::Timed, crate::gate::Timed)],
    control: Option<Slow>,
    ctx: &Context,
    comparison: &mut Comparison,
) -> Result<Vec<CaseFacts>, Failure> {
    let mut arms = vec![base.clone(), candidate];
    if let Some(slow) = control {
        let named = |name: &str, slow| Arm {
            name: name.into(),
            slow,
            ..base.clone()
        };
        arms.extend([named(gate::NULL, None), named(gate::SLOWED, Some(slow))]);
    }
    let sitting = Sitting {
        arms: &arms,
        cases,
        settings,
        rounds: args.rule.rounds,
        seed: args.rule.seed,
    };
    let controls = |blocks: &Blocks, pairs: usize| {
        control.map(|slow| {
            [
                null(&sitting.changes(blocks, 2, pairs)),
                slowed(&sitting.changes(blocks, 3, pairs), slow),
            ]
        })
    };
    let bar = ctx.terminal.spinner("".into());
    let mut pairs = 0;
    let mut enough = |look: usize, blocks: &Blocks| {
        pairs = settings.looks[look];
        let decided = is_decided(&sitting.changes(blocks, 1, pairs));
        decided && controls(blocks, pairs).is_none_or(|all| all.iter().all(|c| c.held))
    };
    let raw = args.out.join("launches.jsonl");
    let _ = std::fs::remove_file(&raw);
    let mut say = |text: String| bar.set_message(text);
    let blocks = sitting.measure(&raw, ctx, &mut say, &mut enough)?;
    bar.finish_and_clear();
    comparison.design = Some(Design::Pairs);
    comparison.cases = sitting.changes(&blocks, 1, pairs);
    comparison.controls = controls(&blocks, pairs).map(Vec::from).unwrap_or_default();
    if blocks.again > 0 {
        let text = format!(
            "{} pairs measured again, because the hypervisor took more than 10 % of a launch",
            blocks.again
        );
        comparison
            .cases
            .iter_mut()
            .for_each(|case| case.flags.push(text.clone()));
    }
    let first = blocks.of_case.iter().filter_map(|blocks| blocks.first());
    Ok(first.filter_map(|block| block[0].facts.clone()).collect())
}

/// Asks an arm's suites, by its own program, into a run folder of its own.
fn asked(arm: &Arm, out: &Path, ctx: &Context) -> Result<Run, Failure> {
    let folder = out.join(&arm.name);
    // Another comparison's answers are not this one's; whatever else lies there is somebody's.
    if folder.join(MANIFEST_FILE).is_file() {
        std::fs::remove_dir_all(&folder).map_err(|source| Failure::Output {
            path: folder.clone(),
            source,
        })?;
    }
    let program = program_or_this(arm.program.as_deref())?;
    let mut command = Command::new(&program);
    command.args(&ctx.inherited);
    command.args(["run", &arm.experiment, "--only", "quality", "--out"]);
    command.arg(&folder).args(arm.flags.arguments());
    let status = command
        .stdout(Stdio::null())
        .status()
        .map_err(|e| Failure::Input {
            path: program.clone(),
            problem: format!("cannot be run: {e}"),
        })?;
    // Failed samples are on record, and count.
    match status.code() {
        Some(0 | 5) => Ok(Run::read(&folder)?),
        _ => Err(Failure::Broken(format!(
            "{}: its suites were not asked: {status}",
            arm.name
        ))),
    }
}
