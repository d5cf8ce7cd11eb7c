//! Execution providers of ONNX Runtime as devices.
//!
//! A provider is asked for by name and registered, or that is an error. Which
//! nodes of a graph it took is asked of the runtime afterwards: arithmetic on
//! shapes may stay on the CPU, where the runtime itself prefers it, but a
//! product or a convolution there would be a quiet fall back.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::path::Path;

use ort::AsPointer;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::session::Session;

use super::library::{self, Library};
use super::session::{Settings, failed};
use crate::backend::DeviceEntry;
use crate::error::{Error, Result};

/// Operators that are a network's work: what a provider must take.
const WORK: [&str; 12] = [
    "Attention",
    "Conv",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "Gemm",
    "GroupQueryAttention",
    "MatMul",
    "MatMulInteger",
    "MatMulNBits",
    "MultiHeadAttention",
    "QLinearConv",
];

/// One provider.
#[derive(Clone, Copy)]
struct Provider {
    /// As devices are called here.
    device: &'static str,
    /// As the runtime calls it.
    name: &'static str,
    /// The package whose library has it.
    package: &'static str,
    /// Registers it for the device of this number.
    register: fn(i32, &Settings) -> ExecutionProviderDispatch,
}

const PROVIDERS: [Provider; 6] = [
    Provider {
        device: "coreml",
        name: "CoreMLExecutionProvider",
        package: "onnxruntime",
        register: |_, _| ep::CoreML::default().build(),
    },
    Provider {
        device: "cpu",
        name: "CPUExecutionProvider",
        package: "onnxruntime",
        register: |_, s| ep::CPU::default().with_arena_allocator(s.arena).build(),
    },
    Provider {
        device: "cuda:0",
        name: "CUDAExecutionProvider",
        package: "onnxruntime-gpu",
        register: |n, _| ep::CUDA::default().with_device_id(n).build(),
    },
    Provider {
        device: "directml",
        name: "DmlExecutionProvider",
        package: "onnxruntime-directml",
        register: |n, _| ep::DirectML::default().with_device_id(n).build(),
    },
    Provider {
        device: "openvino",
        name: "OpenVINOExecutionProvider",
        package: "onnxruntime-openvino",
        register: |_, _| ep::OpenVINO::default().build(),
    },
    Provider {
        device: "tensorrt:0",
        name: "TensorrtExecutionProvider",
        package: "onnxruntime-gpu",
        register: |n, _| ep::TensorRT::default().with_device_id(n).build(),
    },
];

/// A device that the loaded library has.
#[derive(Clone, Copy)]
pub struct Device {
    provider: Provider,
    number: i32,
}

/// Devices of this engine: those that the library here was built for, and how
/// to get a library with the others.
pub fn devices() -> Vec<DeviceEntry> {
    let library = library::load();
    let missing = |provider: &Provider| match &library {
        Err(error) => Some(error.to_string()),
        Ok((_, library)) => lacks(provider, library),
    };
    let entry = |provider: &Provider| DeviceEntry {
        name: provider.device.into(),
        missing: missing(provider),
    };
    PROVIDERS.iter().map(entry).collect()
}

fn lacks(provider: &Provider, library: &Library) -> Option<String> {
    if library.providers.iter().any(|p| p == provider.name) {
        return None;
    }
    Some(format!(
        "the library was built without {}; `pip install {}` gets one with it, where the system allows",
        provider.name, provider.package
    ))
}

impl Device {
    /// The device of this name in `library`; `cuda` is `cuda:0`, and other
    /// numbers are other cards.
    pub fn find(name: &str, library: &Library) -> Result<Device> {
        let (kind, number) = name.split_once(':').unwrap_or((name, "0"));
        let of_kind = |p: &&Provider| p.device.split(':').next() == Some(kind);
        let unavailable = |why: String| Error::Unavailable {
            what: format!("device {name}"),
            why,
        };
        let (Some(provider), Ok(number)) = (PROVIDERS.iter().find(of_kind), number.parse()) else {
            let known: Vec<&str> = PROVIDERS.iter().map(|p| p.device).collect();
            let known = known.join(", ");
            return Err(unavailable(format!("the onnxruntime engine knows {known}")));
        };
        match lacks(provider, library) {
            Some(why) => Err(unavailable(why)),
            None => Ok(Device {
                provider: *provider,
                number,
            }),
        }
    }

