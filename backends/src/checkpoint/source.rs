//! A checkpoint folder as a [`WeightSource`].
//!
//! Opening plans every parameter and refuses a folder that does not fit the
//! recipe exactly; after that, a parameter is a slice of the memory map or a
//! folded tensor computed when it is asked for.

use std::borrow::Cow;
use std::path::Path;

use super::plan::{Leaf, Plan, Plans, plan};
use super::{CheckpointError, WeightFiles, fold, layout};
use crate::error::{Error, Result};
use crate::params::ParamSpec;
use crate::recipe::Recipe;
use crate::weights::{HostData, HostTensor, Inventory, Part, WeightSource, WeightsInfo};

/// The weights of a checkpoint folder, in canonical form.
pub struct CheckpointSource {
    files: WeightFiles,
    plans: Plans,
    info: WeightsInfo,
}

impl CheckpointSource {
    /// Maps the folder's files, recognises their layout and plans every
    /// parameter of `inventory`. No tensor is read, except to compare a tied
    /// output head with the embeddings.
    pub fn open(
        folder: &Path,
        recipe: &Recipe,
        inventory: &Inventory,
    ) -> Result<Self, CheckpointError> {
        let files = WeightFiles::open(folder)?;
        let layout = layout::recognise(&files, recipe)?;
        let plans = plan(&files, layout, recipe, inventory)?
            .into_iter()
            .collect();
        let info = WeightsInfo {
            source: "checkpoint",
            origin: folder.display().to_string(),
            layout: layout.name.into(),
            files: Vec::new(),
        };
        Ok(CheckpointSource { files, plans, info })
    }

    /// Puts the digests of the files into [`info`](WeightSource::info). Reads
    /// every byte of them.
    pub fn compute_digests(&mut self) {
        self.info.files = self.files.digests();
    }

    /// The mapped files.
    pub fn files(&self) -> &WeightFiles {
        &self.files
    }

    fn data(&self, key: &str) -> Result<HostData<'_>> {
        self.files
            .data(key)
            .ok_or_else(|| Error::MissingParam { name: key.into() })
    }
}

impl WeightSource for CheckpointSource {
    fn info(&self) -> &WeightsInfo {
        &self.info
    }

    fn get(&self, part: Part, spec: &ParamSpec) -> Result<HostTensor<'_>> {
        let plan =
            self.plans
                .get(&(part, spec.name.clone()))
                .ok_or_else(|| Error::MissingParam {
                    name: format!("{}.{}", part.name(), spec.name),
                })?;
        let files = &self.files;
        let f32s = |values: Vec<f32>| HostData::F32(Cow::Owned(values));
        let data = match plan {
            Plan::Borrow(key) => self.data(key)?,
            Plan::Stack(keys) => {
                let parts = keys
                    .iter()
                    .map(|key| self.data(key))
                    .collect::<Result<Vec<_>>>()?;
                stack(&parts)
            }
            Plan::Positions(key, change) => f32s(change.apply(&self.data(key)?.to_f32())),
            Plan::Sum(Leaf::Weight, branches) => {
                f32s(fold::sum_kernel(files, branches, &spec.shape)?)
            }
            Plan::Sum(Leaf::Bias, branches) => {
                f32s(fold::sum_bias(files, branches, spec.shape[0])?)
            }
            Plan::Normed {
                leaf: Leaf::Weight,
                norm,
                module,
            } => f32s(fold::normed_weight(files, norm, module)?),
            Plan::Normed {
                leaf: Leaf::Bias,
                norm,
                module,
            } => f32s(fold::normed_bias(files, norm, module)?),
        };
        if data.len() != spec.elements() {
            return Err(Error::Shape {
                op: "load",
                name: spec.name.clone(),
                expected: format!("{:?}", spec.shape),
                got: format!(
                    "{} scalars; the checkpoint was opened for another recipe",
                    data.len()
                ),
            });
        }
        Ok(HostTensor {
            shape: spec.shape.clone(),
            data,
        })
    }

    fn done(&self, part: Part, spec: &ParamSpec) {
        match self.plans.get(&(part, spec.name.clone())) {
            Some(Plan::Borrow(key)) => self.files.release(key),
            Some(Plan::Stack(keys)) => keys.iter().for_each(|key| self.files.release(key)),
            // Folded convolutions are small.
            _ => {}
        }
    }
}

/// Tensors one after another; in their own type if they share it, else in f32.
fn stack(parts: &[HostData<'_>]) -> HostData<'static> {
    macro_rules! of_type {
        ($variant:ident) => {{
            let slices: Option<Vec<_>> = parts
                .iter()
                .map(|part| match part {
                    HostData::$variant(values) => Some(&values[..]),
                    _ => None,
                })
                .collect();
            slices.map(|slices| HostData::$variant(Cow::Owned(slices.concat())))
        }};
    }
    of_type!(F32)
        .or_else(|| of_type!(F16))
        .or_else(|| of_type!(BF16))
        .unwrap_or_else(|| {
            let converted: Vec<Cow<'_, [f32]>> = parts.iter().map(HostData::to_f32).collect();
            HostData::F32(Cow::Owned(converted.concat()))
        })
}
