//! Matrices that stay in blocks in memory, arranged for the products.
//!
//! [`LANES`] columns (rows of the weight) are a panel. A panel holds one block
//! of each of its columns after another; within, every byte of the format (or
//! half, where the format has halves) is stored for all columns side by side.
//! So a lane of a vector is a column, sums need no shuffling, a product reads
//! memory strictly forwards, and not a byte is added: the arrangement only
//! permutes those of the format. [`visit`] says what the bytes mean.

pub mod visit;

use std::ops::Range;

use rayon::prelude::*;

use super::simd::LANES;
use crate::blocks::BlockType;
use crate::error::Result;

/// Columns of one type.
pub struct Columns {
    /// Their type.
    pub kind: BlockType,
    /// The first of them in the matrix.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Panel after panel.
    data: Vec<u8>,
}

impl Columns {
    /// Panels, the last of which may have columns of zeros.
    pub fn panels(&self) -> usize {
        self.count.div_ceil(LANES)
    }

    /// The bytes of a panel.
    pub fn panel(&self, index: usize) -> &[u8] {
        let len = self.data.len() / self.panels();
        &self.data[index * len..][..len]
    }
}

/// A matrix `(cols, width)` in blocks.
pub struct BlockMatrix {
    /// Output features.
    pub cols: usize,
    /// Input features.
    pub width: usize,
    /// Columns by type, in order.
    pub columns: Vec<Columns>,
}

/// Blocks of a row of `width` scalars. Types of single scalars have an even
/// number, since kernels take steps in pairs.
fn blocks(kind: BlockType, width: usize) -> usize {
    match kind.scalars() {
        1 => width.next_multiple_of(2),
        scalars => width / scalars,
    }
}

/// Neighbouring units of a format: where they start, how many they are, and of
/// how many bytes each.
struct Field {
    start: usize,
    count: usize,
    size: usize,
}

/// The fields of a format, which are all of its bytes.
fn fields(kind: BlockType) -> &'static [Field] {
    const fn field(start: usize, count: usize, size: usize) -> Field {
        Field { start, count, size }
    }
    match kind {
        BlockType::F32 => const { &[field(0, 1, 4)] },
        BlockType::F16 | BlockType::Bf16 => const { &[field(0, 1, 2)] },
        BlockType::Q8_0 => const { &[field(0, 1, 2), field(2, 32, 1)] },
        BlockType::Q5_0 => const { &[field(0, 1, 2), field(2, 20, 1)] },
        BlockType::Q4K => const { &[field(0, 2, 2), field(4, 140, 1)] },
        BlockType::Q6K => const { &[field(0, 208, 1), field(208, 1, 2)] },
    }
}

/// Tells where each byte of a column's block is among those of all columns:
/// `at(byte of the block, byte of the panel's)`.
#[inline(always)]
fn places(kind: BlockType, column: usize, mut at: impl FnMut(usize, usize)) {
    for field in fields(kind) {
        for i in 0..field.count {
            let unit = field.start + i * field.size;
            for byte in 0..field.size {
                at(unit + byte, unit * LANES + column * field.size + byte);
            }
        }
    }
}

