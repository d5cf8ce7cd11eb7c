//! Work of a known amount, to measure what a GPU can do at most: the counterpart
//! of [`peak::Probe`](crate::peak::Probe), with the same figures.

use candle_core::{DType, Tensor};

use super::{Factor, Gpu, Product, long};
use crate::error::{Error, Result};

/// Threads of a grid that keeps memory busy; each takes many pieces.
const READERS: u32 = 1 << 12;

/// Operands on a GPU. Every method returns when its work is done, with how much it
/// was: FLOPs or bytes.
pub struct GpuProbe {
    side: usize,
    floats: usize,
    f32_matrix: Tensor,
    bf16_matrix: Tensor,
    from: Tensor,
    to: Tensor,
    // Dropped last.
    gpu: Emptied,
}

/// A GPU whose memory goes back to the system.
struct Emptied(Gpu);

impl Drop for Emptied {
    fn drop(&mut self) {
        // Work still under way has its buffers.
        if self.0.device().synchronize().is_ok() {
            self.0.runtime().release_memory();
        }
    }
}

impl GpuProbe {
    /// A probe of the device of a name.
    pub fn open(device: &str) -> Result<GpuProbe> {
        let gpu = super::open(device).ok_or_else(|| Error::Unavailable {
            what: format!("device {device}"),
            why: "it is not a GPU of the candle engine".into(),
        })??;
        let (side, floats) = gpu.runtime().enough();
        let ones = |shape: &[usize], dtype| Tensor::ones(shape, dtype, gpu.device());
        Ok(GpuProbe {
            side,
            floats,
            f32_matrix: ones(&[side, side], DType::F32)?,
            bf16_matrix: ones(&[side, side], DType::BF16)?,
            from: ones(&[floats], DType::F32)?,
            to: ones(&[floats], DType::F32)?,
            gpu: Emptied(gpu),
        })
    }

    /// A product of two square f32 matrices.
    pub fn f32_product(&self) -> Result<u64> {
        self.product(&self.f32_matrix)
    }

    /// The same in bf16.
    pub fn bf16_product(&self) -> Result<u64> {
        self.product(&self.bf16_matrix)
    }

    fn product(&self, matrix: &Tensor) -> Result<u64> {
        let side = self.side;
        let to = self.gpu.0.output((side, side), matrix.dtype())?;
        self.gpu.0.product(&Product {
            batch: 1,
            rows: side,
            cols: side,
            depth: side,
            left: Factor::rows(matrix, side),
            right: Factor::rows(matrix, side),
            transposed: true,
            to: Factor::rows(&to, side),
            scale: 1.0,
        })?;
        self.gpu.0.device().synchronize()?;
        Ok(2 * (side as u64).pow(3))
    }

    /// Reads a buffer far larger than the caches.
    pub fn read(&self) -> Result<u64> {
        self.stream("read")?;
        Ok(4 * self.floats as u64)
    }

    /// Copies one; bytes read plus bytes written.
    pub fn copy(&self) -> Result<u64> {
        self.stream("copy")?;
        Ok(8 * self.floats as u64)
    }

    fn stream(&self, kernel: &str) -> Result<()> {
        let args = [
            (&self.from).into(),
            (&self.to).into(),
            long(self.floats / 4).into(),
        ];
        let grid = [READERS, 1, 1];
        (self.gpu.0).launch((kernel, DType::F32), grid, [super::THREADS, 1, 1], &args)?;
        Ok(self.gpu.0.device().synchronize()?)
    }
}

#[cfg(all(test, feature = "cuda-emulated"))]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_what_it_says_it_is() {
        let mut probe = GpuProbe::open("cuda-emulated").unwrap();
        let (side, floats) = probe.gpu.0.runtime().enough();
        assert_eq!(probe.bf16_product().unwrap(), 2 * (side as u64).pow(3));
        assert_eq!(probe.f32_product().unwrap(), 2 * (side as u64).pow(3));
        assert_eq!(probe.read().unwrap(), 4 * floats as u64);
        let numbers: Vec<f32> = (0..floats).map(|i| i as f32).collect();
        probe.from = Tensor::new(numbers.as_slice(), probe.gpu.0.device()).unwrap();
        assert_eq!(probe.copy().unwrap(), 8 * floats as u64);
        assert_eq!(probe.to.to_vec1::<f32>().unwrap(), numbers);
        assert!(GpuProbe::open("cpu").is_err());
    }
}
