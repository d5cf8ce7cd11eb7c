//! Weights without files: right shapes, values drawn from a seed.
//!
//! For latency only. Every scalar is a function of (seed, part, name, index),
//! so tensors can be drawn in any order and in parallel. Scales keep
//! activations of order one through any depth and at any input size: linear
//! maps preserve variance, residual branches add little, and the depthwise
//! convolutions that replace their input (RepMixer, position encoding) stay
//! near the identity, as trained ones do. Activations that fade into subnormal
//! numbers would falsify a latency as surely as ones that overflow.

use std::borrow::Cow;

use half::bf16;
use rayon::prelude::*;

use crate::error::Result;
use crate::params::{ParamKind, ParamSpec};
use crate::weights::{HostData, HostTensor, Part, WeightSource, WeightsInfo};

/// Scalars drawn by one task; also fixes which hash a scalar comes from.
const CHUNK: usize = 1 << 16;
/// Scalars made from one 64-bit hash, 16 bits each.
const LANES: usize = 4;
/// Scalars from which a tensor is drawn in bf16: beside 7B parameters in bf16,
/// the vocabulary's tables in f32 would be the largest thing in memory.
const LARGE: usize = 1 << 28;
/// Standard deviation of a uniform variable on (-1, 1).
const UNIT_DEVIATION: f32 = 0.577_350_3;
/// Standard deviation of biases and of tables added to activations.
const SMALL: f32 = 0.02;
/// Gain that makes up for the variance a GELU or ReLU takes (He et al., 2015).
const RECTIFIED: f32 = std::f32::consts::SQRT_2;
/// Gain of a map whose output is added to the residual stream.
const RESIDUAL: f32 = 0.2;

/// Draws weights from a seed.
pub struct SeededSource {
    seed: u64,
    info: WeightsInfo,
}

/// A uniform distribution, and what the centre of a kernel has on top.
struct Distribution {
    deviation: f32,
    centre: f32,
}

impl SeededSource {
    /// Weights of `seed`.
    pub fn new(seed: u64) -> SeededSource {
        let info = WeightsInfo {
            source: "seeded",
            origin: seed.to_string(),
            layout: "canonical".into(),
            files: Vec::new(),
        };
        SeededSource { seed, info }
    }

