//! `vlmbench history`: latencies over commits, and since when they are slower.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use serde_json::json;
use vlmbench_reports::{
    history::{self, Change, Entry, Rules, Series, Store},
    plot::Draw,
    record::Run,
    summary::Figure,
    table::{self, Align, Table, column},
};

use super::Format;
use crate::context::{Context, commit_of_ci};
use crate::error::{Failure, Outcome};

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with a history.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Add a finished run's latencies, once
    Add(Add),
    /// Show series with their changes, as a table and as pictures
    Show(Show),
    /// Exit with 6 if a figure has become slower for good
    Check(Check),
}

/// Where the history is, and how to print.
#[derive(Debug, clap::Args)]
pub struct At {
    /// Folder of the history
    #[arg(long, value_name = "DIR", default_value = ".vlmbench/history")]
    pub store: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `history add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Commit that was measured [default: GITHUB_SHA, CI_COMMIT_SHA, or git's HEAD here]
    #[arg(long, value_name = "SHA")]
    pub commit: Option<String>,
    #[command(flatten)]
    at: At,
}

/// Arguments of `history show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// Cases whose id matches; `*` stands for any text, `?` for a letter
    #[arg(long, value_name = "GLOB", default_value = "*")]
    pub case: String,
    /// Folder for the pictures [default: the history's]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    at: At,
}

/// Arguments of `history check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Runs after which a slowdown is no longer an alarm
    #[arg(long, value_name = "RUNS", default_value_t = Rules::default().recent)]
    pub recent: usize,
    #[command(flatten)]
    at: At,
}

/// Adds to a history, shows it or checks it.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    match args.action {
        Action::Add(args) => add(&args, ctx),
        Action::Show(args) => show(&args, ctx),
        Action::Check(args) => check(&args, ctx),
    }
}

fn add(args: &Add, ctx: &Context) -> Result<Outcome, Failure> {
    let run = Run::read(&args.run)?;
    let named = args.commit.clone().filter(|commit| !commit.is_empty());
    let commit = named
        .or_else(|| commit_of_ci(|name| std::env::var(name).ok()))
        .or_else(head);
    if commit.is_none() {
        tracing::warn!("no commit is known for the run: give --commit, or run in a git checkout");
    }
    let store = Store::new(&args.at.store);
    let added = store.add(&run, commit.as_deref())?;
    let Some(first) = added.first() else {
        return Err(Failure::NothingSelected {
            what: args.run.display().to_string(),
            hint: "it has no latency case that ended well, and a history is of latencies".into(),
        });
    };
    match args.at.format {
        Format::Json => ctx.print_json(&json!({
            "store": store.path(),
            "run": first.run,
            "commit": commit,
            "machine": first.machine,
            "added": added.len(),
        }))?,
        Format::Text => ctx.print(&format!(
            "added {} figures at commit {} on machine {} to {}\n",
            added.len(),
            short(commit.as_deref()),
            first.machine,
            store.path().display()
        ))?,
    }
    Ok(Outcome::Done)
}

/// The commit that is checked out in the working directory.
fn head() -> Option<String> {
    let git = Process::new("git")
        .args(["rev-parse", "HEAD"])
        .stderr(Stdio::null())
        .output();
    let output = git.ok().filter(|output| output.status.success())?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!commit.is_empty()).then_some(commit)
}

fn show(args: &Show, ctx: &Context) -> Result<Outcome, Failure> {
    let mut entries = read(&args.at.store)?;
    entries.retain(|entry| glob(&args.case, &entry.case));
    if entries.is_empty() {
        return Err(Failure::NothingSelected {
            what: format!("--case {}", args.case),
            hint: "no case of the history has such an id".into(),
        });
    }
    let changes = history::changes(&entries, history::detect, Rules::default());
    let out = args.out.as_ref().unwrap_or(&args.at.store);
    let written = |source| Failure::Output {
        path: out.clone(),
        source,
    };
    std::fs::create_dir_all(out).map_err(written)?;
    let mut pictures = Vec::new();
    for (case, plot) in history::pictures(&entries, &changes) {
        let stem = format!("history-{}", file_stem(&case));
        let (svg, png) = (
            out.join(format!("{stem}.svg")),
            out.join(format!("{stem}.png")),
        );
        plot.draw_svg(&svg)?;
        plot.draw_png(&png)?;
        pictures.push((case, svg, png));
    }
    let all = history::series(&entries);
    match args.at.format {
        Format::Json => ctx.print_json(&json!({
            "series": all.iter().map(as_json).collect::<Vec<_>>(),
            "changes": changes,
            "pictures": pictures.iter().map(|(case, svg, png)| json!({
                "case": case,
                "svg": svg,
                "png": png,
            })).collect::<Vec<_>>(),
        }))?,
        Format::Text => {
            let mut text = table(&all, &changes).to_text(ctx.terminal.width);
            text.push('\n');
            text.push_str(&lines(&changes));
            for (_, _, png) in &pictures {
                text.push_str(&format!("picture  {}\n", png.display()));
            }
            ctx.print(&text)?;
        }
    }
    Ok(Outcome::Done)
}

