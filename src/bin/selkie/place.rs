//! Which node is meant: where its key and its control socket are. `selkie run`, the questions to a node and `selkie key` all ask here, so that in one
//! environment they mean one node.
//!
//! Key and socket are each what is named nearest: by flags and the file of `--config`, else by the environment, else by a file that is found; where nobody names them
//! they are at their usual place, the socket beside the key. But who names a node by a flag means no other one's socket: that is then what flags say, or beside
//! that key.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{
    output::remark,
    settings::{File, NodeTable},
};

/// What names a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// `None`: the usual one.
    pub(crate) key: Option<PathBuf>,
    /// `None`: beside the key.
    pub(crate) control: Option<PathBuf>,
    /// Whether the key is a mounted secret ([`selkie::storage::load_shared_identity`]).
    pub(crate) shared_key: bool,
}

impl Names {
    /// What the environment says.
    pub(crate) fn environment() -> Self {
        Self {
            key: variable("SELKIE_KEY"),
            control: variable("SELKIE_CONTROL"),
            shared_key: false,
        }
    }

    /// Whom they name together; `by_flag`: a flag has named the file.
    pub(crate) fn of(flags: Self, environment: Self, file: Self, by_flag: bool) -> Self {
        let (said, found) = match by_flag {
            true => (flags.or(file), environment),
            false => (flags, environment.or(file)),
        };
        let control = match said.is_somebody() {
            true => said.control.clone(),
            false => found.control.clone(),
        };
        Self {
            control,
            ..said.or(found)
        }
    }

    fn or(self, further: Self) -> Self {
        Self {
            key: self.key.or(further.key),
            control: self.control.or(further.control),
            shared_key: self.shared_key || further.shared_key,
        }
    }

    fn is_somebody(&self) -> bool {
        self.key.is_some() || self.control.is_some()
    }

    /// The key's file.
    pub(crate) fn key(&self) -> anyhow::Result<PathBuf> {
        self.key.clone().map_or_else(default_key, Ok)
    }

    /// The control socket.
    pub(crate) fn socket(&self) -> anyhow::Result<PathBuf> {
        match &self.control {
            Some(control) => Ok(control.clone()),
            None => Ok(socket_beside(&self.key()?)),
        }
    }
}

/// Flags by which a command says which node it means.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// The node's key, beside which its control socket is [default: the one of `selkie run`]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The node's configuration, if that names its key or its control socket
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The node's control socket, if it is not beside its key
    #[arg(long, value_name = "FILE")]
    pub(crate) control: Option<PathBuf>,
    /// Read no configuration that is not named, as a node that was started so
    #[arg(long)]
    pub(crate) no_config: bool,
}

impl Flags {
    /// The node that is meant.
    ///
    /// # Errors
    /// A file that is named can't be read.
    pub(crate) fn names(self) -> anyhow::Result<Names> {
        let flags = Names {
            key: self.key,
            control: self.control,
            shared_key: false,
        };
        let by_flag = self.config.is_some();
        let environment = Names::environment();
        let is_said =
            flags.is_somebody() || (environment.key.is_some() && environment.control.is_some());
        let file = match self.config {
            Some(path) => File::read(&path)?.node,
            None if is_said => NodeTable::default(),
            None => found(!self.no_config)?,
        };
        Ok(Names::of(flags, environment, file.names(), by_flag))
    }
}

/// What the configuration says that no flag names: the environment's, else, if `usual`, that at its usual place.
fn found(usual: bool) -> anyhow::Result<NodeTable> {
    if let Some(path) = variable("SELKIE_CONFIG") {
        return Ok(File::read(&path)?.node);
    }
    if !usual {
        return Ok(NodeTable::default());
    }
    let read = |path: PathBuf| File::read(&path);
    match usual_config().and_then(|usual| usual.map(read).transpose()) {
        Ok(file) => Ok(file.unwrap_or_default().node),
        Err(error) => {
            // The node may run without it.
            remark(error);
            Ok(NodeTable::default())
        }
    }
}

/// A path that the environment names; an empty one is none.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// The configuration that `selkie run` reads where no flag names one: the environment's, else that at its usual place.
///
/// # Errors
/// It can't be seen whether there is one.
pub(crate) fn found_config() -> anyhow::Result<Option<PathBuf>> {
    match variable("SELKIE_CONFIG") {
        Some(path) => Ok(Some(path)),
        None => usual_config(),
    }
}

/// Where a node's configuration is if nobody says: the user's own, else the system's. `None`: there is neither.
fn usual_config() -> anyhow::Result<Option<PathBuf>> {
    let own = base_folder("XDG_CONFIG_HOME", ".config");
    for folder in own.into_iter().chain([PathBuf::from("/etc")]) {
        let file = folder.join("selkie/node.toml");
        match fs::metadata(&file) {
            Ok(found) if found.is_file() => return Ok(Some(file)),
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => anyhow::bail!(
                "can't look for a configuration at {}: {error}",
                file.display()
            ),
        }
    }
    Ok(None)
}

