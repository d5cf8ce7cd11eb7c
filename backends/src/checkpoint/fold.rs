//! The arithmetic of re-parameterisation: a sum of convolution branches, each
//! with a batch norm and a layer scale, becomes one kernel and one bias.
//!
//! Sums run in f64 and are stored as f32. Formulas: RepVGG (Ding et al., 2021),
//! MobileOne and FastViT (Vasu et al., 2023).

use std::borrow::Cow;

use rayon::prelude::*;

use super::WeightFiles;
use crate::error::{Error, Result};

/// Epsilon of every batch norm in the supported checkpoints (torch's default).
const BATCH_NORM_EPS: f64 = 1e-5;

/// What a branch convolves with.
#[derive(Clone, Debug)]
pub(super) enum Kernel {
    /// The tensor of this key, centred in the result if it is smaller.
    Tensor(String),
    /// The input itself.
    Identity,
}

/// One summand of a folded convolution.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    /// The convolution.
    pub(super) kernel: Kernel,
    /// Key of its bias.
    pub(super) bias: Option<String>,
    /// Path of the batch norm after it.
    pub(super) norm: Option<String>,
    /// Key of the layer scale of the result.
    pub(super) scale: Option<String>,
    /// Whether it is subtracted.
    pub(super) negative: bool,
}

impl Branch {
    /// A branch that is the plain module at `path`, or the identity.
    pub(super) fn new(kernel: Kernel) -> Branch {
        Branch {
            kernel,
            bias: None,
            norm: None,
            scale: None,
            negative: false,
        }
    }
}

/// `y = x * factor + shift` per channel: a batch norm in inference.
struct Affine {
    factor: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    fn of_norm(files: &WeightFiles, norm: &str) -> Result<Affine> {
        let read = |name: &str| tensor(files, &format!("{norm}.{name}"));
        let (weight, bias) = (read("weight")?, read("bias")?);
        let (mean, variance) = (read("running_mean")?, read("running_var")?);
        let factor: Vec<f64> = weight
            .iter()
            .zip(variance.iter())
            .map(|(&w, &v)| f64::from(w) / (f64::from(v) + BATCH_NORM_EPS).sqrt())
            .collect();
        let shift = factor
            .iter()
            .zip(bias.iter().zip(mean.iter()))
            .map(|(f, (&b, &m))| f64::from(b) - f64::from(m) * f)
            .collect();
        Ok(Affine { factor, shift })
    }

    /// What `branch` does to each output channel after its convolution.
    fn of_branch(files: &WeightFiles, branch: &Branch, channels: usize) -> Result<Affine> {
        let mut affine = match &branch.norm {
            Some(norm) => Affine::of_norm(files, norm)?,
            None => Affine {
                factor: vec![1.0; channels],
                shift: vec![0.0; channels],
            },
        };
        if let Some(bias) = &branch.bias {
            let bias = tensor(files, bias)?;
            for ((shift, factor), &b) in
                affine.shift.iter_mut().zip(&affine.factor).zip(bias.iter())
            {
                *shift += factor * f64::from(b);
            }
        }
        let sign = if branch.negative { -1.0 } else { 1.0 };
        let scale = branch
            .scale
            .as_ref()
            .map(|key| tensor(files, key))
            .transpose()?;
        for channel in 0..channels {
            let by = sign
                * scale
                    .as_ref()
                    .map_or(1.0, |scale| f64::from(scale[channel]));
            affine.factor[channel] *= by;
            affine.shift[channel] *= by;
        }
        Ok(affine)
    }
}

