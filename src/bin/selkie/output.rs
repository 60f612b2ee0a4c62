//! What is printed: sentences for people, or one JSON object per line for programs.
//!
//! The objects have the names and fields of the events that the npm package gives to JavaScript,
//! and `time` in milliseconds since 1970. The last one of a command that failed says why: an object of type `error`, unless the command has an object of its own for
//! its end. What a command prints until it is interrupted ends with one of type `end` then, or `stopped` where it is a node's events.
//!
//! Whoever reads stdout may stop reading, and then a write takes for ever. So a thread of its own writes, and nothing else
//! waits for it: [`Output::say`] returns at once, and the loop that hears Ctrl-C goes on. At most [`QUEUE`] lines wait;
//! further ones are left out, which is said where there is room again. Who would rather wait asks for [`Output::room`].
//!
//! A reader that closes stdout has seen enough. Any other error, such as a full disk's, costs the lines that can't be written and
//! nothing else: stderr says so once, and stdout how many they were as soon as it takes lines again. The half of a line that such an
//! error leaves ends there: the next one begins on a new line.
//!
//! With `--quiet` there are no events and no progress: what is left is what was asked for, and what went wrong, be it told as an event: one that says what
//! is wrong with this node itself, and not with one peer or item, goes to stderr then.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use indicatif::{ProgressBar, ProgressDrawTarget};
use selkie::NetworkEvent;
use serde_json::{Value, json};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use crate::interrupt::Interrupt;

/// Lines that wait to be written.
const QUEUE: usize = 4096;

/// Whether `--quiet` was given.
static QUIET: AtomicBool = AtomicBool::new(false);

/// No events and no progress from now on.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Where a progress bar is drawn: on stderr, if that is a terminal.
pub(crate) fn progress_target() -> ProgressDrawTarget {
    match is_quiet() {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    }
}

/// Writes lines to stdout.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    style: Style,
    lines: mpsc::Sender<Line>,
    left_out: Arc<AtomicU64>,
    /// Why sync waits, as it was told last where no events are wanted.
    waits: Arc<Mutex<Option<String>>>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug)]
struct Style {
    json: bool,
    colour: bool,
}

/// What the thread is handed.
#[derive(Debug)]
enum Line {
    /// And how many are lost with it.
    Text(String, u64),
    /// All before it is dealt with: what became of the last line.
    Mark(oneshot::Sender<io::Result<()>>),
}

/// How a sentence looks where colours are on: ANSI's "select graphic rendition".
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Faint,
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
            Self::Faint => "\x1b[2m",
            Self::Strong => "\x1b[1m",
        }
    }
}

/// Whether the user left colours on (<https://no-color.org>).
pub(crate) fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Tells on stderr why the command failed.
pub(crate) fn complain(error: &anyhow::Error) {
    let colour = io::stderr().is_terminal() && colours_wanted();
    // There is nowhere left to say that stderr is closed.
    let _ = writeln!(
        io::stderr(),
        "{} {}",
        painted(colour, Tone::Bad, "error:"),
        with_causes(error)
    );
}

/// An error and what caused it, from the outermost to the first; what has been said is not said again.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Why a command failed, where its last object on stdout says so already.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Told(String);

impl Told {
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        Self(with_causes(error))
    }
}

/// The last object of a command that failed.
fn failure(error: &anyhow::Error) -> Value {
    json!({"type": "error", "problem": with_causes(error)})
}

/// Tells on stdout, for programs, why the command failed, unless that was told, or nobody reads any more.
pub(crate) fn tell_failure(error: &anyhow::Error) {
    if !error.is::<Told>() && !is_broken_pipe(error) {
        // Stderr says the same.
        let _ = once(true, Tone::Bad, "", failure(error));
    }
}

/// Whether it is no more than that stdout was closed.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Tells on stderr what the user should know while the command goes on.
pub(crate) fn remark(sentence: impl Display) {
    // As above.
    let _ = writeln!(io::stderr(), "{sentence}");
}

/// A number of things: `1 block`, `2 blocks`.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// Prints the one result of a command that has no more to say.
///
/// # Errors
/// What the system says.
pub(crate) fn once(
    json: bool,
    tone: Tone,
    sentence: impl Display,
    object: Value,
) -> io::Result<()> {
    let line = Style::new(json).line(tone, sentence, object);
    print(line)
}

