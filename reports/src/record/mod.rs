//! The run folder: the only truth about a run.
//!
//! `manifest.json` says what was asked, where and by what; it is written before the first case.
//! `records.jsonl` says what happened, one JSON object a line, append-only. Tables, fronts and
//! pictures are always derived from these two files and never stored as facts.
//!
//! Readers ignore keys and record kinds they do not know, so a later tool may add either without a
//! new format version. A change that would make an old reader wrong raises [`FORMAT_VERSION`].

mod energy;
mod entry;
mod manifest;
mod reader;
mod writer;

pub use energy::{Energy, Joules};
pub use entry::{
    Answer, CPU, CaseEnd, CaseFacts, CaseOutcome, Component, DeviceTimes, Exhibit, Extraction,
    FinishReason, GpuNoise, GpuState, Labels, LatencySample, Launch, Noise, Peak, Record,
    SampleOutcome, SampleRecord, Score, StageCost, StageTimes, TokenCounts, Used, Weights,
    Workload,
};
pub use manifest::{Cache, FORMAT_VERSION, Gpu, Machine, Manifest, Tool, experiment_digest};
pub(crate) use reader::Firsts;
pub use reader::{Line, Run, lines};
pub use writer::{CaseProgress, Progress, RunWriter};

/// Name of the manifest inside a run folder.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Name of the append-only record log inside a run folder.
pub const RECORDS_FILE: &str = "records.jsonl";
