//! The log, for whoever asks for it with `createNode({ log })`: what the crates in this WebAssembly say by `tracing`, to the console as it happens, which
//! shows the last lines before a crash too, and to readers.
//!
//! A [`Subscriber`] of few lines and not `tracing-subscriber`'s registry, which keeps spans that nobody reads here. It is there from the first reader
//! on, and while there is none a line costs one comparison. One WebAssembly has one log: of several nodes on a page each reader hears all lines up
//! to its level, and the console those up to the highest.
//!
//! Not in builds in which no line is compiled (feature `silent`, as what the package ships): what JavaScript looks for is not there then.
//!
//! Bounds: a line has [`MAX_LINE`] bytes; of those that wait for a reader, beyond [`MAX_LINES`], the oldest are dropped, which it is told; a pull
//! moves [`MAX_PULLED`].

use std::{
    cell::RefCell,
    fmt::{self, Write},
    rc::{Rc, Weak},
};

use js_sys::Array;
use tokio::sync::Mutex;
use tracing::{
    Event, Level, Metadata, Subscriber,
    callsite::rebuild_interest_cache,
    field::{Field, Visit},
    level_filters::{LevelFilter, STATIC_MAX_LEVEL},
    span,
    subscriber::set_global_default,
};
use wasm_bindgen::prelude::*;

use super::{convert, node::WasmNode};
use crate::mpsc::{self, Weigh};

/// The longest line, in bytes, without [`CUT`].
const MAX_LINE: usize = 1000;
/// What stands where a line was cut.
const CUT: &str = "…";
/// Lines that wait for one reader.
const MAX_LINES: usize = 1000;
/// What one pull moves to JavaScript at most.
const MAX_PULLED: u32 = 64;

/// Their names in JavaScript.
const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

thread_local! {
    static READERS: RefCell<Vec<Weak<Reader>>> = const { RefCell::new(Vec::new()) };
}

#[wasm_bindgen]
extern "C" {
    // A page may have a console of its own, which may throw.
    #[wasm_bindgen(js_namespace = console, js_name = error, catch)]
    fn show_error(line: &str) -> Result<(), JsValue>;
    #[wasm_bindgen(js_namespace = console, js_name = warn, catch)]
    fn show_warning(line: &str) -> Result<(), JsValue>;
    #[wasm_bindgen(js_namespace = console, js_name = info, catch)]
    fn show_information(line: &str) -> Result<(), JsValue>;
    #[wasm_bindgen(js_namespace = console, js_name = debug, catch)]
    fn show_detail(line: &str) -> Result<(), JsValue>;
}

/// What JavaScript reads.
#[wasm_bindgen]
pub struct WasmLog {
    lines: Rc<Mutex<mpsc::Receiver<Line>>>,
    reader: RefCell<Option<Rc<Reader>>>,
}

/// Whom lines up to a level go to, as long as it is held.
struct Reader {
    level: Level,
    lines: mpsc::Sender<Line>,
}

#[derive(Clone)]
struct Line {
    level: Level,
    text: String,
}

#[wasm_bindgen]
impl WasmNode {
    /// A reader of the log, up to a level, from now on.
    #[wasm_bindgen(js_name = openLog)]
    pub fn open_log(level: &str) -> Result<WasmLog, JsValue> {
        open(level).map_err(|problem| {
            let message = format!("config: log = \"{level}\": {problem}");
            convert::failure("config", true, &message)
        })
    }
}

#[wasm_bindgen]
impl WasmLog {
    /// The next lines, as events, with the loss of those before them in front; undefined after the end.
    pub async fn next(&self) -> JsValue {
        let lines = Rc::clone(&self.lines);
        let mut lines = lines.lock().await;
        let Some(first) = lines.recv().await else {
            return JsValue::UNDEFINED;
        };
        let events = Array::new();
        let missed: Vec<_> = lines.missed_kinds().collect();
        if !missed.is_empty() {
            events.push(&convert::lagged(&missed));
        }
        events.push(&first.event());
        while events.length() < MAX_PULLED
            && let Some(line) = lines.try_recv()
        {
            events.push(&line.event());
        }
        events.into()
    }

