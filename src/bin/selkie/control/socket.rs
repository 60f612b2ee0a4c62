//! The control socket where there are such: a Unix domain socket, mode 0600.
//!
//! Between its making and that mode is a moment in which others could connect, and who has the folder may change modes: so the system is asked who it is that
//! connects, and answered is the socket's owner, and root.

use std::{
    fs,
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{SocketAddr, UnixStream as Blocking},
    },
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::future::{Either, select};
use futures_timer::Delay;
use serde_json::{Value, json};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

use super::{Asked, LONGEST, MOST, PATIENCE, Question, Reply};

/// Whether this system has control sockets.
pub(crate) const HERE: bool = true;
/// The longest answer, in bytes: an address book of 5,000 peers whose addresses are all as long as they may be has 11 MB.
const LONGEST_ANSWER: u64 = 32 << 20;
/// The pause after the system gave no connection, for want of descriptors say.
const PAUSE: Duration = Duration::from_secs(1);
/// How often is looked whether who waits for a change is still there.
const GLANCE: Duration = Duration::from_millis(250);

/// # Errors
/// The system has no socket by such a name.
pub(crate) fn may_be_at(path: &Path) -> io::Result<()> {
    let address = SocketAddr::from_pathname(path);
    address.map(drop).map_err(|error| {
        let problem = format!("{error}; give a shorter path");
        io::Error::new(ErrorKind::InvalidInput, problem)
    })
}

/// An open control socket; its file goes with it.
pub(crate) struct Listener {
    listener: UnixListener,
    file: File,
}

/// The socket's file, which is another one if somebody has put it there meanwhile.
struct File {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for File {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // Whoever took it away has done no harm.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Which file has this name.
fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl Listener {
    /// Opens the socket. One that a node left behind that was killed is taken away; whatever else is there stays.
    ///
    /// # Errors
    /// What the system says, and who is in the way.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        may_be_at(path)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                let problem = "there is a file that is no socket; give another name";
                return Err(io::Error::new(ErrorKind::AlreadyExists, problem));
            }
            Ok(_) => match Blocking::connect(path) {
                Ok(_) => {
                    let problem = "another node is asked there; give another name";
                    return Err(io::Error::new(ErrorKind::AddrInUse, problem));
                }
                // Nobody listens any more.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path)?;
                }
                Err(error) => return Err(error),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        let file = File {
            inode: inode(path)?,
            path: path.to_owned(),
        };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, file })
    }

    /// Answers until it is dropped, or the runtime ends.
    pub(crate) async fn serve(self, asked: Asked) {
        let places = Arc::new(Semaphore::new(MOST));
        let owner = fs::metadata(&self.file.path).map_or(0, |file| file.uid());
        // It is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let asked = asked.clone();
                    tokio::spawn(async move {
                        if let Err(error) = answer(&stream, owner, &asked).await {
                            tracing::debug!(%error, "who asked is answered no more");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket gets no connection");
                    Delay::new(PAUSE).await;
                }
            }
        }
    }
}

/// Answers one who asks until it has enough.
async fn answer(stream: &UnixStream, owner: u32, asked: &Asked) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != owner && uid != 0 {
        let problem = format!("user {uid} may not ask");
        return Err(io::Error::new(ErrorKind::PermissionDenied, problem));
    }
    let (mut kept, mut watched) = (Vec::new(), None);
    while let Some(line) = in_time(line(stream, &mut kept)).await? {
        let reply = asked.reply(&line, &mut watched, gone(stream)).await;
        in_time(write_all(stream, &reply)).await?;
    }
    Ok(())
}

/// Returns once who asks is gone; one that has closed its own end alone, as netcat does, still reads. The system says of an end that is closed wholly no more than
/// that nothing can be written to it, which stands beside that something can: so it is looked at from time to time.
async fn gone(stream: &UnixStream) {
    while let Ok(ready) = stream.ready(Interest::WRITABLE).await
        && !ready.is_write_closed()
    {
        Delay::new(GLANCE).await;
    }
}

