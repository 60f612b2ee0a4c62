//! A node's settings: the defaults, what a TOML file changes, what flags change after that.
//!
//! The file has the shape of the object that the npm package takes as `config`, and a table `[node]` for what
//! only the command line knows. Unknown fields are errors, so that a typing mistake is not silently a
//! default.

use std::{fs, io::Read, net::SocketAddr, path::PathBuf, str::FromStr};

use anyhow::Context;
use clap::ValueEnum;
use libp2p::multiaddr::Protocol;
use selkie::{
    ChainConfig, Config, Keypair, Multiaddr, NetworkConfig, P2PNetworkManager, PeerInfo,
    ProtocolConfig, SecurityConfig,
    chain::{Opaque, bitcoin::Bitcoin, block_file::Format},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    as_map, control,
    identity::{Hold, hold_identity},
    ledger, log,
    place::{Names, book_beside, found_config, one_file, socket_beside, variable},
};

/// No configuration is longer, in bytes: one with all 100,000 blacklisted peers has 6 MiB. A larger file is something else.
const MAX_FILE: u64 = 16 << 20;

/// The flags of a node.
#[derive(clap::Args, Clone, Default)]
#[command(next_help_heading = "Node")]
pub(crate) struct NodeArgs {
    /// Configuration; flags go before it. `selkie config show` prints one with every field explained
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen at this multiaddr (repeatable; replaces those of the file)
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Vec<Multiaddr>,
    /// Connect to this peer first, and again while the node has dialled fewer than it wants (repeatable; added to those of the file)
    #[arg(long, value_name = "ADDRESS/p2p/ID")]
    bootstrap: Vec<PeerInfo>,
    /// The network's name; peers of other networks are refused
    #[arg(long, value_name = "NAME")]
    network_id: Option<String>,
    /// Hash of the chain's first block; peers with another one are refused
    #[arg(long, value_name = "HEX")]
    genesis: Option<Hex>,
    /// The most peers at once
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_peers: Option<u32>,
    /// Who judges blocks and transactions
    #[arg(long)]
    chain: Option<Chain>,
    /// Identity key; made where it is absent
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The key is a mounted secret that others may read too, such as Kubernetes' 0440 root:group: it is read, and never made
    #[arg(long)]
    shared_key: bool,
    /// What else says what this node is; of `selkie run` alone.
    #[arg(skip)]
    around: Around,
}

/// The flags of `selkie run` alone that go before what a file says of `[node]`.
#[derive(clap::Args, Clone, Default)]
#[command(next_help_heading = "Node")]
pub(crate) struct RunFlags {
    /// The address book and the bans, kept over a restart; without this flag beside the key, if that is no mounted secret
    #[arg(long, value_name = "FILE")]
    address_book: Option<PathBuf>,
    /// Count networks by the providers that this map knows (Bitcoin Core's asmap.dat), and not by prefixes alone
    #[arg(long, value_name = "FILE")]
    as_map: Option<PathBuf>,
    /// The socket over which `selkie peers` and others like it ask this node; without this flag beside the key, `KEY.sock`, if that is no mounted
    /// secret. It is for the key's owner alone
    #[arg(long, value_name = "FILE")]
    control: Option<PathBuf>,
    /// Open no control socket, whatever else says so
    #[arg(long)]
    pub(crate) no_control: bool,
    /// Serve the dashboard here, such as 127.0.0.1:8420
    #[arg(long, value_name = "IP:PORT", help_heading = "Dashboard")]
    web: Option<SocketAddr>,
    /// Allow a --web address that others can reach. They see this node's addresses; anything between
    /// them and the page can change it, so put a proxy with https before it
    #[arg(long, help_heading = "Dashboard")]
    web_public: bool,
}

/// What says what a node is beside its flags.
#[derive(Clone, Default)]
struct Around {
    /// The flags that other commands lack.
    flags: RunFlags,
    environment: Names,
    /// A configuration that no flag names.
    config: Option<PathBuf>,
}

/// A configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) network: NetworkConfig,
    chain: ChainTable,
    pub(crate) protocol: ProtocolConfig,
    pub(crate) security: SecurityConfig,
    pub(crate) node: NodeTable,
}