    /// Hears no more: who waits is told the end.
    pub fn end(&self) {
        self.reader.take();
        settle();
    }
}

fn open(level: &str) -> Result<WasmLog, String> {
    let known = LEVELS.iter().find(|(name, _)| *name == level);
    let (_, level) = *known.ok_or("give 'error', 'warn', 'info', 'debug' or 'trace'")?;
    if STATIC_MAX_LEVEL < level {
        return Err(format!(
            "no such line was compiled into this WebAssembly, of which the level is {STATIC_MAX_LEVEL}"
        ));
    }
    install()?;
    let (sender, lines) = mpsc::channel(MAX_LINES, MAX_LINES * (MAX_LINE + CUT.len()));
    let reader = Rc::new(Reader {
        level,
        lines: sender,
    });
    READERS.with_borrow_mut(|readers| readers.push(Rc::downgrade(&reader)));
    settle();
    Ok(WasmLog {
        lines: Rc::new(Mutex::new(lines)),
        reader: RefCell::new(Some(reader)),
    })
}

/// Hears of every line from now on, unless somebody else does.
fn install() -> Result<(), String> {
    thread_local! {
        static INSTALLED: bool = set_global_default(Log).is_ok();
    }
    match INSTALLED.with(|installed| *installed) {
        true => Ok(()),
        false => Err("this WebAssembly has set a subscriber of its own, which has the log".into()),
    }
}

/// The readers have changed, and with them what is worth a line.
fn settle() {
    READERS.with_borrow_mut(|readers| readers.retain(|reader| reader.strong_count() > 0));
    rebuild_interest_cache();
}

/// Up to which level somebody reads.
fn highest() -> LevelFilter {
    READERS.with_borrow(|readers| {
        let readers = readers.iter().filter_map(Weak::upgrade);
        let levels = readers.map(|reader| LevelFilter::from_level(reader.level));
        levels.max().unwrap_or(LevelFilter::OFF)
    })
}

struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= highest()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(highest())
    }

    fn event(&self, event: &Event<'_>) {
        let line = Line::of(event);
        line.show();
        READERS.with_borrow(|readers| {
            for reader in readers.iter().filter_map(Weak::upgrade) {
                if line.level <= reader.level {
                    reader.lines.send_all([line.clone()]);
                }
            }
        });
    }

    // None is enabled.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Line {
    fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut text = Text::default();
        text.put(format_args!("{}:", metadata.target()));
        event.record(&mut text);
        Self {
            level: *metadata.level(),
            text: text.written,
        }
    }

    fn show(&self) {
        let show = match self.level {
            Level::ERROR => show_error,
            Level::WARN => show_warning,
            Level::INFO => show_information,
            // JavaScript's own `trace` shows the stack.
            _ => show_detail,
        };
        // Of what it throws there is nobody to be told.
        let _ = show(&self.text);
    }

    fn event(&self) -> JsValue {
        let named = LEVELS.iter().find(|(_, level)| *level == self.level);
        convert::object([
            ("type", "log".into()),
            ("level", named.map_or("trace", |(name, _)| name).into()),
            ("message", self.text.as_str().into()),
        ])
    }
}

impl Weigh for Line {
    fn weight(&self) -> usize {
        self.text.len()
    }

    fn kind(&self) -> &'static str {
        "log"
    }
}

/// What is said first and then its fields, as far as there is room.
#[derive(Default)]
struct Text {
    written: String,
    is_cut: bool,
}

impl Text {
    fn put(&mut self, words: fmt::Arguments<'_>) {
        // It fails where it is full, which the text shows.
        let _ = self.write_fmt(words);
    }
}

