//! Facts about the machine, for the manifest and `doctor`.
//!
//! Linux says them under `/proc` and `/sys`; elsewhere a fact is `None` rather
//! than a guess. Parsing is apart from reading, so that it is tested on texts
//! of machines that the tests do not run on.

pub mod gpu;
mod hardware;
mod nvml;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use vlmbench_reports::record::{Gpu, Machine};

use gpu::{Card, GpuReport, Numbering};

/// Where the kernel module of NVIDIA's driver says what it is.
const NVIDIA: &str = "/proc/driver/nvidia";

/// What Linux says of the first core; the others of a machine are taken to be
/// like it.
const FIRST_CORE: &str = "/sys/devices/system/cpu/cpu0";

/// What `doctor` shows beyond the manifest's facts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachineReport {
    /// The manifest's facts.
    #[serde(flatten)]
    pub machine: Machine,
    /// Memory that can be had without swapping, bytes.
    pub available_memory_bytes: Option<u64>,
}

/// Threads that the process may use: affinity and container quota count.
pub fn usable_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How long the process's present threads have been ready to run while every
/// core was taken; `None` where the system does not say. What other processes
/// take from a measurement shows here.
pub fn waited() -> Option<Duration> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let of_task = |path: &Path| waiting(&read(path.join("schedstat"))?);
    let times = tasks.flatten().filter_map(|task| of_task(&task.path()));
    times.reduce(|a, b| a + b)
}

/// The second number of `/proc/PID/schedstat`: nanoseconds on a run queue.
fn waiting(schedstat: &str) -> Option<Duration> {
    let nanoseconds = schedstat.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Gives the harness's own parallel work (decoding, resizing) as many threads
/// as the engine has. Only the first call of a process has an effect.
pub fn use_threads(threads: usize) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    // Fails if the pool exists already, and then its size stands.
    let _ = pool.build_global();
}

/// Facts for the manifest.
pub fn machine() -> Machine {
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    let cpu_model = cpu_model(&cpuinfo);
    let core = Path::new(FIRST_CORE);
    let clock = |file: &str| hardware::clock(&core.join("cpufreq").join(file));
    Machine {
        base_clock_mhz: clock("base_frequency")
            .or_else(|| hardware::clock_in_name(cpu_model.as_deref()?)),
        max_clock_mhz: clock("cpuinfo_max_freq"),
        cpu_model,
        cores: physical_cores(&cpuinfo),
        threads: u32::try_from(usable_threads()).ok(),
        memory_bytes: memory(&meminfo, "MemTotal"),
        os: read("/etc/os-release")
            .and_then(|text| os_name(&text))
            .or_else(|| Some(std::env::consts::OS.to_owned())),
        kernel: read("/proc/sys/kernel/osrelease"),
        simd: simd(),
        caches: hardware::caches(&core.join("cache")),
        governor: read(core.join("cpufreq/scaling_governor")),
        container_cores: read("/sys/fs/cgroup/cpu.max").and_then(|text| quota_cores(&text)),
        container_memory_bytes: container_memory_bytes(),
        gpus: gpus(),
    }
}

/// Graphics processors: NVIDIA's as the driver's library says them, or else what its kernel module says; then others.
fn gpus() -> Vec<Gpu> {
    let mut gpus = match nvml::open() {
        Ok(driver) => driver.gpus(),
        Err(_) => hardware::nvidia(Path::new(NVIDIA)),
    };
    gpus.extend(hardware::amd(Path::new("/sys/class/drm")));
    gpus
}

/// The card that `device` is, as CUDA numbers them, or why that is not known; `None` if it is none of NVIDIA's.
pub fn card(device: &str, numbering: &Numbering) -> Option<Result<Card<'static>, String>> {
    gpu::card(device, numbering, nvml::open, traces)
}

/// What is to be known of graphics processors now.
pub fn gpu_report(gpus: &[Gpu]) -> GpuReport {
    gpu::report(gpus, nvml::open(), &traces())
}

fn traces() -> gpu::Traces {
    hardware::traces(Path::new(NVIDIA), Path::new("/sys/bus/pci/devices"))
}

/// Everything known about the machine.
pub fn report() -> MachineReport {
    MachineReport {
        machine: machine(),
        available_memory_bytes: available_memory_bytes(),
    }
}

/// Memory that a model may take: what is available, or the container's limit
/// where that is less.
pub fn usable_memory_bytes() -> Option<u64> {
    smaller(available_memory_bytes(), container_memory_bytes())
}

fn smaller(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    [one, other].into_iter().flatten().min()
}

