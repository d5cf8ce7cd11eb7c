//! The machine's peak: work of a known amount over the time it took.
//!
//! The work is [`Probe`]'s, the clock is ours. Every figure is the maximum of
//! several repetitions, because what disturbs a loop can only slow it down;
//! the median stands beside it and says how quiet the machine was.

use std::time::Duration;

use serde::Serialize;
use vlmbench_backends::backend::Precision;
use vlmbench_backends::candle::gpu::probe::GpuProbe;
use vlmbench_backends::peak::{CHAINS, Probe};
pub use vlmbench_reports::record::CPU;
use vlmbench_reports::{record, stats::quantile};

use super::clock::Clock;
use crate::error::Failure;
use crate::machine;

/// Repetitions of each kind of work, unless they take too long.
const REPETITIONS: usize = 50;
/// After this many seconds no further repetition of a kind begins.
const BUDGET_SECONDS: f64 = 0.2;
/// Even a slow machine repeats this often: the first repetition warms up.
const LEAST: usize = 2;

/// More than this share of waiting, or a median this much below the best, says
/// that something else ran.
const QUIET: f64 = 0.1;

/// Buffers are so many times the last-level cache.
const CACHES: u64 = 8;
/// Bounds of the buffers, bytes; the lower is taken if the cache is unknown.
const BUFFERS: (u64, u64) = (256 << 20, 2 << 30);

/// A rate, per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// The best repetition.
    pub best: f64,
    /// The median repetition.
    pub median: f64,
    /// Repetitions.
    pub n: usize,
}

/// What the machine can do at most on some threads, or a GPU of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// Device.
    pub device: String,
    /// Threads that worked at once; 0 on a GPU.
    pub threads: usize,
    /// Share of their time that the threads waited for a core during the
    /// arithmetic; `None` where the system does not say.
    pub waited: Option<f64>,
    /// f32 multiply-adds on registers, FLOP/s; on a GPU its library's product.
    pub f32_flops: Rate,
    /// bfloat16 products on registers, FLOP/s; `None` where the CPU has no
    /// instruction for them.
    pub bf16_flops: Option<Rate>,
    /// f32 matrix product by the engine's own linear layer, FLOP/s.
    pub f32_product_flops: Rate,
    /// bf16 matrix product by the engine's own linear layer, FLOP/s.
    pub bf16_product_flops: Rate,
    /// Reading memory, bytes/s.
    pub read_bytes: Rate,
    /// Copying memory, bytes read plus bytes written, bytes/s.
    pub copy_bytes: Rate,
}

impl Peak {
    /// The arithmetic peak that a precision is measured against, FLOP/s, by the
    /// rule of its record.
    pub fn flops(&self, precision: Precision) -> f64 {
        self.record().flops(precision.name())
    }

    /// The best of every figure, for a record.
    pub fn record(&self) -> record::Peak {
        record::Peak {
            device: self.device.clone(),
            threads: u32::try_from(self.threads).unwrap_or(u32::MAX),
            f32_flops: self.f32_flops.best,
            bf16_flops: self.bf16_flops.map(|rate| rate.best),
            f32_product_flops: self.f32_product_flops.best,
            bf16_product_flops: self.bf16_product_flops.best,
            read_bytes: self.read_bytes.best,
            copy_bytes: self.copy_bytes.best,
            waited: self.waited,
        }
    }

    /// Every figure, by the names of its record ([`record::Peak::NAMES`]).
    pub fn rates(&self) -> [Option<Rate>; 6] {
        let registers = self.device == CPU;
        [
            registers.then_some(self.f32_flops),
            self.bf16_flops.filter(|_| registers),
            Some(self.f32_product_flops),
            Some(self.bf16_product_flops),
            Some(self.read_bytes),
            Some(self.copy_bytes),
        ]
    }

    /// A warning if other work disturbed the measurement.
    pub fn disturbance(&self) -> Option<String> {
        let Rate { best, median, .. } = self.f32_flops;
        let (waited, slowed) = (self.waited.unwrap_or(0.0), 1.0 - median / best);
        (waited.max(slowed) > QUIET).then(|| {
            format!(
                "other work disturbed the peak: threads waited {:.0}% of the time for a core, and the median \
                 multiply-add loop was {:.0}% slower than the best; the peak may be higher",
                100.0 * waited,
                100.0 * slowed
            )
        })
    }

