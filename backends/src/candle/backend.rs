//! Opening candle on a device and loading models onto it.

use std::sync::Arc;

use candle_core::DType;
use rayon::ThreadPool;

use super::gpu;
use super::kernels::simd::{self, Level};
use super::model::CandleModel;
use super::ops::Place;
use super::store::Storage;
use crate::backend::{
    Backend, DeviceEntry, EngineFacts, EngineOptions, LoadOptions, LoadedModel, Precision,
    some_threads,
};
use crate::blocks::mix::BlockMix;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::weights::{Inventory, WeightSource};

/// candle's version, from the dependency's manifest.
const CANDLE_VERSION: &str = "0.11";

/// The device without which there is none.
const CPU: &str = "cpu";

/// The candle engine on one device with its own worker threads.
pub struct CandleBackend {
    facts: EngineFacts,
    place: Place,
    dtype: DType,
    pool: Arc<ThreadPool>,
}

impl CandleBackend {
    /// Opens the engine; a device that is not there is an error.
    pub fn open(options: &EngineOptions) -> Result<CandleBackend> {
        let place = place(&options.device)?;
        if place.gpu().is_some() && options.precision.is_quantised() {
            return Err(Error::Unavailable {
                what: format!("precision {} on {}", options.precision, options.device),
                why:
                    "blocks are computed on the cpu only; take f32, f16 or bf16, or the device cpu"
                        .into(),
            });
        }
        let best = Level::best();
        let level = options.simd.unwrap_or(best);
        if level > best {
            return Err(Error::Unavailable {
                what: format!("instruction set {level}"),
                why: format!("the best of this machine is {best}"),
            });
        }
        let pool = thread_pool(options.threads, level)?;
        let facts = EngineFacts {
            engine: "candle",
            version: CANDLE_VERSION.into(),
            device: options.device.clone(),
            precision: options.precision,
            threads: options.threads,
            simd: match &place {
                Place::Cpu => arithmetic(level, options.precision),
                Place::Gpu(gpu) => gpu.runtime().about(),
            },
            library: None,
            onnxruntime: None,
        };
        Ok(CandleBackend {
            facts,
            place,
            dtype: match options.precision {
                Precision::F32 => DType::F32,
                Precision::F16 => DType::F16,
                Precision::Bf16 | Precision::Q8_0 | Precision::Q4KM => DType::BF16,
            },
            pool,
        })
    }
}

impl Backend for CandleBackend {
    fn facts(&self) -> &EngineFacts {
        &self.facts
    }

    fn free_device_memory(&self) -> Option<u64> {
        self.place.gpu()?.runtime().free_memory()
    }

    fn load(
        &self,
        recipe: &Recipe,
        inventory: &Inventory,
        source: &dyn WeightSource,
        options: LoadOptions,
    ) -> Result<Box<dyn LoadedModel>> {
        let precision = self.facts.precision;
        if let Some(held) = source.holds()
            && precision.is_quantised()
            && held != precision
        {
            return Err(Error::Config {
                what: "precision".into(),
                value: precision.to_string(),
                problem: format!(
                    "cannot be had of {}, whose decoder is stored in {held}; ask for that, or for f32, f16 or bf16, \
                     to which it is dequantised",
                    source.info().origin
                ),
            });
        }
        let decoder = recipe.decoder.as_ref();
        let mix = decoder.and_then(|d| BlockMix::of(precision, &d.config));
        let storage = Storage {
            dtype: self.dtype,
            mix: mix.as_ref(),
            place: &self.place,
        };
        Ok(Box::new(CandleModel::load(
            recipe,
            inventory,
            source,
            options,
            &storage,
            Arc::clone(&self.pool),
        )?))
    }
}

/// The device of a name.
fn place(name: &str) -> Result<Place> {
    let unavailable = |why: String| Error::Unavailable {
        what: format!("device {name}"),
        why,
    };
    let known = devices();
    match known.iter().find(|d| d.name == name) {
        Some(DeviceEntry {
            missing: Some(why), ..
        }) => Err(unavailable(why.clone())),
        Some(_) if name == CPU => Ok(Place::Cpu),
        Some(_) if let Some(gpu) = gpu::open(name) => {
            Ok(Place::Gpu(gpu.map_err(|e| unavailable(e.to_string()))?))
        }
        _ => {
            let names: Vec<&str> = known.iter().map(|d| d.name.as_str()).collect();
            Err(unavailable(format!(
                "the candle engine knows {}",
                names.join(", ")
            )))
        }
    }
}

/// What is computed with, for records: the instruction set, and whether the
/// precision is only one of storage there.
fn arithmetic(level: Level, precision: Precision) -> String {
    let native = match precision {
        Precision::F32 => true,
        Precision::Bf16 | Precision::Q8_0 | Precision::Q4KM => level.has_bf16_dot(),
        Precision::F16 => false,
    };
    if native {
        level.describe().into()
    } else {
        format!("{}; {precision} is computed in f32", level.describe())
    }
}

/// A pool of `threads` workers whose kernels run at `level`.
pub(crate) fn thread_pool(threads: usize, level: Level) -> Result<Arc<ThreadPool>> {
    some_threads(threads)?;
    simd::pool(threads, level)
        .map(Arc::new)
        .map_err(|e| Error::Unavailable {
            what: format!("{threads} worker threads"),
            why: e.to_string(),
        })
}

/// Devices of this engine and what they lack here.
pub fn devices() -> Vec<DeviceEntry> {
    let cpu = DeviceEntry {
        name: CPU.into(),
        missing: None,
    };
    let metal = DeviceEntry {
        name: "metal".into(),
        missing: Some("this build has no Metal support yet".into()),
    };
    [cpu]
        .into_iter()
        .chain(gpu::devices())
        .chain([metal])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_that_is_only_stored_is_recorded_as_such() {
        let says = |level, precision| arithmetic(level, precision).contains("computed in f32");
        assert!(!says(Level::V4Bf16, Precision::Bf16));
        assert!(says(Level::V4, Precision::Bf16));
        assert!(says(Level::V4Bf16, Precision::F16));
        assert!(!says(Level::Portable, Precision::F32));
    }
}
