//! NVIDIA's graphics processors: which one a device is, in what state it is, and what is missing where there is none.
//!
//! Everything here works on plain facts, so that it is tested where no such card is; `nvml` beside this reads them.

use std::collections::BTreeMap;

use serde::Serialize;
use vlmbench_reports::record::{Gpu, GpuState};

/// What the driver's management library says.
pub trait Driver: Sync {
    /// Its GPUs, by their place on the bus.
    fn gpus(&self) -> Vec<Gpu>;

    /// A GPU now.
    fn state(&self, gpu: usize) -> GpuState;

    /// Energy that a GPU has taken since the driver was loaded, millijoules; or why nobody knows.
    fn energy_mj(&self, gpu: usize) -> Result<u64, String>;
}

/// Why the management library does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It is not here.
    NoLibrary,
    /// It is, and the driver's kernel module is not loaded.
    NotLoaded,
    /// It is of another version than the kernel module.
    Mismatch,
    /// It lacks what is asked of it.
    TooOld(String),
    /// Something else.
    Other(String),
}

/// What the system says of NVIDIA's cards without the library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Version of the kernel module.
    pub module: Option<String>,
    /// Places on the bus with a card.
    pub on_bus: Vec<String>,
}

/// Oldest CUDA that a driver must know: what ONNX Runtime's library with CUDA is built for.
const LEAST_CUDA: (u32, u32) = (12, 0);

/// What is missing before an NVIDIA GPU can be used, and how to get it; `None` if nothing is.
pub fn missing(opened: Result<&[Gpu], &Unopened>, traces: &Traces) -> Option<String> {
    let text = match (opened, &traces.module, traces.on_bus.as_slice()) {
        (Ok([]), ..) => "the driver answers and shows no GPU: in a container, start it with a GPU".into(),
        (Ok(gpus), ..) => return gpus.iter().find_map(too_old),
        (Err(Unopened::NoLibrary), Some(version), _) => format!(
            "the kernel module of driver {version} is loaded, and the driver's library libnvidia-ml.so.1 is not found: \
             install the libraries of the same version; a container gets them from NVIDIA's container toolkit"
        ),
        (Err(Unopened::NoLibrary), None, []) => {
            "nothing found: no NVIDIA GPU on the bus, and no driver".into()
        }
        (Err(Unopened::NoLibrary | Unopened::NotLoaded), None, on_bus @ [_, ..]) => format!(
            "an NVIDIA GPU is at {}, and no driver is loaded for it: install NVIDIA's driver, and restart",
            on_bus.join(" and ")
        ),
        (Err(Unopened::NotLoaded), ..) => {
            "the driver's library is here, and its kernel module is not loaded: `nvidia-smi` and `dmesg` say why".into()
        }
        (Err(Unopened::Mismatch), ..) => {
            "the driver's library and its kernel module are of different versions: restart the machine".into()
        }
        (Err(Unopened::TooOld(what)), ..) => {
            format!("the driver is too old ({what}): install a newer one")
        }
        (Err(Unopened::Other(why)), ..) => format!("the driver's library does not answer: {why}"),
    };
    Some(text)
}

/// Why the driver of a GPU is too old, if it is.
fn too_old(gpu: &Gpu) -> Option<String> {
    let cuda = gpu.cuda_driver.as_deref()?;
    let (major, minor) = cuda.split_once('.')?;
    let version: (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    let (least, least_minor) = LEAST_CUDA;
    let driver = gpu.driver.as_deref().unwrap_or("of unknown version");
    (version < LEAST_CUDA).then(|| {
        format!(
            "the driver is too old: {driver} runs CUDA up to {cuda}, {least}.{least_minor} or newer is needed; install a newer driver"
        )
    })
}

/// What the environment says of CUDA's numbering.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbering {
    /// `CUDA_VISIBLE_DEVICES`.
    pub visible: Option<String>,
    /// `CUDA_DEVICE_ORDER`.
    pub order: Option<String>,
}

