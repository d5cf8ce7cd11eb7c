//! Puts the git revision into the binary. Outside a git checkout, or without
//! git, the revision is simply not known.

use std::process::Command;

fn main() {
    // Sources count too: whether the tree has uncommitted changes is part of
    // the revision.
    for path in [
        "src",
        "Cargo.toml",
        "../backends/src",
        "../suites/src",
        "../reports/src",
        "../configs",
    ] {
        println!("cargo:rerun-if-changed={path}");
    }
    if let Some(folder) = git(&["rev-parse", "--absolute-git-dir"]) {
        for file in ["HEAD", "index"] {
            println!("cargo:rerun-if-changed={folder}/{file}");
        }
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_default();
    let dirty = match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if !changes.is_empty() => "+changes",
        _ => "",
    };
    let revision = if commit.is_empty() {
        commit
    } else {
        format!("{commit}{dirty}")
    };
    println!("cargo:rustc-env=VLMBENCH_REVISION={revision}");
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    if !output.status.success() {
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
