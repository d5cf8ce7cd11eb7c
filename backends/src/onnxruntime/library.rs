//! Finding and loading ONNX Runtime's shared library.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use ort::environment::Environment;
use serde::Serialize;

use crate::error::{Error, Result};

/// The command that gets the library.
pub const GET_IT: &str = "pip install onnxruntime";

/// Prints where the active Python's `onnxruntime` package is, without
/// importing it.
const FIND_PACKAGE: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); \
    print(s.origin if s and s.origin else '')";

/// A library that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Library {
    /// Its file.
    pub path: PathBuf,
    /// ONNX Runtime's version.
    pub version: String,
    /// Execution providers that it was built with.
    pub providers: Vec<String>,
}

/// The file to load, if it was named.
static NAMED: OnceLock<PathBuf> = OnceLock::new();

/// The runtime of this process, or why there is none: it is looked for once.
static LOADED: OnceLock<Result<(Environment, Library), String>> = OnceLock::new();

/// Names the library that this process is to load, before the engine is first
/// opened. Otherwise it is looked for in the active Python's wheel.
pub fn set_path(path: PathBuf) {
    // A second name is not reached: one command line names one library.
    let _ = NAMED.set(path);
}

/// Loads the library, if it is not loaded yet: the one named with
/// [`set_path`], or the one in the active Python's `onnxruntime` wheel.
pub fn load() -> Result<(Environment, Library)> {
    let loaded = LOADED.get_or_init(find).clone();
    loaded.map_err(|why| Error::Unavailable {
        what: "ONNX Runtime".into(),
        why,
    })
}

/// Finds and loads the library, or says why not.
fn find() -> Result<(Environment, Library), String> {
    let path = match NAMED.get() {
        Some(path) => path.clone(),
        None => in_wheel()?,
    };
    let version = version(&path)?;
    let environment = ort::init_from(&path)
        .map_err(|e| e.to_string())?
        .with_name("vlmbench")
        .with_telemetry(false)
        .build()
        .map_err(|e| e.to_string())?;
    let library = Library {
        path,
        version,
        providers: providers()?,
    };
    Ok((environment, library))
}

/// The version of the library at `path`, which must be new enough.
fn version(path: &Path) -> Result<String, String> {
    let problem = |problem: String| {
        format!(
            "{} {problem}; `{GET_IT}` gets one that works",
            path.display()
        )
    };
    if !path.is_file() {
        return Err(problem("is not a file".into()));
    }
    type Base = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: the user named this file as ONNX Runtime's library; running its
    // initialisers is what loading it means.
    let library = unsafe { libloading::Library::new(path) }
        .map_err(|e| problem(format!("cannot be loaded: {e}")))?;
    // SAFETY: the symbol's type is that of ONNX Runtime's C interface.
    let base = unsafe { library.get::<Base>(b"OrtGetApiBase") }
        .map_err(|_| problem("is not ONNX Runtime: it has no OrtGetApiBase".into()))?;
    // SAFETY: as above; the string lives as long as the library.
    let version = unsafe { CStr::from_ptr(((*base()).GetVersionString)()) };
    let version = version.to_string_lossy().into_owned();
    let minor = version.split('.').nth(1).and_then(|v| v.parse().ok());
    match minor {
        Some(minor) if u32::ge(&minor, &ort::MINOR_VERSION) => Ok(version),
        _ => Err(problem(format!(
            "is ONNX Runtime {version}, older than 1.{}",
            ort::MINOR_VERSION
        ))),
    }
}

/// Execution providers that the loaded library was built with.
fn providers() -> Result<Vec<String>, String> {
    let mut names = std::ptr::null_mut();
    let mut count = 0;
    let failed = |e: ort::Error| e.to_string();
    // SAFETY: the runtime fills both, and the list is given back to it below.
    let status = unsafe { (ort::api().GetAvailableProviders)(&mut names, &mut count) };
    unsafe { ort::Error::result_from_status(status) }.map_err(failed)?;
    let found = (0..count as usize)
        // SAFETY: the list has `count` strings that end with a zero.
        .map(|i| unsafe { CStr::from_ptr((*names.add(i)).cast()) })
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    // SAFETY: the list came from the runtime, with this length.
    let status = unsafe { (ort::api().ReleaseAvailableProviders)(names, count) };
    unsafe { ort::Error::result_from_status(status) }.map_err(failed)?;
    Ok(found)
}

/// The library in the wheel that the Python on the path would import.
fn in_wheel() -> Result<PathBuf, String> {
    let missing = |why: &str| {
        format!(
            "{why}; get it with `{GET_IT}`, or name the library with --onnxruntime or ORT_DYLIB_PATH"
        )
    };
    let python = ["python3", "python"]
        .into_iter()
        .find_map(|python| {
            let output = Command::new(python).args(["-c", FIND_PACKAGE]).output();
            output.ok().filter(|o| o.status.success())
        })
        .ok_or_else(|| {
            missing("no library was named and there is no Python to find its wheel with")
        })?;
    let module = String::from_utf8_lossy(&python.stdout);
    let module = module.trim();
    if module.is_empty() {
        return Err(missing("the active Python has no package `onnxruntime`"));
    }
    let folder = Path::new(module).with_file_name("capi");
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| is_library(&n.to_string_lossy()))
        })
        .collect();
    found.sort();
    found.pop().ok_or_else(|| {
        missing(&format!(
            "{} holds no library of ONNX Runtime",
            folder.display()
        ))
    })
}

/// `libonnxruntime.so.1.32.0`, `libonnxruntime.1.32.0.dylib`, `onnxruntime.dll`.
fn is_library(name: &str) -> bool {
    let stem = name.strip_prefix(std::env::consts::DLL_PREFIX);
    let rest = stem.and_then(|s| s.strip_prefix("onnxruntime"));
    rest.is_some_and(|r| r.starts_with('.') && r.contains(std::env::consts::DLL_SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_runtime_itself_is_its_library() {
        assert!(is_library("libonnxruntime.so.1.32.0"));
        assert!(is_library("libonnxruntime.so"));
        assert!(!is_library("libonnxruntime_providers_shared.so"));
        assert!(!is_library(
            "onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so"
        ));
    }

    #[test]
    fn what_is_not_the_library_is_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libonnxruntime.so");
        let error = version(&path).unwrap_err();
        assert!(
            error.contains("is not a file") && error.contains(GET_IT),
            "{error}"
        );
        std::fs::write(&path, "text").unwrap();
        let error = version(&path).unwrap_err();
        assert!(error.contains("cannot be loaded"), "{error}");
    }
}