/// Writes a line, or more of them, to stdout.
///
/// # Errors
/// What the system says; that it was about stdout.
pub(crate) fn print(mut text: String) -> io::Result<()> {
    text.push('\n');
    // In one piece, as the rest of a line that could not be written would be kept and come before the next.
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| {
        let told = format!("can't write to stdout: {error}");
        io::Error::new(error.kind(), told)
    })
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self::beside(json, ProgressBar::hidden())
    }

    /// On a terminal that shows a progress bar too.
    pub(crate) fn beside(json: bool, bar: ProgressBar) -> Self {
        let (lines, mut queue) = mpsc::channel(QUEUE);
        let left_out = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&left_out);
        // Who draws the bar waits for a line that is written beside it, and a line that nobody reads is written for ever: so only
        // lines that are seen where the bar is take it away.
        let is_seen = io::stdout().is_terminal() && !bar.is_hidden();
        let print = move |line| match is_seen {
            true => bar.suspend(|| print(line)),
            false => print(line),
        };
        // It ends with the channel, when stdout is closed, or with the process where a write never does.
        thread::spawn(move || write_all(&mut queue, &lost, print));
        Self {
            style: Style::new(json),
            lines,
            left_out,
            waits: Arc::default(),
        }
    }

    /// Prints what happens: an object, or the sentence that says the same; at once, or not at all where too many lines wait, or none are wanted.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`]: stdout is closed.
    pub(crate) fn say(&self, tone: Tone, sentence: impl Display, object: Value) -> io::Result<()> {
        match is_quiet() {
            true => Ok(()),
            false => self.result(tone, sentence, object),
        }
    }

    /// Prints what the command was started for, as [`Self::say`] does, but also where no events are wanted.
    ///
    /// # Errors
    /// As [`Self::say`].
    pub(crate) fn result(
        &self,
        tone: Tone,
        sentence: impl Display,
        object: Value,
    ) -> io::Result<()> {
        if !self.tell_lag()? || !self.put(tone, sentence, object, 1)? {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Says that so many events were left out before they came here, if any are wanted; later, where too many lines wait.
    ///
    /// # Errors
    /// As [`Self::say`].
    pub(crate) fn missed(&self, events: u64) -> io::Result<()> {
        if is_quiet() {
            return Ok(());
        }
        self.left_out.fetch_add(events, Ordering::Relaxed);
        self.tell_lag().map(drop)
    }

    /// Whether nothing is left to say of what was left out.
    fn tell_lag(&self) -> io::Result<bool> {
        let missed = self.left_out.swap(0, Ordering::Relaxed);
        let told = missed == 0 || self.put(Tone::Bad, lagged(missed), lag(missed), missed)?;
        if !told {
            self.left_out.fetch_add(missed, Ordering::Relaxed);
        }
        Ok(told)
    }

    /// Prints an event of the network; where no events are wanted, what it says of this node's own trouble, on stderr.
    ///
    /// # Errors
    /// As [`Self::say`].
    pub(crate) fn event(&self, event: &NetworkEvent) -> io::Result<()> {
        if is_quiet() && self.is_trouble(event) {
            remark(event);
        }
        self.say(tone(event), event, object(event))
    }

    /// Whether an event says that something is wrong with this node itself, and that is news.
    fn is_trouble(&self, event: &NetworkEvent) -> bool {
        match event {
            // Told with each step.
            NetworkEvent::SyncProgress { trouble, .. } => {
                let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
                let is_new = *waits != *trouble;
                waits.clone_from(trouble);
                is_new && trouble.is_some()
            }
            NetworkEvent::PeerRefused { .. }
            | NetworkEvent::DialFailed { .. }
            | NetworkEvent::ItemRefused { .. }
            | NetworkEvent::GossipImpaired { .. } => false,
            event => event.is_error(),
        }
    }

    /// What a command came to, when its last object has told why it failed, if it did: [`Told`] then. Who does not read misses it once the command is to end.
    pub(crate) async fn concluded(
        &self,
        outcome: anyhow::Result<()>,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let Err(error) = outcome else {
            return Ok(());
        };
        if !self.style.json || is_broken_pipe(&error) {
            return Err(error);
        }
        let last = async {
            self.room().await;
            self.result(Tone::Bad, "", failure(&error))?;
            self.finish().await
        };
        // Stderr says the same.
        drop(interrupt.unless_late(last).await);
        Err(Told::of(&error).into())
    }

    /// Returns when another line finds room, or stdout is closed.
    pub(crate) async fn room(&self) {
        drop(self.lines.reserve().await);
    }

    /// Returns when stdout is closed.
    pub(crate) async fn closed(&self) {
        self.lines.closed().await;
    }

    /// Waits until all is written, which a reader that does not read puts off for ever.
    ///
    /// # Errors
    /// As [`Self::say`]; and why the last line could not be written.
    pub(crate) async fn finish(&self) -> io::Result<()> {
        let (mark, written) = oneshot::channel();
        let sent = self.lines.send(Line::Mark(mark)).await;
        sent.map_err(|_| closed())?;
        written.await.map_err(|_| closed())?
    }

    /// Whether there was room for a line.
    fn put(
        &self,
        tone: Tone,
        sentence: impl Display,
        object: Value,
        worth: u64,
    ) -> io::Result<bool> {
        let line = Line::Text(self.style.line(tone, sentence, object), worth);
        match self.lines.try_send(line) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Closed(_)) => Err(closed()),
        }
    }
}