/// Which chain this is, and who judges its items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ChainTable {
    network_id: String,
    genesis: Hex,
    /// `None`: nobody chose.
    application: Option<Chain>,
}

impl Default for ChainTable {
    fn default() -> Self {
        let ChainConfig {
            network_id,
            genesis,
        } = ChainConfig::default();
        Self {
            network_id,
            genesis: Hex(genesis),
            application: None,
        }
    }
}

/// What only the command line knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NodeTable {
    key: Option<PathBuf>,
    shared_key: bool,
    address_book: Option<PathBuf>,
    as_map: Option<PathBuf>,
    control: Option<PathBuf>,
    web: Option<SocketAddr>,
    web_public: bool,
    pub(crate) log: Option<log::Filter>,
}

impl NodeTable {
    pub(crate) fn names(&self) -> Names {
        Names {
            key: self.key.clone(),
            control: self.control.clone(),
            shared_key: self.shared_key,
        }
    }

    /// Finds what keeps a node from its start.
    fn check(&self) -> Result<(), selkie::ConfigError> {
        let wrong = |field: &str, value: String, problem: String| {
            let field = format!("node.{field}");
            Err(selkie::ConfigError {
                field,
                value,
                problem,
            })
        };
        if let Some(web) = self.web.filter(|web| !may_serve(web, self.web_public)) {
            let problem = "others could reach it; give an address of 127.0.0.1, or set node.web_public if that is meant";
            return wrong("web", web.to_string(), problem.to_owned());
        }
        if let Some(control) = &self.control
            && let Err(error) = control::may_be_at(control)
        {
            return wrong("control", control.display().to_string(), error.to_string());
        }
        if let Some(map) = &self.as_map
            && let Err(error) = as_map::read(map)
        {
            return wrong("as_map", map.display().to_string(), error);
        }
        // Where no home folder is known, nobody has a key there.
        let key = self.names().key().ok();
        let beside = key.as_ref().filter(|_| !self.shared_key);
        let book = beside.map(|key| book_beside(key));
        let socket = beside.map(|key| socket_beside(key));
        let files = [
            ("key", key.as_deref()),
            (
                "address_book",
                self.address_book.as_deref().or(book.as_deref()),
            ),
            ("control", self.control.as_deref().or(socket.as_deref())),
            ("as_map", self.as_map.as_deref()),
        ];
        match one_file(&files) {
            None => Ok(()),
            Some((one, other, path)) => {
                let problem = format!("that is node.{one} too; give each a file of its own");
                wrong(other, path.display().to_string(), problem)
            }
        }
    }
}

/// Bytes, written in hex.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hex(#[serde(with = "hex::serde")] pub(crate) Vec<u8>);

impl FromStr for Hex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |error| format!("{error}; give pairs of 0-9 and a-f");
        hex::decode(text).map(Self).map_err(wrong)
    }
}

/// The applications that ship with the crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Chain {
    /// Takes any bytes; an id is their SHA-256
    #[default]
    Opaque,
    /// Bitcoin: its ids, Merkle roots and proof of work
    Bitcoin,
    /// The built-in account chain, with the development keys of the network's name
    Ledger,
}

impl Chain {
    /// The one whose blocks such files hold.
    pub(crate) fn of(formats: &[Format]) -> Self {
        let bitcoin = |format| matches!(format, Format::BitcoinBlock | Format::BitcoinBlockFile);
        if !formats.is_empty() && formats.iter().copied().all(bitcoin) {
            Self::Bitcoin
        } else {
            Self::Opaque
        }
    }

    /// Its name in configurations.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Bitcoin => "bitcoin",
            Self::Ledger => "ledger",
        }
    }

    /// The network as others should know it: what the npm package takes as its `network`.
    pub(crate) fn network(self, chain: &ChainConfig) -> Value {
        let mut network = json!({"id": chain.network_id, "application": self.name()});
        // A chain without a genesis has none to name.
        if !chain.genesis.is_empty() {
            network["genesis"] = hex::encode(&chain.genesis).into();
        }
        network
    }

    /// A node of this chain, not started.
    pub(crate) async fn node(
        self,
        mut config: Config,
        key: Keypair,
    ) -> anyhow::Result<P2PNetworkManager> {
        Ok(match self {
            Self::Opaque => P2PNetworkManager::with(config, key, Opaque).await?,
            Self::Bitcoin => P2PNetworkManager::with(config, key, Bitcoin).await?,
            Self::Ledger => {
                let ledger = ledger::open(&mut config, None)?;
                P2PNetworkManager::with(config, key, ledger).await?
            }
        })
    }
}

