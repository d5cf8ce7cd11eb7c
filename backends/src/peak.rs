//! Work of a known amount, to measure what the machine can do at most.
//!
//! Every method does its work on all threads of the probe and returns how much
//! it was: FLOPs or bytes. Nothing here reads a clock; the caller divides by
//! the time that it measured. The loops are written for the hardware's rate
//! and for nothing else: arithmetic on registers only, memory far larger than
//! the caches.

use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, PoisonError};

use half::bf16;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::candle::kernels::element::Element;
use crate::candle::kernels::linear::{Dense, Epilogue, Weight, linear};
use crate::candle::kernels::packed::Packing;
#[cfg(target_arch = "x86_64")]
use crate::candle::kernels::simd::amx;
use crate::candle::kernels::simd::{Kernel, LANES, Level, Simd, Vector, dispatch};
use crate::error::{Error, Result};
use crate::ops::Act;

/// Independent sums that [`Probe::multiply_add`] can keep. What is best
/// depends on the instruction set: enough to hide the latency of an
/// instruction, and not more than fit the registers. The first suits sixteen
/// registers of four floats, the second sixteen of eight or 32 of four, the
/// third 32 of sixteen.
pub const CHAINS: [usize; 3] = [3, 6, 16];

/// FLOPs of one thread in one call of [`Probe::multiply_add`], about. Long
/// enough that waking the threads hardly counts, and shorter than a slice of
/// the scheduler, so that some of many calls run undisturbed beside other work.
const FLOPS: usize = 100_000_000;

/// Bounds of the side of the square matrices of [`Probe::f32_product`]; within
/// them every thread gets as much of the product.
const SIDES: (usize, usize) = (1024, 4096);

/// Vectors of a round of [`Probe::read`].
const SUMS: usize = 8;

/// Threads and operands to do the work with.
pub struct Probe {
    pool: ThreadPool,
    /// One pair a thread, first written by that thread, so that its pages are
    /// near it.
    buffers: Vec<Mutex<Buffers>>,
    /// Side of the matrices.
    side: usize,
    f32_matrix: Vec<f32>,
    bf16_matrix: Vec<bf16>,
}

#[derive(Default)]
struct Buffers {
    from: Vec<f32>,
    to: Vec<f32>,
}