fn available_memory_bytes() -> Option<u64> {
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    memory(&meminfo, "MemAvailable")
}

fn container_memory_bytes() -> Option<u64> {
    read("/sys/fs/cgroup/memory.max")
        .or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
        .and_then(|text| memory_limit(&text))
}

/// Size of the last-level cache that the first core sees, bytes.
pub fn last_level_cache_bytes() -> Option<u64> {
    let caches = hardware::caches(&Path::new(FIRST_CORE).join("cache"));
    caches.iter().map(|cache| cache.bytes).max()
}

/// The text of a file without the space around it; `None` if there is none.
fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Values of a key in `key : value` lines, as `/proc` has them.
fn values<'a>(cpuinfo: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    cpuinfo.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    // ARM kernels name the board, if anything.
    let keys = ["model name", "Hardware", "Model"];
    let mut found = keys.iter().filter_map(|key| values(cpuinfo, key).next());
    found.next().map(str::to_owned)
}

/// Distinct pairs of package and core; hardware threads share both.
fn physical_cores(cpuinfo: &str) -> Option<u32> {
    let packages = values(cpuinfo, "physical id");
    let cores: BTreeSet<_> = packages.zip(values(cpuinfo, "core id")).collect();
    u32::try_from(cores.len()).ok().filter(|count| *count > 0)
}

/// A line of `/proc/meminfo`, which counts in KiB.
fn memory(meminfo: &str, key: &str) -> Option<u64> {
    let value = values(meminfo, key).next()?;
    let kib: u64 = value.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn os_name(release: &str) -> Option<String> {
    let line = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// `QUOTA PERIOD` in microseconds, or `max`.
fn quota_cores(cpu_max: &str) -> Option<f64> {
    let (quota, period) = cpu_max.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

/// Bytes, or `max`; the first control-group version writes a huge number for
/// no limit.
fn memory_limit(text: &str) -> Option<u64> {
    let bytes: u64 = text.trim().parse().ok()?;
    (bytes < 1 << 60).then_some(bytes)
}

#[cfg(target_arch = "x86_64")]
fn simd() -> Vec<String> {
    let found = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    let present = found.iter().filter(|(_, has)| *has);
    present.map(|(name, _)| (*name).to_owned()).collect()
}

#[cfg(target_arch = "aarch64")]
fn simd() -> Vec<String> {
    let found = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
        (
            "dotprod",
            std::arch::is_aarch64_feature_detected!("dotprod"),
        ),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    let present = found.iter().filter(|(_, has)| *has);
    present.map(|(name, _)| (*name).to_owned()).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn simd() -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPUINFO: &str = "\
processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nphysical id\t: 0\ncore id\t\t: 0\n
processor\t: 1\nmodel name\t: Some CPU @ 2.00GHz\nphysical id\t: 0\ncore id\t\t: 0\n
processor\t: 2\nmodel name\t: Some CPU @ 2.00GHz\nphysical id\t: 0\ncore id\t\t: 1\n";

    #[test]
    fn hardware_threads_of_one_core_count_once() {
        assert_eq!(physical_cores(CPUINFO), Some(2));
        assert_eq!(physical_cores("processor : 0\n"), None);
        assert_eq!(cpu_model(CPUINFO).as_deref(), Some("Some CPU @ 2.00GHz"));
    }

    #[test]
    fn units_and_limits() {
        let meminfo = "MemTotal:       16384 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(memory(meminfo, "MemTotal"), Some(16 << 20));
        assert_eq!(memory(meminfo, "MemAvailable"), Some(1 << 20));
        assert_eq!(memory(meminfo, "SwapTotal"), None);
        assert_eq!(quota_cores("150000 100000"), Some(1.5));
        assert_eq!(quota_cores("max 100000"), None);
        assert_eq!(memory_limit("1073741824"), Some(1 << 30));
        assert_eq!(waiting("90 1500 7"), Some(Duration::from_nanos(1500)));
        assert_eq!(waiting("90"), None);
        assert_eq!(memory_limit("max"), None);
        assert_eq!(memory_limit("9223372036854771712"), None);
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n";
        assert_eq!(os_name(release).as_deref(), Some("Debian GNU/Linux 12"));
    }

    #[test]
    fn a_model_may_take_the_smaller_of_both_bounds() {
        assert_eq!(smaller(Some(8), Some(6)), Some(6));
        assert_eq!(smaller(Some(8), None), Some(8));
        assert_eq!(smaller(None, None), None);
        assert!(usable_threads() >= 1);
    }
}
