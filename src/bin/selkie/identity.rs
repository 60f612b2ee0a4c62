//! The hold on a key: two nodes with one identity would be one peer to the others, at one moment the one and at the next the other.
//!
//! Commands hold it by the system's lock on its file. The npm package has no such call, so where the key has the name that it gives to its own the lock that
//! it writes is written here too (`identity/lock.rs`): whoever comes second is refused, whichever of the two that is, and whatever else the
//! command has open.

#[cfg_attr(unix, path = "identity/lock.rs")]
#[cfg_attr(not(unix), path = "identity/elsewhere.rs")]
mod lock;

use std::{fs, path::Path};

use anyhow::Context;
use selkie::{
    Keypair,
    storage::{load_or_create_identity, load_shared_identity},
};

use self::lock::Lock;

/// The only name by which the npm package runs a node on a key.
const NAME: &str = "identity.key";

/// Nobody else runs on the key as long as this is there.
pub(crate) struct Hold {
    _lock: Option<Lock>,
    _file: fs::File,
}

/// Loads the key and holds it.
///
/// # Errors
/// It is no key, can't be read, or another node runs with it.
pub(crate) fn hold_identity(path: &Path, shared: bool) -> anyhow::Result<(Keypair, Hold)> {
    let key = if shared {
        load_shared_identity(path)?
    } else {
        load_or_create_identity(path)?
    };
    let in_use = || {
        anyhow::anyhow!(
            "another node runs with the key {}; give this one its own by --key FILE",
            path.display()
        )
    };
    let file =
        fs::File::open(path).with_context(|| format!("can't open the key {}", path.display()))?;
    // Where the file system has no locks the user is on their own.
    if matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) {
        return Err(in_use());
    }
    let lock = match path.file_name().is_some_and(|name| name == NAME) {
        false => None,
        true => match Lock::take(path.with_extension("lock")) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Err(in_use()),
            // Nor can the npm package where nothing can be written, and it runs on no key without.
            Err(error) => {
                tracing::debug!(%error, "no lock is written for the npm package");
                None
            }
        },
    };
    let hold = Hold {
        _lock: lock,
        _file: file,
    };
    Ok((key, hold))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[tokio::test]
    async fn a_key_is_held_once_by_a_node_of_the_npm_package_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name| folder.path().join(name);
        let hold = || hold_identity(&at("identity.key"), false);
        let (_, held) = hold().expect("it is new");
        assert!(hold().is_err(), "this process holds it");
        drop(held);
        // As that writes it: who it is, and where it answers.
        let theirs = "1 a-boot 17\nidentity.lock.0badcafe\n";
        let write = || fs::write(at("identity.lock"), theirs).expect("written");
        write();
        drop(hold().expect("it has ended"));
        write();
        let socket = UnixListener::bind(at("identity.lock.0badcafe"));
        let refused = hold().err().expect("it answers").to_string();
        assert!(
            refused.contains("another node runs with the key"),
            "{refused}"
        );
        let kept = fs::read_to_string(at("identity.lock"));
        assert_eq!(kept.expect("it stays"), theirs);
        drop(socket);
        drop(hold().expect("it has ended"));
        let names: Vec<_> = fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("a name").file_name())
            .collect();
        assert_eq!(names, [NAME], "nothing is left behind");
    }

    #[tokio::test]
    async fn the_lock_says_who_holds_it_and_where_that_answers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        let (_, held) = hold_identity(&path, false).expect("it is new");
        let lock = path.with_extension("lock");
        let written = fs::read_to_string(&lock).expect("a lock");
        let mut lines = written.lines();
        let who = lines.next().expect("who holds it");
        assert_eq!(
            who.split(' ').next(),
            Some(&*std::process::id().to_string())
        );
        let socket = path.with_file_name(lines.next().expect("a socket"));
        // Who looks often is not left waiting.
        for _ in 0..300 {
            UnixStream::connect(&socket).expect("it answers");
            tokio::task::yield_now().await;
        }
        drop(held);
        assert!(!lock.exists() && !socket.exists());
        // A key of another name is none that the package knows.
        let other = folder.path().join("other.key");
        let _held = hold_identity(&other, false).expect("it is new");
        assert!(!other.with_extension("lock").exists());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_lock_without_a_socket_is_held_by_who_was_born_when_it_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        let lock = path.with_extension("lock");
        let (_, held) = hold_identity(&path, false).expect("it is new");
        let written = fs::read_to_string(&lock).expect("a lock");
        drop(held);
        let who = written.lines().next().expect("who holds it");
        fs::write(&lock, format!("{who}\n")).expect("written");
        assert!(hold_identity(&path, false).is_err(), "it runs");
        fs::write(&lock, format!("{who}0\n")).expect("written");
        assert!(
            hold_identity(&path, false).is_ok(),
            "another has its number"
        );
    }
}
