//! The identity key in a file: libp2p's protobuf encoding of an Ed25519 private key, mode 0600.
//!
//! Who has the key is the node to its peers, so a file that others may read is refused. Secrets that a container's runtime
//! mounts (Kubernetes: 0440 root:group, Docker: 0444, both read-only) can't be closed further; for these there is
//! [`load_shared_identity`].
//!
//! A new key is on the disk, file and name, before anybody hears of it: a node that has told its peers who it is is the same one after
//! the power failed. What a crash can leave is a whole key or none; a torn file is somebody else's work, and is named and kept.

use std::{
    fs,
    io::{ErrorKind, Read},
    path::Path,
};

use libp2p::identity::Keypair;

use super::{
    file::{beside, sweep, write_new},
    folder,
};
use crate::error::NetworkError;

/// No encoded key is longer; a larger file is something else.
const MAX_KEY_FILE: u64 = 4096;

/// Reads the key, or makes one where the file is absent. Only the owner may read the file it makes, and a key that
/// others may read is refused.
///
/// # Errors
/// [`NetworkError::Identity`] where the file can't be read or written, holds no key, or is open to others.
pub fn load_or_create_identity(path: &Path) -> Result<Keypair, NetworkError> {
    let outcome = match fs::File::open(path) {
        Ok(file) => refuse_open_to_others(&file).and_then(|()| read(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create(path, |from, to| fs::hard_link(from, to))
        }
        Err(error) => Err(error.to_string()),
    };
    if outcome.is_ok() {
        // Where there is a key no other one takes its place any more.
        sweep(path);
    }
    outcome.map_err(|reason| wrong(path, reason))
}

/// Reads a key that was put there by somebody else, and that others may read too: a mounted secret. Nothing is made where
/// the file is absent.
///
/// # Errors
/// [`NetworkError::Identity`] where the file is absent, can't be read, or holds no key.
pub fn load_shared_identity(path: &Path) -> Result<Keypair, NetworkError> {
    let file = fs::File::open(path).map_err(|error| error.to_string());
    file.and_then(read).map_err(|reason| wrong(path, reason))
}

fn wrong(path: &Path, reason: String) -> NetworkError {
    NetworkError::Identity {
        path: path.display().to_string(),
        reason,
    }
}

fn read(file: fs::File) -> Result<Keypair, String> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_KEY_FILE).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.is_empty() {
        return Err("the file is empty; move it away for a new key".to_owned());
    }
    Keypair::from_protobuf_encoding(&bytes).map_err(|error| {
        format!("this is no identity key ({error}); name another file, or move this one away for a new key")
    })
}

/// `link` gives a file a second name, and fails where that name is taken: a hard link.
fn create(
    path: &Path,
    link: impl Fn(&Path, &Path) -> std::io::Result<()>,
) -> Result<Keypair, String> {
    let keypair = Keypair::generate_ed25519();
    let bytes = keypair
        .to_protobuf_encoding()
        .map_err(|error| error.to_string())?;
    let folder = folder::of(path);
    fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    // Written beside and linked into place, so that a crash leaves a whole key or none, and no other node's is replaced. No two
    // have one name for it: in a container all processes have the same number, also after a crash that left the file there.
    let temporary = beside(path).map_err(|error| error.to_string())?;
    let written = write_new(&temporary, &bytes);
    let placed = written.and_then(|()| match link(&temporary, path) {
        // Some file systems (FAT, some of phones and of networks) have no hard links.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => write_new(path, &bytes),
        linked => linked,
    });
    let _ = fs::remove_file(&temporary);
    placed
        .and_then(|()| folder::sync(folder))
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                format!("{error}; is another node starting with the same key?")
            }
            _ => format!("{error}; name a file in a folder that can be written"),
        })?;
    Ok(keypair)
}

#[cfg(unix)]
fn refuse_open_to_others(file: &fs::File) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "mode {mode:o} lets others read the key; run chmod 600 on it, or say that it is shared if it is a mounted \
             secret (--shared-key; load_shared_identity in the library)"
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_open_to_others(_: &fs::File) -> Result<(), String> {
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

    #[test]
    fn a_torn_key_is_named_and_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("identity.key");
        load_or_create_identity(&path).expect("made");
        let whole = fs::read(&path).expect("it is there");
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).expect("torn");
            let torn = load_or_create_identity(&path).expect_err("torn");
            let said = torn.to_string();
            assert!(
                said.contains("move") && said.contains("identity.key"),
                "{said}"
            );
            assert_eq!(fs::read(&path).expect("it is kept").len(), length);
        }
    }

    #[test]
    fn what_a_crash_left_beside_it_stops_nobody_and_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("identity.key");
        // As a container's process, whose number is always the same, left it.
        let left = folder.path().join("identity.key.new-0123456789abcdef");
        let others = ["identity.key.new-notes", "other.key.new-0123456789abcdef"];
        let others = others.map(|name| folder.path().join(name));
        for file in others.iter().chain([&left]) {
            fs::write(file, b"").expect("written");
        }
        load_or_create_identity(&path).expect("made all the same");
        assert!(!left.exists() && others.iter().all(|other| other.exists()));
    }

    #[test]
    fn without_hard_links_the_key_is_made_all_the_same_and_none_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("identity.key");
        let unsupported = |_: &Path, _: &Path| Err(ErrorKind::PermissionDenied.into());
        let made = create(&path, unsupported).expect("made");
        let read = load_or_create_identity(&path).expect("whole and private");
        assert_eq!(made.public(), read.public());
        let taken = create(&path, unsupported).expect_err("there is one");
        assert!(taken.contains("another node"), "{taken}");
        let names = fs::read_dir(folder.path()).expect("a folder");
        assert_eq!(names.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_mounted_secret_is_read_by_who_says_so_and_never_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("identity.key");
        let made = load_or_create_identity(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).expect("opened");
        let refused = load_or_create_identity(&path).expect_err("open to others");
        assert!(refused.to_string().contains("--shared-key"), "{refused}");
        let read = load_shared_identity(&path).expect("read");
        assert_eq!(made.public(), read.public());
        let absent = folder.path().join("absent.key");
        assert!(load_shared_identity(&absent).is_err() && !absent.exists());
    }
}
