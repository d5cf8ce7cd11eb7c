//! The hardware as Linux shows it in small files: caches, clocks, graphics
//! processors.
//!
//! Each function is given the folder to look in, so that tests can make one.

use std::path::{Path, PathBuf};

use vlmbench_reports::record::{Cache, Gpu};

use super::gpu::Traces;
use super::{read, values};

/// Caches of a core, from the nearest; `folder` is its `cache` below
/// `/sys/devices/system/cpu`.
pub(super) fn caches(folder: &Path) -> Vec<Cache> {
    let mut found: Vec<Cache> = entries(folder)
        .iter()
        .filter_map(|index| cache(index))
        .collect();
    found.sort_by(|a, b| (a.level, &a.kind).cmp(&(b.level, &b.kind)));
    found
}

fn cache(folder: &Path) -> Option<Cache> {
    Some(Cache {
        level: read(folder.join("level"))?.parse().ok()?,
        kind: read(folder.join("type"))?.to_lowercase(),
        bytes: size(&read(folder.join("size"))?)?,
        shared_by: read(folder.join("shared_cpu_list")).and_then(|list| members(&list)),
    })
}

/// A size as the kernel writes it: `1024K`, `32M`.
fn size(text: &str) -> Option<u64> {
    let units = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    let (number, unit) = (units.iter())
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1));
    Some(number.parse::<u64>().ok()? * unit)
}

/// How many numbers a list of ranges has, such as `0-3,8`.
fn members(list: &str) -> Option<u32> {
    let range = |text: &str| -> Option<u32> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        (last >= first).then(|| last - first + 1)
    };
    list.split(',').map(range).sum()
}

/// A file of `cpufreq`, which counts in kHz, in MHz.
pub(super) fn clock(file: &Path) -> Option<u32> {
    let khz: u32 = read(file)?.parse().ok()?;
    Some(khz / 1000)
}

/// The nominal clock that some CPUs have in their name, `... @ 2.10GHz`, in MHz.
pub(super) fn clock_in_name(cpu: &str) -> Option<u32> {
    let (_, clock) = cpu.rsplit_once('@')?;
    let ghz: f64 = clock.trim().strip_suffix("GHz")?.trim().parse().ok()?;
    (ghz > 0.0).then(|| (1000.0 * ghz).round() as u32)
}

/// NVIDIA's graphics processors as the kernel module says them: its version, their model and place on the bus.
pub(super) fn nvidia(folder: &Path) -> Vec<Gpu> {
    let driver = module(folder);
    let cards = entries(&folder.join("gpus")).into_iter();
    let gpu = |card: PathBuf| {
        let text = read(card.join("information"))?;
        Some(Gpu {
            name: values(&text, "Model").next()?.to_owned(),
            driver: driver.clone(),
            bus_id: card.file_name()?.to_str().map(str::to_owned),
            ..Gpu::default()
        })
    };
    cards.filter_map(gpu).collect()
}

/// What there is of NVIDIA's: the version of the kernel module, and cards on the PCI bus.
pub(super) fn traces(nvidia: &Path, pci: &Path) -> Traces {
    let is = |device: &Path, file: &str, starts: &str| {
        read(device.join(file)).is_some_and(|number| number.starts_with(starts))
    };
    // Its vendor's number, and a display controller's class.
    let cards = entries(pci).into_iter();
    let cards = cards.filter(|d| is(d, "vendor", "0x10de") && is(d, "class", "0x03"));
    let place = |card: PathBuf| Some(card.file_name()?.to_str()?.to_owned());
    Traces {
        module: module(nvidia),
        on_bus: cards.filter_map(place).collect(),
    }
}

fn module(nvidia: &Path) -> Option<String> {
    nvidia_version(&read(nvidia.join("version"))?)
}

/// AMD's graphics processors: the driver says the memory with the card's device under `/sys/class/drm`.
pub(super) fn amd(drm: &Path) -> Vec<Gpu> {
    let cards = entries(drm).into_iter().filter_map(|card| {
        let device = card.join("device");
        // Outputs of a card are entries beside it, with the same device.
        let name = card.file_name()?.to_str()?.strip_prefix("card")?;
        name.parse::<u32>().ok()?;
        let memory = read(device.join("mem_info_vram_total"))?;
        Some(Gpu {
            name: read(device.join("product_name")).unwrap_or_else(|| "AMD, model unknown".into()),
            memory_bytes: memory.parse().ok(),
            ..Gpu::default()
        })
    });
    cards.collect()
}

