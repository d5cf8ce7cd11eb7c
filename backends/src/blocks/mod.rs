//! Matrices in llama.cpp's blocks: some neighbouring scalars of a row as small
//! integers with a scale of their own.
//!
//! Here is what the bytes mean ([`BlockType`]), a matrix of such rows on the
//! host ([`Blocks`]), and which type each of a decoder's matrices has
//! ([`mix`]). The formats are those of ggml (`ggml-common.h`,
//! `ggml-quants.c`).

pub mod mix;
mod quantise;

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use crate::error::Result;

/// How scalars of a row are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockType {
    /// One f32.
    F32,
    /// One IEEE half.
    F16,
    /// One bfloat16.
    Bf16,
    /// 32 scalars `d q`, `q` a signed byte.
    Q8_0,
    /// 32 scalars `d (q - 16)`, `q` of five bits.
    Q5_0,
    /// 256 scalars in eight runs of `d s q - dmin m`, `q` of four bits and the
    /// run's own `s` and `m` of six.
    Q4K,
    /// 256 scalars in sixteen runs of `d s (q - 32)`, `q` of six bits and the
    /// run's own `s` a signed byte.
    Q6K,
}

impl BlockType {
    /// All types.
    pub const ALL: [BlockType; 7] = [
        BlockType::F32,
        BlockType::F16,
        BlockType::Bf16,
        BlockType::Q8_0,
        BlockType::Q5_0,
        BlockType::Q4K,
        BlockType::Q6K,
    ];

    /// ggml's name.
    pub fn name(self) -> &'static str {
        match self {
            BlockType::F32 => "F32",
            BlockType::F16 => "F16",
            BlockType::Bf16 => "BF16",
            BlockType::Q8_0 => "Q8_0",
            BlockType::Q5_0 => "Q5_0",
            BlockType::Q4K => "Q4_K",
            BlockType::Q6K => "Q6_K",
        }
    }

    /// ggml's number in files.
    pub fn id(self) -> u32 {
        match self {
            BlockType::F32 => 0,
            BlockType::F16 => 1,
            BlockType::Q5_0 => 6,
            BlockType::Q8_0 => 8,
            BlockType::Q4K => 12,
            BlockType::Q6K => 14,
            BlockType::Bf16 => 30,
        }
    }

    /// Scalars of a block.
    pub const fn scalars(self) -> usize {
        match self {
            BlockType::F32 | BlockType::F16 | BlockType::Bf16 => 1,
            BlockType::Q8_0 | BlockType::Q5_0 => 32,
            BlockType::Q4K | BlockType::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            BlockType::F32 => 4,
            BlockType::F16 | BlockType::Bf16 => 2,
            BlockType::Q8_0 => 34,
            BlockType::Q5_0 => 22,
            BlockType::Q4K => 144,
            BlockType::Q6K => 210,
        }
    }

    /// Whether rows of `width` scalars are whole blocks.
    pub fn fits(self, width: usize) -> bool {
        width.is_multiple_of(self.scalars())
    }

    /// Bytes of a row of `width` scalars.
    pub fn row_bytes(self, width: usize) -> usize {
        width / self.scalars() * self.bytes()
    }

    /// The scalars of whole blocks, exactly.
    pub fn dequantise(self, blocks: &[u8], out: &mut [f32]) {
        let pairs = blocks
            .chunks_exact(self.bytes())
            .zip(out.chunks_exact_mut(self.scalars()));
        for (block, out) in pairs {
            match self {
                BlockType::F32 => {
                    out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
                }
                BlockType::F16 => out[0] = half_at(block, 0),
                BlockType::Bf16 => {
                    out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32();
                }
                BlockType::Q8_0 => {
                    let d = half_at(block, 0);
                    for (out, q) in out.iter_mut().zip(&block[2..]) {
                        *out = d * f32::from(*q as i8);
                    }
                }
                BlockType::Q5_0 => q5_0(block, out),
                BlockType::Q4K => q4_k(block, out),
                BlockType::Q6K => q6_k(block, out),
            }
        }
    }

    /// Whole blocks of `values`, as ggml's reference quantisers choose them:
    /// for the K types in `blocks/quantise.rs`, for the others candle's.
    pub fn quantise(self, values: &[f32], out: &mut [u8]) -> Result<()> {
        let dtype = match self {
            BlockType::Q4K => {
                quantise::q4_k(values, out);
                return Ok(());
            }
            BlockType::Q6K => {
                quantise::q6_k(values, out);
                return Ok(());
            }
            BlockType::F32 => GgmlDType::F32,
            BlockType::F16 => GgmlDType::F16,
            BlockType::Bf16 => GgmlDType::BF16,
            BlockType::Q8_0 => GgmlDType::Q8_0,
            BlockType::Q5_0 => GgmlDType::Q5_0,
        };
        let values = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
        out.copy_from_slice(&QTensor::quantize(&values, dtype)?.data()?);
        Ok(())
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q5_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for (j, q) in block[6..].iter().enumerate() {
        let bit = |i: usize| (high >> i & 1) as u8 * 16;
        out[j] = d * (f32::from(q & 15 | bit(j)) - 16.0);
        out[j + 16] = d * (f32::from(q >> 4 | bit(j + 16)) - 16.0);
    }
}

