//! The records of a run: one type per kind of line in `records.jsonl`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Energy;
use crate::published::Series;

/// One line of `records.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(
    clippy::large_enum_variant,
    reason = "a log has few cases, and a record is held only while it is read or written"
)]
pub enum Record {
    /// Static facts of a case, once it is loaded.
    Case(CaseFacts),
    /// One timed repetition.
    Latency(LatencySample),
    /// A process launch came to the end of a latency case.
    Launch(Launch),
    /// One scored sample.
    Sample(SampleRecord),
    /// How a case ended.
    CaseEnd(CaseEnd),
    /// A sample that the gallery shows.
    Exhibit(Exhibit),
    /// What the machine can do at most, measured.
    Peak(Peak),
    /// Published figures that the report compares with, copied so that the folder stands alone.
    Published(Series),
    /// A kind that this tool does not know; kept in the file, ignored by readers.
    #[serde(other)]
    Unknown,
}

/// What a case measures. Latency and quality never come from the same pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// A pass over a dataset, greedy decoding, scored.
    Quality,
    /// Fixed image, prompt and output length, repeated.
    EndToEndLatency,
    /// The vision encoder alone, repeated.
    EncoderLatency,
}

/// What is static about one case: what was asked, and what was really used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseFacts {
    /// Case id, unique in the run.
    pub case: String,
    /// What is measured.
    pub workload: Workload,
    /// What the case is made of.
    pub labels: Labels,
    /// Where the weights come from.
    pub weights: Weights,
    /// Visual tokens that the decoder sees; `None` without a decoder, or when they vary by image.
    pub visual_tokens: Option<u32>,
    /// Visual tokens that the decoder's later layers still see, where it drops some; `None` where it
    /// keeps them all, and in runs of before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visual_tokens_kept: Option<u32>,
    /// Text tokens of the prompt; `None` when they vary by sample.
    pub prompt_tokens: Option<u32>,
    /// Parameters by component (`encoder`, `projector`, `decoder`).
    #[serde(default)]
    pub components: BTreeMap<String, Component>,
    /// Computed cost by stage (`encode`, `project`, `prefill`, `decode`).
    #[serde(default)]
    pub stages: BTreeMap<String, StageCost>,
    /// Largest input plus output of one operation in bytes, computed.
    pub activation_peak_bytes: Option<u64>,
    /// What the backend says that it really uses.
    pub used: Used,
}

/// What a case is made of, in words fit for a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Model or recipe name.
    pub model: String,
    /// Vision encoder.
    pub encoder: String,
    /// Language model; `None` for an encoder alone.
    pub decoder: Option<String>,
    /// Suite id; `None` for a latency case.
    pub suite: Option<String>,
    /// Prompt and scoring profile; `None` for a latency case.
    pub profile: Option<String>,
    /// Engine asked for.
    pub backend: String,
    /// Device asked for.
    pub device: String,
    /// Precision asked for.
    pub precision: String,
    /// Side of the square encoder input in pixels.
    pub resolution: u32,
    /// Whether the images were withheld: what can be guessed from the questions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blind: bool,
}

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Weights {
    /// Right shapes, random values: good for latency, meaningless for accuracy.
    Seeded {
        /// Seed of the generator.
        seed: u64,
    },
    /// Read from files.
    Checkpoint {
        /// Folder or hub id with its revision.
        origin: String,
        /// Digests by file name.
        #[serde(default)]
        digests: BTreeMap<String, String>,
    },
}

impl Weights {
    /// Whether the values are random, so that no accuracy may be reported.
    pub fn is_seeded(&self) -> bool {
        matches!(self, Self::Seeded { .. })
    }
}

/// A part of the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Number of parameters.
    pub parameters: u64,
}

/// Computed cost of a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageCost {
    /// Floating-point operations, a multiply-add counted as 2.
    pub flops: u64,
    /// Bytes read and written; `None` when not counted.
    pub bytes: Option<u64>,
}