/// The number after `Kernel Module`, with or without words in between.
fn nvidia_version(text: &str) -> Option<String> {
    let (_, rest) = text.lines().next()?.split_once("Kernel Module")?;
    let is_version =
        |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    rest.split_whitespace().find(is_version).map(str::to_owned)
}

/// Entries of a folder in the order of their names; none if there is no such
/// folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files below a new folder.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn caches_are_listed_from_the_nearest() {
        let folder = tree(&[
            ("index0/level", "3\n"),
            ("index0/type", "Unified\n"),
            ("index0/size", "32768K\n"),
            ("index0/shared_cpu_list", "0-7,64-71\n"),
            ("index1/level", "1\n"),
            ("index1/type", "Data\n"),
            ("index1/size", "48K\n"),
            ("index2/level", "2\n"),
            ("uevent", ""),
        ]);
        let found = caches(folder.path());
        let cache = |level, kind: &str, bytes, shared_by| Cache {
            level,
            kind: kind.into(),
            bytes,
            shared_by,
        };
        let expected = [
            cache(1, "data", 48 << 10, None),
            cache(3, "unified", 32 << 20, Some(16)),
        ];
        assert_eq!(found, expected);
        assert_eq!(caches(&folder.path().join("absent")), []);
    }

    #[test]
    fn sizes_lists_and_clocks_are_read_or_unknown() {
        assert_eq!(size("32768K"), Some(32 << 20));
        assert_eq!(size("4M"), Some(4 << 20));
        assert_eq!(size("?"), None);
        assert_eq!(members("0"), Some(1));
        assert_eq!(members("0-3,8"), Some(5));
        assert_eq!(members("3-0"), None);
        assert_eq!(members(""), None);
        assert_eq!(clock_in_name("Example CPU @ 2.10GHz"), Some(2100));
        assert_eq!(clock_in_name("Example CPU"), None);
        let folder = tree(&[("cpuinfo_max_freq", "3500000\n")]);
        assert_eq!(clock(&folder.path().join("cpuinfo_max_freq")), Some(3500));
        assert_eq!(clock(&folder.path().join("base_frequency")), None);
    }

    #[test]
    fn graphics_processors_are_those_that_a_driver_names() {
        let version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n";
        let folder = tree(&[
            ("nvidia/version", version),
            (
                "nvidia/gpus/0000:01:00.0/information",
                "Model: \t\t Example GPU\nIRQ:   \t\t 1\n",
            ),
            ("drm/card0/device/mem_info_vram_total", "17163091968\n"),
            ("drm/card0/device/product_name", "Example Card\n"),
            ("drm/card0-DP-1/device/mem_info_vram_total", "17163091968\n"),
            ("drm/card1/device/vendor", "0x1a03\n"),
            ("pci/0000:01:00.0/vendor", "0x10de\n"),
            ("pci/0000:01:00.0/class", "0x030200\n"),
            // Its sound, and another maker's card.
            ("pci/0000:01:00.1/vendor", "0x10de\n"),
            ("pci/0000:01:00.1/class", "0x040300\n"),
            ("pci/0000:02:00.0/vendor", "0x1002\n"),
            ("pci/0000:02:00.0/class", "0x030000\n"),
        ]);
        let at = |path: &str| folder.path().join(path);
        let example = Gpu {
            name: "Example GPU".into(),
            driver: Some("550.54.15".into()),
            bus_id: Some("0000:01:00.0".into()),
            ..Gpu::default()
        };
        assert_eq!(nvidia(&at("nvidia")), [example]);
        let card = Gpu {
            name: "Example Card".into(),
            memory_bytes: Some(17_163_091_968),
            ..Gpu::default()
        };
        assert_eq!(amd(&at("drm")), [card]);
        let found = Traces {
            module: Some("550.54.15".into()),
            on_bus: vec!["0000:01:00.0".into()],
        };
        assert_eq!(traces(&at("nvidia"), &at("pci")), found);
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  Release Build";
        assert_eq!(nvidia_version(open).as_deref(), Some("565.57.01"));
        assert_eq!(nvidia_version("something else"), None);
        let nowhere = Path::new("/nowhere");
        assert_eq!(nvidia(nowhere), []);
        assert_eq!(amd(nowhere), []);
        assert_eq!(traces(nowhere, nowhere), Traces::default());
    }
}