impl Probe {
    /// A probe on `threads` threads, whose buffers hold about `bytes` bytes
    /// together. That must be several times the last-level cache, or
    /// [`Probe::read`] measures the cache.
    pub fn new(threads: usize, bytes: usize) -> Result<Probe> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("peak-{i}"))
            .build()
            .map_err(|e| Error::Unavailable {
                what: format!("{threads} worker threads"),
                why: e.to_string(),
            })?;
        let threads = pool.current_num_threads();
        let floats = (bytes / 8 / threads).next_multiple_of(SUMS * LANES);
        let side = 724.0 * (threads as f64).sqrt();
        let side = (side as usize)
            .next_multiple_of(256)
            .clamp(SIDES.0, SIDES.1);
        let probe = Probe {
            buffers: (0..threads).map(|_| Mutex::default()).collect(),
            f32_matrix: vec![0.5; side * side],
            bf16_matrix: vec![bf16::from_f32_const(0.5); side * side],
            side,
            pool,
        };
        probe.pool.broadcast(|t| {
            *probe.lock(t.index()) = Buffers {
                from: vec![1.0; floats],
                to: vec![0.5; floats],
            };
        });
        Ok(probe)
    }

    /// Threads in use.
    pub fn threads(&self) -> usize {
        self.buffers.len()
    }

    /// Multiply-adds in f32 on registers, `chains` (one of [`CHAINS`])
    /// independent sums a thread; FLOPs. Where a multiply-add is not one
    /// instruction, it is two.
    pub fn multiply_add(&self, chains: usize) -> u64 {
        let per_round = 2 * LANES * chains;
        let rounds = FLOPS / per_round;
        self.pool.broadcast(|_| {
            black_box(dispatch(MultiplyAdd {
                chains,
                rounds,
                factor: black_box(0.999),
                term: black_box(0.001),
            }))
        });
        (self.threads() * rounds * per_round) as u64
    }

    /// bfloat16 products with f32 sums on registers, by the best instruction
    /// that the engine uses (AMX's `tdpbf16ps`, AVX512-BF16's `vdpbf16ps`);
    /// FLOPs. `None` where the CPU has neither.
    pub fn bf16_dot(&self) -> Option<u64> {
        #[cfg(target_arch = "x86_64")]
        if Level::best().has_bf16_tiles() {
            let rounds = 16 * FLOPS / amx::FLOPS_PER_ROUND;
            self.pool.broadcast(|_| {
                // SAFETY: the level says that the instruction is there.
                unsafe { amx::products(black_box(rounds)) }
            });
            return Some((self.threads() * rounds * amx::FLOPS_PER_ROUND) as u64);
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f") {
            // Two multiply-adds for each of the sixteen sums of a register.
            let per_round = 2 * 2 * LANES * dot_bf16::CHAINS;
            let rounds = 2 * FLOPS / per_round;
            self.pool.broadcast(|_| {
                // SAFETY: the features were detected.
                black_box(unsafe { dot_bf16::dots(rounds, black_box(dot_bf16::ONES)) })
            });
            return Some((self.threads() * rounds * per_round) as u64);
        }
        None
    }

    /// Reads the buffers once; bytes.
    pub fn read(&self) -> u64 {
        self.on_buffers(|buffers| {
            for half in [&buffers.from, &buffers.to] {
                black_box(dispatch(Sum(half)));
            }
            8 * buffers.from.len()
        })
    }

    /// Copies one half of the buffers to the other; bytes read plus bytes
    /// written.
    pub fn copy(&self) -> u64 {
        self.on_buffers(|buffers| {
            buffers.to.copy_from_slice(black_box(&buffers.from));
            black_box(&buffers.to);
            8 * buffers.from.len()
        })
    }

    /// A product of two square f32 matrices by the engine's own linear layer,
    /// which is what a network of large layers could reach with it; FLOPs.
    pub fn f32_product(&self) -> u64 {
        self.product(&self.f32_matrix)
    }

    /// The same in bf16.
    pub fn bf16_product(&self) -> u64 {
        self.product(&self.bf16_matrix)
    }

    fn product<T: Element>(&self, matrix: &[T]) -> u64 {
        let rows = Dense {
            data: matrix,
            width: self.side,
        };
        let epilogue = Epilogue {
            bias: None,
            act: Act::None,
            residual: None,
        };
        // All scalars are equal, so that the matrix is its own packed form.
        let product = || {
            let weight = Weight {
                data: matrix,
                cols: self.side,
                packing: Packing::of::<T>(),
            };
            linear(&rows, self.side, &weight, &epilogue)
        };
        black_box(self.pool.install(product));
        2 * (self.side as u64).pow(3)
    }

    /// Runs `work` on every thread's own buffers; the sum of what it returns.
    fn on_buffers(&self, work: impl Fn(&mut Buffers) -> usize + Sync) -> u64 {
        let done = self.pool.broadcast(|t| work(&mut self.lock(t.index())));
        done.into_iter().sum::<usize>() as u64
    }

    /// A thread's buffers; plain numbers, which a panic cannot leave broken.
    fn lock(&self, thread: usize) -> MutexGuard<'_, Buffers> {
        let buffers = self.buffers[thread].lock();
        buffers.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sum of all lanes, so that no part of a loop's work is unused.
#[inline(always)]
fn total<S: Simd>(sums: &[S::Vector]) -> f32 {
    let mut total = S::Vector::splat(0.0);
    for sum in sums {
        total = total.add(*sum);
    }
    total.sum()
}

/// `sum = sum * factor + term`, `rounds` times over `chains` vectors.
struct MultiplyAdd {
    chains: usize,
    rounds: usize,
    factor: f32,
    term: f32,
}

impl MultiplyAdd {
    /// The loop, with the sums in an array of known length, so that they stay
    /// in registers.
    #[inline(always)]
    fn chained<S: Simd, const N: usize>(&self) -> f32 {
        let (factor, term) = (S::Vector::splat(self.factor), S::Vector::splat(self.term));
        let mut sums = [term; N];
        for (i, sum) in sums.iter_mut().enumerate() {
            // Distinct, or one chain would do for all.
            *sum = S::Vector::splat(self.term * i as f32);
        }
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, term);
            }
        }
        total::<S>(&sums)
    }
}

