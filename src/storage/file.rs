//! Files that are whole or not there: written beside, on the disk, and then put into place.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use super::folder;
use crate::platform;

/// What is between a file's name and the word in [`beside`].
const NEW: &str = ".new-";

/// A name beside a file's that nobody else has: in a container all processes have the same number, also after a crash that left a file there.
pub(super) fn beside(path: &Path) -> std::io::Result<PathBuf> {
    let mut word = [0; 8];
    platform::random(&mut word)?;
    Ok(with_suffix(path, &format!("{NEW}{}", hex::encode(word))))
}

/// Takes away what a process that was ended at once has left [`beside`] a file, as far as that can be done; only for who alone writes it.
pub(super) fn sweep(path: &Path) {
    let (Some(name), Ok(entries)) = (path.file_name(), fs::read_dir(folder::of(path))) else {
        return;
    };
    let prefix = with_suffix(Path::new(name), NEW);
    let is_word = |rest: &[u8]| rest.len() == 16 && rest.iter().all(u8::is_ascii_hexdigit);
    for entry in entries.flatten() {
        let found = entry.file_name();
        let rest = found.as_encoded_bytes();
        let rest = rest.strip_prefix(prefix.as_os_str().as_encoded_bytes());
        if rest.is_some_and(is_word) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The file of this name with more after it.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Puts a file in the place of another, so that there is always a whole one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = folder::of(path);
    fs::create_dir_all(folder)?;
    let temporary = beside(path)?;
    write_new(&temporary, bytes)?;
    fs::rename(&temporary, path).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    folder::sync(folder)
}

/// Writes a file that is not there yet; what can't be written whole is taken away again.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = private_file().open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

#[cfg(unix)]
fn private_file() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

#[cfg(not(unix))]
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    options
}

/// Has the system forget what it holds of a file in memory, so that what is read next is what the disk has. What is not on the disk yet is
/// put there before; what could not be is forgotten.
#[cfg(all(target_os = "linux", not(selkie_sim)))]
pub(super) fn forget_cached(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    file.sync_all()?;
    Ok(rustix::fs::fadvise(
        &file,
        0,
        None,
        rustix::fs::Advice::DontNeed,
    )?)
}

/// Elsewhere it can't be made to: the checksums are all there is.
#[cfg(not(any(target_os = "linux", selkie_sim)))]
pub(super) fn forget_cached(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    file.sync_all()
}
