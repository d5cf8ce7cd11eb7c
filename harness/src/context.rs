//! What every command is given: configurations, the hub, the terminal.
//!
//! Environment variables are read here and in [`crate::terminal`] only. Those
//! of the hub are Hugging Face's own, so that the cache is shared with its
//! tools, and those of CUDA are NVIDIA's.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use vlmbench_backends::hub::HubOptions;

use crate::config::Configs;
use crate::error::Failure;
use crate::machine::gpu::Numbering;
use crate::terminal::Terminal;

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// Recipes, suites, experiments, published tables.
    pub configs: Configs,
    /// The hub and its cache.
    pub hub: HubOptions,
    /// Colour, width, progress.
    pub terminal: Terminal,
    /// How CUDA numbers its devices.
    pub numbering: Numbering,
    /// Flags of every command that a process started by this one is to have, too.
    pub inherited: Vec<OsString>,
}

impl Context {
    /// Writes data to standard output, ending it with a line break.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let written = out
            .write_all(text.as_bytes())
            .and_then(|()| out.write_all(end.as_bytes()))
            .and_then(|()| out.flush());
        written.map_err(|source| match source.kind() {
            ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::Output {
                path: "standard output".into(),
                source,
            },
        })
    }

    /// Writes a value to standard output as JSON.
    pub fn print_json<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Failure::Internal(format!("cannot encode the output as JSON: {e}")))?;
        self.print(&text)
    }

    /// Writes a value to standard output as one line of JSON.
    pub fn print_json_line<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|e| Failure::Internal(format!("cannot encode the output as JSON: {e}")))?;
        self.print(&text)
    }

    /// Waits for a line on standard input; `None` at the end of the input.
    pub fn next_line(&self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        let bytes = read.map_err(|e| Failure::Input {
            path: "standard input".into(),
            problem: e.to_string(),
        })?;
        Ok((bytes > 0).then_some(line))
    }
}

/// The hub as Hugging Face's tools find it: `HF_HUB_CACHE`, or `hub` below
/// `HF_HOME`, or below the user's cache folder; `HF_ENDPOINT`, `HF_TOKEN` and
/// `HF_HUB_OFFLINE`. `variable` reads the environment.
pub fn hub_options(variable: impl Fn(&str) -> Option<String>, offline: bool) -> HubOptions {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let home = variable("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let user = variable("HOME").or_else(|| variable("USERPROFILE"));
        let cache = cache.or_else(|| user.map(|home| Path::new(&home).join(".cache")));
        cache.unwrap_or_else(std::env::temp_dir).join("huggingface")
    });
    let cache = variable("HF_HUB_CACHE").map(PathBuf::from);
    let mut options = HubOptions::new(cache.unwrap_or_else(|| home.join("hub")));
    if let Some(endpoint) = variable("HF_ENDPOINT") {
        options.endpoint = endpoint.trim_end_matches('/').to_owned();
    }
    options.token = variable("HF_TOKEN");
    let on = |value: String| {
        let value = value.to_ascii_lowercase();
        matches!(value.as_str(), "1" | "true" | "yes" | "on")
    };
    options.offline = offline || variable("HF_HUB_OFFLINE").is_some_and(on);
    options
}

/// The commit that a CI system says it is working on: GitHub's `GITHUB_SHA`, GitLab's
/// `CI_COMMIT_SHA`. `variable` reads the environment.
pub fn commit_of_ci(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let names = ["GITHUB_SHA", "CI_COMMIT_SHA"];
    names
        .into_iter()
        .filter_map(variable)
        .find(|sha| !sha.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> HubOptions {
        let find = |name: &str| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        hub_options(find, false)
    }

    #[test]
    fn the_cache_is_where_hugging_faces_tools_have_it() {
        let dir = |pairs: &[(&str, &str)]| options(pairs).cache_dir;
        let home = ("HOME", "/home/me");
        assert_eq!(dir(&[home]), Path::new("/home/me/.cache/huggingface/hub"));
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(dir(&[home, xdg]), Path::new("/x/huggingface/hub"));
        assert_eq!(dir(&[home, ("HF_HOME", "/hf")]), Path::new("/hf/hub"));
        let all = [home, ("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")];
        assert_eq!(dir(&all), Path::new("/c"));
        assert_eq!(dir(&[home, ("HF_HOME", "")]), dir(&[home]));
    }

    #[test]
    fn offline_is_what_the_variable_or_the_flag_says() {
        assert!(!options(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(options(&[("HF_HUB_OFFLINE", "TRUE")]).offline);
        assert!(hub_options(|_| None, true).offline);
        let mirror = options(&[("HF_ENDPOINT", "https://mirror.example/")]);
        assert_eq!(mirror.endpoint, "https://mirror.example");
    }
}
