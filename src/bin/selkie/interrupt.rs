//! Ctrl-C, and the SIGTERM of service managers: the first asks the command to end in order, a
//! second one, a second later or more, ends the process at once. And SIGHUP, by which a command that takes it is asked to read its configuration again; without,
//! and where it came because a terminal was closed, it ends the command. Who started it with SIGHUP ignored (`nohup`) wants it to outlive the terminal.

use std::{
    io::{self, IsTerminal},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::future::{Either, select};
use futures_timer::Delay;
use tokio::sync::watch;

/// Exit code of a process that was interrupted: 128 + SIGINT, as shells have it.
const INTERRUPTED: i32 = 130;

/// What comes so soon after the first is the same wish: `timeout`, `npm` and `cargo run` pass on what the whole group of processes has got already.
const SAME_WISH: Duration = Duration::from_secs(1);

/// How long what is said last may take, once the command is to end: whoever should read it may have stopped reading.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Tells when the command is to end.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<watch::Sender<bool>>);

/// Takes the signals from now on.
///
/// # Errors
/// Where the system does not let us.
pub(crate) fn watch() -> io::Result<Interrupt> {
    let mut signals = signals::Signals::new()?;
    let interrupt = Interrupt(Arc::new(watch::Sender::new(false)));
    let first = interrupt.clone();
    tokio::spawn(async move {
        signals.next().await;
        first.end();
        let mut moment = Delay::new(SAME_WISH);
        while let Either::Left(_) = select(pin!(signals.next()), &mut moment).await {}
        signals.next().await;
        std::process::exit(INTERRUPTED);
    });
    Ok(interrupt)
}

/// The SIGHUPs of a command that goes on.
pub(crate) struct Hangups {
    signals: signals::Hangups,
    /// Whether there was a terminal at the start, with which it is to end.
    ends_with_terminal: bool,
}

/// Takes SIGHUP from now on.
///
/// # Errors
/// Where the system does not let us.
pub(crate) fn hangups() -> io::Result<Hangups> {
    // Asked before it is taken.
    let ends_with_terminal = has_terminal() && !signals::hangup_is_ignored();
    Ok(Hangups {
        signals: signals::Hangups::new()?,
        ends_with_terminal,
    })
}

impl Hangups {
    /// Returns with the next one: true where the configuration is to be read again, false where the terminal was closed.
    pub(crate) async fn next(&mut self) -> bool {
        self.signals.next().await;
        !self.ends_with_terminal || has_terminal()
    }
}

/// Whether there is one, be it that what the command says goes elsewhere. One that was closed is none.
fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

impl Interrupt {
    /// Returns once the command is to end; at once, if it was already.
    pub(crate) async fn wait(&self) {
        // Its sender is here.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }

    /// Has the command end.
    pub(crate) fn end(&self) {
        self.0.send_replace(true);
    }

    /// Does the work; `None` where the command is to end before it is done.
    pub(crate) async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match select(pin!(work), pin!(self.wait())).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    /// Does the last work; `None` where the command is to end and it is not done a moment later.
    pub(crate) async fn unless_late<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let late = async {
            self.wait().await;
            Delay::new(LAST_WORDS).await;
        };
        match select(pin!(work), pin!(late)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}

#[cfg(unix)]
mod signals {
    use std::{io, pin::pin};

    use futures::future::select;
    use tokio::signal::unix::{Signal, SignalKind, signal};

    pub(super) struct Signals {
        interrupt: Signal,
        terminate: Signal,
    }

    impl Signals {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
            })
        }

        pub(super) async fn next(&mut self) {
            select(pin!(self.interrupt.recv()), pin!(self.terminate.recv())).await;
        }
    }

    /// Whether who started the process had it ignore SIGHUP, as Linux tells it; other systems tell it only to unsafe code, and there it never is.
    pub(super) fn hangup_is_ignored() -> bool {
        // proc(5): a mask in hex, whose lowest bit is the signal of number 1.
        let told = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = told.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        let bit = 1 << (SignalKind::hangup().as_raw_value() - 1);
        mask.is_some_and(|mask| mask & bit != 0)
    }

    pub(super) struct Hangups(Signal);

    impl Hangups {
        pub(super) fn new() -> io::Result<Self> {
            signal(SignalKind::hangup()).map(Self)
        }

        pub(super) async fn next(&mut self) {
            self.0.recv().await;
        }
    }
}

#[cfg(not(unix))]
mod signals {
    use std::io;

    pub(super) struct Signals;

    impl Signals {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn next(&mut self) {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending().await
            }
        }
    }

    pub(super) fn hangup_is_ignored() -> bool {
        false
    }

    pub(super) struct Hangups;

    impl Hangups {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn next(&mut self) {
            std::future::pending().await
        }
    }
}