    /// Figure by figure the better of two measurements.
    pub fn or_better(self, other: Peak) -> Peak {
        let better = |a: Rate, b: Rate| if b.best > a.best { b } else { a };
        Peak {
            device: self.device,
            threads: self.threads,
            waited: match other.f32_flops.best > self.f32_flops.best {
                true => other.waited,
                false => self.waited,
            },
            f32_flops: better(self.f32_flops, other.f32_flops),
            bf16_flops: self
                .bf16_flops
                .zip(other.bf16_flops)
                .map(|(a, b)| better(a, b)),
            f32_product_flops: better(self.f32_product_flops, other.f32_product_flops),
            bf16_product_flops: better(self.bf16_product_flops, other.bf16_product_flops),
            read_bytes: better(self.read_bytes, other.read_bytes),
            copy_bytes: better(self.copy_bytes, other.copy_bytes),
        }
    }

    /// The memory bandwidth that floors are made of, bytes/s.
    pub fn bandwidth(&self) -> f64 {
        self.read_bytes.best
    }
}

/// Whether the peak of a case's device can be measured: those of other engines are not
/// ours to open.
pub fn is_measured(backend: &str, device: &str) -> bool {
    device == CPU || backend == "candle"
}

/// Measures the peak of a device, that of a CPU on `threads` threads, in about a
/// second.
pub fn measure(device: &str, threads: usize, clock: &dyn Clock) -> Result<Peak, Failure> {
    match device {
        CPU => of_threads(threads, clock),
        _ => of_gpu(device, clock),
    }
}

fn of_gpu(device: &str, clock: &dyn Clock) -> Result<Peak, Failure> {
    let probe = GpuProbe::open(device)?;
    let rate = |work: fn(&GpuProbe) -> vlmbench_backends::Result<u64>| -> Result<Rate, Failure> {
        // The first also chooses a kernel; its failure is that of all.
        work(&probe)?;
        Ok(rate(clock, || work(&probe).unwrap_or_default()))
    };
    let (f32_product, bf16_product) = (rate(GpuProbe::f32_product)?, rate(GpuProbe::bf16_product)?);
    Ok(Peak {
        device: device.to_owned(),
        threads: 0,
        waited: None,
        f32_flops: f32_product,
        bf16_flops: Some(bf16_product),
        f32_product_flops: f32_product,
        bf16_product_flops: bf16_product,
        read_bytes: rate(GpuProbe::read)?,
        copy_bytes: rate(GpuProbe::copy)?,
    })
}

fn of_threads(threads: usize, clock: &dyn Clock) -> Result<Peak, Failure> {
    let probe = Probe::new(threads, buffer_bytes())?;
    let (began, waited_before) = (clock.now(), machine::waited());
    let best_of_chains = CHAINS
        .into_iter()
        .map(|chains| rate(clock, || probe.multiply_add(chains)))
        .max_by(|a, b| a.best.total_cmp(&b.best));
    let f32_flops = best_of_chains
        .ok_or_else(|| Failure::Internal("no multiply-add loop to measure".into()))?;
    let waited = waited_share(waited_before, began, clock, probe.threads());
    let bf16 = probe.bf16_dot();
    Ok(Peak {
        device: CPU.to_owned(),
        threads: probe.threads(),
        waited,
        f32_flops,
        bf16_flops: bf16.map(|_| rate(clock, || probe.bf16_dot().unwrap_or_default())),
        f32_product_flops: rate(clock, || probe.f32_product()),
        bf16_product_flops: rate(clock, || probe.bf16_product()),
        read_bytes: rate(clock, || probe.read()),
        copy_bytes: rate(clock, || probe.copy()),
    })
}

/// Share of the time since `began` that `threads` threads waited for a core.
pub fn waited_share(
    before: Option<Duration>,
    began: Duration,
    clock: &dyn Clock,
    threads: usize,
) -> Option<f64> {
    let waited = machine::waited()?.saturating_sub(before?);
    let all = (clock.now() - began).as_secs_f64() * threads as f64;
    (all > 0.0).then(|| waited.as_secs_f64() / all)
}

