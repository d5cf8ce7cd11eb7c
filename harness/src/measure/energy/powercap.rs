//! The CPU's counters of energy (RAPL), as Linux's `powercap` shows them in small files.
//!
//! A *zone* `intel-rapl:N` is a package, if its name says so (AMD's are there under the same name); `intel-rapl:N:M`
//! is a part of it. Cores and what lies beside them are in the package's count already; `psys`, the whole board, has
//! the packages in its own. Memory is counted apart.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Counter;

/// Where Linux has the zones.
pub const POWERCAP: &str = "/sys/class/powercap";

/// RAPL's counters move about every millisecond.
const PERIOD: Duration = Duration::from_millis(1);

/// Why packages have no counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There are none.
    Absent(String),
    /// There are, and they cannot be read; somebody can do something about it.
    Refused(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Absent(why) | Missing::Refused(why) => f.write_str(why),
        }
    }
}

/// Counters of all packages and their memory, below `root`; each was read once.
pub fn packages(root: &Path) -> Result<Vec<Counter<'static>>, Missing> {
    let mut counters = Vec::new();
    for zone in zones(root) {
        let Some(name) = name(root, &zone) else {
            continue;
        };
        counters.push(counter(&root.join(zone), name)?);
    }
    match counters.is_empty() {
        false => Ok(counters),
        true => Err(Missing::Absent(format!(
            "no package has a counter of energy below {}: a virtual machine or a container hides them, and other CPUs \
             than Intel's and AMD's have none",
            root.display()
        ))),
    }
}

/// Names of zones, sorted. The kernel shows parts beside their packages, too.
fn zones(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut zones: Vec<String> = names.filter(|name| numbers(name).is_some()).collect();
    zones.sort_by_key(|name| numbers(name));
    zones
}

/// Numbers of package and part of a zone; `None` for what is no zone, `intel-rapl-mmio:0` among it, which counts the
/// same package again.
fn numbers(zone: &str) -> Option<(u32, Option<u32>)> {
    let numbers = zone.strip_prefix("intel-rapl:")?;
    match numbers.split_once(':') {
        None => Some((numbers.parse().ok()?, None)),
        Some((package, part)) => Some((package.parse().ok()?, Some(part.parse().ok()?))),
    }
}

/// What a zone's counter is called, `package-0` or `package-0/dram`; `None` if it is not to be counted.
fn name(root: &Path, zone: &str) -> Option<String> {
    let named = |zone: &str| {
        let name = std::fs::read_to_string(root.join(zone).join("name")).ok()?;
        Some(name.trim().to_owned())
    };
    let (package, part) = numbers(zone)?;
    let whole = named(&format!("intel-rapl:{package}"))?;
    if !whole.starts_with("package") {
        return None;
    }
    match part {
        None => Some(whole),
        Some(_) => (named(zone)? == "dram").then(|| format!("{whole}/dram")),
    }
}

fn counter(zone: &Path, name: String) -> Result<Counter<'static>, Missing> {
    let file = zone.join("energy_uj");
    value(&file)?;
    Ok(Counter {
        name,
        wraps_at_uj: Some(value(&zone.join("max_energy_range_uj"))?),
        period: PERIOD,
        read: Box::new(move || value(&file).map_err(|missing| missing.to_string())),
    })
}

/// The number in a file.
fn value(file: &Path) -> Result<u64, Missing> {
    let text = std::fs::read_to_string(file).map_err(|error| refused(file, &error))?;
    let no_number = |error| io::Error::new(ErrorKind::InvalidData, error);
    text.trim()
        .parse()
        .map_err(|error| refused(file, &no_number(error)))
}

fn refused(file: &Path, error: &io::Error) -> Missing {
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "; since 2020 the kernel lets only root read it: run as root, or `sudo chmod a+r {}`",
            every(file).display()
        ),
        _ => String::new(),
    };
    Missing::Refused(format!("{}: {error}{advice}", file.display()))
}

/// The same file of every zone.
fn every(file: &Path) -> PathBuf {
    let root = file.parent().and_then(Path::parent).unwrap_or(file);
    root.join("intel-rapl:*/energy_uj")
}

/// Zones that tests make.
#[cfg(test)]
pub mod tests {
    use super::*;

    /// A folder of zones `intel-rapl:ZONE` with their names and counts.
    pub fn tree(zones: &[(&str, &str, u64)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (zone, name, energy) in zones {
            let folder = root.path().join(format!("intel-rapl:{zone}"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("name"), format!("{name}\n")).unwrap();
            std::fs::write(folder.join("max_energy_range_uj"), "262143328850\n").unwrap();
            set(root.path(), zone, *energy);
        }
        root
    }

    /// Sets a zone's count, microjoules.
    pub fn set(root: &Path, zone: &str, energy: u64) {
        let file = root.join(format!("intel-rapl:{zone}/energy_uj"));
        std::fs::write(file, format!("{energy}\n")).unwrap();
    }

    fn names(root: &Path) -> Vec<String> {
        let counters = packages(root).unwrap();
        counters.into_iter().map(|counter| counter.name).collect()
    }

    #[test]
    fn packages_and_their_memory_are_counted_and_nothing_twice() {
        let root = tree(&[
            ("10", "package-1", 5),
            ("10:0", "dram", 6),
            ("0", "package-0", 1),
            ("0:0", "core", 2),
            ("0:1", "uncore", 3),
            ("0:2", "dram", 4),
            ("2", "psys", 7),
            ("2:0", "dram", 8),
        ]);
        // The same package by another way, and the controller itself.
        for other in ["intel-rapl-mmio:0", "intel-rapl", "dtpm"] {
            let folder = root.path().join(other);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("name"), "package-0\n").unwrap();
            std::fs::write(folder.join("energy_uj"), "9\n").unwrap();
        }
        let expected = ["package-0", "package-0/dram", "package-1", "package-1/dram"];
        assert_eq!(names(root.path()), expected);
        let counters = packages(root.path()).unwrap();
        let values: Vec<u64> = counters.iter().map(|c| (c.read)().unwrap()).collect();
        assert_eq!(values, [1, 4, 5, 6]);
        assert_eq!(counters[0].wraps_at_uj, Some(262_143_328_850));
    }

    #[test]
    fn no_counters_and_counters_that_cannot_be_read_are_different_things() {
        let empty = tempfile::tempdir().unwrap();
        for root in [empty.path(), Path::new("/nowhere")] {
            assert!(
                matches!(packages(root), Err(Missing::Absent(why)) if why.contains("virtual machine"))
            );
        }
        let hidden = tree(&[("0", "psys", 1)]);
        assert!(matches!(packages(hidden.path()), Err(Missing::Absent(_))));

        let root = tree(&[("0", "package-0", 1), ("1", "package-1", 1)]);
        let file = root.path().join("intel-rapl:1/energy_uj");
        std::fs::write(&file, "many\n").unwrap();
        let broken = || match packages(root.path()) {
            Err(Missing::Refused(why)) => why,
            other => panic!("{:?}", other.map(|c| c.len())),
        };
        assert!(broken().contains("intel-rapl:1/energy_uj"), "{}", broken());
        // Root may read any file, but no folder as one.
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(broken().contains("intel-rapl:1/energy_uj"), "{}", broken());
        let denied = refused(&file, &ErrorKind::PermissionDenied.into()).to_string();
        assert!(
            denied.contains("sudo chmod a+r") && denied.contains("intel-rapl:*/energy_uj"),
            "{denied}"
        );
    }
}
