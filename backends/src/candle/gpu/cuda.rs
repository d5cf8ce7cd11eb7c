//! NVIDIA's GPUs: the driver and cuBLAS, as candle has them open.
//!
//! One stream does everything in the order in which it is asked for, whichever
//! host thread asks, so tensors need no events to wait for each other.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::cublas::result::gemm_strided_batched_ex;
use candle_core::cuda_backend::cudarc::cublas::sys as cublas;
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr,
    LaunchConfig, PushKernelArg, sys as driver,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::{CudaDevice, DType, Device, Error, Result, Storage, Tensor, bail};

use super::{Gpu, Product, Runtime, Value};
use crate::backend::DeviceEntry;

mod compiled {
    //! Our kernels, as `build.rs` had them compiled.
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

struct Cuda {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    module: Arc<CudaModule>,
    /// Kernels by name, once they have been asked for.
    kernels: Mutex<HashMap<String, CudaFunction>>,
    about: String,
    /// What memory is allocated from.
    pool: Pool,
    lap: Mutex<Lap>,
}

/// Events around the work of a lap.
#[derive(Default)]
struct Lap {
    begin: Option<CudaEvent>,
    end: Option<CudaEvent>,
}

/// The device's default memory pool.
struct Pool(driver::CUmemoryPool);

// SAFETY: a handle, which the driver lets any thread use.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

/// Opens card `number`.
pub fn open(number: usize) -> Result<Gpu> {
    let device = Device::new_cuda_with_stream(number)?;
    let cuda = device.as_cuda_device()?.clone();
    let stream = cuda.cuda_stream();
    let context = stream.context();
    // SAFETY: there is one stream.
    unsafe { cuda.disable_event_tracking() };
    let module = context
        .load_module(Ptx::from_src(compiled::KERNELS))
        .map_err(Error::wrap)?;
    let (major, minor) = context.compute_capability().map_err(Error::wrap)?;
    let name = context.name().map_err(Error::wrap)?;
    let runtime = Cuda {
        pool: Pool::of(context)?,
        about: format!("{name}, compute capability {major}.{minor}; products by cuBLAS"),
        device: cuda,
        module,
        kernels: Mutex::default(),
        lap: Mutex::default(),
        stream,
    };
    Ok(Gpu {
        device,
        runtime: Arc::new(runtime),
    })
}

/// Cards that the driver sees, or why there is none.
pub fn devices() -> Vec<DeviceEntry> {
    let none = |why: String| {
        vec![DeviceEntry {
            name: "cuda:0".into(),
            missing: Some(why),
        }]
    };
    // Without a driver its library cannot even be asked.
    match std::panic::catch_unwind(CudaContext::device_count) {
        Ok(Ok(0)) => none("the driver sees no GPU".into()),
        Ok(Ok(count)) => (0..count)
            .map(|number| DeviceEntry {
                name: format!("cuda:{number}"),
                missing: None,
            })
            .collect(),
        Ok(Err(e)) => none(format!("the driver cannot be used: {:?}", e.0)),
        Err(_) => none("there is no NVIDIA driver".into()),
    }
}

impl Pool {
    fn of(context: &CudaContext) -> Result<Pool> {
        let mut pool = std::ptr::null_mut();
        // SAFETY: the context is open, and `pool` is written.
        let got = unsafe { driver::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device()) };
        got.result().map_err(Error::wrap)?;
        let pool = Pool(pool);
        // By default memory goes back to the system at every synchronisation, and the
        // next request pays for it again.
        pool.set(Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
        Ok(pool)
    }

    fn set(&self, attribute: Attribute, mut value: u64) -> Result<()> {
        let value: *mut u64 = &mut value;
        // SAFETY: both attributes that we set are 64 bits.
        let done = unsafe { driver::cuMemPoolSetAttribute(self.0, attribute, value.cast()) };
        done.result().map_err(Error::wrap)
    }

    fn get(&self, attribute: Attribute) -> Result<u64> {
        let mut value = 0u64;
        let to: *mut u64 = &mut value;
        // SAFETY: as above.
        let done = unsafe { driver::cuMemPoolGetAttribute(self.0, attribute, to.cast()) };
        done.result().map_err(Error::wrap)?;
        Ok(value)
    }
}

type Attribute = driver::CUmemPool_attribute;

impl Cuda {
    fn kernel(&self, name: &str) -> Result<CudaFunction> {
        let mut kernels = lock(&self.kernels);
        if let Some(kernel) = kernels.get(name) {
            return Ok(kernel.clone());
        }
        let kernel = self.module.load_function(name).map_err(Error::wrap)?;
        kernels.insert(name.to_owned(), kernel.clone());
        Ok(kernel)
    }