/// What was really used, as the backend reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Engine with the version of its library; `None` in runs of before it was
    /// recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The engine's settings by name, where it has any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Worker threads.
    pub threads: Option<u32>,
    /// Device.
    pub device: String,
    /// Element type of weights and activations.
    pub dtype: String,
    /// Instruction-set extensions that the kernels use.
    #[serde(default)]
    pub simd: Vec<String>,
}

/// Durations of the stages of one request, in nanoseconds. A stage that the backend cannot
/// separate is `None`, never zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimes {
    /// From encoded image bytes to encoder input.
    pub preprocess_ns: Option<u64>,
    /// Vision encoder.
    pub encode_ns: Option<u64>,
    /// Projector.
    pub project_ns: Option<u64>,
    /// Language model over visual and text tokens, up to the first logits.
    pub prefill_ns: Option<u64>,
    /// Each decode step, the first of which makes the *second* token (prefill makes the first).
    #[serde(default)]
    pub decode_ns: Vec<u64>,
    /// How much of it was the device at work, by its own clock, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceTimes>,
}

/// The stages of one request as a device other than the host timed them, in nanoseconds:
/// from the first work of a stage to its last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceTimes {
    /// Vision encoder.
    pub encode_ns: Option<u64>,
    /// Projector.
    pub project_ns: Option<u64>,
    /// Language model up to the first logits.
    pub prefill_ns: Option<u64>,
    /// Each decode step.
    #[serde(default)]
    pub decode_ns: Vec<u64>,
}

/// One timed repetition of a latency case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencySample {
    /// Case id.
    pub case: String,
    /// Which process launch measured it, 0 for the first of the case.
    #[serde(default)]
    pub launch: u32,
    /// Index of the repetition; warm-up and timed repetitions count separately, each from 0.
    pub iteration: u32,
    /// Whether it only warms up; never part of a figure.
    #[serde(default)]
    pub warm_up: bool,
    /// Durations of the stages.
    pub stages: StageTimes,
    /// Wall time from encoded image bytes to the first token, measured as one interval.
    pub ttft_user_ns: Option<u64>,
}

/// A process launch that measured a latency case to its end. Launches are what a figure is
/// replicated by: repetitions within one share its memory layout and its minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Case id.
    pub case: String,
    /// Its number, that of its samples.
    pub launch: u32,
    /// What may have disturbed it.
    pub noise: Noise,
    /// What its timed repetitions took; `None` in runs of before it was recorded, and where nothing was timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Energy>,
}

/// Signs of disturbance over the timed repetitions of a launch. `None` where the system does not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Noise {
    /// How long it was watched, seconds.
    pub seconds: f64,
    /// Share of the time of all cores that the hypervisor gave to others.
    pub steal: Option<f64>,
    /// Share of the time of all cores that other processes used.
    pub others: Option<f64>,
    /// Times that the process was taken off a core.
    pub preempted: Option<u64>,
    /// Times that it waited by itself.
    pub yielded: Option<u64>,
    /// Page faults without reading.
    pub minor_faults: Option<u64>,
    /// Page faults that read from a disk.
    pub major_faults: Option<u64>,
    /// Mean clock of the cores at the end, MHz.
    pub clock_mhz: Option<f64>,
    /// Times that a core was throttled by heat.
    pub throttled: Option<u64>,
    /// The GPU that it ran on; `None` on other devices, and where the driver does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuNoise>,
}

/// A GPU before the first and after the last timed repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuNoise {
    /// Before the first.
    pub begin: GpuState,
    /// After the last.
    pub end: GpuState,
}

