//! Trained checkpoints inside the binary: the folders of `configs/checkpoints/`.
//!
//! Whatever reads a checkpoint reads it from disk, so one is unpacked into the
//! program's own folder when it is first asked for.

use std::path::{Path, PathBuf};

use include_dir::Dir;
use sha2::{Digest, Sha256};

use super::embedded::EMBEDDED;
use crate::error::Failure;
use crate::own_files;

/// Names of the checkpoints, sorted.
pub fn names() -> Vec<&'static str> {
    let folders = EMBEDDED.get_dir("checkpoints").into_iter();
    let mut names: Vec<&str> = folders
        .flat_map(Dir::dirs)
        .filter_map(|dir| dir.path().file_name()?.to_str())
        .collect();
    names.sort_unstable();
    names
}

/// The folder of checkpoint `name` on disk.
pub fn unpack(name: &str) -> Result<PathBuf, Failure> {
    let found = names().into_iter().find(|known| *known == name);
    let Some(dir) = found.and_then(|name| EMBEDDED.get_dir(format!("checkpoints/{name}"))) else {
        return Err(Failure::Input {
            path: name.into(),
            problem: format!(
                "no shipped checkpoint of this name; there are {}",
                names().join(", ")
            ),
        });
    };
    // By content, so that versions of this program do not undo each other's.
    let mut digest = Sha256::new();
    for file in dir.files() {
        digest.update(file.path().as_os_str().as_encoded_bytes());
        digest.update(file.contents());
    }
    let digest: String = digest.finalize()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let folder = own_files::folder().join(format!("{name}-{digest}"));
    write(dir, &folder).map_err(|source| Failure::Output {
        path: folder.clone(),
        source,
    })?;
    Ok(folder)
}

/// Writes what is not there yet, or is there with other content.
fn write(dir: &Dir<'_>, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for file in dir.files() {
        let Some(name) = file.path().file_name() else {
            continue;
        };
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|there| there == file.contents()) {
            continue;
        }
        // Renamed into place: another process may be reading the file.
        let unfinished = path.with_extension(format!("{}.part", std::process::id()));
        std::fs::write(&unfinished, file.contents())?;
        std::fs::rename(&unfinished, &path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_unpacked_whole_and_mended() {
        let unknown = unpack("../models").unwrap_err();
        assert!(unknown.to_string().contains("small-"), "{unknown}");
        let dir = EMBEDDED.get_dir("checkpoints").unwrap();
        let dir = dir.dirs().next().expect("a checkpoint");
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("model");
        write(dir, &folder).unwrap();
        let weights = folder.join("model.safetensors");
        let whole = std::fs::read(&weights).unwrap();
        assert!(whole.len() > 1 << 20);
        std::fs::write(&weights, &whole[..100]).unwrap();
        write(dir, &folder).unwrap();
        assert_eq!(std::fs::read(&weights).unwrap(), whole);
        let files = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(files, dir.files().count(), "nothing unfinished is left");
    }
}