/// The kernel of the summed `branches`; `shape` is `(out, in, k, k)` or, for
/// 1x1, `(out, in)`, with `in` counted per group.
pub(super) fn sum_kernel(
    files: &WeightFiles,
    branches: &[Branch],
    shape: &[usize],
) -> Result<Vec<f32>> {
    let (out, inputs) = (shape[0], shape[1]);
    let side = shape.get(2).copied().unwrap_or(1);
    let row = inputs * side * side;
    let mut parts = Vec::with_capacity(branches.len());
    for branch in branches {
        let kernel = match &branch.kernel {
            Kernel::Tensor(key) => Some(tensor(files, key)?),
            Kernel::Identity => None,
        };
        parts.push((Affine::of_branch(files, branch, out)?.factor, kernel));
    }
    let mut folded = vec![0f32; out * row];
    folded
        .par_chunks_mut(row)
        .enumerate()
        .for_each(|(channel, folded)| {
            let mut sum = vec![0f64; row];
            for (factor, kernel) in &parts {
                let factor = factor[channel];
                match kernel {
                    Some(kernel) => {
                        let row = kernel.len() / out;
                        add_centred(
                            &mut sum,
                            side,
                            &kernel[channel * row..][..row],
                            inputs,
                            factor,
                        );
                    }
                    // The input channel, within its group, that output `channel` passes through.
                    None => sum[(channel % inputs) * side * side + side * side / 2] += factor,
                }
            }
            for (to, from) in folded.iter_mut().zip(sum) {
                *to = from as f32;
            }
        });
    Ok(folded)
}

/// The bias of the summed `branches`.
pub(super) fn sum_bias(
    files: &WeightFiles,
    branches: &[Branch],
    channels: usize,
) -> Result<Vec<f32>> {
    let mut sum = vec![0f64; channels];
    for branch in branches {
        let affine = Affine::of_branch(files, branch, channels)?;
        for (sum, shift) in sum.iter_mut().zip(affine.shift) {
            *sum += shift;
        }
    }
    Ok(sum.into_iter().map(|value| value as f32).collect())
}

/// The `(out, in)` weight of a linear module that a batch norm precedes.
pub(super) fn normed_weight(files: &WeightFiles, norm: &str, module: &str) -> Result<Vec<f32>> {
    let norm = Affine::of_norm(files, norm)?;
    let weight = tensor(files, &format!("{module}.weight"))?;
    Ok(weight
        .par_chunks(norm.factor.len())
        .flat_map_iter(|row| {
            row.iter()
                .zip(&norm.factor)
                .map(|(&w, f)| (f64::from(w) * f) as f32)
        })
        .collect())
}

/// The bias of a linear module without one that a batch norm precedes.
pub(super) fn normed_bias(files: &WeightFiles, norm: &str, module: &str) -> Result<Vec<f32>> {
    let norm = Affine::of_norm(files, norm)?;
    let weight = tensor(files, &format!("{module}.weight"))?;
    Ok(weight
        .par_chunks(norm.shift.len())
        .map(|row| {
            row.iter()
                .zip(&norm.shift)
                .map(|(&w, s)| f64::from(w) * s)
                .sum::<f64>() as f32
        })
        .collect())
}

/// Adds `factor` times `kernel` (of a smaller or equal odd side) to the middle
/// of `sum`, for every input channel.
fn add_centred(sum: &mut [f64], side: usize, kernel: &[f32], inputs: usize, factor: f64) {
    let small = (kernel.len() / inputs).isqrt();
    let margin = (side - small) / 2;
    for (input, plane) in kernel.chunks_exact(small * small).enumerate() {
        for (y, row) in plane.chunks_exact(small).enumerate() {
            let start = input * side * side + (y + margin) * side + margin;
            for (to, &from) in sum[start..][..small].iter_mut().zip(row) {
                *to += factor * f64::from(from);
            }
        }
    }
}

/// A tensor that planning has found to be there, as f32.
fn tensor<'a>(files: &'a WeightFiles, key: &str) -> Result<Cow<'a, [f32]>> {
    use crate::weights::HostData;
    let missing = || Error::MissingParam { name: key.into() };
    Ok(match files.data(key).ok_or_else(missing)? {
        HostData::F32(values) => values,
        halves => Cow::Owned(halves.to_f32().into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_kernel_is_centred_for_every_input_channel() {
        let mut sum = vec![0.0; 2 * 9];
        add_centred(&mut sum, 3, &[2.0, 3.0], 2, 0.5);
        let mut expected = vec![0.0; 18];
        expected[4] = 1.0;
        expected[9 + 4] = 1.5;
        assert_eq!(sum, expected);
    }
}
