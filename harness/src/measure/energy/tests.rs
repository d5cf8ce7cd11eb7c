use std::cell::Cell;

use vlmbench_backends::backend::{EngineOptions, Precision};
use vlmbench_backends::hub::HubOptions;

use super::powercap::tests::{set, tree};
use super::*;
use crate::config::Configs;
use crate::config::latency::Latency;
use crate::error::Failure;
use crate::machine::gpu::tests::MadeUp;
use crate::measure::clock::tests::Manual;
use crate::measure::latency::{Earlier, Observer, Party, Repetition, Workload, repeat};
use crate::measure::session::{Load, Session};
use crate::model_ref;

const RANGE: u64 = 262_143_328_850;

/// A window of `ms` over which the zones get other counts.
fn metered(root: &Path, ms: u64, requests: u32, then: &[(&str, u64)]) -> Energy {
    let clock = Manual::default();
    let meter = Meter::of("cpu", None, root);
    let begun = meter.begin(&clock);
    clock.pass(ms);
    for (zone, count) in then {
        set(root, zone, *count);
    }
    meter.end(&begun, requests, &clock)
}

fn why(joules: &Joules) -> &str {
    assert_eq!(joules.joules, None);
    joules.missing.as_deref().unwrap()
}

#[test]
fn packages_and_memory_add_up_across_a_counter_that_starts_again() {
    let root = tree(&[
        ("0", "package-0", RANGE - 1_000_000),
        ("0:0", "dram", 500),
        ("1", "package-1", 7_000_000),
    ]);
    let then = [("0", 39_000_000), ("0:0", 8_000_500), ("1", 19_000_000)];
    let energy = metered(root.path(), 2000, 4, &then);
    assert_eq!((energy.seconds, energy.requests), (2.0, 4));
    let expected = [
        ("package-0", 40.0),
        ("package-0/dram", 8.0),
        ("package-1", 12.0),
    ];
    let expected = expected.map(|(name, joules)| (name.to_owned(), joules));
    assert_eq!(energy.device.joules, Some(BTreeMap::from(expected)));
    assert_eq!(energy.per_request(), Some(15.0));
    assert_eq!((energy.host, energy.device.missing), (None, None));
}

#[test]
fn a_window_that_says_nothing_is_left_out_with_its_reason() {
    let zones = [("0", "package-0", 0), ("0:0", "dram", 0)];
    let root = tree(&zones);
    let energy = metered(root.path(), 400, 8, &[("0", 9), ("0:0", 9)]);
    let short = why(&energy.device);
    assert!(
        short.contains("8 requests in 0.40 s") && short.contains("take 20 or more"),
        "{short}"
    );
    assert_eq!(energy.per_request(), None);

    let root = tree(&zones);
    let still = metered(root.path(), 2000, 8, &[("0", 9)]);
    assert!(why(&still.device).contains("package-0/dram stood still"));

    let root = tree(&zones);
    let long = metered(root.path(), 300_000, 8, &[("0", 9), ("0:0", 9)]);
    let long = why(&long.device);
    assert!(
        long.contains("package-0") && long.contains("262 s"),
        "{long}"
    );

    // What can be read at the begin and not at the end.
    let root = tree(&zones);
    let clock = Manual::default();
    let meter = Meter::of("cpu", None, root.path());
    let begun = meter.begin(&clock);
    clock.pass(2000);
    std::fs::remove_file(root.path().join("intel-rapl:0/energy_uj")).unwrap();
    let lost = meter.end(&begun, 8, &clock);
    assert!(why(&lost.device).contains("intel-rapl:0/energy_uj"));

    let nowhere = metered(Path::new("/nowhere"), 2000, 8, &[]);
    assert!(why(&nowhere.device).contains("/nowhere"));
}

fn on_gpu(energies: &[u64], ms: u64, powercap: &Path) -> Energy {
    let driver = MadeUp::of(1);
    *driver.energies.lock().unwrap() = energies.iter().map(|mj| Ok(*mj)).collect();
    let clock = Manual::default();
    let meter = Meter::of("cuda:0", Some(&Ok(driver.card())), powercap);
    let begun = meter.begin(&clock);
    clock.pass(ms);
    set(powercap, "0", 60_000_000);
    meter.end(&begun, 10, &clock)
}