/// Scale and minimum of a run of a Q4_K block, from the bytes that hold them.
fn scale_and_min(packed: &[u8], run: usize) -> (u8, u8) {
    match run {
        0..4 => (packed[run] & 63, packed[run + 4] & 63),
        _ => (
            packed[run + 4] & 15 | packed[run - 4] >> 6 << 4,
            packed[run + 4] >> 4 | packed[run] >> 6 << 4,
        ),
    }
}

fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (packed, quants) = block[4..].split_at(12);
    for (run, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(packed, run);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        let quants = &quants[run / 2 * 32..];
        for (out, q) in out.iter_mut().zip(quants) {
            *out = scale * f32::from(q >> (run % 2 * 4) & 15) - min;
        }
    }
}

fn q6_k(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 208);
    for (i, out) in out.iter_mut().enumerate() {
        // Halves of 128, in each of which a byte of four low bits serves two
        // scalars and a byte of high bits four.
        let (half, quarter, l) = (i / 128, i % 128 / 32, i % 32);
        let low = block[half * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
        let high = block[128 + half * 32 + l] >> (quarter * 2) & 3;
        let scale = d * f32::from(block[192 + i / 16] as i8);
        *out = scale * (f32::from(low | high << 4) - 32.0);
    }
}

/// Neighbouring rows of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment<'a> {
    /// Their type.
    pub kind: BlockType,
    /// How many.
    pub rows: usize,
    /// Row after row.
    pub bytes: Cow<'a, [u8]>,
}

/// A matrix of rows in blocks. A packed projection is stacked from tensors
/// whose types may differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks<'a> {
    /// Scalars of a row, whole blocks of every segment.
    pub width: usize,
    /// All rows.
    pub segments: Vec<Segment<'a>>,
}

