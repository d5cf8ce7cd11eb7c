//! `vlmbench calibrate EXPERIMENT`: how often the gate is wrong on this machine.
//!
//! Gate after gate compares the base with itself, and with itself slowed down
//! for real, by the rule that `compare` would follow. What it says is counted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vlmbench_reports::gate::{CaseChange, NULL, Verdict, gated};
use vlmbench_reports::stats::wilson;
use vlmbench_reports::table::{Align, Table, column};

use super::Format;
use super::compare::{Rule, enough_pairs};
use super::plan::Selection;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::gate::{Arm, Blocks, Sitting, experiment_of, is_decided, matched, regressed};
use crate::launch::Slow;

/// Arguments of `calibrate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Experiment, or a MODEL
    pub experiment: String,
    /// Gates to count over; those in --out count, so an interrupted calibration goes on
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub gates: usize,
    /// A slowdown that is to be found; repeat for more
    #[arg(long, value_name = "STAGE=PERCENT", default_values = ["encode=5", "encode=2"])]
    pub slow: Vec<Slow>,
    /// How verdicts are reached
    #[command(flatten)]
    pub rule: Rule,
    /// Of the experiment
    #[command(flatten)]
    pub selection: Selection,
    /// Folder for what was measured
    #[arg(long, value_name = "DIR", default_value = "runs/calibrate")]
    pub out: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What one gate said of one arm: a line of `gates.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Said {
    gate: usize,
    /// `null`, or the slowdown.
    arm: String,
    /// Pairs of launches after which it was decided.
    pairs: usize,
    /// Whether nothing was inconclusive then.
    decided: bool,
    /// Figures that were said to have regressed.
    regressed: Vec<String>,
    /// Cases in which the slowed stage was said to have regressed, and those that have it.
    found: usize,
    of: usize,
    /// Change of every gated figure, by case.
    changes: BTreeMap<String, f64>,
}

/// Share of gates.
#[derive(Debug, Serialize)]
struct Share {
    arm: String,
    gates: usize,
    /// Gates that found any slowdown, or all of the slowed stages.
    count: usize,
    low: f64,
    high: f64,
    /// Mean pairs of launches.
    pairs: f64,
}

/// Counts, and prints the shares.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let settings = args.rule.settings()?;
    let output = |source| Failure::Output {
        path: args.out.clone(),
        source,
    };
    std::fs::create_dir_all(&args.out).map_err(output)?;
    let arm = |name: String, slow| -> Result<Arm, Failure> {
        Ok(Arm {
            name,
            program: None,
            experiment: experiment_of(&args.experiment, "experiment", &args.out, ctx)?,
            flags: args.selection.clone().overrides(None),
            slow,
        })
    };
    let mut arms = vec![arm("base".into(), None)?, arm(NULL.into(), None)?];
    for slow in &args.slow {
        arms.push(arm(slow.to_string(), Some(*slow))?);
    }
    let timed = arms[0].cases(ctx)?.timed;
    let cases = matched(&timed, &timed).map_err(Failure::Usage)?;
    if cases.is_empty() {
        return Err(Failure::NothingSelected {
            what: format!("experiment `{}`", args.experiment),
            hint: "it has no latency case that can run".into(),
        });
    }
    enough_pairs(&settings, cases.len())?;
    let path = args.out.join("gates.jsonl");
    let mut said = read(&path)?;
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(output)?;
    let bar = ctx.terminal.bar(args.gates as u64);
    let done = said.iter().map(|s| s.gate + 1).max().unwrap_or(0);
    bar.set_position(done as u64);
    for gate in done..args.gates {
        let sitting = Sitting {
            arms: &arms,
            cases: &cases,
            settings: &settings,
            rounds: args.rule.rounds,
            // Orders of no two gates are alike.
            seed: args.rule.seed.wrapping_add(1 + gate as u64),
        };
        let mut stopped: Vec<Option<(usize, Vec<CaseChange>)>> = vec![None; arms.len()];
        let mut enough = |look: usize, blocks: &Blocks| {
            let pairs = settings.looks[look];
            let last = look + 1 == settings.looks.len();
            for (arm, stopped) in stopped.iter_mut().enumerate().skip(1) {
                if stopped.is_none() {
                    let changes = sitting.changes(blocks, arm, pairs);
                    if last || is_decided(&changes) {
                        *stopped = Some((pairs, changes));
                    }
                }
            }
            stopped.iter().skip(1).all(Option::is_some)
        };
        let raw = args.out.join(format!("launches-{gate}.jsonl"));
        let mut say = |text: String| bar.set_message(text);
        sitting.measure(&raw, ctx, &mut say, &mut enough)?;
        for (index, stopped) in stopped.into_iter().enumerate().skip(1) {
            let Some((pairs, changes)) = stopped else {
                continue;
            };
            let slow = index.checked_sub(2).map(|i| args.slow[i]);
            let one = summed(gate, &arms[index].name, pairs, &changes, slow);
            let line = serde_json::to_string(&one).map_err(|e| Failure::Internal(e.to_string()))?;
            writeln!(file, "{line}").map_err(output)?;
            said.push(one);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let shares: Vec<Share> = arms
        .iter()
        .skip(1)
        .filter_map(|arm| share(&arm.name, &said))
        .collect();
    match args.format {
        Format::Text => ctx.print(&text(&shares, cases.len(), ctx.terminal.width))?,
        Format::Json => ctx.print_json(&shares)?,
    }
    Ok(Outcome::Done)
}

fn read(path: &Path) -> Result<Vec<Said>, Failure> {
    let Ok(text) = std::fs::read_to_string(path) else {
        return Ok(Vec::new());
    };
    let line = |(n, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| Failure::Input {
            path: path.to_path_buf(),
            problem: format!("line {}: {e}; remove it, or take another --out", n + 1),
        })
    };
    text.lines().enumerate().map(line).collect()
}

fn summed(
    gate: usize,
    arm: &str,
    pairs: usize,
    changes: &[CaseChange],
    slow: Option<Slow>,
) -> Said {
    let gated = gated(changes);
    let slowed = gated
        .clone()
        .filter(|(_, l)| slow.is_some_and(|slow| l.figure == slow.stage.figure()));
    Said {
        gate,
        arm: arm.to_owned(),
        pairs,
        decided: is_decided(changes),
        regressed: regressed(changes),
        found: slowed
            .clone()
            .filter(|(_, l)| l.verdict == Verdict::Regressed)
            .count(),
        of: slowed.count(),
        changes: gated
            .map(|(case, l)| (format!("{case} {}", l.figure), l.change))
            .collect(),
    }
}

/// Gates that found it: of the base itself any slowdown, of a slowed one every slowed stage.
fn share(arm: &str, said: &[Said]) -> Option<Share> {
    let own: Vec<&Said> = said.iter().filter(|s| s.arm == arm).collect();
    let found = |s: &&&Said| match s.of {
        0 => !s.regressed.is_empty(),
        of => s.found == of,
    };
    let count = own.iter().filter(found).count();
    let gates = own.len();
    let interval = wilson(count as f64 / gates as f64, gates)?;
    Some(Share {
        arm: arm.to_owned(),
        gates,
        count,
        low: interval.low,
        high: interval.high,
        pairs: own.iter().map(|s| s.pairs as f64).sum::<f64>() / gates as f64,
    })
}

fn text(shares: &[Share], cases: usize, width: usize) -> String {
    let mut table = Table::new(vec![
        column("arm", Align::Left, 0),
        column("gates", Align::Right, 0),
        column("said to be slower", Align::Right, 0),
        column("share", Align::Right, 0),
        column("95 % interval", Align::Right, 1),
        column("mean pairs", Align::Right, 2),
    ]);
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    for share in shares {
        table.push(vec![
            share.arm.clone(),
            share.gates.to_string(),
            share.count.to_string(),
            percent(share.count as f64 / share.gates as f64),
            format!("{} to {}", percent(share.low), percent(share.high)),
            format!("{:.1}", share.pairs),
        ]);
    }
    format!(
        "gates of {cases} cases; of `{NULL}`, the base against itself, any slowdown is a false alarm; a slowdown counts \
         as found where every case shows it in its stage\n\n{}",
        table.to_text(width)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_counts_if_it_says_anything_false_or_all_that_is_true() {
        let said = |arm: &str, regressed: &[&str], found, of| Said {
            gate: 0,
            arm: arm.into(),
            pairs: 12,
            decided: true,
            regressed: regressed.iter().map(|r| (*r).to_owned()).collect(),
            found,
            of,
            changes: BTreeMap::new(),
        };
        let all = [
            said(NULL, &[], 0, 0),
            said(NULL, &["encode of a"], 0, 0),
            said("slow", &["encode of a"], 1, 2),
            said("slow", &["encode of a", "encode of b"], 2, 2),
        ];
        let of = |arm| share(arm, &all).map(|s| (s.count, s.gates));
        assert_eq!(
            (of(NULL), of("slow"), of("other")),
            (Some((1, 2)), Some((1, 2)), None)
        );
    }
}