fn closed() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl Style {
    fn new(json: bool) -> Self {
        Self {
            json,
            colour: !json && io::stdout().is_terminal() && colours_wanted(),
        }
    }

    fn line(self, tone: Tone, sentence: impl Display, object: Value) -> String {
        if self.json {
            stamped(object, SystemTime::now()).to_string()
        } else {
            painted(self.colour, tone, &sentence.to_string())
        }
    }
}

/// Writes line by line until the channel ends or stdout is closed, and counts those that can't be written.
fn write_all(
    queue: &mut mpsc::Receiver<Line>,
    left_out: &AtomicU64,
    mut write: impl FnMut(String) -> io::Result<()>,
) {
    let (mut said, mut torn) = (false, false);
    let mut last = Ok(());
    while let Some(line) = queue.blocking_recv() {
        let (text, worth) = match line {
            Line::Text(text, worth) => (text, worth),
            Line::Mark(mark) => {
                // Who waited for it may have lost patience.
                drop(mark.send(std::mem::replace(&mut last, Ok(()))));
                continue;
            }
        };
        last = write(if torn { format!("\n{text}") } else { text });
        torn = last.is_err();
        if let Err(error) = &last {
            if error.kind() == io::ErrorKind::BrokenPipe {
                return;
            }
            left_out.fetch_add(worth, Ordering::Relaxed);
            if !std::mem::replace(&mut said, true) {
                remark(error);
            }
        }
    }
}

/// What there is to say where events or lines were left out.
fn lagged(missed: u64) -> String {
    format!(
        "{missed} events were left out: they can't be written here, or not as fast as they came"
    )
}

/// The same as an object.
fn lag(missed: u64) -> Value {
    json!({"type": "lagged", "missed": missed})
}

fn painted(colour: bool, tone: Tone, text: &str) -> String {
    if colour {
        format!("{}{text}\x1b[0m", tone.code())
    } else {
        text.to_owned()
    }
}

fn tone(event: &NetworkEvent) -> Tone {
    match event {
        event if event.is_error() => Tone::Bad,
        NetworkEvent::PeerConnected(_) | NetworkEvent::Listening(_) => Tone::Good,
        NetworkEvent::ItemAccepted { .. } => Tone::Plain,
        _ => Tone::Faint,
    }
}

/// The object with the time as its last field.
fn stamped(mut object: Value, now: SystemTime) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("time".to_owned(), milliseconds(now).into());
    }
    object
}