impl GpuNoise {
    /// Why its clock was lower than it could have been, at either end, each reason once. Idleness, and clocks that
    /// somebody set, are no disturbance.
    pub fn held_back(&self) -> BTreeSet<&str> {
        const AS_MEANT: [&str; 3] = [
            "gpu_idle",
            "applications_clocks_setting",
            "display_clock_setting",
        ];
        let ends = [&self.begin, &self.end].into_iter();
        let reasons = ends.flat_map(|state| state.throttle.iter().flatten());
        reasons
            .map(String::as_str)
            .filter(|reason| !AS_MEANT.contains(reason))
            .collect()
    }
}

/// A GPU at one moment. `None` where the driver does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuState {
    /// Clock of its multiprocessors, MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Clock of its memory, MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Temperature of the die, degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Why clocks are not higher, in NVML's names: `sw_power_cap`, `hw_thermal_slowdown`, ...; empty where nothing
    /// holds them back.
    pub throttle: Option<Vec<String>>,
}

/// The device whose peak is one of threads.
pub const CPU: &str = "cpu";

/// What the machine can do at most on some threads, or a GPU of it, each figure the best of several repetitions, per
/// second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// Device.
    #[serde(default = "cpu", skip_serializing_if = "is_cpu")]
    pub device: String,
    /// Threads that worked at once; 0 on a GPU.
    pub threads: u32,
    /// f32 multiply-adds on registers, FLOP/s; on a GPU its library's product.
    pub f32_flops: f64,
    /// bfloat16 products on registers, FLOP/s; `None` where the CPU has no instruction for them.
    pub bf16_flops: Option<f64>,
    /// f32 matrix product by the engine's own linear layer, FLOP/s.
    pub f32_product_flops: f64,
    /// bf16 matrix product by the engine's own linear layer, FLOP/s.
    pub bf16_product_flops: f64,
    /// Reading memory, bytes/s.
    pub read_bytes: f64,
    /// Copying memory, bytes read plus bytes written, bytes/s.
    pub copy_bytes: f64,
    /// Share of their time that the threads waited for a core; `None` where the system does not say.
    #[serde(default)]
    pub waited: Option<f64>,
}

fn cpu() -> String {
    CPU.to_owned()
}

fn is_cpu(device: &String) -> bool {
    device == CPU
}

impl Peak {
    /// Names of the figures of [`Peak::rates`] with their unit, of which there are `10^9` each.
    pub const NAMES: [(&'static str, &'static str); 6] = [
        ("f32 multiply-add", "GFLOP/s"),
        ("bf16 product", "GFLOP/s"),
        ("f32 matrix product, own", "GFLOP/s"),
        ("bf16 matrix product, own", "GFLOP/s"),
        ("reading memory", "GB/s"),
        ("copying memory, both ways", "GB/s"),
    ];

    /// Every figure, per second; a GPU has none of registers.
    pub fn rates(&self) -> [Option<f64>; 6] {
        let registers = is_cpu(&self.device);
        [
            registers.then_some(self.f32_flops),
            self.bf16_flops.filter(|_| registers),
            Some(self.f32_product_flops),
            Some(self.bf16_product_flops),
            Some(self.read_bytes),
            Some(self.copy_bytes),
        ]
    }

    /// The arithmetic peak that an element type is measured against, FLOP/s: bfloat16's own instruction where
    /// there is one, else f32's.
    pub fn flops(&self, dtype: &str) -> f64 {
        match self.bf16_flops {
            Some(flops) if self.in_half(dtype) => flops,
            _ => self.f32_flops,
        }
    }

    /// The matrix product that an element type is measured against, FLOP/s; `None` for types that the product was
    /// not measured in, such as those of quantised graphs.
    pub fn product_flops(&self, dtype: &str) -> Option<f64> {
        match dtype {
            _ if self.in_half(dtype) => Some(self.bf16_product_flops),
            "f32" | "f16" => Some(self.f32_product_flops),
            _ => None,
        }
    }

