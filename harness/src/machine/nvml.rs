//! NVIDIA's management library (NVML), which comes with the driver and is loaded at run time: the thin layer that
//! reads it. What follows from what it says is [`super::gpu`]'s.

use std::sync::OnceLock;

use nvml_wrapper::Device;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use vlmbench_reports::record::{Gpu, GpuState};

use super::gpu::{Driver, Unopened};

/// The library, opened at the first call and once a process.
pub fn open() -> Result<&'static dyn Driver, &'static Unopened> {
    static LIBRARY: OnceLock<Result<Nvml, Unopened>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| Nvml::init().map_err(unopened));
    library.as_ref().map(|nvml| nvml as &dyn Driver)
}

fn unopened(error: NvmlError) -> Unopened {
    match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => Unopened::NoLibrary,
        NvmlError::DriverNotLoaded => Unopened::NotLoaded,
        NvmlError::LibRmVersionMismatch => Unopened::Mismatch,
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => {
            Unopened::TooOld(error.to_string())
        }
        error => Unopened::Other(error.to_string()),
    }
}

impl Driver for Nvml {
    fn gpus(&self) -> Vec<Gpu> {
        let devices =
            (0..self.device_count().unwrap_or(0)).map(|index| self.device_by_index(index));
        // One that has fallen off the bus keeps its number.
        let gpu = |device: Result<Device<'_>, NvmlError>| match device {
            Ok(device) => facts(self, &device),
            Err(error) => Gpu {
                name: format!("does not answer: {error}"),
                ..Gpu::default()
            },
        };
        devices.map(gpu).collect()
    }

    fn state(&self, gpu: usize) -> GpuState {
        let Ok(device) = self.device_by_index(gpu as u32) else {
            return GpuState::default();
        };
        let reasons = device.current_throttle_reasons().ok();
        GpuState {
            sm_clock_mhz: device.clock_info(Clock::SM).ok(),
            memory_clock_mhz: device.clock_info(Clock::Memory).ok(),
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
            throttle: reasons.map(|reasons| {
                let names = reasons.iter_names().map(|(name, _)| name);
                names.map(str::to_lowercase).collect()
            }),
        }
    }

    fn energy_mj(&self, gpu: usize) -> Result<u64, String> {
        let device = self.device_by_index(gpu as u32);
        let energy = device.and_then(|device| device.total_energy_consumption());
        energy.map_err(|error| match error {
            NvmlError::NotSupported => {
                "this GPU has no counter of energy (Volta and later have)".into()
            }
            error => format!("the GPU's counter of energy cannot be read: {error}"),
        })
    }
}

fn facts(nvml: &Nvml, device: &Device<'_>) -> Gpu {
    // 12040 is 12.4.
    let cuda = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
    Gpu {
        name: device
            .name()
            .unwrap_or_else(|_| "NVIDIA, model unknown".into()),
        driver: nvml.sys_driver_version().ok(),
        memory_bytes: device.memory_info().ok().map(|memory| memory.total),
        cuda_driver: nvml.sys_cuda_driver_version().ok().map(cuda),
        compute_capability: (device.cuda_compute_capability().ok())
            .map(|capability| format!("{}.{}", capability.major, capability.minor)),
        max_sm_clock_mhz: device.max_clock_info(Clock::SM).ok(),
        max_memory_clock_mhz: device.max_clock_info(Clock::Memory).ok(),
        power_limit_watts: (device.enforced_power_limit().ok())
            .map(|milliwatts| f64::from(milliwatts) / 1e3),
        bus_id: device.pci_info().ok().map(|pci| bus_id(&pci.bus_id)),
        uuid: device.uuid().ok(),
    }
}

/// A place on the bus as Linux writes it: NVML's domain has eight digits, Linux's four.
fn bus_id(nvml: &str) -> String {
    let place = nvml.to_lowercase();
    place
        .strip_prefix("0000")
        .map_or(place.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_on_the_bus_are_written_as_linux_does() {
        assert_eq!(bus_id("00000000:C1:00.0"), "0000:c1:00.0");
        assert_eq!(bus_id("00010000:01:00.0"), "00010000:01:00.0");
    }

    #[test]
    fn errors_are_told_apart_by_what_to_do() {
        assert_eq!(unopened(NvmlError::LibraryNotFound), Unopened::NoLibrary);
        assert_eq!(unopened(NvmlError::DriverNotLoaded), Unopened::NotLoaded);
        assert_eq!(
            unopened(NvmlError::LibRmVersionMismatch),
            Unopened::Mismatch
        );
        let old = unopened(NvmlError::FailedToLoadSymbol("nvmlInit_v2".into()));
        assert!(matches!(old, Unopened::TooOld(what) if what.contains("nvmlInit_v2")));
        assert!(matches!(
            unopened(NvmlError::NoPermission),
            Unopened::Other(_)
        ));
    }

    /// On whatever machine: what the library says and what it does not are both an answer.
    #[test]
    fn the_library_is_there_or_it_is_not() {
        match open() {
            Ok(driver) => assert!(driver.gpus().iter().all(|gpu| !gpu.name.is_empty())),
            Err(why) => {
                assert!(super::super::gpu::missing(Err(why), &Default::default()).is_some())
            }
        }
    }
}
