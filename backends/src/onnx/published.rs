//! Folders that hold a model's graphs in place of its weights.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::params::ParamSpec;
use crate::weights::{HostTensor, Part, WeightSource, WeightsInfo};

/// The folder of graphs within a model's folder.
const GRAPHS: &str = "onnx";

/// The folder of graphs within `model`, if it has one and no safetensors,
/// which would be preferred.
pub fn graphs(model: &Path) -> Option<PathBuf> {
    let has = |folder: &Path, extension: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths = entries.map(|entry| entry.path());
        paths.any(|path| path.extension().is_some_and(|e| e == extension))
    };
    let folder = model.join(GRAPHS);
    (has(&folder, "onnx") && !has(model, "safetensors")).then_some(folder)
}

/// A folder of graphs where weights are looked for: an engine that runs graphs
/// takes them whole, any other gets an error.
pub struct GraphSource {
    folder: PathBuf,
    info: WeightsInfo,
}

impl GraphSource {
    /// The graphs in `folder`, as found by [`graphs`].
    pub fn new(folder: PathBuf) -> GraphSource {
        GraphSource {
            info: WeightsInfo {
                source: "checkpoint",
                origin: folder.display().to_string(),
                layout: "onnx".into(),
                files: Vec::new(),
            },
            folder,
        }
    }
}

impl WeightSource for GraphSource {
    fn info(&self) -> &WeightsInfo {
        &self.info
    }

    fn get(&self, _: Part, spec: &ParamSpec) -> Result<HostTensor<'_>> {
        Err(Error::Unavailable {
            what: format!("parameter `{}`", spec.name),
            why: format!(
                "{} holds graphs, not parameters; run them with --backend onnxruntime",
                self.folder.display()
            ),
        })
    }

    fn graphs(&self) -> Option<&Path> {
        Some(&self.folder)
    }
}