impl Kernel for MultiplyAdd {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self) -> f32 {
        match self.chains {
            0..=3 => self.chained::<S, { CHAINS[0] }>(),
            4..=6 => self.chained::<S, { CHAINS[1] }>(),
            _ => self.chained::<S, { CHAINS[2] }>(),
        }
    }
}

/// Sum of a slice whose length is a multiple of `SUMS * LANES`.
struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self) -> f32 {
        let mut sums = [S::Vector::splat(0.0); SUMS];
        for round in self.0.chunks_exact(SUMS * LANES) {
            for (sum, part) in sums.iter_mut().zip(round.chunks_exact(LANES)) {
                *sum = sum.add(S::Vector::load(part));
            }
        }
        total::<S>(&sums)
    }
}

#[cfg(target_arch = "x86_64")]
mod dot_bf16 {
    //! The one instruction that the portable [`Vector`](super::Vector) has not.

    use std::arch::x86_64::{
        __m512bh, _mm512_dpbf16_ps, _mm512_reduce_add_ps, _mm512_set1_epi32, _mm512_set1_ps,
    };

    /// Independent sums: 32 registers hold them and both operands.
    pub(super) const CHAINS: usize = 16;

    /// A pair of bfloat16 ones.
    pub(super) const ONES: i32 = 0x3f80_3f80;

    /// `rounds` dot products into each of the sums, of pairs equal to `pair`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn dots(rounds: usize, pair: i32) -> f32 {
        let pairs = _mm512_set1_epi32(pair);
        // SAFETY: both are 64 bytes without invalid values.
        let pairs: __m512bh = unsafe { std::mem::transmute(pairs) };
        let mut sums = [_mm512_set1_ps(0.0); CHAINS];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_set1_ps(i as f32);
        }
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, pairs, pairs);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candle::kernels::simd::Portable;

    #[test]
    fn the_work_is_what_it_says_it_is() {
        let probe = Probe::new(2, 1 << 20).unwrap();
        assert_eq!(probe.threads(), 2);
        assert_eq!(probe.read(), 1 << 20);
        assert_eq!(probe.copy(), 1 << 20);
        assert_eq!(probe.lock(1).to[5], 1.0, "the copy has arrived");
        for chains in CHAINS {
            let done = probe.multiply_add(chains);
            let wanted = 2 * FLOPS as u64;
            assert!(done <= wanted && done > wanted * 99 / 100, "{done}");
        }
    }

    #[test]
    fn the_loops_compute_what_they_count() {
        let values = vec![0.5; 3 * SUMS * LANES];
        assert_eq!(dispatch(Sum(&values)), values.len() as f32 / 2.0);
        // x -> x / 2 + 1 from 0, N, 2N...: after many rounds 2 everywhere.
        let steady = |rounds| MultiplyAdd {
            chains: CHAINS[1],
            rounds,
            factor: 0.5,
            term: 1.0,
        };
        let lanes = (CHAINS[1] * LANES) as f32;
        assert_eq!(dispatch(steady(40)), 2.0 * lanes);
        let one = |i: f32| i * 0.5 + 1.0;
        let sum: f32 = (0..CHAINS[1]).map(|i| one(i as f32)).sum();
        assert_eq!(dispatch(steady(1)), sum * LANES as f32);
        assert_eq!(steady(1).run::<Portable>(), sum * LANES as f32);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_bf16_dot_product_adds_two_products() {
        if !is_x86_feature_detected!("avx512bf16") || !is_x86_feature_detected!("avx512f") {
            return;
        }
        // SAFETY: the features were detected.
        let sum = unsafe { dot_bf16::dots(3, dot_bf16::ONES) };
        let start: usize = (0..dot_bf16::CHAINS).sum();
        assert_eq!(sum, ((start + dot_bf16::CHAINS * 2 * 3) * LANES) as f32);
    }
}