/// Asks for large pages under memory that was not touched yet: a decode step
/// reads all of it, and would wait for the translation of each small page.
fn large_pages(data: &mut [u8]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let before = data.as_ptr().align_offset(PAGE).min(data.len());
        let whole = (data.len() - before) / PAGE * PAGE;
        // SAFETY: whole pages of our own memory; their content stays. Where
        // there are no large pages, all is as before.
        let _ = unsafe {
            let from = data.as_mut_ptr().add(before);
            libc::madvise(from.cast(), whole, libc::MADV_HUGEPAGE)
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = data;
}

impl BlockMatrix {
    /// Arranges a matrix whose rows `segments` (type and number, from the first
    /// on) `fill(rows, bytes)` writes, at most a panel of one segment at a time.
    ///
    /// # Errors
    /// The first that `fill` has.
    pub fn pack(
        width: usize,
        segments: &[(BlockType, usize)],
        fill: impl Fn(BlockType, Range<usize>, &mut [u8]) -> Result<()> + Sync,
    ) -> Result<BlockMatrix> {
        let mut first = 0;
        let mut columns = Vec::new();
        for &(kind, count) in segments.iter().filter(|(_, count)| *count > 0) {
            assert!(kind.fits(width), "{} by rows of {width}", kind.name());
            let (row, block) = (kind.row_bytes(width), kind.bytes());
            let panel = blocks(kind, width) * block * LANES;
            let panels = count.div_ceil(LANES);
            let mut data = vec![0; panels * panel];
            large_pages(&mut data);
            data.par_chunks_exact_mut(panel).enumerate().try_for_each(
                |(index, panel)| -> Result<()> {
                    let from = index * LANES;
                    let n = LANES.min(count - from);
                    let mut rows = vec![0; n * row];
                    fill(kind, first + from..first + from + n, &mut rows)?;
                    for (column, row) in rows.chunks_exact(row).enumerate() {
                        let all = panel.chunks_exact_mut(block * LANES);
                        for (block, panel) in row.chunks_exact(block).zip(all) {
                            places(kind, column, |from, to| panel[to] = block[from]);
                        }
                    }
                    Ok(())
                },
            )?;
            columns.push(Columns {
                kind,
                first,
                count,
                data,
            });
            first += count;
        }
        Ok(BlockMatrix {
            cols: first,
            width,
            columns,
        })
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.columns.iter().map(|c| c.data.len() as u64).sum()
    }

    /// Writes row `col` of the weight into `dst`.
    pub fn unpack_row(&self, col: usize, dst: &mut [f32]) {
        let holds = |c: &&Columns| (c.first..c.first + c.count).contains(&col);
        let Some(columns) = self.columns.iter().find(holds) else {
            return;
        };
        let (kind, at) = (columns.kind, col - columns.first);
        let column = at % LANES;
        let mut block = vec![0; kind.bytes()];
        let all = columns.panel(at / LANES).chunks_exact(kind.bytes() * LANES);
        for (panel, dst) in all.zip(dst.chunks_exact_mut(kind.scalars())) {
            places(kind, column, |to, from| block[to] = panel[from]);
            kind.dequantise(&block, dst);
        }
    }
}

/// `values`, whole rows of `width` scalars, as a matrix with these segments.
#[cfg(test)]
pub(in crate::candle) fn quantised(
    values: &[f32],
    width: usize,
    segments: &[(BlockType, usize)],
) -> BlockMatrix {
    BlockMatrix::pack(width, segments, |kind, rows, bytes| {
        kind.quantise(&values[rows.start * width..rows.end * width], bytes)
    })
    .expect("blocks of whole rows")
}

#[cfg(test)]
mod tests {
    use super::super::test_numbers::numbers;
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_packed_and_nothing_is_added() {
        let width = 512;
        let segments = [
            (BlockType::Q4K, 37),
            (BlockType::Q6K, 16),
            (BlockType::Q5_0, 1),
            (BlockType::Q8_0, 20),
            (BlockType::F16, 5),
            (BlockType::Bf16, 3),
            (BlockType::F32, 17),
        ];
        let rows: usize = segments.iter().map(|s| s.1).sum();
        let values = numbers(rows * width, 3);
        let matrix = quantised(&values, width, &segments);
        assert_eq!(matrix.cols, rows);
        let padded = |n: usize| n.next_multiple_of(LANES);
        let bytes = segments
            .iter()
            .map(|(kind, n)| padded(*n) * kind.row_bytes(width));
        assert_eq!(matrix.bytes(), bytes.sum::<usize>() as u64);
        let mut col = 0;
        let mut row = vec![0.0; width];
        for (kind, n) in segments {
            for _ in 0..n {
                let values = &values[col * width..][..width];
                let mut bytes = vec![0; kind.row_bytes(width)];
                kind.quantise(values, &mut bytes).unwrap();
                let mut expected = vec![0.0; width];
                kind.dequantise(&bytes, &mut expected);
                matrix.unpack_row(col, &mut row);
                assert_eq!(row, expected, "{} {col}", kind.name());
                col += 1;
            }
        }
    }
}
