//! Running `vlmbench` as a user does: in a folder without configurations, without a network.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The fixtures of this crate, written by `tools/fixtures/`.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path)
}

/// A checkpoint of the backends' parity tests.
pub fn checkpoint(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../backends/tests/fixtures/checkpoints")
        .join(path)
}

/// The command in `folder`, with an empty hub cache.
pub fn vlmbench<I: AsRef<std::ffi::OsStr>>(
    folder: &Path,
    args: impl IntoIterator<Item = I>,
) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vlmbench"));
    command
        .args(args)
        .current_dir(folder)
        .env("HF_HOME", folder.join("no-cache"))
        .env("HF_HUB_OFFLINE", "1")
        .env("NO_COLOR", "1")
        .env_remove("HF_HUB_CACHE")
        .env_remove("RUST_LOG");
    command
}

/// What a command left.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Standard output, after the command ended well.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    /// Standard output as JSON, after the command ended with `code`.
    pub fn json(self, code: i32) -> Value {
        assert_eq!(self.code, code, "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    /// The message of a command that failed with `code`, each of `parts` in it. Nothing but data
    /// goes to standard output.
    #[track_caller]
    pub fn fails(self, code: i32, parts: &[&str]) -> String {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert_eq!(self.stdout, "");
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "no `{part}` in: {}",
                self.stderr
            );
        }
        self.stderr
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        Done {
            code: output.status.code().expect("an exit code, not a signal"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// Runs the command to its end.
pub fn run<I: AsRef<std::ffi::OsStr>>(folder: &Path, args: impl IntoIterator<Item = I>) -> Done {
    let output = vlmbench(folder, args).output().expect("the binary runs");
    output.into()
}

/// Runs in a folder of its own.
pub fn run_anywhere<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Done {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), args)
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
