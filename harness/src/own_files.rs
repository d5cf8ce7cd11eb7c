//! Where the program puts files that it makes itself: checkpoints that it
//! unpacks, data sets that it draws.

use std::path::{Path, PathBuf};

/// The folder, among the system's temporary files. Each user has one: Linux has a
/// single place for all, where one cannot write over what another one has.
pub fn folder() -> PathBuf {
    let user = user().map_or_else(String::new, |id| format!("-{id}"));
    std::env::temp_dir().join(format!("vlmbench{user}"))
}

/// Whose process this is, where the system says so. Others have temporary files
/// of each user apart.
fn user() -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/proc/self").ok().map(|own| own.uid())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// What one of these files is called in a manifest, which is the same for all
/// users and machines; `None` for any other file.
pub fn name(file: &Path) -> Option<String> {
    let below = file.strip_prefix(folder()).ok()?;
    Some(format!("vlmbench-{}", below.display()))
}
