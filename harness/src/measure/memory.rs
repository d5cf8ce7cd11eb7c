//! Peak resident memory of this process, per case.
//!
//! Linux keeps a high-water mark that can be set back to the present size;
//! elsewhere the figure is unknown and recorded as such.

/// `mi_option_purge_delay`, which the bindings do not name: milliseconds until
/// freed memory goes back to the system.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Lets the allocator keep freed memory, ten minutes in effect, until
/// [`release`]. By default it returns activations to the system as soon as a
/// request ends, and the next one pays for every page again: a tenth of an
/// encoder's time.
pub fn keep_freed() {
    // SAFETY: a documented option of the allocator.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 60_000) };
}

/// Returns freed memory to the system. The allocator keeps what a case freed
/// for the next one, whose peak would then contain it.
pub fn release() {
    // SAFETY: collecting has no preconditions.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Sets the high-water mark back to the present resident size. Returns whether
/// that worked; if not, later peaks would include earlier cases.
pub fn reset_peak() -> bool {
    // 5 resets the peak resident set size (proc(5), clear_refs).
    cfg!(target_os = "linux") && std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Largest resident set since the last reset, bytes.
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    parse_peak(&status)
}

/// Most memory that a case had in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Of this process.
    pub rss_bytes: Option<u64>,
    /// On a device with memory of its own.
    pub device_bytes: Option<u64>,
}

impl Peaks {
    /// The larger of each.
    pub fn max(self, other: Peaks) -> Peaks {
        Peaks {
            rss_bytes: self.rss_bytes.max(other.rss_bytes),
            device_bytes: self.device_bytes.max(other.device_bytes),
        }
    }
}

/// Why a model that needs `needed` bytes cannot run beside what else is in
/// memory; `None` if it can, or if nobody knows. Asked before loading: running
/// out of memory later would end the whole run.
pub fn shortage(needed: u64, available: Option<u64>) -> Option<String> {
    let available = available.filter(|available| *available < needed)?;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    Some(format!(
        "out of memory: the weights, the KV cache and the largest operation need {:.2} GiB, {:.2} GiB \
         are available; take a lower precision or a smaller model",
        gib(needed),
        gib(available)
    ))
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t    1484 kB\nThreads:\t1\n";
        assert_eq!(parse_peak(status), Some(1484 * 1024));
        assert_eq!(parse_peak("Name:\tx\n"), None);
    }

    #[test]
    fn a_shortage_is_told_in_numbers() {
        assert_eq!(shortage(5, Some(5)), None);
        assert_eq!(shortage(5, None), None);
        let text = shortage(3 << 30, Some(1 << 29)).unwrap();
        assert!(
            text.contains("need 3.00 GiB, 0.50 GiB are available"),
            "{text}"
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_reset_forgets_what_was_freed() {
        let large = vec![1_u8; 200 << 20];
        std::hint::black_box(&large);
        let before = peak_bytes().unwrap();
        drop(large);
        if reset_peak() {
            assert!(peak_bytes().unwrap() < before);
        }
    }
}