/// Large enough to be memory and not cache, and small beside what is free.
fn buffer_bytes() -> usize {
    let cache = machine::last_level_cache_bytes().unwrap_or(0);
    let free = machine::usable_memory_bytes();
    let most = free.map_or(BUFFERS.1, |free| (free / 4).min(BUFFERS.1));
    usize::try_from((CACHES * cache).max(BUFFERS.0).min(most)).unwrap_or(usize::MAX)
}

/// Times repetitions of `work`, which returns how much it did.
fn rate(clock: &dyn Clock, mut work: impl FnMut() -> u64) -> Rate {
    let start = clock.now();
    let mut rates = Vec::with_capacity(REPETITIONS);
    let mut before = start;
    while rates.len() < REPETITIONS
        && (rates.len() < LEAST || (before - start).as_secs_f64() < BUDGET_SECONDS)
    {
        let done = work();
        let after = clock.now();
        // A clock too coarse for the work must not make a rate infinite.
        let seconds = (after - before).as_secs_f64().max(1e-9);
        rates.push(done as f64 / seconds);
        before = after;
    }
    rates.sort_by(f64::total_cmp);
    Rate {
        best: rates.last().copied().unwrap_or_default(),
        median: quantile(&rates, 0.5).unwrap_or_default(),
        n: rates.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::tests::Manual;
    use super::*;

    #[test]
    fn the_best_repetition_counts_and_the_median_stands_beside_it() {
        let clock = Manual::default();
        let mut times = [4, 1, 2, 2].into_iter().cycle();
        let found = rate(&clock, || {
            clock.pass(times.next().unwrap());
            1000
        });
        assert_eq!((found.best, found.n), (1e6, REPETITIONS));
        assert_eq!(found.median, 5e5);
    }

    #[test]
    fn slow_work_is_repeated_no_more_than_needed() {
        let clock = Manual::default();
        let found = rate(&clock, || {
            clock.pass(900);
            9
        });
        assert_eq!(found.n, LEAST);
        assert_eq!(found.best, 10.0);
    }

    #[test]
    fn a_precision_is_measured_against_its_own_instruction_if_there_is_one() {
        let rate = |best| Rate {
            best,
            median: best,
            n: 1,
        };
        let mut peak = Peak {
            device: CPU.to_owned(),
            threads: 1,
            waited: None,
            f32_flops: rate(1.0),
            bf16_flops: Some(rate(2.0)),
            f32_product_flops: rate(0.9),
            bf16_product_flops: rate(0.9),
            read_bytes: rate(3.0),
            copy_bytes: rate(2.5),
        };
        assert_eq!(peak.flops(Precision::F32), 1.0);
        assert_eq!(peak.flops(Precision::Bf16), 2.0);
        assert_eq!(peak.flops(Precision::Q4KM), 2.0);
        assert_eq!(peak.flops(Precision::F16), 1.0);
        let recorded = peak.record();
        assert_eq!((recorded.threads, recorded.bf16_flops), (1, Some(2.0)));
        assert_eq!((recorded.read_bytes, recorded.copy_bytes), (3.0, 2.5));
        let best = peak.rates().map(|rate| rate.map(|rate| rate.best));
        assert_eq!(best, recorded.rates());
        // Whatever the precision, there is a product to measure it against.
        for precision in Precision::ALL {
            assert_eq!(recorded.product_flops(precision.name()), Some(0.9));
        }
        peak.bf16_flops = None;
        assert_eq!(peak.flops(Precision::Bf16), 1.0);

        assert_eq!(peak.disturbance(), None);
        let mut later = peak.clone();
        later.f32_flops = Rate {
            best: 4.0,
            median: 2.0,
            n: 2,
        };
        later.read_bytes = rate(2.0);
        let both = peak.clone().or_better(later);
        assert_eq!((both.f32_flops.best, both.read_bytes.best), (4.0, 3.0));
        assert!(both.disturbance().unwrap().contains("50% slower"));
        peak.waited = Some(0.3);
        assert!(peak.disturbance().unwrap().contains("waited 30%"));
    }
}