#[test]
fn a_gpu_has_its_own_counter_and_the_host_stands_apart() {
    let root = tree(&[("0", "package-0", 0)]);
    let energy = on_gpu(&[1_000_000, 1_400_000], 10_000, root.path());
    assert_eq!(
        energy.device.joules,
        Some(BTreeMap::from([("gpu".into(), 400.0)]))
    );
    assert_eq!(energy.per_request(), Some(40.0));
    assert_eq!(energy.host_per_request(), Some(6.0));

    // Its counter is slower than the host's.
    let root = tree(&[("0", "package-0", 0)]);
    let short = on_gpu(&[0, 400_000], 9_000, root.path());
    assert!(
        why(&short.device).contains("need 10 s"),
        "{:?}",
        short.device
    );
    assert_eq!(short.host_per_request(), Some(6.0));

    let anew = on_gpu(&[400_000, 7], 10_000, root.path());
    assert!(why(&anew.device).contains("loaded anew"));
}

#[test]
fn what_has_no_counter_says_so() {
    let root = tree(&[("0", "package-0", 0)]);
    let clock = Manual::default();
    let end = |meter: Meter<'_>| meter.end(&meter.begin(&clock), 1, &clock);
    let refused = Err("no driver".to_owned());
    let energy = end(Meter::of("cuda:0", Some(&refused), root.path()));
    assert_eq!(why(&energy.device), "no driver");
    let other = end(Meter::of("coreml", None, root.path()));
    assert!(why(&other.device).contains("`coreml`") && other.host.is_some());
    let off = end(Meter::off(PACED));
    assert_eq!((why(&off.device), off.host), (PACED, None));
}

/// A clock on which looking takes a second.
#[derive(Default)]
struct Looked(Cell<u64>);

impl Clock for Looked {
    fn now(&self) -> Duration {
        self.0.set(self.0.get() + 1);
        Duration::from_secs(self.0.get())
    }
}

/// Meters as a run does, while each repetition takes 3 J.
struct Metered<'a> {
    root: &'a Path,
    meter: Meter<'static>,
    clock: &'a Looked,
    spent: u64,
    requests: u32,
    begun: Vec<Begun>,
}

impl Observer for Metered<'_> {
    fn timed(&mut self) {
        self.begun.push(self.meter.begin(self.clock));
    }

    fn record(&mut self, _: usize, r: Repetition) -> Result<(), Failure> {
        self.spent += 3_000_000;
        self.requests += u32::from(!r.warm_up);
        set(self.root, "0", self.spent);
        Ok(())
    }
}

/// What was metered of a small model, by so many repetitions.
fn repeated(warm_up: u32, iterations: u32) -> (usize, Energy) {
    let hub = HubOptions::new("/nowhere").cache_only();
    let configs = Configs::new(None).unwrap();
    let found = model_ref::resolve("small-fastvithd", &configs, &hub, &mut |_| {}).unwrap();
    let options = EngineOptions::new("cpu", Precision::F32, 1);
    let load = Load {
        recipe: &found.recipe,
        backend: "candle",
        options: &options,
        context: 512,
        hub: &hub,
    };
    let session = Session::open(&load, &mut |_| {}).unwrap();
    let latency = Latency {
        decode_tokens: 2,
        warm_up,
        min_iterations: iterations,
        max_iterations: iterations,
        ..Latency::default()
    };
    let mut parties = [Party {
        workload: Workload::new(&session, &latency, 0).unwrap(),
        session,
        earlier: Earlier::default(),
    }];
    let root = tree(&[("0", "package-0", 0)]);
    let clock = Looked::default();
    let mut metered = Metered {
        root: root.path(),
        meter: Meter::of("cpu", None, root.path()),
        clock: &clock,
        spent: 0,
        requests: 0,
        begun: Vec::new(),
    };
    repeat(&mut parties, &latency, &clock, &mut metered).unwrap();
    let energy = metered
        .meter
        .end(&metered.begun[0], metered.requests, &clock);
    (metered.begun.len(), energy)
}

#[test]
fn the_window_is_of_the_repetitions_that_count_and_of_no_warm_up() {
    for (warm_up, iterations) in [(2, 4), (0, 3)] {
        let (windows, energy) = repeated(warm_up, iterations);
        assert_eq!((windows, energy.requests), (1, iterations));
        assert_eq!(energy.device.missing, None);
        assert_eq!(energy.per_request(), Some(3.0));
    }
}