/// The next line, with its end; `None` where there is none.
async fn line(stream: &UnixStream, kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = kept.iter().position(|byte| *byte == b'\n') {
            let rest = kept.split_off(end + 1);
            return Ok(Some(std::mem::replace(kept, rest)));
        }
        if kept.len() > LONGEST {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "an endless question",
            ));
        }
        stream.readable().await?;
        let mut piece = [0; 1024];
        match stream.try_read(&mut piece) {
            Ok(0) => return Ok(None),
            Ok(count) => kept.extend(piece.iter().take(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match select(pin!(work), Delay::new(PATIENCE)).await {
        Either::Left((done, _)) => done,
        Either::Right(_) => Err(ErrorKind::TimedOut.into()),
    }
}

/// A node that this process asks.
pub(crate) struct Control(BufReader<Blocking>);

impl Control {
    /// # Errors
    /// What the system says.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let stream = Blocking::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// # Errors
    /// What the system says, or the node.
    pub(crate) fn ask(&mut self, question: &Question) -> io::Result<Value> {
        let line = format!("{}\n", json!(question));
        self.0.get_mut().write_all(line.as_bytes())?;
        let mut reply = Vec::new();
        let read = self
            .0
            .by_ref()
            .take(LONGEST_ANSWER)
            .read_until(b'\n', &mut reply)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match serde_json::from_slice(&reply)? {
            Reply::Answer(answer) => Ok(answer),
            Reply::Error(error) => Err(io::Error::other(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use selkie::{
        Config, Keypair, P2PNetworkManager,
        chain::ledger::{Address, LIGHT_SCHEMA, LightLedger},
        storage::MemoryStore,
    };
    use tokio::task::yield_now;

    use super::*;
    use crate::{control::state, ledger::genesis, settings::Chain};

    /// A node to which no state of its ledger is proved.
    async fn light() -> P2PNetworkManager {
        let (mut config, key) = (Config::default(), Keypair::generate_ed25519());
        let store = MemoryStore::new(1 << 24, &LIGHT_SCHEMA).expect("made");
        let ledger = LightLedger::open(genesis(&mut config), Arc::new(store)).expect("opened");
        let node = P2PNetworkManager::with(config, key, ledger).await;
        let node = node.expect("the configuration is right");
        node.start().await.expect("it starts");
        node
    }

    #[tokio::test]
    async fn who_is_gone_watches_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let asked = Asked::new(light().await, Chain::Ledger, None);
        let listener = Listener::open(&path).expect("it is free");
        tokio::spawn(listener.serve(asked.clone()));
        let keys = vec![Address::new([7; 32])];
        let question = format!("{}\n", json!(Question::State { keys }));
        let watches = async {
            let mut clients = Vec::new();
            for _ in 0..state::MOST {
                let client = UnixStream::connect(&path).await.expect("it is served");
                write_all(&client, question.as_bytes())
                    .await
                    .expect("written");
                clients.push(client);
            }
            while asked.places.available_permits() > 0 {
                yield_now().await;
            }
            drop(clients);
            while asked.places.available_permits() < state::MOST {
                yield_now().await;
            }
        };
        let quiet = Delay::new(state::QUIET / 2);
        let are_gone = matches!(select(pin!(watches), quiet).await, Either::Left(_));
        assert!(are_gone, "they keep their places");
    }

    #[tokio::test]
    async fn only_ones_own_socket_is_taken_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let first = Listener::open(&path).expect("it is free");
        let taken = Listener::open(&path).map(drop).expect_err("it is taken");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        fs::remove_file(&path).expect("anybody may");
        let second = Listener::open(&path).expect("it is free again");
        drop(first);
        assert!(
            Blocking::connect(&path).is_ok(),
            "the second one's is there"
        );
        drop(second);
        assert!(!path.exists());
        // What a killed node left.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("it is free"));
        drop(Listener::open(&path).expect("nobody listens there"));
    }
}