/// What a node is started with.
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// The file that they are from; `None`: from none.
    pub(crate) file: Option<PathBuf>,
    /// `None`: nobody chose.
    pub(crate) chain: Option<Chain>,
    /// Where its key and its control socket are.
    pub(crate) names: Names,
    /// `None`: nobody chose.
    pub(crate) address_book: Option<PathBuf>,
    pub(crate) as_map: Option<PathBuf>,
    pub(crate) web: Option<SocketAddr>,
    /// Whether others may reach that address.
    pub(crate) web_public: bool,
    /// What is logged; `None`: nobody chose.
    pub(crate) log: Option<log::Filter>,
}

impl Settings {
    /// A file that says the same.
    pub(crate) fn as_file(&self) -> File {
        let (config, names) = (self.config.clone(), self.names.clone());
        File {
            network: config.network,
            chain: ChainTable {
                network_id: config.chain.network_id,
                genesis: Hex(config.chain.genesis),
                application: self.chain,
            },
            protocol: config.protocol,
            security: config.security,
            node: NodeTable {
                key: names.key,
                shared_key: names.shared_key,
                address_book: self.address_book.clone(),
                as_map: self.as_map.clone(),
                control: names.control,
                web: self.web,
                web_public: self.web_public,
                log: self.log.clone(),
            },
        }
    }

    /// Finds what would keep a node from its start with these: as `selkie config check`, and the files of TLS where it listens with that.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<(), selkie::ConfigError> {
        self.as_file().check()?;
        let has_tls = |address: &Multiaddr| {
            let mut parts = address.iter();
            parts.any(|part| matches!(part, Protocol::Tls | Protocol::Wss(_)))
        };
        match self.config.network.listen_addresses.iter().any(has_tls) {
            true => self.config.security.tls_config.check_files(),
            false => Ok(()),
        }
    }

    /// Who a node is that is here for a while: whose key was chosen, held as long as this is, else somebody new.
    pub(crate) fn identity(&self) -> anyhow::Result<(Keypair, Option<Hold>)> {
        let Some(path) = &self.names.key else {
            return Ok((Keypair::generate_ed25519(), None));
        };
        let (key, hold) = hold_identity(path, self.names.shared_key)?;
        Ok((key, Some(hold)))
    }
}

impl NodeArgs {
    /// Those of a node that goes on: with the flags that it alone has, what the environment names, and, where no flag names one, a configuration that is found: that at the
    /// usual place too, if `usual`.
    ///
    /// # Errors
    /// There may be one, and it can't be read.
    pub(crate) fn of_a_node(mut self, flags: RunFlags, usual: bool) -> anyhow::Result<Self> {
        let found = match usual {
            _ if self.config.is_some() => None,
            false => variable("SELKIE_CONFIG"),
            true => {
                let way_out = "name a configuration (--config), or go without (--no-config)";
                let found = found_config().context(way_out)?;
                if let Some(path) = &found {
                    let opened = fs::File::open(path);
                    opened.with_context(|| format!("can't open {}; {way_out}", path.display()))?;
                }
                found
            }
        };
        self.around = Around {
            flags,
            environment: Names::environment(),
            config: found,
        };
        Ok(self)
    }

