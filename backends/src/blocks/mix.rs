//! Which block type each of a decoder's matrices has: the choice of llama.cpp's
//! `llama-quantize` without an importance matrix (`src/llama-quant.cpp`,
//! `llama_tensor_get_type` and its fallback).

use super::BlockType;
use crate::backend::Precision;
use crate::nets::DecoderConfig;
use crate::params::{ParamKind, ParamSpec};

/// How a decoder is held at a quantised precision.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockMix {
    /// Type of what has none of its own.
    base: BlockType,
    config: DecoderConfig,
}

impl BlockMix {
    /// The mix of a precision; `None` for those without blocks.
    pub fn of(precision: Precision, config: &DecoderConfig) -> Option<BlockMix> {
        let base = match precision {
            Precision::Q8_0 => BlockType::Q8_0,
            Precision::Q4KM => BlockType::Q4K,
            Precision::F32 | Precision::F16 | Precision::Bf16 => return None,
        };
        Some(BlockMix {
            base,
            config: config.clone(),
        })
    }

    /// Types of the rows of a decoder's parameter, from the first on; `None`
    /// for what is not held in blocks (norms, biases).
    pub fn segments(&self, spec: &ParamSpec) -> Option<Vec<(BlockType, usize)>> {
        let (ParamKind::Linear | ParamKind::Table, &[rows, width]) = (spec.kind, &spec.shape[..])
        else {
            return None;
        };
        let name = spec.name.strip_suffix(".weight")?;
        let of = |kind| self.fallback(kind, width);
        let c = &self.config;
        let all = match name {
            "head" => self.head(width),
            "embed" if c.tied => self.head(width),
            "embed" => self.base,
            _ => {
                let (layer, module) = name.strip_prefix("layers.")?.split_once('.')?;
                let more = self.more_bits(layer.parse().ok()?);
                if module == "qkv" {
                    let values = c.kv_heads * c.head_dim;
                    return Some(vec![(of(self.base), rows - values), (of(more), values)]);
                }
                if module == "down" { more } else { self.base }
            }
        };
        Some(vec![(of(all), rows)])
    }

    /// Bytes of a parameter in blocks; `None` if it is not held so.
    pub fn bytes(&self, spec: &ParamSpec) -> Option<u64> {
        let width = *spec.shape.last()?;
        let segments = self.segments(spec)?;
        let bytes = |(kind, rows): (BlockType, usize)| (rows * kind.row_bytes(width)) as u64;
        Some(segments.into_iter().map(bytes).sum())
    }

    /// The output head's type.
    fn head(&self, width: usize) -> BlockType {
        match self.base {
            BlockType::Q4K if self.base.fits(width) => BlockType::Q6K,
            _ => BlockType::Q8_0,
        }
    }

    /// The type of values and of the second feed-forward matrix of a layer:
    /// `use_more_bits`.
    fn more_bits(&self, layer: usize) -> BlockType {
        let n = self.config.layers;
        let more = layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
        match self.base {
            BlockType::Q4K if more => BlockType::Q6K,
            base => base,
        }
    }

    /// What stands in for a type whose blocks do not divide a row.
    fn fallback(&self, kind: BlockType, width: usize) -> BlockType {
        let other = match kind {
            kind if kind.fits(width) => return kind,
            BlockType::Q4K => BlockType::Q5_0,
            _ => BlockType::Q8_0,
        };
        if other.fits(width) {
            other
        } else {
            BlockType::F16
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::CostOps;
    use crate::nets::decoder;
    use crate::nets::registry::{DECODERS, find};

    fn inventory(name: &str, precision: Precision) -> (BlockMix, Vec<ParamSpec>) {
        let c = (find("decoder", DECODERS, name).unwrap().config)();
        let mut ops = CostOps::new(2, 0);
        let x = decoder::embed(&mut ops, &c, &[0]).unwrap();
        decoder::forward(&mut ops, &c, &x).unwrap();
        (BlockMix::of(precision, &c).unwrap(), ops.finish().1)
    }

    /// Bytes of all tensors of a file: biases and norms are f32 in it.
    fn file_bytes(name: &str, precision: Precision) -> u64 {
        let (mix, specs) = inventory(name, precision);
        let bytes = |s: &ParamSpec| mix.bytes(s).unwrap_or(4 * s.elements() as u64);
        specs.iter().map(bytes).sum()
    }

    /// Published files of Llama-3-8B and of Qwen2.5-7B, which has Qwen2's
    /// shapes; their metadata, mostly the vocabulary, comes on top.
    #[test]
    fn decoders_are_as_large_as_published_files() {
        for (name, published) in [
            ("qwen2-7b", 4_683_074_048.0),
            ("llama-3-8b", 4_920_734_272.0),
        ] {
            let bytes = file_bytes(name, Precision::Q4KM) as f64;
            assert!(
                bytes < published && bytes > 0.998 * published,
                "{name}: {bytes} of {published}"
            );
        }
    }

    /// What llama.cpp counts in a published Qwen2.5-0.5B Q4_K_M, whose rows of
    /// 896 are no whole blocks of 256: 132 tensors of Q5_0, 13 of Q8_0, 12 of
    /// Q4_K and 12 of Q6_K. Query and key are one tensor less here, gate and up
    /// as well.
    #[test]
    fn a_small_decoder_has_the_types_of_its_published_file() {
        let (mix, specs) = inventory("qwen2-0.5b", Precision::Q4KM);
        let count = |wanted: BlockType| {
            let tensors = |spec: &ParamSpec| {
                let both = |rows: usize| match &spec.name {
                    name if name.ends_with("qkv.weight") && rows > 128 => 2,
                    name if name.ends_with("gate_up.weight") => 2,
                    _ => 1,
                };
                let segments = mix.segments(spec).unwrap_or_default();
                let counted = segments.into_iter().filter(|(kind, _)| *kind == wanted);
                counted.map(|(_, rows)| both(rows)).sum::<usize>()
            };
            specs.iter().map(tensors).sum::<usize>()
        };
        assert_eq!(count(BlockType::Q5_0), 132);
        assert_eq!(count(BlockType::Q8_0), 13);
        assert_eq!(count(BlockType::Q4K), 12);
        assert_eq!(count(BlockType::Q6K), 12);
    }

    #[test]
    fn types_are_those_of_published_files() {
        let types = |name: &str, precision, parameter: &str| {
            let (mix, specs) = inventory(name, precision);
            let spec = specs.iter().find(|s| s.name == parameter).unwrap();
            mix.segments(spec)
        };
        let q4 = Precision::Q4KM;
        // 28 layers: the first three and last four, and every third between.
        let down = |layer: usize| {
            let name = format!("layers.{layer}.down.weight");
            types("qwen2-7b", q4, &name).unwrap()[0].0
        };
        let more: Vec<usize> = (0..28).filter(|i| down(*i) == BlockType::Q6K).collect();
        assert_eq!(more, [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]);
        assert_eq!(
            types("qwen2-7b", q4, "layers.0.qkv.weight").unwrap(),
            [(BlockType::Q4K, 3584 + 512), (BlockType::Q6K, 512)]
        );
        assert_eq!(
            types("qwen2-7b", q4, "embed.weight").unwrap()[0].0,
            BlockType::Q4K
        );
        assert_eq!(
            types("qwen2-7b", q4, "head.weight").unwrap()[0].0,
            BlockType::Q6K
        );
        assert_eq!(types("qwen2-0.5b", q4, "layers.0.norm1.weight"), None);
        assert_eq!(types("qwen2-0.5b", q4, "layers.0.qkv.bias"), None);
    }
}
