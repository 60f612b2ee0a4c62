//! The lock of the npm package, as `js/src/identity-nodejs.ts` writes and reads it, which says why it is so: a file beside the key that names its holder,
//! by process, that one's birth where the system tells (Linux), and a socket in the folder at which it answers.
//!
//! The system ends the socket with the process. So a lock whose socket answers is held, and one whose socket does not is taken over; where that can't be told (a path
//! too long for a socket) a process of that birth holds it.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use futures_timer::Delay;
use tokio::{net::UnixListener, task::JoinHandle};

/// No lock is longer, in bytes.
const LONGEST: u64 = 4096;
/// How often a lock is looked at that others let go meanwhile.
const TRIES: usize = 3;
/// The pause after the system gave no connection, for want of descriptors say.
const PAUSE: Duration = Duration::from_secs(1);

/// The lock is ours until this goes.
pub(crate) struct Lock {
    path: PathBuf,
    content: String,
    _socket: Option<Socket>,
}

/// Answers by being there.
struct Socket {
    path: PathBuf,
    answers: JoinHandle<()>,
}

impl Lock {
    /// Takes it; `None`: another holds it. In a runtime of tokio.
    ///
    /// # Errors
    /// What the system says: none can be written.
    pub(crate) fn take(path: PathBuf) -> io::Result<Option<Self>> {
        let own = process::id();
        let mut content = format!("{own} {}", birth(own)).trim_end().to_owned() + "\n";
        // Without one the process is looked for.
        let socket = Socket::open(beside(&path)?).ok();
        if let Some(name) = socket.as_ref().and_then(|socket| socket.path.file_name()) {
            content += &format!("{}\n", name.display());
        }
        let ours = Self {
            path,
            content,
            _socket: socket,
        };
        for _ in 0..TRIES {
            if place(&ours.path, &ours.content)? {
                return Ok(Some(ours));
            }
            let Some(found) = read(&ours.path)? else {
                continue;
            };
            if is_held(&ours.path, &found) || !take_away(&ours.path, &found)? {
                return Ok(None);
            }
            if let Some(dead) = socket_of(&ours.path, &found) {
                // Whoever took it away has done no harm.
                let _ = fs::remove_file(dead);
            }
        }
        Ok(None)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let is_ours = read(&self.path).is_ok_and(|found| found.as_ref() == Some(&self.content));
        if is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Socket {
    fn open(path: PathBuf) -> io::Result<Self> {
        let listener = UnixListener::bind(&path)?;
        let answers = tokio::spawn(async move {
            loop {
                // Who connects has seen that somebody is here.
                if listener.accept().await.is_err() {
                    Delay::new(PAUSE).await;
                }
            }
        });
        Ok(Self { path, answers })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.answers.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// A name in the same folder that nobody has.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let number = getrandom::u32().map_err(io::Error::other)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number:08x}"));
    Ok(name.into())
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(LONGEST).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Puts a whole file where none is yet; false where one is.
fn place(path: &Path, content: &str) -> io::Result<bool> {
    let draft = beside(path)?;
    let placed = write_new(&draft, content).and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    let is_taken = |error: &io::Error| error.kind() == ErrorKind::AlreadyExists;
    let placed = match placed {
        // No hard links here.
        Err(error) if !is_taken(&error) => write_new(path, content),
        placed => placed,
    };
    match placed {
        Err(error) if is_taken(&error) => Ok(false),
        placed => placed.map(|()| true),
    }
}

fn write_new(path: &Path, content: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content.as_bytes())
}

/// Takes a lock away whose holder has gone; false where another was quicker, whose lock stays.
fn take_away(path: &Path, stale: &str) -> io::Result<bool> {
    let aside = beside(path)?;
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        moved => moved?,
    }
    let taken = read(&aside)?.unwrap_or_default();
    let is_stale = taken == stale;
    if !is_stale {
        place(path, &taken)?;
    }
    fs::remove_file(&aside)?;
    Ok(is_stale)
}

/// Whether who wrote the lock `found` is there, and not another process with its number.
fn is_held(path: &Path, found: &str) -> bool {
    if let Some(socket) = socket_of(path, found) {
        match UnixStream::connect(socket).map_err(|error| error.kind()) {
            Ok(_) => return true,
            Err(ErrorKind::ConnectionRefused | ErrorKind::NotFound) => return false,
            // That can't be told.
            Err(_) => {}
        }
    }
    let (number, recorded) = found
        .lines()
        .next()
        .and_then(|who| who.split_once(' '))
        .unwrap_or_default();
    let born = number.parse().map(birth).unwrap_or_default();
    !born.is_empty() && born == recorded
}

/// Where the holder of the lock `found` answers, if it says so.
fn socket_of(path: &Path, found: &str) -> Option<PathBuf> {
    let name = found.lines().nth(1)?;
    let prefix = format!("{}.", path.file_name()?.to_str()?);
    let is_its_own = name.starts_with(&prefix) && !name.contains('/');
    is_its_own.then(|| path.with_file_name(name))
}

/// What no other process with this number has ever had; empty where the system does not tell.
fn birth(process: u32) -> String {
    let told = || {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The second field is the program's name in brackets, which may hold anything; the 22nd is the start.
        let (_, fields) = status.rsplit_once(") ")?;
        let start = fields.split(' ').nth(19)?;
        Some(format!("{} {start}", boot.trim()))
    };
    told().unwrap_or_default()
}
