//! The address book in a file, mode 0600: read before the start, written every [`SAVE`], when it is asked for and at the end, off the network's task.
//!
//! A file that is torn, damaged, too large or of another version costs the book, never the start ([`Opened::Lost`]); it is put
//! aside, as `….lost`, since it may be no book at all. Each writing is a whole new file in the old one's place.

use std::{
    fs,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use futures::future::{Either, select};
use tokio::sync::{mpsc as channel, oneshot};

use super::file;
use crate::{
    error::NetworkError,
    network::{NetworkEvent, P2PNetworkManager, mpsc},
    peers::MAX_BOOK_BYTES,
    platform::{self, Delay},
};

/// How often the book is written.
const SAVE: Duration = Duration::from_secs(300);

/// What was found at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opened {
    /// There was no file.
    New,
    /// The book of the last run.
    Loaded,
    /// Nothing that could be read: the node begins with an empty book.
    Lost {
        /// Why, for a person.
        reason: String,
    },
}

/// A node's address book that is kept in a file.
#[derive(Debug)]
pub struct KeptAddressBook {
    /// What was found at the start.
    pub opened: Opened,
    written: oneshot::Receiver<()>,
    writer: AddressBookWriter,
}

/// Has a kept address book written at once.
#[derive(Clone, Debug)]
pub struct AddressBookWriter(channel::Sender<Asker>);

/// Who waits for the book to be written; whether it was.
type Asker = oneshot::Sender<bool>;

impl AddressBookWriter {
    /// Whether the book, with the bans that there are now, was written. What went wrong is told in the log.
    pub async fn write(&self) -> bool {
        let (asker, written) = oneshot::channel();
        self.0.send(asker).await.is_ok() && written.await.unwrap_or(false)
    }
}

impl KeptAddressBook {
    /// Has it written at once, also in between: after a ban, say.
    pub fn writer(&self) -> AddressBookWriter {
        self.writer.clone()
    }

    /// Waits until the node has ended and the book is written. Who does not wait may end the process before it is.
    pub async fn written(self) {
        let _ = self.written.await;
    }
}

/// Reads a node's address book and bans from a file, before [`P2PNetworkManager::start`], and writes them there every five minutes, at the
/// node's end, and when [`AddressBookWriter::write`] asks for it. Called within a tokio runtime, and it writes as long as that runs: the node's own is the right one. What can't be written is told in the log, and tried again.
///
/// # Errors
/// [`NetworkError::AlreadyStarted`]; [`NetworkError::NotRunning`] where the node has ended.
pub fn keep_address_book(
    node: &P2PNetworkManager,
    path: &Path,
) -> Result<KeptAddressBook, NetworkError> {
    let loaded = match read(path) {
        Ok(None) => Ok(Opened::New),
        Ok(Some(bytes)) => match node.load_address_book(&bytes) {
            Ok(()) => Ok(Opened::Loaded),
            Err(NetworkError::Argument(error)) => Err(error.problem),
            Err(error) => return Err(error),
        },
        Err(error) => Err(error.to_string()),
    };
    let opened = loaded.unwrap_or_else(|reason| Opened::Lost { reason });
    if let Opened::Lost { reason } = &opened {
        let aside = put_aside(path);
        tracing::warn!(path = %path.display(), %reason, ?aside, "the address book is lost; a new one begins");
    }
    file::sweep(path);
    let events = node
        .subscribe(|event| matches!(event, NetworkEvent::Stopped | NetworkEvent::Crashed { .. }));
    let (ended, written) = oneshot::channel();
    let (askers, asked) = channel::channel(1);
    let writer = AddressBookWriter(askers);
    // Its own end stays open, so that nobody's going looks like a question.
    let open = writer.clone();
    let keeping = keep(node.address_book_saver(), events, asked, path.to_owned());
    platform::spawn(async move {
        keeping.await;
        drop(open);
        let _ = ended.send(());
    });
    Ok(KeptAddressBook {
        opened,
        written,
        writer,
    })
}

/// Puts a file where nothing writes over it: where that is, if it could be done.
fn put_aside(path: &Path) -> Option<PathBuf> {
    let aside = file::with_suffix(path, ".lost");
    let moved = path.is_file() && fs::rename(path, &aside).is_ok();
    moved.then_some(aside)
}

/// The file's bytes, and one more than a book has where there are more; `None` where it is absent.
fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BOOK_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Writes the book now and then and when it is asked to, until the node ends, and then once more.
async fn keep(
    save: impl Fn() -> Vec<u8>,
    mut events: mpsc::Receiver<NetworkEvent>,
    mut askers: channel::Receiver<Asker>,
    path: PathBuf,
) {
    loop {
        let ended = pin!(events.recv());
        let asked = pin!(askers.recv());
        let (is_over, asker) = match select(select(ended, asked), Delay::new(SAVE)).await {
            Either::Left((Either::Left(_), _)) => (true, None),
            Either::Left((Either::Right((asker, _)), _)) => (false, asker),
            Either::Right(_) => (false, None),
        };
        let (bytes, to) = (save(), path.clone());
        let written = platform::offload(move || file::replace(&to, &bytes)).await;
        if let Some(Err(error)) = &written {
            tracing::warn!(path = %path.display(), %error, "the address book can't be written");
        }
        // Who has asked may have gone.
        let _ = asker.map(|asker| asker.send(matches!(written, Some(Ok(())))));
        if is_over {
            return;
        }
    }
}
