//! `manifest.json`: what was asked, on which machine, by which tool. Written once, first.

use std::{collections::BTreeMap, fs, io::ErrorKind, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::MANIFEST_FILE;
use crate::error::{Error, Result, io};

/// Version of the run folder format that this tool writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The manifest of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the folder's format; [`FORMAT_VERSION`] when written by this tool.
    pub format_version: u32,
    /// The tool that made the run.
    pub tool: Tool,
    /// When the run was first started, RFC 3339. Given by the caller: this crate reads no clock.
    pub started_at: String,
    /// The resolved experiment: file, defaults and flags merged.
    pub experiment: Value,
    /// [`experiment_digest`] of `experiment`; a folder is resumed only by the same experiment.
    pub experiment_digest: String,
    /// Ids of the planned cases, in order.
    pub plan: Vec<String>,
    /// The machine that ran it.
    pub machine: Machine,
    /// Digests of the files read (weights, datasets, tokenizers), by path or name.
    #[serde(default)]
    pub digests: BTreeMap<String, String>,
    /// What a reader of the figures should know (warnings of the harness, for instance).
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The tool that made a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Name, `vlmbench`.
    pub name: String,
    /// Version from the package.
    pub version: String,
    /// Git revision of the source tree, `None` when built outside of one.
    pub revision: Option<String>,
}

/// Facts about the machine, its passport. `None` or empty means that the system did not say, or that the run is of
/// before it was recorded; then it is left out, so that such a manifest is written as it was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// CPU model name.
    pub cpu_model: Option<String>,
    /// Physical cores.
    pub cores: Option<u32>,
    /// Hardware threads that the process may use.
    pub threads: Option<u32>,
    /// Installed memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Operating system and its version.
    pub os: Option<String>,
    /// Kernel release.
    pub kernel: Option<String>,
    /// Instruction-set extensions found, such as `avx2` or `avx512f`.
    #[serde(default)]
    pub simd: Vec<String>,
    /// Caches that the first core sees, from the nearest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<Cache>,
    /// Nominal clock of a core, MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_clock_mhz: Option<u32>,
    /// Highest clock of a core, MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_clock_mhz: Option<u32>,
    /// CPU frequency governor; anything but `performance` varies the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Cores that a container may use, from its CPU quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_cores: Option<f64>,
    /// Memory that a container may use, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_memory_bytes: Option<u64>,
    /// Graphics processors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
}

/// A cache of the CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Level, 1 being the nearest to the core.
    pub level: u32,
    /// What it holds: `data`, `instruction` or `unified`.
    pub kind: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Hardware threads that share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_by: Option<u32>,
}

/// A graphics processor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// Model name.
    pub name: String,
    /// Version of its driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Its own memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Newest CUDA that the driver runs, `12.4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_driver: Option<String>,
    /// CUDA compute capability, `9.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// Highest clock of its multiprocessors, MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_sm_clock_mhz: Option<u32>,
    /// Highest clock of its memory, MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory_clock_mhz: Option<u32>,
    /// Power that it is held to, watts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_limit_watts: Option<f64>,
    /// Place on the PCI bus, `0000:01:00.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus_id: Option<String>,
    /// Which card it is, in NVIDIA's numbering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

impl Manifest {
    /// Writes the manifest so that it is either there whole or not at all.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(MANIFEST_FILE);
        let partial = folder.join(PARTIAL_FILE);
        let mut text =
            serde_json::to_string_pretty(self).map_err(|source| Error::Encode { source })?;
        text.push('\n');
        fs::write(&partial, text).map_err(io("write", &partial))?;
        fs::File::open(&partial)
            .and_then(|file| file.sync_all())
            .map_err(io("sync", &partial))?;
        fs::rename(&partial, &path).map_err(io("create", &path))
    }

    /// Reads the manifest of a run folder.
    ///
    /// # Errors
    /// [`Error::NoManifest`], [`Error::FormatVersion`] for another format, [`Error::Manifest`].
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST_FILE);
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::NoManifest {
                path: folder.to_path_buf(),
            },
            _ => io("read", &path)(source),
        })?;
        let invalid = |reason: String| Error::Manifest {
            path: path.clone(),
            reason,
        };
        // The version is looked at before anything else: another version may differ in every other key.
        let value: Value = serde_json::from_str(&text).map_err(|e| invalid(e.to_string()))?;
        let found = value
            .get("format_version")
            .and_then(Value::as_u64)
            .ok_or_else(|| invalid("format_version is missing or not a whole number".into()))?;
        if found != u64::from(FORMAT_VERSION) {
            let new = found > u64::from(FORMAT_VERSION);
            return Err(Error::FormatVersion {
                path,
                found,
                supported: FORMAT_VERSION,
                age: if new { "new" } else { "old" },
                advice: if new {
                    "read it with a newer vlmbench"
                } else {
                    "read it with the vlmbench that wrote it, or run the experiment again"
                },
            });
        }
        serde_json::from_value(value).map_err(|e| invalid(e.to_string()))
    }
}

/// Where the manifest lies while it is being written.
pub(super) const PARTIAL_FILE: &str = "manifest.json.partial";

/// SHA-256 of an experiment as `sha256:<hex>`, independent of the order of its keys.
pub fn experiment_digest(experiment: &Value) -> String {
    let mut canonical = String::new();
    write_canonical(experiment, &mut canonical);
    let mut digest = String::from("sha256:");
    for byte in Sha256::digest(canonical.as_bytes()) {
        digest.push_str(&format!("{byte:02x}"));
    }
    digest
}

/// JSON without spaces and with sorted keys.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            out.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}