    /// Whether it is the CPU.
    pub fn is_cpu(&self) -> bool {
        self.provider.device == "cpu"
    }

    /// What a session registers: an error if the device does not work.
    pub fn providers(&self, settings: &Settings) -> Vec<ExecutionProviderDispatch> {
        let own = (self.provider.register)(self.number, settings);
        vec![own.error_on_failure()]
    }

    /// Nodes of a loaded graph by provider. Work that is not on this device is
    /// an error.
    pub fn check(&self, session: &Session, path: &Path) -> Result<BTreeMap<String, usize>> {
        let nodes = assignment(session, path)?;
        let mut counts = BTreeMap::new();
        let mut elsewhere = BTreeMap::new();
        for (provider, operator) in nodes {
            if provider != self.provider.name && WORK.contains(&operator.as_str()) {
                *elsewhere.entry(operator).or_insert(0) += 1;
            }
            *counts.entry(provider).or_insert(0) += 1;
        }
        if elsewhere.is_empty() {
            return Ok(counts);
        }
        let list: Vec<String> = elsewhere
            .iter()
            .map(|(op, n)| format!("{n} {op}"))
            .collect();
        Err(Error::LoadGraph {
            path: path.to_path_buf(),
            problem: format!(
                "{} does not take {}; the engine does not fall back to another device",
                self.provider.name,
                list.join(", ")
            ),
        })
    }
}

/// Provider and operator of every node of a loaded graph.
fn assignment(session: &Session, path: &Path) -> Result<Vec<(String, String)>> {
    let api = ort::api();
    let ok = |status| {
        // SAFETY: the status comes from the call just made.
        let result = unsafe { ort::Error::result_from_status(status) };
        result.map_err(|e| failed(&path.display().to_string(), e))
    };
    // SAFETY: strings of the runtime end with a zero and live with the session.
    let text = |s: *const c_char| unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned();
    let (mut groups, mut count) = (std::ptr::null(), 0);
    // SAFETY: the session is alive, and the runtime fills both.
    ok(unsafe { (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &mut groups, &mut count) })?;
    let mut found = Vec::new();
    for i in 0..count {
        // SAFETY: the list has `count` entries, which live with the session.
        let group = unsafe { *groups.add(i) };
        let mut name = std::ptr::null();
        // SAFETY: as above; the runtime fills the last argument.
        ok(unsafe { (api.EpAssignedSubgraph_GetEpName)(group, &mut name) })?;
        let (mut nodes, mut len) = (std::ptr::null(), 0);
        // SAFETY: as above.
        ok(unsafe { (api.EpAssignedSubgraph_GetNodes)(group, &mut nodes, &mut len) })?;
        for j in 0..len {
            let mut operator = std::ptr::null();
            // SAFETY: the list has `len` entries, which live with the session.
            ok(unsafe { (api.EpAssignedNode_GetOperatorType)(*nodes.add(j), &mut operator) })?;
            found.push((text(name), text(operator)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_sorted_and_found_by_kind_and_number() {
        assert!(PROVIDERS.windows(2).all(|w| w[0].device < w[1].device));
        let library = Library {
            path: "lib".into(),
            version: "1.32.0".into(),
            providers: vec![
                "CPUExecutionProvider".into(),
                "CUDAExecutionProvider".into(),
            ],
        };
        let find = |name| Device::find(name, &library);
        assert!(find("cpu").is_ok_and(|d| d.is_cpu()));
        assert!(find("cuda").is_ok_and(|d| d.number == 0));
        assert!(find("cuda:1").is_ok_and(|d| d.number == 1 && !d.is_cpu()));
        for (name, says) in [
            ("tensorrt", "onnxruntime-gpu"),
            ("openvino", "OpenVINOExecutionProvider"),
            ("tpu", "knows coreml, cpu, cuda:0"),
            ("cuda:x", "knows coreml"),
        ] {
            let error = find(name).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(name), "{error}");
        }
    }
}