impl Write for Text {
    fn write_str(&mut self, words: &str) -> fmt::Result {
        if self.is_cut {
            return Err(fmt::Error);
        }
        let room = MAX_LINE - self.written.len();
        if words.len() <= room {
            self.written.push_str(words);
            return Ok(());
        }
        let fits = |end: &usize| words.is_char_boundary(*end);
        let end = (0..=room).rev().find(fits).unwrap_or(0);
        self.written.push_str(words.get(..end).unwrap_or_default());
        self.written.push_str(CUT);
        self.is_cut = true;
        Err(fmt::Error)
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.put(format_args!(" {value:?}")),
            name => self.put(format_args!(" {name}={value:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use js_sys::Reflect;

    use super::*;
    use crate::platform::test;

    fn field(object: &JsValue, name: &str) -> JsValue {
        Reflect::get(object, &name.into()).expect("an object")
    }

    /// What waits, without what other tests say meanwhile.
    fn heard(log: &WasmLog) -> Vec<String> {
        let mut heard = Vec::new();
        while let Some(events) = log.next().now_or_never() {
            heard.extend(Array::from(&events).iter().filter_map(|event| {
                let [level, message] =
                    ["level", "message"].map(|name| field(&event, name).as_string());
                let said = message?
                    .strip_prefix("selkie::web::log::tests: ")?
                    .to_owned();
                Some(format!("{} {said}", level?))
            }));
        }
        heard
    }

    #[test]
    async fn a_reader_hears_lines_up_to_its_level_with_their_fields() {
        tracing::error!("nobody hears this");
        let (one, other) = (open("warn").expect("a log"), open("trace").expect("a log"));
        assert_eq!(highest(), LevelFilter::TRACE);
        tracing::warn!(peer = %"12D3", count = 7, why = "late", "let go of {}", "it");
        tracing::info_span!("a span is no line").in_scope(|| tracing::trace!("small"));
        let warned = "warn let go of it peer=12D3 count=7 why=\"late\"";
        assert_eq!(heard(&one), [warned]);
        assert_eq!(heard(&other), [warned, "trace small"]);
        other.end();
        assert!(other.next().await.is_undefined(), "it has ended");
        tracing::debug!("nobody hears this");
        tracing::error!("out of paper");
        assert_eq!(heard(&one), ["error out of paper"]);
        // Who waits is told the end, and who has gone is not counted.
        let mut waiting = Box::pin(one.next());
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        one.end();
        assert!(waiting.await.is_undefined());
        assert_eq!(highest(), LevelFilter::OFF);
    }

    #[test]
    fn what_nobody_reads_grows_no_memory_and_is_told() {
        let log = open("error").expect("a log");
        for number in 0..=MAX_LINES {
            tracing::error!("number {number}");
        }
        let events = log.next().now_or_never().expect("lines wait");
        let events = Array::from(&events);
        assert_eq!(events.length(), MAX_PULLED);
        assert_eq!(field(&field(&events.get(0), "kinds"), "log"), 1);
        let first = field(&events.get(1), "message").as_string();
        assert!(first.is_some_and(|line| line.ends_with(" number 1")));
        log.end();
    }

    #[test]
    fn a_line_is_cut_between_letters() {
        let log = open("error").expect("a log");
        let long = "ä".repeat(MAX_LINE);
        tracing::error!(long, after = 5, "long");
        let line = heard(&log).remove(0);
        assert!(line.ends_with("ä…"), "{line}");
        assert!(line.len() <= MAX_LINE + CUT.len());
        log.end();
    }

    #[test]
    fn another_level_is_none() {
        let refused = WasmNode::open_log("loud").err().expect("there is none");
        assert_eq!(field(&refused, "code"), "config");
        let message = field(&refused, "message").as_string();
        assert_eq!(
            message.as_deref(),
            Some("config: log = \"loud\": give 'error', 'warn', 'info', 'debug' or 'trace'")
        );
    }
}
