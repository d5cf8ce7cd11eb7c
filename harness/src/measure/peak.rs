//! The machine's peak: work of a known amount over the time it took.
//!
//! The work is [`Probe`]'s, the clock is ours. Every figure is the maximum of
//! several repetitions, because what disturbs a loop can only slow it down;
//! the median stands beside it and says how quiet the machine was.

use serde::Serialize;
use vlmbench_backends::backend::Precision;
use vlmbench_backends::peak::{CHAINS, Probe};
use vlmbench_reports::stats::quantile;

use super::clock::Clock;
use crate::error::Failure;
use crate::machine;

/// Repetitions of each kind of work, unless they take too long.
const REPETITIONS: usize = 20;
/// After this many seconds no further repetition of a kind begins.
const BUDGET_SECONDS: f64 = 0.2;
/// Even a slow machine repeats this often: the first repetition warms up.
const LEAST: usize = 2;

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

/// What the machine can do at most on some threads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// Threads that worked at once.
    pub threads: usize,
    /// f32 multiply-adds on registers, FLOP/s.
    pub f32_flops: Rate,
    /// bfloat16 dot products on registers, FLOP/s; `None` where the CPU has no
    /// instruction for them.
    pub bf16_flops: Option<Rate>,
    /// f32 matrix product by the engine's own linear layer, FLOP/s.
    pub f32_product_flops: Rate,
    /// Reading memory, bytes/s.
    pub read_bytes: Rate,
    /// Copying memory, bytes read plus bytes written, bytes/s.
    pub copy_bytes: Rate,
}

impl Peak {
    /// The arithmetic peak that a precision is measured against, FLOP/s:
    /// bfloat16's own instruction where there is one, f32's otherwise.
    pub fn flops(&self, precision: Precision) -> f64 {
        match (precision, self.bf16_flops) {
            (Precision::Bf16, Some(rate)) => rate.best,
            _ => self.f32_flops.best,
        }
    }

    /// The memory bandwidth that floors are made of, bytes/s.
    pub fn bandwidth(&self) -> f64 {
        self.read_bytes.best
    }
}

/// Measures the peak of `threads` threads, in about a second.
pub fn measure(threads: usize, clock: &dyn Clock) -> Result<Peak, Failure> {
    let probe = Probe::new(threads, buffer_bytes())?;
    let best_of_chains = CHAINS
        .into_iter()
        .map(|chains| rate(clock, || probe.multiply_add(chains)))
        .max_by(|a, b| a.best.total_cmp(&b.best));
    let f32_flops = best_of_chains
        .ok_or_else(|| Failure::Internal("no multiply-add loop to measure".into()))?;
    let bf16 = probe.bf16_dot();
    Ok(Peak {
        threads: probe.threads(),
        f32_flops,
        bf16_flops: bf16.map(|_| rate(clock, || probe.bf16_dot().unwrap_or_default())),
        f32_product_flops: rate(clock, || probe.product()),
        read_bytes: rate(clock, || probe.read()),
        copy_bytes: rate(clock, || probe.copy()),
    })
}

/// Large enough to be memory and not cache, and small beside what is free.
fn buffer_bytes() -> usize {
    let cache = machine::last_level_cache_bytes().unwrap_or(0);
    let free = machine::report().usable_memory_bytes();
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
        let mut times = [40, 10, 20, 20, 10, 10, 20, 10, 40, 10].into_iter();
        let found = rate(&clock, || {
            clock.pass(times.next().unwrap());
            1000
        });
        assert_eq!((found.best, found.n), (1e5, 10));
        assert_eq!(found.median, 7.5e4);
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
            threads: 1,
            f32_flops: rate(1.0),
            bf16_flops: Some(rate(2.0)),
            f32_product_flops: rate(0.9),
            read_bytes: rate(3.0),
            copy_bytes: rate(2.5),
        };
        assert_eq!(peak.flops(Precision::F32), 1.0);
        assert_eq!(peak.flops(Precision::Bf16), 2.0);
        assert_eq!(peak.flops(Precision::F16), 1.0);
        peak.bf16_flops = None;
        assert_eq!(peak.flops(Precision::Bf16), 1.0);
    }
}