    /// An event after what has been asked for.
    fn event(&self) -> Result<CudaEvent> {
        let flags = driver::CUevent_flags::CU_EVENT_DEFAULT;
        self.stream.record_event(Some(flags)).map_err(Error::wrap)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runtime for Cuda {
    fn launch(&self, kernel: &str, grid: [u32; 3], block: [u32; 3], args: &[Value]) -> Result<()> {
        let kernel = self.kernel(kernel)?;
        let mut launch = self.stream.launch_builder(&kernel);
        for arg in args {
            match arg {
                Value::Address(a) => launch.arg(a),
                Value::Int(i) => launch.arg(i),
                Value::Long(i) => launch.arg(i),
                Value::Float(f) => launch.arg(f),
            };
        }
        let config = LaunchConfig {
            grid_dim: (grid[0], grid[1], grid[2]),
            block_dim: (block[0], block[1], block[2]),
            shared_mem_bytes: 0,
        };
        // SAFETY: parameters are of the kernel's types by the contract of `launch`; buffers
        // are as large as the kernel's sizes say, and freed in the stream's order.
        unsafe { launch.launch(config) }.map_err(Error::wrap)?;
        Ok(())
    }

    fn product(&self, p: &Product<'_>) -> Result<()> {
        use cublas::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        use cublas::cublasGemmAlgo_t::CUBLAS_GEMM_DFALT;
        use cublas::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};

        let (from, to) = p.dtypes();
        let (from, size) = kind(from)?;
        let (to, to_size) = kind(to)?;
        let at = |factor: &super::Factor<'_>, size: usize| -> Result<*mut c_void> {
            let address = self.address(factor.tensor)? + (factor.offset * size) as u64;
            Ok(address as *mut c_void)
        };
        let int = super::int;
        let beta = 0f32;
        // cuBLAS has columns where we have rows, so it computes the transposed product of
        // the factors the other way round.
        // SAFETY: the product's sizes lie within its tensors; the handle is of our stream.
        unsafe {
            gemm_strided_batched_ex(
                *self.device.cublas_handle().handle(),
                if p.transposed {
                    CUBLAS_OP_T
                } else {
                    CUBLAS_OP_N
                },
                CUBLAS_OP_N,
                int(p.cols)?,
                int(p.rows)?,
                int(p.depth)?,
                std::ptr::from_ref(&p.scale).cast(),
                at(&p.right, size)?,
                from,
                int(p.right.stride)?,
                p.right.step as i64,
                at(&p.left, size)?,
                from,
                int(p.left.stride)?,
                p.left.step as i64,
                std::ptr::from_ref(&beta).cast(),
                at(&p.to, to_size)?,
                to,
                int(p.to.stride)?,
                p.to.step as i64,
                int(p.batch)?,
                CUBLAS_COMPUTE_32F,
                CUBLAS_GEMM_DFALT,
            )
        }
        .map_err(Error::wrap)
    }

    fn address(&self, tensor: &Tensor) -> Result<u64> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, _)) = layout.contiguous_offsets() else {
            bail!("operand of shape {:?} is not contiguous", layout.shape());
        };
        let Storage::Cuda(storage) = &*storage else {
            bail!("an operand is not on the gpu");
        };
        fn at<T>(all: &CudaSlice<T>, start: usize, stream: &CudaStream) -> u64 {
            // Nothing waits for the guard: there is one stream.
            let (address, _guard) = all.device_ptr(stream);
            address + (start * size_of::<T>()) as u64
        }
        let stream = &self.stream;
        match &storage.slice {
            CudaStorageSlice::U8(all) => Ok(at(all, start, stream)),
            CudaStorageSlice::U32(all) => Ok(at(all, start, stream)),
            CudaStorageSlice::F32(all) => Ok(at(all, start, stream)),
            CudaStorageSlice::F16(all) => Ok(at(all, start, stream)),
            CudaStorageSlice::BF16(all) => Ok(at(all, start, stream)),
            _ => bail!("no kernel reads {:?}", tensor.dtype()),
        }
    }

    fn about(&self) -> String {
        self.about.clone()
    }

    fn begin(&self) -> Result<()> {
        let begin = Some(self.event()?);
        *lock(&self.lap) = Lap { begin, end: None };
        Ok(())
    }

    fn end(&self) -> Result<()> {
        lock(&self.lap).end = Some(self.event()?);
        Ok(())
    }

    fn lap(&self) -> Result<Option<Duration>> {
        let Lap { begin, end } = std::mem::take(&mut *lock(&self.lap));
        let end = end.map_or_else(|| self.event(), Ok)?;
        self.stream.synchronize().map_err(Error::wrap)?;
        let Some(begin) = begin else { return Ok(None) };
        let ms = begin.elapsed_ms(&end).map_err(Error::wrap)?;
        Ok(Some(Duration::from_secs_f64(f64::from(ms.max(0.0)) / 1e3)))
    }

    fn free_memory(&self) -> Option<u64> {
        let (free, _total) = self.stream.context().mem_get_info().ok()?;
        // What the pool keeps is free for us.
        let held = self
            .pool
            .get(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
        let used = self.pool.get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
        Some(free as u64 + held.ok()?.saturating_sub(used.ok()?))
    }

    fn peak_memory(&self) -> Option<u64> {
        self.pool.get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH).ok()
    }

    fn reset_peak_memory(&self) {
        // Zero is what the driver takes, and means the present use. Where it fails, the
        // peak includes what came before, which is at most too much.
        let _ = self.pool.set(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0);
    }

    fn release_memory(&self) {
        // SAFETY: the pool is the device's own. Where it fails, other processes have less.
        let _ = unsafe { driver::cuMemPoolTrimTo(self.pool.0, 0) };
    }

    fn enough(&self) -> (usize, usize) {
        (8192, 1 << 28)
    }
}

/// cuBLAS's name of a precision, and the bytes of a scalar.
fn kind(dtype: DType) -> Result<(cublas::cudaDataType, usize)> {
    match dtype {
        DType::F32 => Ok((cublas::cudaDataType::CUDA_R_32F, 4)),
        DType::F16 => Ok((cublas::cudaDataType::CUDA_R_16F, 2)),
        DType::BF16 => Ok((cublas::cudaDataType::CUDA_R_16BF, 2)),
        other => bail!("no product of {other:?}"),
    }
}