    /// The file's settings, overridden by the flags, and checked.
    pub(crate) fn settings(self) -> anyhow::Result<Settings> {
        let by_flag = self.config.is_some();
        let path = self.config.or(self.around.config);
        let file = match &path {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        let from_file = file.chain.application;
        let (of_file, node) = file.split();
        let mut config = of_file.clone();
        let run = self.around.flags;
        let flags = Names {
            key: self.key,
            control: run.control,
            shared_key: self.shared_key,
        };
        let mut names = Names::of(flags, self.around.environment, node.names(), by_flag);
        if run.no_control {
            names.control = None;
        }
        if !self.listen.is_empty() {
            config.network.listen_addresses = self.listen;
        }
        config.network.bootstrap_peers.extend(self.bootstrap);
        if let Some(network_id) = self.network_id {
            config.chain.network_id = network_id;
        }
        if let Some(Hex(genesis)) = self.genesis {
            config.chain.genesis = genesis;
        }
        if let Some(peers) = self.max_peers {
            config.network.max_peers = usize::try_from(peers)?;
        }
        if let Err(error) = config.check() {
            // A flag may be wrong too.
            let of_file = path.filter(|_| of_file.check().as_ref() == Err(&error));
            let error = anyhow::Error::new(error);
            return Err(match of_file {
                Some(path) => error.context(path.display().to_string()),
                None => error,
            });
        }
        Ok(Settings {
            config,
            file: path,
            chain: self.chain.or(from_file),
            names,
            address_book: run.address_book.or(node.address_book),
            as_map: run.as_map.or(node.as_map),
            web: run.web.or(node.web),
            web_public: run.web_public || node.web_public,
            log: node.log,
        })
    }
}

impl File {
    /// Reads a file; an error names the place in it.
    pub(crate) fn read(path: &std::path::Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(|e| anyhow::anyhow!("can't open {shown}: {e}"))?;
        // One byte more than there may be, as what is cut off would silently be a default.
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| anyhow::anyhow!("can't read {shown}: {e}"))?;
        if u64::try_from(bytes.len())? > MAX_FILE {
            anyhow::bail!(
                "{shown} is larger than a configuration can be, {} MiB; name a TOML file",
                MAX_FILE >> 20
            );
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            anyhow::anyhow!("can't read {shown}: {e}; a configuration is TOML in UTF-8")
        })?;
        text.parse().map_err(|e| {
            anyhow::anyhow!("{shown}: {e}\n`selkie config show` prints every field with an example")
        })
    }

    /// Finds what parses but is wrong.
    pub(crate) fn check(self) -> Result<(), selkie::ConfigError> {
        let (config, node) = self.split();
        node.check()?;
        config.check()
    }

    fn split(self) -> (Config, NodeTable) {
        let config = Config {
            network: self.network,
            chain: ChainConfig {
                network_id: self.chain.network_id,
                genesis: self.chain.genesis.0,
            },
            protocol: self.protocol,
            security: self.security,
        };
        (config, self.node)
    }
}

impl FromStr for File {
    type Err = toml::de::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        toml::from_str(text)
    }
}

/// Whether a page may be served at an address: others reach it only where that is meant.
pub(crate) fn may_serve(address: &SocketAddr, public: bool) -> bool {
    address.ip().is_loopback() || public
}

/// Loopback at free ports, over each transport that is built in; in a network closed by a secret, over those that it binds.
pub(crate) fn loopback(config: &Config) -> Vec<Multiaddr> {
    let mut addresses = vec!["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"];
    let is_open = config.security.noise_config.prologue.is_none();
    if is_open {
        addresses.push("/ip4/127.0.0.1/udp/0/quic-v1");
        addresses.push("/ip4/127.0.0.1/udp/0/quic-v1/webtransport");
    }
    if is_open && cfg!(feature = "webrtc") {
        addresses.push("/ip4/127.0.0.1/udp/0/webrtc-direct");
    }
    addresses
        .into_iter()
        .filter_map(|address| address.parse().ok())
        .collect()
}