impl Numbering {
    /// As `variable` reads the environment.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Numbering {
        Numbering {
            visible: variable("CUDA_VISIBLE_DEVICES"),
            order: variable("CUDA_DEVICE_ORDER"),
        }
    }

    /// Which of `gpus`, by their place on the bus, CUDA calls `ordinal`; or why that is not certain.
    fn position(&self, ordinal: usize, gpus: &[Gpu]) -> Result<usize, String> {
        let Some(visible) = &self.visible else {
            return self.by_number(ordinal, gpus);
        };
        let none = || {
            format!(
                "CUDA_VISIBLE_DEVICES={visible} leaves no device {ordinal} of {}",
                gpus.len()
            )
        };
        let name = visible.split(',').nth(ordinal).map(str::trim);
        match name.filter(|name| !name.is_empty()).ok_or_else(none)? {
            slice if slice.starts_with("MIG-") => Err(format!(
                "{slice} is a slice of a GPU, and the driver knows the energy and the clocks of whole ones only"
            )),
            // A part of it is enough for CUDA.
            uuid if uuid.starts_with("GPU-") => {
                let is = |gpu: &Gpu| gpu.uuid.as_ref().is_some_and(|own| own.starts_with(uuid));
                gpus.iter().position(is).ok_or_else(none)
            }
            number => self.by_number(number.parse().map_err(|_| none())?, gpus),
        }
    }

    fn by_number(&self, number: usize, gpus: &[Gpu]) -> Result<usize, String> {
        match gpus.len() {
            n if number >= n => Err(format!(
                "the driver shows {n} GPUs, and none of number {number}"
            )),
            1 => Ok(0),
            _ if self.order.as_deref() == Some("PCI_BUS_ID") => Ok(number),
            n => Err(format!(
                "CUDA may number the {n} GPUs otherwise than the driver does: set CUDA_DEVICE_ORDER=PCI_BUS_ID"
            )),
        }
    }
}

/// A GPU that a case runs on.
#[derive(Clone, Copy)]
pub struct Card<'a> {
    driver: &'a dyn Driver,
    position: usize,
}

impl Card<'_> {
    /// The GPU now.
    pub fn state(&self) -> GpuState {
        self.driver.state(self.position)
    }

    /// Energy since the driver was loaded, millijoules.
    pub fn energy_mj(&self) -> Result<u64, String> {
        self.driver.energy_mj(self.position)
    }
}

/// NVIDIA's number of a device as engines name it: `cuda:1`, `tensorrt:0`; `None` for other devices.
fn ordinal(device: &str) -> Option<usize> {
    let (kind, number) = device.split_once(':').unwrap_or((device, "0"));
    let is_cuda = ["cuda", "tensorrt"].contains(&kind);
    number.parse().ok().filter(|_| is_cuda)
}

/// The card that `device` is, or why that is not known; `None` for devices that are none of NVIDIA's. The driver is
/// opened only for one that is.
pub fn card<'a>(
    device: &str,
    numbering: &Numbering,
    open: impl FnOnce() -> Result<&'a dyn Driver, &'a Unopened>,
    traces: impl FnOnce() -> Traces,
) -> Option<Result<Card<'a>, String>> {
    let ordinal = ordinal(device)?;
    let driver = match open() {
        Ok(driver) => driver,
        Err(why) => return missing(Err(why), &traces()).map(Err),
    };
    let position = numbering.position(ordinal, &driver.gpus());
    Some(position.map(|position| Card { driver, position }))
}

/// A GPU with its state now, if its driver says it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GpuNow {
    /// What it is.
    #[serde(flatten)]
    pub gpu: Gpu,
    /// In what state.
    pub now: Option<GpuState>,
}

/// What `doctor` says of graphics processors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GpuReport {
    /// Those that are known.
    pub found: Vec<GpuNow>,
    /// What is missing before one of NVIDIA's can be used.
    pub missing: Option<String>,
}