fn check(args: &Check, ctx: &Context) -> Result<Outcome, Failure> {
    let entries = read(&args.at.store)?;
    let rules = Rules {
        recent: args.recent,
    };
    let changes = history::changes(&entries, history::detect, rules);
    let slower = history::slower_now(&changes);
    match args.at.format {
        Format::Json => ctx.print_json(&json!({"slower": slower, "changes": changes}))?,
        Format::Text => {
            let mut text = lines(&changes);
            let count = history::series(&entries)
                .iter()
                .filter(|s| s.newest)
                .count();
            text.push_str(&match slower {
                true => format!("slower now, marked with !, of {count} figures\n"),
                false => format!("no figure of {count} is slower now\n"),
            });
            ctx.print(&text)?;
        }
    }
    Ok(match slower {
        true => Outcome::Regression,
        false => Outcome::Done,
    })
}

/// How far sittings of the machine of `base` differ, by case and figure, as a
/// history says; nothing without one.
pub fn spread(
    folder: Option<&Path>,
    base: &Run,
) -> Result<impl Fn(&str, Figure) -> Option<f64>, Failure> {
    let entries = folder.map(read).transpose()?.unwrap_or_default();
    let machine = history::fingerprint(&base.manifest.machine);
    Ok(move |case: &str, figure: Figure| {
        history::session_spread(&entries, case, figure.name(), &machine)
    })
}

/// The entries of a history that must be there.
fn read(folder: &Path) -> Result<Vec<Entry>, Failure> {
    let store = Store::new(folder);
    let entries = store.read()?;
    match entries.is_empty() {
        true => Err(Failure::Input {
            path: store.path().to_path_buf(),
            problem: "there is no history yet; add a run with `vlmbench history add RUN`".into(),
        }),
        false => Ok(entries),
    }
}

fn table(all: &[Series<'_>], changes: &[Change]) -> Table {
    let mut table = Table::new(vec![
        column("case", Align::Left, 0),
        column("figure", Align::Left, 0),
        column("machine", Align::Left, 2),
        column("CPU", Align::Left, 4),
        column("engine", Align::Left, 5),
        column("runs", Align::Right, 1),
        column("first ms", Align::Right, 3),
        column("last ms", Align::Right, 0),
        column("changes", Align::Right, 1),
    ]);
    for one in all {
        let (Some(first), Some(last)) = (one.entries.first(), one.entries.last()) else {
            continue;
        };
        table.push(vec![
            one.case.to_owned(),
            one.figure.to_owned(),
            one.conditions.machine.clone(),
            last.cpu.clone().unwrap_or_else(|| "–".into()),
            last.used
                .engine
                .clone()
                .unwrap_or_else(|| last.backend.clone()),
            one.entries.len().to_string(),
            table::milliseconds(first.value_ms),
            table::milliseconds(last.value_ms),
            changes.iter().filter(|c| c.is_of(one)).count().to_string(),
        ]);
    }
    table
}

/// Changes, a line each; `!` before those that make a check fail.
fn lines(changes: &[Change]) -> String {
    let line = |change: &Change| {
        let engines = change
            .engines
            .as_ref()
            .map_or(String::new(), |(before, after)| {
                format!(", engine {before} -> {after}")
            });
        format!(
            "{} {} {}: {:+.1} % ({} -> {} ms, p {}) between {} and {}, {} runs since{engines}\n",
            if change.slower_now { "!" } else { " " },
            change.case,
            change.figure,
            100.0 * change.change,
            table::milliseconds(change.before_ms),
            table::milliseconds(change.after_ms),
            chance(change.p),
            place(change.last_before.as_deref(), &change.last_before_at),
            place(change.first_after.as_deref(), &change.first_after_at),
            change.runs_after,
        )
    };
    changes.iter().map(line).collect()
}

fn chance(p: f64) -> String {
    match p < 0.0001 {
        true => format!("{p:.0e}"),
        false => format!("{p:.4}"),
    }
}

fn place(commit: Option<&str>, time: &str) -> String {
    match commit {
        Some(_) => short(commit),
        None => format!("the run of {time}"),
    }
}

fn short(commit: Option<&str>) -> String {
    commit.map_or("unknown".into(), |commit| commit.chars().take(12).collect())
}

fn as_json(series: &Series<'_>) -> serde_json::Value {
    json!({
        "case": series.case,
        "figure": series.figure,
        "conditions": series.conditions,
        "newest": series.newest,
        "entries": series.entries,
    })
}

/// Whether a text matches a pattern of `*` (any text) and `?` (a letter).
fn glob(pattern: &str, text: &str) -> bool {
    let mut letters = pattern.chars();
    match letters.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = letters.as_str();
            let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            starts.into_iter().any(|at| glob(rest, &text[at..]))
        }
        Some(wanted) => {
            let mut others = text.chars();
            let found = others.next();
            let same = found.is_some_and(|c| wanted == '?' || wanted == c);
            same && glob(letters.as_str(), others.as_str())
        }
    }
}

fn file_stem(case: &str) -> String {
    let safe = |c: char| match c.is_alphanumeric() || ".-_@".contains(c) {
        true => c,
        false => '-',
    };
    case.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_ids() {
        for (pattern, matches) in [
            ("*", true),
            ("latency/*", true),
            ("*/candle-cpu/*", true),
            ("latency/fastvit?d/*px", true),
            ("latency", false),
            ("*512px", false),
            ("", false),
        ] {
            assert_eq!(
                glob(pattern, "latency/fastvithd/candle-cpu/f32/256px"),
                matches,
                "{pattern}"
            );
        }
    }
}