/// A multiaddr, for clap.
pub(crate) fn address(text: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|error| {
        format!("{error}; write it as /ip4/127.0.0.1/tcp/30303 or /ip4/127.0.0.1/udp/30303/quic-v1")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        node: NodeArgs,
    }

    fn settings(file: &str, flags: &[&str]) -> anyhow::Result<Settings> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("node.toml");
        fs::write(&path, file)?;
        let path = path.display().to_string();
        let line = ["selkie", "--config", &path]
            .into_iter()
            .chain(flags.iter().copied());
        Line::try_parse_from(line)?.node.settings()
    }

    fn complaint(file: &str) -> String {
        format!("{:#}", settings(file, &[]).err().expect("wrong"))
    }

    #[test]
    fn a_file_that_names_no_application_has_chosen_none() {
        let given = settings("[chain]\nnetwork_id = \"here\"", &[]).expect("right");
        assert_eq!(given.chain, None);
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_defaults() {
        let file = "[network]\nmax_peers = 7\nlisten_addresses = [\"/ip4/127.0.0.1/tcp/1\"]\n\
                    [chain]\ngenesis = \"00ff\"\napplication = \"bitcoin\"\n[node]\nweb = \"127.0.0.1:1\"";
        let given = settings(file, &[]).expect("right");
        assert_eq!(
            (given.config.network.max_peers, given.chain),
            (7, Some(Chain::Bitcoin))
        );
        assert_eq!(given.config.chain.genesis, [0, 255]);
        let flags = [
            "--max-peers",
            "9",
            "--listen",
            "/ip4/127.0.0.1/tcp/2",
            "--chain",
            "opaque",
        ];
        let given = settings(file, &flags).expect("right");
        assert_eq!(
            (given.config.network.max_peers, given.chain),
            (9, Some(Chain::Opaque))
        );
        assert_eq!(
            given.config.network.listen_addresses,
            ["/ip4/127.0.0.1/tcp/2".parse().expect("an address")]
        );
        assert_eq!(given.config.chain.genesis, [0, 255]);
    }

    #[test]
    fn a_complaint_names_the_place_the_value_and_the_remedy() {
        let unknown = complaint("[network]\nmax_pears = 7");
        assert!(
            unknown.contains("line 2, column 1") && unknown.contains("max_peers"),
            "{unknown}"
        );
        let address = complaint("[network]\nlisten_addresses = [\n\"/ip4/localhost/tcp/1\",\n]");
        assert!(
            address.contains("line 3") && address.contains("/ip4/localhost/tcp/1"),
            "{address}"
        );
        let genesis = complaint("[chain]\ngenesis = \"xyz\"");
        assert!(genesis.contains("line 2"), "{genesis}");
        let value = complaint("[network]\nmax_peers = 0");
        assert!(
            value.ends_with(
                "node.toml: config: network.max_peers = 0: give a number from 1 to 100000"
            ),
            "{value}"
        );
        let absent = fs::File::open("no/such/file")
            .expect_err("absent")
            .to_string();
        let read = File::read("no/such/file".as_ref())
            .expect_err("absent")
            .to_string();
        assert_eq!(read, format!("can't open no/such/file: {absent}"));
    }

    #[test]
    fn a_closed_network_listens_where_its_secret_binds() {
        for (file, count) in [("", 2), ("[security.noise_config]\nprologue = \"x\"", 0)] {
            let mut given = settings(file, &[]).expect("right").config;
            given.network.listen_addresses = loopback(&given);
            given.check().expect("what passes starts");
            let quic = |address: &&Multiaddr| address.to_string().contains("/quic-v1");
            let listened = given.network.listen_addresses.iter();
            assert_eq!(listened.filter(quic).count(), count, "{file}");
        }
    }

    #[test]
    fn a_long_file_is_read_to_its_end_or_refused_by_name() {
        let padding = format!("# {}\n", "a".repeat(1 << 20));
        let given = settings(&format!("{padding}[network]\nmax_peers = 7"), &[]).expect("right");
        assert_eq!(given.config.network.max_peers, 7);
        let too_long = complaint(&padding.repeat(16));
        assert!(
            too_long.contains("node.toml is larger than a configuration can be, 16 MiB"),
            "{too_long}"
        );
    }

    #[test]
    fn the_chain_is_that_of_the_files() {
        assert_eq!(
            Chain::of(&[Format::BitcoinBlock, Format::BitcoinBlockFile]),
            Chain::Bitcoin
        );
        assert_eq!(
            Chain::of(&[Format::BitcoinBlock, Format::Era1]),
            Chain::Opaque
        );
        assert_eq!(Chain::of(&[]), Chain::Opaque);
    }
}
