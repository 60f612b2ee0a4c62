//! What is logged to stderr, and how often.
//!
//! By default errors only, and of each place in the code one a minute: one that complains of every packet is to fill no disk. What was left out is counted, and said with the next line of that place. Who names a
//! filter sees all that it lets through: by `--log`, else by `SELKIE_LOG`, else by a node's configuration, which may change while it runs.

use std::{
    collections::HashMap,
    io::IsTerminal,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing::{Event, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::{FilterExt, LevelFilter},
    fmt::{self, MakeWriter, format::DefaultFields},
    layer::{self, Context, Layer, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

use crate::output::{colours_wanted, counted, remark};

/// What is logged if nobody says. The crates that are left out log as errors what is usual: a stream
/// that the other side closed first.
const DEFAULT: &str = "error,libp2p_webrtc=off,webrtc_sctp=off";
/// How often one place in the code is heard by default.
const PAUSE: Duration = Duration::from_secs(60);

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// What is logged: a level, or filters such as `info,libp2p_gossipsub=debug`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Filter(String);

/// The log of this process.
struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    /// Beside what can be exchanged, which asks a filter of no single event.
    seldom: Seldom,
    /// Whether its filter was said, before which no configuration goes.
    is_said: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Begins to log; `said`: what a flag or the environment says.
pub(crate) fn start(said: Option<&Filter>, format: Format) {
    let is_colourful = std::io::stderr().is_terminal() && colours_wanted();
    let lines = fmt::layer().with_ansi(is_colourful);
    let (log, subscriber) = Log::new(said, format, lines.with_writer(std::io::stderr));
    // The process has one log, which begins once.
    drop(LOG.set(log));
    subscriber.init();
}

/// From now on what a configuration says, or the default; not where a flag or the environment has said something else. Whether it is so.
pub(crate) fn configure(filter: Option<&Filter>) -> bool {
    LOG.get().is_some_and(|log| log.configure(filter))
}

impl Log {
    /// What writes such lines, and how that can be changed.
    fn new<W: for<'a> MakeWriter<'a> + Send + Sync + 'static>(
        said: Option<&Filter>,
        format: Format,
        lines: fmt::Layer<Registry, DefaultFields, fmt::format::Format, W>,
    ) -> (Self, impl Subscriber + Send + Sync) {
        let lines = match format {
            Format::Text => lines.boxed(),
            Format::Json => lines.json().flatten_event(true).boxed(),
        };
        let (text, pause) = wanted(said);
        let seldom = Seldom(Arc::new(Mutex::new(Repeats::new(pause))));
        let (layer, filter) = reload::Layer::new(EnvFilter::new(text));
        let lines = lines.with_filter(layer.and(seldom.clone()));
        let log = Self {
            filter,
            seldom,
            is_said: said.is_some(),
        };
        (log, tracing_subscriber::registry().with(lines))
    }

    /// As the function of this name.
    fn configure(&self, filter: Option<&Filter>) -> bool {
        let (text, pause) = wanted(filter);
        // It fails where there is no log any more.
        let is_taken = !self.is_said && self.filter.reload(EnvFilter::new(text)).is_ok();
        if is_taken {
            self.seldom.repeats().pause = pause;
        }
        is_taken
    }
}

/// What is logged, and how often of one place.
fn wanted(filter: Option<&Filter>) -> (&str, Duration) {
    match filter {
        Some(Filter(text)) => (text, Duration::ZERO),
        None => (DEFAULT, PAUSE),
    }
}

impl FromStr for Filter {
    type Err = String;

    /// A word alone must be a level: tracing would take a misspelt one as the name of a crate.
    fn from_str(text: &str) -> Result<Self, String> {
        let misspelt =
            |part: &&str| !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err();
        let problem = match EnvFilter::try_new(text) {
            Err(error) => error.to_string(),
            Ok(_) => match text.split(',').find(misspelt) {
                Some(part) => format!("\"{part}\" is no level"),
                None => return Ok(Self(text.to_owned())),
            },
        };
        Err(format!(
            "{problem}; give error, warn, info, debug, trace, off, or filters like selkie=debug"
        ))
    }
}

impl TryFrom<String> for Filter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Filter> for String {
    fn from(Filter(text): Filter) -> Self {
        text
    }
}

/// Lets each place in the code be heard now and then.
#[derive(Clone)]
struct Seldom(Arc<Mutex<Repeats<Identifier>>>);

impl Seldom {
    fn repeats(&self) -> MutexGuard<'_, Repeats<Identifier>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> layer::Filter<S> for Seldom {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let place = event.metadata();
        let admitted = self.repeats().admit(place.callsite(), Instant::now());
        if let Some(left_out @ 1..) = admitted {
            let lines = counted(left_out, "line");
            remark(format_args!(
                "{lines} from {} were left out; --log error shows all",
                place.target()
            ));
        }
        admitted.is_some()
    }
}

/// Who was heard when. It holds an entry for each place in the code, of which there are so many and no more.
struct Repeats<K> {
    pause: Duration,
    /// When it was heard last, and what was left out since.
    heard: HashMap<K, (Instant, u64)>,
}

impl<K: std::hash::Hash + Eq> Repeats<K> {
    fn new(pause: Duration) -> Self {
        Self {
            pause,
            heard: HashMap::new(),
        }
    }

    /// Whether this one may be heard now: how many were left out since it was heard last. `None`: not yet.
    fn admit(&mut self, place: K, now: Instant) -> Option<u64> {
        match self.heard.get_mut(&place) {
            None => {
                self.heard.insert(place, (now, 0));
                Some(0)
            }
            Some((at, left_out)) if now.saturating_duration_since(*at) < self.pause => {
                *left_out += 1;
                None
            }
            Some((at, left_out)) => {
                *at = now;
                Some(std::mem::take(left_out))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_named() {
        let filter = |text: &str| text.parse::<Filter>();
        assert!(filter(DEFAULT).is_ok() && filter("info,libp2p=debug").is_ok());
        for wrong in ["libp2p=loud", "loud", "info,inof"] {
            assert!(filter(wrong).expect_err("no level").contains("give error"));
        }
    }

    /// Where lines go in a test.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn count(&self) -> usize {
            let bytes = self.0.lock().expect("no panic");
            bytes.iter().filter(|byte| **byte == b'\n').count()
        }
    }

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A log into a buffer.
    fn begun(said: Option<&Filter>, lines: &Lines) -> (Log, impl Subscriber + Send + Sync) {
        let lines = lines.clone();
        let layer = fmt::layer().with_ansi(false);
        let layer = layer.with_writer(move || lines.clone());
        Log::new(said, Format::Text, layer)
    }

    /// One place complains.
    fn complains(times: usize) {
        for _ in 0..times {
            tracing::error!("no route");
        }
    }

    #[test]
    fn by_default_each_place_is_heard_once_a_minute_and_where_a_filter_is_named_always() {
        let lines = Lines::default();
        let (log, subscriber) = begun(None, &lines);
        let filter = "error".parse().expect("a filter");
        tracing::subscriber::with_default(subscriber, || {
            complains(3);
            assert_eq!(lines.count(), 1);
            assert!(log.configure(Some(&filter)));
            complains(3);
            assert_eq!(lines.count(), 4);
            assert!(log.configure(None));
            complains(3);
            assert_eq!(lines.count(), 4);
        });
        let lines = Lines::default();
        let (log, subscriber) = begun(Some(&filter), &lines);
        tracing::subscriber::with_default(subscriber, || {
            assert!(!log.configure(None));
            complains(3);
            assert_eq!(lines.count(), 3);
        });
    }

    #[test]
    fn a_flood_is_a_line_a_minute_and_a_count() {
        let start = Instant::now();
        let mut repeats = Repeats::new(PAUSE);
        let mut lines = Vec::new();
        for second in 0..=180 {
            let now = start + Duration::from_secs(second);
            for place in ["mdns", "mdns", "quic"] {
                lines.extend(
                    repeats
                        .admit(place, now)
                        .map(|left_out| (second, place, left_out)),
                );
            }
        }
        let mdns = [(0, 0), (60, 119), (120, 119), (180, 119)];
        let quic = [(0, 0), (60, 59), (120, 59), (180, 59)];
        let of = |wanted: &str| {
            let lines = lines.iter().filter(|(_, place, _)| *place == wanted);
            lines
                .map(|(second, _, left_out)| (*second, *left_out))
                .collect::<Vec<_>>()
        };
        assert_eq!((of("mdns"), of("quic")), (mdns.to_vec(), quic.to_vec()));
    }
}