impl Blocks<'_> {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.segments.iter().map(|s| s.rows).sum()
    }

    /// All scalars, row by row, exactly.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut all = vec![0.0; self.rows() * self.width];
        let mut rest = &mut all[..];
        for segment in &self.segments {
            let (out, after) = rest.split_at_mut(segment.rows * self.width);
            rest = after;
            let bytes = segment.kind.row_bytes(self.width);
            let rows = out.par_chunks_exact_mut(self.width.max(1));
            rows.zip(segment.bytes.par_chunks_exact(bytes.max(1)))
                .for_each(|(out, bytes)| segment.kind.dequantise(bytes, out));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Repeatable values of both signs and several sizes.
    fn values(n: usize) -> Vec<f32> {
        let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7 & 0xffff) as f32 / 65_536.0;
        (0..n)
            .map(|i| (noise(i) - 0.5) * (1.0 + (i / 32 % 5) as f32))
            .collect()
    }

    #[test]
    fn what_was_quantised_comes_back_within_its_step() {
        let values = values(1024);
        for (kind, allowed) in [
            (BlockType::F32, 0.0),
            (BlockType::F16, 1e-3),
            (BlockType::Bf16, 1e-2),
            (BlockType::Q8_0, 1.1 / 254.0),
            (BlockType::Q5_0, 1.1 / 16.0),
            (BlockType::Q6K, 1.1 / 32.0),
            (BlockType::Q4K, 1.5 / 15.0),
        ] {
            let mut bytes = vec![0; kind.row_bytes(values.len())];
            kind.quantise(&values, &mut bytes).unwrap();
            let mut back = vec![0.0; values.len()];
            kind.dequantise(&bytes, &mut back);
            // No scalar is off by more than about a step of its neighbourhood;
            // Q4_K may cut the ends of a run for the sake of the rest.
            for (at, (v, b)) in values.iter().zip(&back).enumerate() {
                let near = &values[at / 32 * 32..][..32];
                let largest = near.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                let off = (v - b).abs();
                assert!(
                    off <= allowed * largest,
                    "{}: {v} became {b}, largest {largest}",
                    kind.name()
                );
            }
        }
    }

    /// The error is no larger than that of candle's translations, of which that
    /// of Q4_K is an older one with fewer candidates; blocks of zeros, of one
    /// value and of one sign are among the scalars.
    #[test]
    fn scales_are_chosen_as_well_as_candle_chooses_them() {
        let mut values = values(256 * 9);
        values[..256].fill(0.0);
        values[256..512].fill(-0.25);
        values[512..768].iter_mut().for_each(|v| *v = v.abs() + 0.1);
        for (kind, dtype) in [
            (BlockType::Q4K, GgmlDType::Q4K),
            (BlockType::Q6K, GgmlDType::Q6K),
        ] {
            let error = |back: &[f32]| -> f32 {
                assert!(back[..256].iter().all(|v| *v == 0.0));
                let off = back.iter().zip(&values).map(|(b, v)| (b - v).powi(2));
                off.sum()
            };
            let mut bytes = vec![0; kind.row_bytes(values.len())];
            kind.quantise(&values, &mut bytes).unwrap();
            let mut ours = vec![0.0; values.len()];
            kind.dequantise(&bytes, &mut ours);
            let tensor = Tensor::from_slice(&values, values.len(), &Device::Cpu).unwrap();
            let theirs = QTensor::quantize(&tensor, dtype).unwrap();
            let theirs = theirs.dequantize(&Device::Cpu).unwrap();
            let theirs: Vec<f32> = theirs.to_vec1().unwrap();
            let (ours, theirs) = (error(&ours), error(&theirs));
            assert!(ours <= 1.01 * theirs, "{}: {ours}, {theirs}", kind.name());
        }
    }

    /// Every bit pattern means what candle's decoder of the same format says.
    #[test]
    fn any_block_is_read_as_candle_reads_it() {
        for (kind, dtype, halves) in [
            (BlockType::Q8_0, GgmlDType::Q8_0, &[0][..]),
            (BlockType::Q5_0, GgmlDType::Q5_0, &[0]),
            (BlockType::Q4K, GgmlDType::Q4K, &[0, 2]),
            (BlockType::Q6K, GgmlDType::Q6K, &[208]),
        ] {
            let blocks = 7;
            let mut bytes: Vec<u8> = (0..blocks * kind.bytes())
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8)
                .collect();
            for (b, block) in bytes.chunks_exact_mut(kind.bytes()).enumerate() {
                for at in halves {
                    let d = f16::from_f32(0.01 * (b + 1) as f32);
                    block[*at..*at + 2].copy_from_slice(&d.to_le_bytes());
                }
            }
            let n = blocks * kind.scalars();
            let mut ours = vec![0.0; n];
            kind.dequantise(&bytes, &mut ours);
            let data = Cow::Borrowed(&bytes[..]);
            let storage =
                candle_core::quantized::QStorage::from_data(data, &Device::Cpu, dtype).unwrap();
            let theirs = QTensor::new(storage, n).unwrap();
            let theirs = theirs.dequantize(&Device::Cpu).unwrap();
            let theirs: Vec<f32> = theirs.to_vec1().unwrap();
            for (o, t) in ours.iter().zip(&theirs) {
                assert!((o - t).abs() <= 1e-6 * t.abs(), "{}: {o}, {t}", kind.name());
            }
        }
    }
}
