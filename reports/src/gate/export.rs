//! The formats by name, and their files.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Serialize;

use super::{
    Comparison, Direction, action_benchmark, action_benchmark_report, annotations, bencher,
    bencher_report, junit, lm_eval, rows, summary,
};
use crate::{
    error::{Error, Result, io},
    frame,
    report::Report,
};

/// A format of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// JUnit XML.
    Junit,
    /// Markdown.
    Summary,
    /// GitHub's workflow commands, meant for standard output.
    Annotations,
    /// Bencher Metric Format.
    Bencher,
    /// github-action-benchmark, `customSmallerIsBetter`.
    ActionBenchmarkLatency,
    /// github-action-benchmark, `customBiggerIsBetter`.
    ActionBenchmarkScores,
    /// Rows as CSV.
    Csv,
    /// Rows as Parquet.
    Parquet,
    /// All of it as JSON.
    Json,
}

impl Export {
    /// Every format with its name and the file that it goes to if none is given.
    pub const ALL: [(Export, &'static str, &'static str); 9] = [
        (Export::Junit, "junit", "junit.xml"),
        (Export::Summary, "summary", "summary.md"),
        (Export::Annotations, "annotations", "annotations.txt"),
        (Export::Bencher, "bencher", "bencher.json"),
        (
            Export::ActionBenchmarkLatency,
            "action-benchmark-latency",
            "action-benchmark-latency.json",
        ),
        (
            Export::ActionBenchmarkScores,
            "action-benchmark-scores",
            "action-benchmark-scores.json",
        ),
        (Export::Csv, "csv", "comparison.csv"),
        (Export::Parquet, "parquet", "comparison.parquet"),
        (Export::Json, "json", "comparison.json"),
    ];

    /// The file that it goes to if none is given.
    pub fn file_name(self) -> &'static str {
        let found = Export::ALL.iter().find(|(export, ..)| *export == self);
        found.map_or("comparison.json", |(_, _, file)| file)
    }

    /// The content of its file: UTF-8 text, but for [`Export::Parquet`].
    ///
    /// # Errors
    /// [`Error::Frame`], [`Error::Encode`].
    pub fn render(&self, comparison: &Comparison) -> Result<Vec<u8>> {
        Ok(match self {
            Export::Junit => junit(comparison).into_bytes(),
            Export::Summary => summary(comparison).into_bytes(),
            Export::Annotations => annotations(comparison).into_bytes(),
            Export::Bencher => json(&bencher(comparison))?,
            Export::ActionBenchmarkLatency => {
                json(&action_benchmark(comparison, Direction::Latencies))?
            }
            Export::ActionBenchmarkScores => {
                json(&action_benchmark(comparison, Direction::Scores))?
            }
            Export::Csv => frame::csv(&rows(comparison)?)?.into_bytes(),
            Export::Parquet => frame::parquet(&mut rows(comparison)?)?,
            Export::Json => json(comparison)?,
        })
    }

    /// Writes its file, over an earlier one. Folders above it are made.
    ///
    /// # Errors
    /// Those of [`Export::render`]; [`Error::Io`].
    pub fn write(&self, comparison: &Comparison, path: &Path) -> Result<()> {
        put(path, &self.render(comparison)?)
    }
}

impl FromStr for Export {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        named(name, &Export::ALL)
    }
}

/// A format of finished runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunExport {
    /// Bencher Metric Format.
    Bencher,
    /// github-action-benchmark, `customSmallerIsBetter`.
    ActionBenchmarkLatency,
    /// github-action-benchmark, `customBiggerIsBetter`.
    ActionBenchmarkScores,
    /// lm-evaluation-harness, a folder with a results file for each model.
    LmEval,
}

impl RunExport {
    /// Every format with its name and the file, or folder, that it goes to if none is given.
    pub const ALL: [(RunExport, &'static str, &'static str); 4] = [
        (RunExport::Bencher, "bencher", "bencher.json"),
        (
            RunExport::ActionBenchmarkLatency,
            "action-benchmark-latency",
            "action-benchmark-latency.json",
        ),
        (
            RunExport::ActionBenchmarkScores,
            "action-benchmark-scores",
            "action-benchmark-scores.json",
        ),
        (RunExport::LmEval, "lm-eval", "lm-eval"),
    ];

    /// The file, or folder, that it goes to if none is given.
    pub fn file_name(self) -> &'static str {
        let found = RunExport::ALL.iter().find(|(export, ..)| *export == self);
        found.map_or("bencher.json", |(_, _, file)| file)
    }

    /// Writes its file, or its files below the folder `path`, over earlier ones. Returns them.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::Io`].
    pub fn write(&self, report: &Report, path: &Path) -> Result<Vec<PathBuf>> {
        let value = match self {
            RunExport::Bencher => bencher_report(report),
            RunExport::ActionBenchmarkLatency => {
                action_benchmark_report(report, Direction::Latencies)
            }
            RunExport::ActionBenchmarkScores => action_benchmark_report(report, Direction::Scores),
            RunExport::LmEval => {
                let mut files = Vec::new();
                for file in lm_eval(report) {
                    let path = path.join(&file.path);
                    put(&path, &json(&file.results)?)?;
                    files.push(path);
                }
                return Ok(files);
            }
        };
        put(path, &json(&value)?)?;
        Ok(vec![path.to_path_buf()])
    }
}

impl FromStr for RunExport {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        named(name, &RunExport::ALL)
    }
}

fn named<E: Copy>(name: &str, all: &[(E, &str, &str)]) -> std::result::Result<E, String> {
    let found = all.iter().find(|(_, known, _)| *known == name);
    found.map(|(export, ..)| *export).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(_, name, _)| *name).collect();
        format!("unknown format `{name}`; there are {}", names.join(", "))
    })
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| Error::Encode { source })?;
    text.push(b'\n');
    Ok(text)
}

fn put(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(io("create", folder))?;
    }
    fs::write(path, content).map_err(io("write", path))
}
