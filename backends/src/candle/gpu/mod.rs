//! The interpreter's operations on a GPU: kernels of our own (`kernels/*.cu`)
//! around the matrix products of the vendor's library.
//!
//! Everything here is written against [`Runtime`], which launches kernels by name
//! and multiplies matrices. The feature `cuda` has the one of NVIDIA's GPUs; the
//! feature `cuda-emulated`, for tests, compiles the same kernels for the host, so
//! that a machine without a GPU checks all of this but the hardware's speed.
//!
//! Tensors are laid out as on the CPU, channels last, weights as they come from
//! the source: `(out, in)`, convolutions `(out, k, k, in)`, depthwise kernels
//! `(k, k, out)` in f32.

mod attention;
#[cfg(feature = "cuda")]
mod cuda;
mod depthwise;
#[cfg(feature = "cuda-emulated")]
mod emulated;
mod linear;
mod pointwise;
pub mod probe;
mod product;

use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};

pub use attention::append;
pub use depthwise::weight_of;
pub use pointwise::mix;
pub use product::{Factor, Product};

use crate::backend::DeviceEntry;
use crate::ops::Act;

/// Threads of a warp.
const WARP: u32 = 32;
/// Threads of a block where the work says nothing else.
const THREADS: u32 = 256;

/// What a GPU's library does for us.
pub trait Runtime: Send + Sync {
    /// Starts a kernel of `grid` blocks of `block` threads.
    fn launch(&self, kernel: &str, grid: [u32; 3], block: [u32; 3], args: &[Value]) -> Result<()>;

    /// Multiplies matrices.
    fn product(&self, product: &Product<'_>) -> Result<()>;

    /// Where the scalars of a contiguous tensor begin.
    fn address(&self, tensor: &Tensor) -> Result<u64>;

    /// What computes, for records.
    fn about(&self) -> String;

    /// Work begins of which [`Runtime::lap`] tells the time.
    fn begin(&self) -> Result<()>;

    /// It has all been asked for.
    fn end(&self) -> Result<()>;

    /// Waits for all work; the time from its beginning to its end by the device's
    /// clock, if it has begun.
    fn lap(&self) -> Result<Option<Duration>>;

    /// Bytes that are free, if the device says.
    fn free_memory(&self) -> Option<u64>;

    /// Most bytes that were in use since the last [`Runtime::reset_peak_memory`];
    /// `None` if the device does not say.
    fn peak_memory(&self) -> Option<u64>;

    /// Begins a new peak.
    fn reset_peak_memory(&self);

    /// Gives memory that is not in use back to the system, for other processes.
    fn release_memory(&self);

    /// The side of a matrix whose square, and floats of a buffer whose copy, keep it
    /// busy for much longer than they take to be asked for.
    fn enough(&self) -> (usize, usize);
}

/// What a kernel is given.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// Of a tensor; 0 is none.
    Address(u64),
    /// `int`.
    Int(i32),
    /// `int64_t`.
    Long(i64),
    /// `float`.
    Float(f32),
}

/// An argument of a launch.
pub(super) enum Arg<'a> {
    /// The scalars of a contiguous tensor.
    Tensor(&'a Tensor),
    /// A plain value, or no tensor.
    Plain(Value),
}

impl<'a> From<&'a Tensor> for Arg<'a> {
    fn from(tensor: &'a Tensor) -> Arg<'a> {
        Arg::Tensor(tensor)
    }
}

impl<'a> From<Option<&'a Tensor>> for Arg<'a> {
    fn from(tensor: Option<&'a Tensor>) -> Arg<'a> {
        tensor.map_or(Arg::Plain(Value::Address(0)), Arg::Tensor)
    }
}

impl From<i32> for Arg<'_> {
    fn from(value: i32) -> Self {
        Arg::Plain(Value::Int(value))
    }
}

impl From<i64> for Arg<'_> {
    fn from(value: i64) -> Self {
        Arg::Plain(Value::Long(value))
    }
}

impl From<f32> for Arg<'_> {
    fn from(value: f32) -> Self {
        Arg::Plain(Value::Float(value))
    }
}

impl From<Act> for Arg<'_> {
    fn from(act: Act) -> Self {
        Arg::from(act as i32)
    }
}

/// A side, a stride or a count, as kernels have them.
fn int(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(candle_core::Error::wrap)
}

/// Scalars of a buffer.
fn long(n: usize) -> i64 {
    n as i64
}

/// A GPU that tensors are on.
#[derive(Clone)]
pub struct Gpu {
    device: Device,
    runtime: Arc<dyn Runtime>,
}

impl Gpu {
    /// As candle has it.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What does the work.
    pub fn runtime(&self) -> &dyn Runtime {
        self.runtime.as_ref()
    }

    /// A tensor whose scalars are yet to be written.
    fn output(&self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        // SAFETY: whoever asks has a kernel or a product write every scalar.
        unsafe { Tensor::empty(shape, dtype, &self.device) }
    }

    /// Starts `kernel` for scalars of `dtype`.
    fn launch(
        &self,
        (kernel, dtype): (&str, DType),
        grid: [u32; 3],
        block: [u32; 3],
        args: &[Arg<'_>],
    ) -> Result<()> {
        let suffix = match dtype {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            other => bail!("{kernel}: no kernel for {other:?}"),
        };
        let value = |arg: &Arg<'_>| match arg {
            Arg::Tensor(tensor) => self.runtime.address(tensor).map(Value::Address),
            Arg::Plain(value) => Ok(*value),
        };
        let values = args.iter().map(value).collect::<Result<Vec<_>>>()?;
        if grid.contains(&0) {
            return Ok(());
        }
        let name = format!("{kernel}_{suffix}");
        self.runtime.launch(&name, grid, block, &values)
    }

    /// Starts `kernel` with a thread for each of `n` pieces of work.
    fn each(&self, kernel: (&str, DType), n: usize, args: &[Arg<'_>]) -> Result<()> {
        // Threads take several pieces where there are more than a grid has blocks.
        let blocks = n.div_ceil(THREADS as usize).min(i32::MAX as usize) as u32;
        self.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], args)
    }
}

/// An operation on a GPU.
pub trait GpuOp {
    /// Computes the result for contiguous `x`.
    fn on_gpu(&self, x: &Tensor, gpu: &Gpu) -> Result<Tensor>;
}

/// Opens the GPU of a name, `None` if it is not the name of one.
pub fn open(name: &str) -> Option<Result<Gpu>> {
    #[cfg(feature = "cuda-emulated")]
    if name == emulated::NAME {
        return Some(Ok(emulated::open()));
    }
    #[cfg(feature = "cuda")]
    if let Some(number) = number(name) {
        return Some(cuda::open(number));
    }
    let _ = name;
    None
}

/// Names of GPUs, each with why it cannot be used if it cannot.
pub fn devices() -> Vec<DeviceEntry> {
    #[cfg(feature = "cuda")]
    let known = cuda::devices();
    #[cfg(not(feature = "cuda"))]
    let known = vec![DeviceEntry {
        name: "cuda:0".into(),
        missing: Some(
            "this program was built without the feature `cuda`; with NVIDIA's toolkit at hand, build it \
             with `cargo build --release --features cuda`"
                .into(),
        ),
    }];
    #[cfg(feature = "cuda-emulated")]
    let known = [emulated::devices(), known].concat();
    known
}

/// The number of `cuda:N`.
#[cfg(feature = "cuda")]
fn number(name: &str) -> Option<usize> {
    name.strip_prefix("cuda:")?.parse().ok()
}
