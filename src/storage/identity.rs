//! The identity key in a file: libp2p's protobuf encoding of an Ed25519 private key, mode 0600.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Read, Write},
    path::Path,
};

use libp2p::identity::Keypair;

use crate::error::NetworkError;

/// No encoded key is longer; a larger file is something else.
const MAX_KEY_FILE: u64 = 4096;

/// Reads the key, or makes one where the file is absent. Only the owner may read the file it makes, and a key that
/// others may read is refused.
///
/// # Errors
/// [`NetworkError::Identity`] where the file can't be read or written, holds no key, or is open to others.
pub fn load_or_create_identity(path: &Path) -> Result<Keypair, NetworkError> {
    let wrong = |reason: String| NetworkError::Identity {
        path: path.display().to_string(),
        reason,
    };
    match fs::File::open(path) {
        Ok(file) => {
            let metadata = file.metadata().map_err(|error| wrong(error.to_string()))?;
            refuse_open_to_others(&metadata).map_err(wrong)?;
            let mut bytes = Vec::new();
            file.take(MAX_KEY_FILE)
                .read_to_end(&mut bytes)
                .map_err(|error| wrong(error.to_string()))?;
            Keypair::from_protobuf_encoding(&bytes).map_err(|error| {
                wrong(format!("this is no identity key ({error}); name another file, or move this one away for a new key"))
            })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => create(path).map_err(wrong),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn create(path: &Path) -> Result<Keypair, String> {
    let keypair = Keypair::generate_ed25519();
    let bytes = keypair
        .to_protobuf_encoding()
        .map_err(|error| error.to_string())?;
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    // Written beside and renamed, so that a crash leaves a whole key or none.
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let write = || {
        private_file().open(&temporary)?.write_all(&bytes)?;
        fs::hard_link(&temporary, path)
    };
    let written = write();
    let _ = fs::remove_file(&temporary);
    written.map_err(|error| format!("{error}; is another node starting with the same key?"))?;
    Ok(keypair)
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

#[cfg(unix)]
fn refuse_open_to_others(metadata: &fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "mode {mode:o} lets others read the key; run chmod 600 on it"
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_open_to_others(_: &fs::Metadata) -> Result<(), String> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_stays_and_is_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/identity.key");
        let made = load_or_create_identity(&path).expect("made");
        assert_eq!(
            fs::metadata(&path).expect("a file").permissions().mode() & 0o777,
            0o600
        );
        let read = load_or_create_identity(&path).expect("read");
        assert_eq!(made.public(), read.public());
        assert_eq!(
            fs::read_dir(path.parent().expect("a folder"))
                .expect("a folder")
                .count(),
            1
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("identity.key");
        fs::write(&path, b"not a key").expect("written");
        let open = load_or_create_identity(&path)
            .expect_err("open to others")
            .to_string();
        assert!(open.contains("chmod 600"), "{open}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed");
        let garbage = load_or_create_identity(&path)
            .expect_err("garbage")
            .to_string();
        assert!(garbage.contains("no identity key"), "{garbage}");
    }
}
