//! Opening ONNX Runtime on a device and loading models into it.

use std::cell::RefCell;

use ort::environment::Environment;

use super::device::Device;
use super::library;
use super::model::OnnxRuntimeModel;
use super::session::{Loader, Settings};
use crate::backend::{
    Backend, EngineFacts, EngineOptions, LoadOptions, LoadedModel, Precision, some_threads,
};
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::weights::{Inventory, WeightSource};

/// ONNX Runtime on one device.
pub struct OnnxRuntimeBackend {
    facts: EngineFacts,
    environment: Environment,
    device: Device,
    settings: Settings,
}

impl OnnxRuntimeBackend {
    /// Loads the library; a device or precision that is not there is an error.
    pub fn open(options: &EngineOptions) -> Result<OnnxRuntimeBackend> {
        let (environment, library) = library::load()?;
        let device = Device::find(&options.device, &library)?;
        if options.precision == Precision::Bf16 && device.is_cpu() {
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
        some_threads(options.threads)?;
        Ok(OnnxRuntimeBackend {
            device,
            facts: EngineFacts {
                engine: "onnxruntime",
                version: library.version.clone(),
                device: options.device.clone(),
                precision: options.precision,
                threads: options.threads,
                simd: match options.precision {
                    Precision::F16 if device.is_cpu() => {
                        "chosen by ONNX Runtime; f16 is computed in f32".into()
                    }
                    _ => "chosen by ONNX Runtime".into(),
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
            device: self.device,
            precision: self.facts.precision,
            threads: self.facts.threads,
            settings: &self.settings,
            nodes: RefCell::default(),
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