/// The report on `gpus`, of which the driver's come first.
pub fn report(gpus: &[Gpu], opened: Result<&dyn Driver, &Unopened>, traces: &Traces) -> GpuReport {
    let own = opened.map(|driver| driver.gpus());
    let count = own.as_ref().map_or(0, Vec::len);
    let states: BTreeMap<usize, GpuState> = (opened.into_iter())
        .flat_map(|driver| (0..count).map(move |gpu| (gpu, driver.state(gpu))))
        .collect();
    GpuReport {
        found: (gpus.iter().enumerate())
            .map(|(index, gpu)| GpuNow {
                gpu: gpu.clone(),
                now: states.get(&index).cloned(),
            })
            .collect(),
        missing: missing(own.as_deref().map_err(|why| *why), traces),
    }
}

/// Drivers that are not there.
#[cfg(test)]
pub mod tests {
    use std::cell::Cell;
    use std::sync::Mutex;

    use super::*;

    /// A driver of made-up GPUs; each look at the energy takes the next value.
    pub struct MadeUp {
        /// What it shows.
        pub gpus: Vec<Gpu>,
        /// States of the first GPU, the next of which is shown at each look.
        pub states: Mutex<Vec<GpuState>>,
        /// Counts of energy, likewise, in millijoules.
        pub energies: Mutex<Vec<Result<u64, String>>>,
    }

    impl MadeUp {
        /// Of GPUs of one make, with their numbers as UUIDs.
        pub fn of(count: usize) -> MadeUp {
            let gpu = |index| Gpu {
                name: "Example GPU".into(),
                driver: Some("550.54.15".into()),
                cuda_driver: Some("12.4".into()),
                uuid: Some(format!("GPU-{index}abc")),
                ..Gpu::default()
            };
            MadeUp {
                gpus: (0..count).map(gpu).collect(),
                states: Mutex::default(),
                energies: Mutex::default(),
            }
        }

