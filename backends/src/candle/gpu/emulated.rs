//! A GPU that is not there: kernels compiled for the host, matrix products as
//! three loops, tensors in the host's memory. For tests of everything around.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, WithDType, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{Factor, Gpu, Product, Runtime, Value};
use crate::backend::DeviceEntry;
use crate::candle::kernels::element::Element;

/// The device's name.
pub const NAME: &str = "cuda-emulated";

unsafe extern "C" {
    fn vlmbench_emulated_launch(
        name: *const c_char,
        grid: *const u32,
        threads: *const u32,
        parameters: *mut *mut c_void,
    ) -> c_int;
}

/// Has a clock that moves a microsecond with every kernel, and 4 GiB of memory of
/// which nothing is in use.
#[derive(Default)]
struct Emulated {
    launches: AtomicU64,
}

const FREE: u64 = 4 << 30;

/// Opens it.
pub fn open() -> Gpu {
    Gpu {
        device: Device::Cpu,
        runtime: Arc::new(Emulated::default()),
    }
}

/// It is always there.
pub fn devices() -> Vec<DeviceEntry> {
    vec![DeviceEntry {
        name: NAME.into(),
        missing: None,
    }]
}

impl Runtime for Emulated {
    fn launch(&self, kernel: &str, grid: [u32; 3], block: [u32; 3], args: &[Value]) -> Result<()> {
        self.launches.fetch_add(1, Ordering::Relaxed);
        let name = CString::new(kernel).map_err(candle_core::Error::wrap)?;
        let parameter = |value: &Value| -> *mut c_void {
            match value {
                Value::Address(a) => std::ptr::from_ref(a).cast_mut().cast(),
                Value::Int(i) => std::ptr::from_ref(i).cast_mut().cast(),
                Value::Long(i) => std::ptr::from_ref(i).cast_mut().cast(),
                Value::Float(f) => std::ptr::from_ref(f).cast_mut().cast(),
            }
        };
        let mut parameters: Vec<_> = args.iter().map(parameter).collect();
        // SAFETY: parameters are of the kernel's types by the contract of `launch`, which
        // copies them, and buffers live and are as large as the kernel's sizes say.
        let failed = unsafe {
            vlmbench_emulated_launch(
                name.as_ptr(),
                grid.as_ptr(),
                block.as_ptr(),
                parameters.as_mut_ptr(),
            )
        };
        match failed {
            0 => Ok(()),
            _ => bail!("there is no kernel {kernel}"),
        }
    }

    fn product(&self, p: &Product<'_>) -> Result<()> {
        match p.dtypes() {
            (DType::F32, DType::F32) => product::<f32, f32>(self, p),
            (DType::F16, DType::F16) => product::<f16, f16>(self, p),
            (DType::F16, DType::F32) => product::<f16, f32>(self, p),
            (DType::BF16, DType::BF16) => product::<bf16, bf16>(self, p),
            (DType::BF16, DType::F32) => product::<bf16, f32>(self, p),
            other => bail!("no product of {other:?}"),
        }
    }

    fn address(&self, tensor: &Tensor) -> Result<u64> {
        fn at<T: WithDType>(all: &[T], start: usize) -> u64 {
            all[start..].as_ptr() as u64
        }
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, _)) = layout.contiguous_offsets() else {
            bail!("operand of shape {:?} is not contiguous", layout.shape());
        };
        match &*storage {
            Storage::Cpu(CpuStorage::U8(all)) => Ok(at(all, start)),
            Storage::Cpu(CpuStorage::U32(all)) => Ok(at(all, start)),
            Storage::Cpu(CpuStorage::F32(all)) => Ok(at(all, start)),
            Storage::Cpu(CpuStorage::F16(all)) => Ok(at(all, start)),
            Storage::Cpu(CpuStorage::BF16(all)) => Ok(at(all, start)),
            _ => bail!("no kernel reads {:?}", tensor.dtype()),
        }
    }

    fn about(&self) -> String {
        "CUDA kernels, emulated on the host".into()
    }

    fn begin(&self) -> Result<()> {
        self.launches.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn end(&self) -> Result<()> {
        Ok(())
    }

    fn lap(&self) -> Result<Option<Duration>> {
        let launches = self.launches.swap(0, Ordering::Relaxed);
        Ok((launches > 0).then(|| Duration::from_micros(launches)))
    }

    fn free_memory(&self) -> Option<u64> {
        Some(FREE)
    }

    fn peak_memory(&self) -> Option<u64> {
        Some(0)
    }

    fn reset_peak_memory(&self) {}

    fn release_memory(&self) {}

    fn enough(&self) -> (usize, usize) {
        (64, 1 << 12)
    }
}

/// Rows of a factor, from its first scalar on.
fn from<T>(runtime: &Emulated, factor: &Factor<'_>) -> Result<usize> {
    let address = runtime.address(factor.tensor)? as usize;
    Ok(address + factor.offset * size_of::<T>())
}

fn product<T: Element, Y: Element>(runtime: &Emulated, p: &Product<'_>) -> Result<()> {
    let (left, right) = (from::<T>(runtime, &p.left)?, from::<T>(runtime, &p.right)?);
    let to = from::<Y>(runtime, &p.to)?;
    (0..p.batch * p.rows).into_par_iter().for_each(|row| {
        let (matrix, row) = (row / p.rows, row % p.rows);
        // SAFETY: the product's sizes lie within its tensors, which live.
        let get = |from: usize, at: usize| unsafe { (*(from as *const T).add(at)).get() };
        let sum = |col: usize| -> f32 {
            let products = (0..p.depth).map(|i| {
                let (down, across) = if p.transposed { (col, i) } else { (i, col) };
                get(left, matrix * p.left.step + row * p.left.stride + i)
                    * get(
                        right,
                        matrix * p.right.step + down * p.right.stride + across,
                    )
            });
            p.scale * products.sum::<f32>()
        };
        let sums: Vec<f32> = (0..p.cols).map(sum).collect();
        let at = matrix * p.to.step + row * p.to.stride;
        // SAFETY: as above; tasks write rows of their own.
        Y::narrow(&sums, unsafe {
            std::slice::from_raw_parts_mut((to as *mut Y).add(at), p.cols)
        });
    });
    Ok(())
}