/// Since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn object(event: &NetworkEvent) -> Value {
    let text = |value: &dyn Display| value.to_string();
    let texts = |values: &[selkie::Multiaddr]| values.iter().map(|v| text(v)).collect::<Vec<_>>();
    let name = event.name();
    match event {
        NetworkEvent::Listening(address) => json!({"type": "listening", "address": text(address)}),
        NetworkEvent::NotListening { address, reason } => {
            json!({"type": "not-listening", "address": text(address), "reason": reason})
        }
        NetworkEvent::CertificateRefused { reason } => {
            json!({"type": name, "reason": reason})
        }
        NetworkEvent::PeerConnected(peer) => json!({
            "type": name,
            "peerId": text(&peer.peer_id),
            "address": peer.addresses.first().map(|address| text(address)),
            "agent": peer.agent,
            "transport": peer.transport(),
            "selkie": peer.selkie,
        }),
        NetworkEvent::PeerIdentified {
            peer_id,
            agent,
            protocols,
        } => json!({
            "type": name,
            "peerId": text(peer_id),
            "agent": agent,
            "protocols": protocols,
        }),
        NetworkEvent::PeerDisconnected { peer_id, reason } => {
            json!({"type": name, "peerId": text(peer_id), "reason": reason})
        }
        NetworkEvent::PeerRefused {
            peer_id,
            address,
            reason,
        } => json!({
            "type": name,
            "peerId": text(peer_id),
            "address": address.as_ref().map(|address| text(address)),
            "reason": reason,
        }),
        NetworkEvent::PeersDiscovered(peers) => {
            let peers: Vec<_> = peers
                .iter()
                .map(|p| json!({"peerId": text(&p.peer_id), "addresses": texts(&p.addresses)}))
                .collect();
            json!({"type": name, "peers": peers})
        }
        NetworkEvent::PeerScored {
            peer_id,
            reason,
            score,
        } => {
            json!({"type": name, "peerId": text(peer_id), "reason": reason, "score": score})
        }
        NetworkEvent::DialFailed {
            peer_id,
            address,
            reason,
        } => json!({
            "address": address.as_ref().map(|address| text(address)),
            "type": name,
            "peerId": peer_id.map(|peer| text(&peer)),
            "message": reason,
        }),
        NetworkEvent::ItemAccepted {
            item,
            id,
            source,
            received_at,
        } => json!({
            "type": "item:accepted",
            "kind": item.kind().name(),
            "id": text(id),
            "bytes": item.data().len(),
            "source": source.map(|peer| text(&peer)),
            "receivedAt": milliseconds(*received_at),
        }),
        NetworkEvent::ItemRefused {
            kind,
            source,
            reason,
        } => json!({
            "type": name,
            "kind": kind.name(),
            "source": text(source),
            "reason": reason,
        }),
        NetworkEvent::GossipImpaired { peer_id, reason } => json!({
            "type": name,
            "peerId": text(peer_id),
            "reason": reason,
        }),
        NetworkEvent::ApplicationFailed {
            call,
            reason,
            count,
        } => json!({
            "type": name,
            "call": call,
            "reason": reason,
            "count": count,
        }),
        NetworkEvent::HandlerFailed {
            protocol,
            peer_id,
            reason,
        } => json!({
            "type": name,
            "protocol": protocol,
            "peerId": text(peer_id),
            "reason": reason,
        }),
        NetworkEvent::EclipseSuspected { signs } => {
            json!({"type": name, "signs": signs})
        }
        NetworkEvent::SyncProgress {
            done,
            total,
            rate,
            eta,
            trouble,
        } => json!({
            "type": name,
            "done": done,
            "total": total,
            "rate": rate,
            "etaSeconds": eta.map(|eta| eta.as_secs_f64()),
            "trouble": trouble,
        }),
        NetworkEvent::SnapshotProgress {
            height,
            done,
            total,
            rate,
            eta,
        } => json!({
            "type": name,
            "height": height,
            "done": done,
            "total": total,
            "rate": rate,
            "etaSeconds": eta.map(|eta| eta.as_secs_f64()),
        }),
        NetworkEvent::Synced { height } | NetworkEvent::SnapshotTaken { height } => {
            json!({"type": name, "height": height})
        }
        NetworkEvent::NoSnapshot { reason } => json!({"type": name, "reason": reason}),
        NetworkEvent::StateUnverified { height, reason } => {
            json!({"type": name, "height": height, "reason": reason})
        }
        NetworkEvent::Woke { slept } => {
            json!({"type": name, "sleptSeconds": slept.as_secs_f64()})
        }
        NetworkEvent::Stopped => json!({"type": "stopped"}),
        NetworkEvent::Crashed { reason } => json!({"type": "crashed", "reason": reason}),
        other => json!({"type": "other", "message": text(other)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selkie::{Item, ItemId, ItemKind, PeerId};

    /// One for people, without colours, and its queue of so many lines.
    fn plain(lines: usize) -> (Output, mpsc::Receiver<Line>) {
        let (lines, queue) = mpsc::channel(lines);
        let output = Output {
            style: Style {
                json: false,
                colour: false,
            },
            lines,
            left_out: Arc::default(),
            waits: Arc::default(),
        };
        (output, queue)
    }

    #[test]
    fn events_are_objects_with_a_type() {
        let peer_id = PeerId::random();
        let reason = "it \"left\"\n".to_owned();
        let gone = object(&NetworkEvent::PeerDisconnected {
            peer_id,
            reason: reason.clone(),
        });
        assert_eq!(gone["type"], "peer:disconnect");
        assert_eq!(gone["reason"], reason);
        let block = object(&NetworkEvent::ItemAccepted {
            item: Item::new(ItemKind::Block, "abc"),
            id: ItemId::sha256(b"abc"),
            source: Some(peer_id),
            received_at: UNIX_EPOCH + std::time::Duration::from_millis(7),
        });
        assert_eq!(
            (&block["bytes"], &block["receivedAt"]),
            (&json!(3), &json!(7))
        );
        assert_eq!(block["source"], peer_id.to_string());
        assert!(!stamped(block, SystemTime::now()).to_string().contains('\n'));
    }

    #[test]
    fn who_wants_no_events_hears_of_this_nodes_own_troubles_once() {
        let (output, _queue) = plain(1);
        let reason = "it has expired".to_owned();
        assert!(output.is_trouble(&NetworkEvent::CertificateRefused {
            reason: reason.clone()
        }));
        assert!(!output.is_trouble(&NetworkEvent::DialFailed {
            peer_id: None,
            address: None,
            reason
        }));
        let waits = |trouble: Option<&str>| {
            output.is_trouble(&NetworkEvent::SyncProgress {
                done: 1,
                total: 2,
                rate: 0.0,
                eta: None,
                trouble: trouble.map(str::to_owned),
            })
        };
        let told = [Some("a"), Some("a"), Some("b"), None, Some("b")].map(waits);
        assert_eq!(told, [true, false, true, false, true]);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_said_later() {
        let (output, mut queue) = plain(2);
        let say = |text: &str| {
            output
                .say(Tone::Plain, text, json!({}))
                .expect("it is open")
        };
        ["a", "b", "c", "d"].into_iter().for_each(say);
        let mut next = || match queue.try_recv() {
            Ok(Line::Text(text, _)) => text,
            other => panic!("no line: {other:?}"),
        };
        assert_eq!([next(), next()], ["a", "b"]);
        say("e");
        assert!(next().starts_with("2 events were left out") && next() == "e");
        drop(queue);
        assert!(output.say(Tone::Plain, "f", json!({})).is_err());
    }

    #[test]
    fn a_full_disk_costs_lines_and_a_closed_pipe_ends() {
        let (lines, mut queue) = mpsc::channel(8);
        let left_out = AtomicU64::new(0);
        let put = |line| lines.try_send(line).expect("there is room");
        let mark = || {
            let (mark, written) = oneshot::channel();
            put(Line::Mark(mark));
            written
        };
        put(Line::Text("full".to_owned(), 1));
        let mut after_full = mark();
        put(Line::Text("room".to_owned(), 1));
        let mut after_room = mark();
        put(Line::Text("closed".to_owned(), 1));
        let mut after_closed = mark();
        let mut written = Vec::new();
        write_all(&mut queue, &left_out, |line| match line.as_str() {
            "full" => Err(io::ErrorKind::StorageFull.into()),
            "closed" => Err(io::ErrorKind::BrokenPipe.into()),
            _ => {
                written.push(line);
                Ok(())
            }
        });
        drop(queue);
        assert_eq!(
            (written, left_out.into_inner()),
            (vec!["\nroom".to_owned()], 1)
        );
        assert!(matches!(after_full.try_recv(), Ok(Err(_))));
        assert!(matches!(after_room.try_recv(), Ok(Ok(()))));
        assert!(after_closed.try_recv().is_err(), "nobody writes any more");
    }

    #[test]
    fn what_a_lost_line_says_of_lost_ones_is_said_again() {
        let (lines, mut queue) = mpsc::channel(8);
        let left_out = Arc::new(AtomicU64::new(0));
        let output = Output {
            style: Style {
                json: false,
                colour: false,
            },
            lines,
            left_out: Arc::clone(&left_out),
            waits: Arc::default(),
        };
        let full = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let is_full = Arc::clone(&full);
        let writer = thread::spawn(move || {
            let mut written = Vec::new();
            write_all(&mut queue, &left_out, |line| {
                if is_full.load(Ordering::Relaxed) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                written.push(line);
                Ok(())
            });
            written
        });
        let written = || futures::executor::block_on(output.finish());
        let say = |text: &str| {
            output
                .say(Tone::Plain, text, json!({}))
                .expect("it is open")
        };
        for text in ["a", "b"] {
            say(text);
            assert!(written().is_err());
        }
        output.missed(5).expect("it is open");
        assert!(written().is_err());
        full.store(false, Ordering::Relaxed);
        say("c");
        assert!(written().is_ok());
        drop(output);
        let lines = writer.join().expect("it ends");
        let [lag, last] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert!(lag.starts_with("\n7 events were left out"), "{lag}");
        assert_eq!(last, "c");
    }

    #[test]
    fn one_is_singular() {
        let counts = [
            counted(0, "block"),
            counted(1, "block"),
            counted(2, "block"),
        ];
        assert_eq!(counts, ["0 blocks", "1 block", "2 blocks"]);
    }

    #[test]
    fn colours_are_only_where_wanted() {
        assert_eq!(painted(false, Tone::Bad, "no"), "no");
        assert_eq!(painted(true, Tone::Bad, "no"), "\x1b[31mno\x1b[0m");
    }
}