    /// Whether an element type is multiplied at the rate of bfloat16: quantised decoders are, too, and f16 on a GPU; a
    /// CPU widens it to f32 before.
    fn in_half(&self, dtype: &str) -> bool {
        match dtype {
            "bf16" | "q8_0" | "q4_k_m" => true,
            "f16" => !is_cpu(&self.device),
            _ => false,
        }
    }
}

/// One sample of a suite, answered or failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// Case id.
    pub case: String,
    /// Sample id within the suite.
    pub sample: String,
    /// Digest of its images: samples that share them are not independent. `None` where they were withheld or
    /// not read, and in runs of before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// What came of it.
    pub outcome: SampleOutcome,
}

/// A sample as it was asked, for those who look at answers: one of the worst of a case, or one of those that came out
/// right. Its answers are the samples' records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exhibit {
    /// Suite id.
    pub suite: String,
    /// Prompt and scoring profile.
    pub profile: String,
    /// Sample id within the suite.
    pub sample: String,
    /// The prompt's text.
    pub question: String,
    /// Answers that count as right, each once.
    pub references: Vec<String>,
    /// Images, by path below the run folder, in a size to look at; empty where they could not be read.
    pub images: Vec<String>,
}

impl Exhibit {
    /// Suite, profile and sample.
    pub fn key(&self) -> (&str, &str, &str) {
        (&self.suite, &self.profile, &self.sample)
    }
}

/// What came of a sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum SampleOutcome {
    /// Answered and scored.
    Ok(Answer),
    /// Not answered; stays in the denominator with score 0 and is counted.
    Failed {
        /// Stage that failed.
        stage: String,
        /// Why.
        error: String,
    },
}

impl SampleOutcome {
    /// Its score in points of 100; none for a sample that failed.
    pub fn points(&self) -> f64 {
        match self {
            Self::Ok(answer) => {
                100.0 * answer.score.numerator as f64 / answer.score.denominator.get() as f64
            }
            Self::Failed { .. } => 0.0,
        }
    }

    /// Where it stands among others, the worst first: a failure below every answer, answers by their points.
    pub fn standing(&self) -> f64 {
        match self {
            Self::Ok(_) => self.points(),
            Self::Failed { .. } => -1.0,
        }
    }
}

/// An answer with its score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Text as generated.
    pub response: String,
    /// Why generation stopped.
    pub finish_reason: FinishReason,
    /// Token counts.
    pub tokens: TokenCounts,
    /// What was read out of the text.
    pub extraction: Extraction,
    /// Score in 0..=1.
    pub score: Score,
    /// Durations of the stages.
    #[serde(default)]
    pub stages: StageTimes,
}

/// Why generation stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// The token limit was reached: the answer is truncated.
    Length,
    /// The answer was made elsewhere and does not say.
    Unknown,
}

/// Token counts of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Text tokens of the prompt.
    pub prompt: u32,
    /// Visual tokens.
    pub visual: u32,
    /// Generated tokens.
    pub output: u32,
}

/// What was read out of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Extraction {
    /// An answer was found.
    Parsed {
        /// The answer as compared with the references.
        answer: String,
    },
    /// No answer could be read; scored as wrong and counted.
    Unparsed,
}

/// An exact score `numerator / denominator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Numerator.
    pub numerator: i64,
    /// Denominator, at least 1.
    pub denominator: std::num::NonZeroU64,
}

/// How a case ended. A case that is run again after a failure has several; the last one holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseEnd {
    /// Case id.
    pub case: String,
    /// What came of it.
    pub outcome: CaseOutcome,
    /// Largest resident set of the process during the case, in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Most memory in use on a device with memory of its own, since the model began to load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_device_bytes: Option<u64>,
    /// When it ended, RFC 3339.
    pub ended_at: String,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum CaseOutcome {
    /// Ran to its end.
    Ok,
    /// Stopped by an error.
    Failed {
        /// Stage that failed.
        stage: String,
        /// Why.
        error: String,
    },
    /// Not run on purpose.
    Skipped {
        /// Why.
        reason: String,
    },
}
