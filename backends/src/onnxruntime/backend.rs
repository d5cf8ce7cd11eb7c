//! Opening ONNX Runtime on a device and loading models into it.

use ort::environment::Environment;

use super::library;
use super::model::{Loader, OnnxRuntimeModel};
use super::session::Settings;
use crate::backend::{
    Backend, DeviceEntry, EngineFacts, EngineOptions, LoadOptions, LoadedModel, Precision,
};
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::weights::{Inventory, WeightSource};

/// ONNX Runtime on one device.
pub struct OnnxRuntimeBackend {
    facts: EngineFacts,
    environment: Environment,
    settings: Settings,
}

impl OnnxRuntimeBackend {
    /// Loads the library; a device or precision that is not there is an error.
    pub fn open(options: &EngineOptions) -> Result<OnnxRuntimeBackend> {
        if options.device != "cpu" {
            return Err(Error::Unavailable {
                what: format!("device {}", options.device),
                why: "the onnxruntime engine knows cpu".into(),
            });
        }
        if options.precision == Precision::Bf16 {
            return Err(Error::Unavailable {
                what: "precision bf16".into(),
                why:
                    "ONNX Runtime's CPU provider has no bf16 kernels; use f32, or the candle engine"
                        .into(),
            });
        }
        if options.simd.is_some() {
            return Err(Error::Unavailable {
                what: "choosing an instruction set".into(),
                why: "ONNX Runtime chooses its own".into(),
            });
        }
        if options.threads == 0 {
            return Err(Error::Config {
                what: "threads".into(),
                value: "0".into(),
                problem: "must be at least 1".into(),
            });
        }
        let (environment, library) = library::load()?;
        Ok(OnnxRuntimeBackend {
            facts: EngineFacts {
                engine: "onnxruntime",
                version: library.version.clone(),
                device: options.device.clone(),
                precision: options.precision,
                threads: options.threads,
                simd: match options.precision {
                    Precision::F32 => "chosen by ONNX Runtime".into(),
                    other => format!("chosen by ONNX Runtime; {other} is computed in f32"),
                },
                library: Some(library),
                onnxruntime: Some(options.onnxruntime.clone()),
            },
            environment,
            settings: options.onnxruntime.clone(),
        })
    }
}

impl Backend for OnnxRuntimeBackend {
    fn facts(&self) -> &EngineFacts {
        &self.facts
    }

    fn load(
        &self,
        recipe: &Recipe,
        inventory: &Inventory,
        source: &dyn WeightSource,
        options: LoadOptions,
    ) -> Result<Box<dyn LoadedModel>> {
        let loader = Loader {
            environment: &self.environment,
            engine: &self.facts,
            settings: &self.settings,
        };
        let model = match source.graphs() {
            Some(folder) => {
                OnnxRuntimeModel::published(recipe, inventory, source, folder, options, &loader)?
            }
            None => OnnxRuntimeModel::record(recipe, inventory, source, options, &loader)?,
        };
        Ok(Box::new(model))
    }
}

/// Devices of this engine. Whether the library is there is not asked for here:
/// finding it takes a while, and `library` says it.
pub fn devices() -> Vec<DeviceEntry> {
    vec![DeviceEntry {
        name: "cpu".into(),
        missing: None,
    }]
}