    /// First counter of a tensor: FNV-1a over part and name, started at the seed.
    fn stream(&self, part: Part, name: &str) -> u64 {
        let bytes = part.name().bytes().chain([0]).chain(name.bytes());
        bytes.fold(mix(self.seed ^ 0xcbf2_9ce4_8422_2325), |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

impl WeightSource for SeededSource {
    fn info(&self) -> &WeightsInfo {
        &self.info
    }

    fn get(&self, part: Part, spec: &ParamSpec) -> Result<HostTensor<'_>> {
        let data = |values| HostTensor {
            shape: spec.shape.clone(),
            data: values,
        };
        if spec.elements() >= LARGE && spec.kind != ParamKind::Scale {
            let mut values = vec![bf16::ZERO; spec.elements()];
            let stream = self.stream(part, &spec.name);
            fill_bf16(&mut values, stream, distribution(spec).deviation);
            return Ok(data(HostData::BF16(Cow::Owned(values))));
        }
        let mut values = vec![0f32; spec.elements()];
        if spec.kind == ParamKind::Scale {
            values.fill(1.0);
        } else {
            let distribution = distribution(spec);
            fill(
                &mut values,
                self.stream(part, &spec.name),
                distribution.deviation,
            );
            if distribution.centre != 0.0 {
                let area: usize = spec.shape[2..].iter().product();
                values
                    .iter_mut()
                    .skip(area / 2)
                    .step_by(area)
                    .for_each(|v| *v += distribution.centre);
            }
        }
        Ok(data(HostData::F32(Cow::Owned(values))))
    }
}

/// What the scalars of a parameter are drawn from.
fn distribution(spec: &ParamSpec) -> Distribution {
    let fan_in = spec.shape[1..].iter().product::<usize>().max(1) as f32;
    let module = spec.name.strip_suffix(".weight").unwrap_or(&spec.name);
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| module.ends_with(suffix));
    let (gain, centre) = match spec.kind {
        ParamKind::Bias | ParamKind::Scale => (SMALL * fan_in.sqrt(), 0.0),
        ParamKind::Depthwise if ends(&[".mixer", ".cpe"]) => (RESIDUAL, 1.0),
        ParamKind::Conv | ParamKind::Depthwise => (RECTIFIED, 0.0),
        ParamKind::Linear if ends(&[".proj", ".out", ".fc2", ".down"]) => (RESIDUAL, 0.0),
        ParamKind::Linear if ends(&[".pointwise", "stem.2"]) => (RECTIFIED, 0.0),
        // A table of rows of norm one: the tied head's logits then have variance one.
        ParamKind::Linear | ParamKind::Table => (1.0, 0.0),
    };
    Distribution {
        deviation: gain / fan_in.sqrt(),
        centre,
    }
}

/// Fills `values` with uniform scalars of mean 0 and the given deviation.
fn fill(values: &mut [f32], stream: u64, deviation: f32) {
    let chunks = values.par_chunks_mut(CHUNK).enumerate();
    chunks.for_each(|(chunk, values)| fill_chunk(values, stream, chunk, deviation));
}

/// As [`fill`], rounded.
fn fill_bf16(values: &mut [bf16], stream: u64, deviation: f32) {
    let chunks = values.par_chunks_mut(CHUNK).enumerate();
    chunks.for_each(|(chunk, values)| {
        let mut exact = vec![0.0; values.len()];
        fill_chunk(&mut exact, stream, chunk, deviation);
        for (value, exact) in values.iter_mut().zip(exact) {
            *value = bf16::from_f32(exact);
        }
    });
}

fn fill_chunk(values: &mut [f32], stream: u64, chunk: usize, deviation: f32) {
    let step = deviation / UNIT_DEVIATION / 32_768.0;
    let mut counter = stream.wrapping_add((chunk * (CHUNK / LANES)) as u64);
    for group in values.chunks_mut(LANES) {
        let bits = mix(counter);
        counter = counter.wrapping_add(1);
        for (lane, value) in group.iter_mut().enumerate() {
            // Half a step off, so that the distribution is symmetric and never zero.
            let level = f32::from((bits >> (16 * lane)) as u16 as i16) + 0.5;
            *value = level * step;
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: u64, name: &str, shape: &[usize], kind: ParamKind) -> Vec<f32> {
        let spec = ParamSpec {
            name: name.into(),
            shape: shape.to_vec(),
            kind,
        };
        let source = SeededSource::new(seed);
        let tensor = source.get(Part::Decoder, &spec).unwrap();
        assert_eq!(tensor.shape, shape);
        tensor.data.to_f32().into_owned()
    }

    #[test]
    fn the_same_seed_and_name_draw_the_same_values() {
        let base = draw(1, "layers.0.qkv.weight", &[300, 500], ParamKind::Linear);
        assert_eq!(
            base,
            draw(1, "layers.0.qkv.weight", &[300, 500], ParamKind::Linear)
        );
        assert_ne!(
            base,
            draw(2, "layers.0.qkv.weight", &[300, 500], ParamKind::Linear)
        );
        assert_ne!(
            base,
            draw(1, "layers.1.qkv.weight", &[300, 500], ParamKind::Linear)
        );
    }

    #[test]
    fn large_tensors_are_the_same_rounded() {
        let mut exact = vec![0.0; CHUNK + 10];
        let mut rounded = vec![bf16::ZERO; CHUNK + 10];
        fill(&mut exact, 7, 0.3);
        fill_bf16(&mut rounded, 7, 0.3);
        for (exact, rounded) in exact.iter().zip(rounded) {
            assert_eq!(bf16::from_f32(*exact), rounded);
        }
    }

    #[test]
    fn moments_are_as_asked() {
        let values = draw(7, "layers.0.qkv.weight", &[600, 400], ParamKind::Linear);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 4.0 * 0.05 / n.sqrt(), "mean {mean}");
        assert!(
            (variance * 400.0 - 1.0).abs() < 0.01,
            "variance times fan-in {}",
            variance * 400.0
        );
        let neighbours = values
            .windows(2)
            .map(|w| f64::from(w[0]) * f64::from(w[1]))
            .sum::<f64>()
            / n;
        assert!(
            (neighbours / variance).abs() < 0.01,
            "correlation {}",
            neighbours / variance
        );
    }

    #[test]
    fn mixers_stay_near_the_identity() {
        let values = draw(
            3,
            "stages.0.blocks.0.mixer.weight",
            &[32, 1, 3, 3],
            ParamKind::Depthwise,
        );
        for kernel in values.chunks_exact(9) {
            assert!((kernel[4] - 1.0).abs() < 0.2, "{kernel:?}");
            assert!(
                kernel
                    .iter()
                    .enumerate()
                    .all(|(i, v)| i == 4 || v.abs() < 0.2),
                "{kernel:?}"
            );
        }
    }

    #[test]
    fn norms_are_one_and_biases_small() {
        assert!(
            draw(3, "norm.weight", &[64], ParamKind::Scale)
                .iter()
                .all(|&v| v == 1.0)
        );
        let bias = draw(3, "fc1.bias", &[640], ParamKind::Bias);
        assert!(bias.iter().all(|v| v.abs() < 0.05) && bias.iter().any(|&v| v != 0.0));
    }
}
