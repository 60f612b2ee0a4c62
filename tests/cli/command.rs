//! Running the command: its output as it comes, its end, and signals to it.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use futures::{StreamExt, channel::mpsc as channel};
use libp2p::{
    SwarmBuilder,
    gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode},
    identify, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use serde_json::Value;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selkie"));
    command.args(arguments).stdin(Stdio::null());
    // Neither the settings of who runs the tests, nor those of the machine, before which an own file goes.
    let no_settings = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/no-settings");
    command.env("XDG_CONFIG_HOME", no_settings);
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("SELKIE_") {
            command.env_remove(variable);
        }
    }
    command
}

/// Runs a command that ends by itself.
pub fn selkie(arguments: &[&str]) -> Output {
    finish(&mut command(arguments), Stdio::piped())
}

pub fn finish(command: &mut Command, stdout: impl Into<Stdio>) -> Output {
    let piped = command.stdout(stdout).stderr(Stdio::piped());
    let child = piped.spawn().expect("it starts");
    let id = child.id();
    let (sender, ended) = mpsc::channel();
    // Fails where the test has given up.
    thread::spawn(move || sender.send(child.wait_with_output()));
    match ended.recv_timeout(PATIENCE) {
        Ok(output) => output.expect("it ran"),
        Err(_) => {
            signal("KILL", id);
            panic!("it did not end: {command:?}")
        }
    }
}

pub fn signal(name: &str, id: u32) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {id}")])
        .status();
    assert!(status.expect("sh runs").success());
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn a_key(folder: &Path) -> String {
    folder.join("identity.key").display().to_string()
}

/// A command that goes on until it is interrupted; its lines arrive as they are written.
pub struct Running {
    pub child: Child,
    lines: Lines,
}

/// Lines as they come.
pub struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self(lines)
    }

    /// The next one that is wanted.
    pub fn next(&self, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("{error}; it wrote: {seen:#?}"),
            }
        }
    }
}

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("a pipe");
        Self::writing(child, stdout)
    }

    /// A child that writes lines into a pipe.
    pub fn writing(child: Child, pipe: impl Read + Send + 'static) -> Self {
        let lines = Lines::of(pipe);
        Self { child, lines }
    }

    /// A command that goes on, and what it writes to stderr.
    pub fn with_errors(command: &mut Command) -> (Self, Lines) {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("it starts");
        let stdout = child.stdout.take().expect("a pipe");
        let errors = Lines::of(child.stderr.take().expect("a pipe"));
        (Self::writing(child, stdout), errors)
    }

    /// The next line that is wanted.
    pub fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.lines.next(wanted)
    }

    /// The next object that is wanted.
    pub fn object(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let parsed = |line: &str| serde_json::from_str(line).expect("an object per line");
        parsed(&self.line(|line| wanted(&parsed(line))))
    }

    /// An address at which it listens.
    pub fn address(&self, transport: &str) -> String {
        let listens = self.object(|line| {
            let address = line["address"].as_str().unwrap_or_default();
            line["type"] == "listening" && address.contains(transport) && !address.contains("/ws")
        });
        listens["address"].as_str().expect("an address").to_owned()
    }

    pub fn interrupt(&self) {
        signal("INT", self.child.id());
    }

    /// Interrupts; returns the exit code and the lines that were left.
    pub fn end(mut self) -> (Option<i32>, Vec<String>) {
        self.interrupt();
        let code = self.child.wait().expect("it ends").code();
        (code, self.lines.0.iter().collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A libp2p peer that takes part in nothing: where it listens.
pub fn an_idle_peer() -> String {
    a_plain_peer(&[])
}

#[derive(NetworkBehaviour)]
struct Plain {
    identify: identify::Behaviour,
    gossip: gossipsub::Behaviour,
}

/// A libp2p peer that has joined these topics and knows nothing of Selkie: where it listens.
pub fn a_plain_peer(topics: &[&str]) -> String {
    a_joining_peer(topics).0
}

/// The same, and what has it join a topic later.
pub fn a_joining_peer(topics: &[&str]) -> (String, channel::UnboundedSender<String>) {
    let (sender, address) = mpsc::channel();
    let (joins, mut joined) = channel::unbounded::<String>();
    let topics: Vec<_> = topics.iter().copied().map(IdentTopic::new).collect();
    thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let mut swarm = SwarmBuilder::with_new_identity()
                .with_tokio()
                .with_tcp(
                    tcp::Config::default(),
                    noise::Config::new,
                    yamux::Config::default,
                )
                .expect("a transport")
                .with_behaviour(|key| {
                    let config = gossipsub::ConfigBuilder::default()
                        .validation_mode(ValidationMode::None)
                        .build()
                        .expect("right");
                    let gossip = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config);
                    let config = identify::Config::new("/plain/1".to_owned(), key.public());
                    Plain {
                        identify: identify::Behaviour::new(config),
                        gossip: gossip.expect("right"),
                    }
                })
                .expect("a behaviour")
                .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
                .build();
            for topic in &topics {
                let joined = swarm.behaviour_mut().gossip.subscribe(topic);
                joined.expect("joined");
            }
            let any = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
            swarm.listen_on(any).expect("loopback");
            loop {
                futures::select! {
                    topic = joined.select_next_some() => {
                        let topic = IdentTopic::new(topic);
                        swarm.behaviour_mut().gossip.subscribe(&topic).expect("joined");
                    }
                    event = swarm.select_next_some() => {
                        if let SwarmEvent::NewListenAddr { address, .. } = event {
                            let whole = address.with_p2p(*swarm.local_peer_id());
                            let whole = whole.expect("an address").to_string();
                            sender.send(whole).expect("the test waits");
                        }
                    }
                }
            }
        });
    });
    let address = address.recv_timeout(PATIENCE).expect("it listens");
    (address, joins)
}