        /// Its first GPU.
        pub fn card(&self) -> Card<'_> {
            Card {
                driver: self,
                position: 0,
            }
        }
    }

    impl Driver for MadeUp {
        fn gpus(&self) -> Vec<Gpu> {
            self.gpus.clone()
        }

        fn state(&self, _: usize) -> GpuState {
            let mut states = self.states.lock().unwrap();
            match states.is_empty() {
                true => GpuState::default(),
                false => states.remove(0),
            }
        }

        fn energy_mj(&self, _: usize) -> Result<u64, String> {
            self.energies.lock().unwrap().remove(0)
        }
    }

    fn at(temperature: u32) -> GpuState {
        GpuState {
            temperature_c: Some(temperature),
            ..GpuState::default()
        }
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let traces = |module: Option<&str>, on_bus: &[&str]| Traces {
            module: module.map(str::to_owned),
            on_bus: on_bus.iter().map(|place| (*place).to_owned()).collect(),
        };
        let (nothing, bus) = (traces(None, &[]), traces(None, &["0000:01:00.0"]));
        let loaded = traces(Some("550.54.15"), &["0000:01:00.0"]);
        let old = "nvmlInit_v2".to_owned();
        for (opened, traces, parts) in [
            (
                Unopened::NoLibrary,
                &nothing,
                ["nothing found", "no driver"],
            ),
            (
                Unopened::NoLibrary,
                &bus,
                ["0000:01:00.0", "install NVIDIA's driver"],
            ),
            (
                Unopened::NotLoaded,
                &bus,
                ["0000:01:00.0", "install NVIDIA's driver"],
            ),
            (
                Unopened::NoLibrary,
                &loaded,
                ["driver 550.54.15", "libnvidia-ml.so.1"],
            ),
            (Unopened::NotLoaded, &nothing, ["not loaded", "dmesg"]),
            (
                Unopened::Mismatch,
                &loaded,
                ["different versions", "restart"],
            ),
            (Unopened::TooOld(old), &loaded, ["too old", "nvmlInit_v2"]),
            (
                Unopened::Other("odd".into()),
                &loaded,
                ["does not answer", "odd"],
            ),
        ] {
            let text = missing(Err(&opened), traces).unwrap();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        assert!(missing(Ok(&[]), &loaded).unwrap().contains("shows no GPU"));
        let mut gpus = MadeUp::of(1).gpus;
        assert_eq!(missing(Ok(&gpus), &loaded), None);
        gpus[0].cuda_driver = Some("11.8".into());
        let text = missing(Ok(&gpus), &loaded).unwrap();
        assert!(
            text.contains("550.54.15") && text.contains("11.8") && text.contains("12.0"),
            "{text}"
        );
        // A driver that does not say is not called old.
        gpus[0].cuda_driver = None;
        assert_eq!(missing(Ok(&gpus), &loaded), None);
    }

    #[test]
    fn cudas_number_of_a_gpu_is_the_drivers_only_where_that_is_certain() {
        let position = |visible: Option<&str>, order: Option<&str>, ordinal, count| {
            let numbering = Numbering::of(|name| {
                let value = match name {
                    "CUDA_VISIBLE_DEVICES" => visible,
                    _ => order,
                };
                value.map(str::to_owned)
            });
            numbering.position(ordinal, &MadeUp::of(count).gpus)
        };
        let bus = Some("PCI_BUS_ID");
        assert_eq!(position(None, None, 0, 1), Ok(0));
        assert_eq!(position(None, bus, 2, 4), Ok(2));
        assert_eq!(position(Some("3,1"), bus, 1, 4), Ok(1));
        assert_eq!(position(Some("GPU-2"), None, 0, 4), Ok(2));
        for (wrong, part) in [
            (position(None, None, 0, 2), "CUDA_DEVICE_ORDER=PCI_BUS_ID"),
            (position(None, Some("FASTEST_FIRST"), 0, 2), "PCI_BUS_ID"),
            (position(None, bus, 2, 2), "none of number 2"),
            (position(Some("0"), bus, 1, 2), "no device 1"),
            (position(Some(""), None, 0, 1), "no device 0"),
            (position(Some("GPU-9"), None, 0, 4), "no device 0"),
            (position(Some("MIG-1"), None, 0, 1), "slice"),
            (position(Some("x"), None, 0, 1), "no device 0"),
        ] {
            let why = wrong.unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn the_driver_is_opened_only_for_a_device_of_its_own() {
        let driver = MadeUp::of(1);
        let asked = Cell::new(0);
        let on = |device: &str| {
            let open = || {
                asked.set(asked.get() + 1);
                Ok(&driver as &dyn Driver)
            };
            card(device, &Numbering::default(), open, Traces::default)
        };
        for device in ["cpu", "coreml", "cuda:x", "openvino"] {
            assert!(on(device).is_none(), "{device}");
        }
        assert_eq!(asked.get(), 0);
        for device in ["cuda", "cuda:0", "tensorrt:0"] {
            assert!(on(device).unwrap().is_ok(), "{device}");
        }
        assert_eq!(asked.get(), 3);
        let error = on("cuda:1").unwrap().err().unwrap();
        assert!(error.contains("none of number 1"), "{error}");
        let closed = card(
            "cuda:0",
            &Numbering::default(),
            || Err(&Unopened::NoLibrary),
            Traces::default,
        );
        assert!(closed.unwrap().err().unwrap().contains("nothing found"));
    }

    #[test]
    fn the_report_has_the_state_of_the_drivers_own_gpus() {
        let driver = MadeUp::of(1);
        driver.states.lock().unwrap().push(at(41));
        let mut gpus = driver.gpus();
        gpus.push(Gpu {
            name: "Another make".into(),
            ..Gpu::default()
        });
        let found = report(&gpus, Ok(&driver), &Traces::default());
        assert_eq!(found.missing, None);
        assert_eq!(found.found[0].now, Some(at(41)));
        assert_eq!(found.found[1].now, None);
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["found"][0]["driver"], "550.54.15");
        assert_eq!(json["found"][0]["now"]["temperature_c"], 41);
        let closed = report(&gpus, Err(&Unopened::NoLibrary), &Traces::default());
        assert!(closed.missing.unwrap().contains("nothing found"));
        assert!(closed.found.iter().all(|gpu| gpu.now.is_none()));
    }
}