/// Where the key is if nobody says.
fn default_key() -> anyhow::Result<PathBuf> {
    let state = base_folder("XDG_STATE_HOME", ".local/state")
        .context("no home folder is known; name the key's file")?;
    Ok(state.join("selkie/identity.key"))
}

/// A folder of the XDG base directory specification: what the variable says, where that is absolute, else one in the home folder.
fn base_folder(variable: &str, in_home: &str) -> Option<PathBuf> {
    let said = std::env::var_os(variable).map(PathBuf::from);
    let said = said.filter(|path| path.is_absolute());
    said.or_else(|| Some(std::env::home_dir()?.join(in_home)))
}

/// Where the address book is kept if nobody says: no two keys in a folder share one.
pub(crate) fn book_beside(key: &Path) -> PathBuf {
    beside(key, ".book")
}

/// Where a node is asked if nobody says.
pub(crate) fn socket_beside(key: &Path) -> PathBuf {
    beside(key, ".sock")
}

fn beside(key: &Path, suffix: &str) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Two of a node's files that are one, of which one would be written over the other.
pub(crate) fn one_file<'a>(
    files: &[(&'static str, Option<&'a Path>)],
) -> Option<(&'static str, &'static str, &'a Path)> {
    let mut seen: Vec<(&str, PathBuf)> = Vec::new();
    for (name, path) in files {
        let Some(path) = path else { continue };
        let real = real(path);
        if let Some((first, _)) = seen.iter().find(|(_, other)| *other == real) {
            return Some((first, name, path));
        }
        seen.push((name, real));
    }
    None
}

/// Where a file is, or will be once it is made.
fn real(path: &Path) -> PathBuf {
    let in_folder = || {
        let folder = match path.parent()? {
            here if here.as_os_str().is_empty() => Path::new("."),
            folder => folder,
        };
        Some(folder.canonicalize().ok()?.join(path.file_name()?))
    };
    let found = path.canonicalize().ok().or_else(in_folder);
    found
        .or_else(|| std::path::absolute(path).ok())
        .unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(key: &str, control: &str) -> Names {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        Names {
            key: path(key),
            control: path(control),
            shared_key: false,
        }
    }

    #[test]
    fn a_flag_that_names_a_node_shuts_out_anothers_socket() {
        let (none, all) = (names("", ""), names("k", "s"));
        for (flags, environment, file, by_flag, meant) in [
            (&none, names("e", ""), names("", "s"), false, ("e", "s")),
            (&none, names("", "c"), all.clone(), false, ("k", "c")),
            (
                &names("b", ""),
                names("", "c"),
                all.clone(),
                false,
                ("b", ""),
            ),
            (
                &names("", "d"),
                names("e", "c"),
                all.clone(),
                false,
                ("e", "d"),
            ),
            // A configuration that a flag names is as near as the flag.
            (&none, names("e", "c"), all.clone(), true, ("k", "s")),
            (&none, names("e", "c"), names("k", ""), true, ("k", "")),
            (&none, names("e", "c"), names("", "s"), true, ("e", "s")),
            (&none, names("e", "c"), none.clone(), true, ("e", "c")),
            (&names("b", ""), none.clone(), all.clone(), true, ("b", "s")),
        ] {
            let said = format!("{flags:?} {environment:?} {file:?} {by_flag}");
            let of = Names::of(flags.clone(), environment, file, by_flag);
            assert_eq!(of, names(meant.0, meant.1), "{said}");
        }
        assert_eq!(names("b", "").socket().expect("named"), Path::new("b.sock"));
    }

    #[test]
    fn no_file_of_a_node_is_another_of_its_files() {
        assert_eq!(book_beside(Path::new("a.key")), Path::new("a.key.book"));
        assert_ne!(
            book_beside(Path::new("eu.west")),
            book_beside(Path::new("eu.east"))
        );
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("node.key");
        let round = folder.path().join("../");
        let round = round.join(folder.path().file_name().expect("a name"));
        let (round, book) = (round.join("node.key"), book_beside(&key));
        let shared = |other| one_file(&[("key", Some(&key)), ("no", None), ("book", Some(other))]);
        // Neither is there yet, and then one is.
        assert_eq!(shared(&round), Some(("key", "book", &*round)));
        fs::write(&key, "a key").expect("written");
        assert_eq!(shared(&round), Some(("key", "book", &*round)));
        assert_eq!(shared(&book), None);
        assert_eq!(real(Path::new("here")), real(Path::new("./here")));
    }
}
