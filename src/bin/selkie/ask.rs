//! `selkie status`, `metrics`, `sync status`, `state watch`, `peers`, `score`, `book`, `bans`, `ban`, `unban`, `protect` and `unprotect`: asking a running node, over its control socket (`control.rs`).
//!
//! For people tables and sentences (`ask/words.rs`), with `--json` the node's answer as it is.

mod words;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use anyhow::bail;
use clap::Subcommand;
use futures_timer::Delay;
use humantime_serde::re::humantime;
use selkie::{PeerId, peers::Banned};
use serde_json::json;

use crate::{
    control::{Control, Question},
    interrupt::Interrupt,
    output::{Tone, once, print, remark},
    place::Flags,
};

/// How often `--watch` asks again.
const WATCH: Duration = Duration::from_secs(2);
/// Clears a terminal, and begins in its corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

#[derive(Subcommand)]
pub(crate) enum Ask {
    /// Ask a running node how it is: its peers, its chain, what it has sent
    Status {
        #[command(flatten)]
        whom: Whom,
    },
    /// Ask a running node for its figures: connections, messages, peers
    Metrics {
        #[command(flatten)]
        whom: Whom,
        /// Ask again every two seconds, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Ask a running node how far its chain is
    Sync {
        #[command(subcommand)]
        ask: AskSync,
    },
    /// Ask a running node who is connected to it
    Peers {
        #[command(flatten)]
        whom: Whom,
        /// Ask again every two seconds, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Ask a running node what a peer's score is, and what led to it
    Score {
        #[command(flatten)]
        whom: Whom,
        /// The peer's id
        peer: PeerId,
        /// Ask again every two seconds, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Ask a running node whom it knows: its address book
    Book {
        #[command(flatten)]
        whom: Whom,
    },
    /// Ask a running node whom it keeps out
    Bans {
        #[command(flatten)]
        whom: Whom,
    },
    /// Have a running node let a peer or a network go and keep it out; it remembers that over restarts, if it keeps an address book
    Ban {
        #[command(flatten)]
        whom: Whom,
        /// The peer's id, an address (203.0.113.7), or a network (203.0.113.0/24)
        #[arg(value_name = "PEER-OR-NETWORK")]
        peer: Banned,
        /// For how long, in whole seconds, such as 30m, 1h or 7d [default: the node's security.blacklist_config.ban_duration]
        #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
        seconds: Option<u64>,
    },
    /// Have a running node let a peer or a network in again
    Unban {
        #[command(flatten)]
        whom: Whom,
        /// As `selkie bans` shows it
        #[arg(value_name = "PEER-OR-NETWORK")]
        peer: Banned,
    },
    /// Have a running node keep a peer's place when it is full and lets the least useful go; until it ends
    Protect {
        #[command(flatten)]
        whom: Whom,
        #[command(flatten)]
        protected: Protected,
    },
    /// Have a running node keep a peer's place no more
    Unprotect {
        #[command(flatten)]
        whom: Whom,
        #[command(flatten)]
        protected: Protected,
    },
}

/// Whose place is meant.
#[derive(clap::Args)]
pub(crate) struct Protected {
    /// The peer's id
    peer: PeerId,
    /// What for: the place is kept until each tag that was given is taken away
    #[arg(long, default_value = "user")]
    tag: String,
}

#[derive(Subcommand)]
pub(crate) enum AskSync {
    /// Whether the chain is as far as its peers', what is being fetched, how fast, and how long that will take
    Status {
        #[command(flatten)]
        whom: Whom,
        /// Ask again every two seconds, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
}

/// Which node.
#[derive(clap::Args)]
pub(crate) struct Whom {
    #[command(flatten)]
    node: Flags,
    /// Print the answer as one JSON object; where it is asked again, one a line, and at Ctrl-C a last one of `type` `end`
    #[arg(long)]
    json: bool,
}

impl Whom {
    /// Connects to the node.
    fn reach(self) -> anyhow::Result<Control> {
        let path = self.node.names()?.socket()?;
        let shown = path.display();
        Control::connect(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow::anyhow!(
                "no node is asked at {shown}: start one with selkie run, or name the key of the one that runs (--key), or where it \
                 was told to be asked (--control)"
            ),
            io::ErrorKind::PermissionDenied => anyhow::anyhow!(
                "{shown} is for its owner alone; ask as the user who runs the node, or as root"
            ),
            _ => anyhow::anyhow!("can't ask at {shown}: {error}"),
        })
    }
}

/// Asks, and prints the answer.
pub(crate) async fn run(ask: Ask, interrupt: Interrupt) -> anyhow::Result<()> {
    let (whom, question, watch) = match ask {
        Ask::Status { whom } => (whom, Question::Status, false),
        Ask::Metrics { whom, watch } => (whom, Question::Metrics, watch),
        Ask::Sync {
            ask: AskSync::Status { whom, watch },
        } => (whom, Question::Sync, watch),
        Ask::Peers { whom, watch } => (whom, Question::Peers, watch),
        Ask::Score { whom, peer, watch } => (whom, Question::Score { peer }, watch),
        Ask::Book { whom } => (whom, Question::Book, false),
        Ask::Bans { whom } => (whom, Question::Bans, false),
        Ask::Ban {
            whom,
            peer,
            seconds,
        } => (whom, Question::Ban { peer, seconds }, false),
        Ask::Unban { whom, peer } => (whom, Question::Unban { peer }, false),
        Ask::Protect {
            whom,
            protected: Protected { peer, tag },
        } => (whom, Question::Protect { peer, tag }, false),
        Ask::Unprotect {
            whom,
            protected: Protected { peer, tag },
        } => (whom, Question::Unprotect { peer, tag }, false),
    };
    asked(whom, question, watch.then_some(WATCH), interrupt).await
}

/// Asks, and prints the answer; with `pause` again and again, with so much time in between, until the command is to end.
pub(crate) async fn asked(
    whom: Whom,
    question: Question,
    pause: Option<Duration>,
    interrupt: Interrupt,
) -> anyhow::Result<()> {
    let json = whom.json;
    let mut control = whom.reach()?;
    // What is asked without a pause is told piece by piece.
    let is_table = pause.is_some_and(|pause| !pause.is_zero());
    let clears = is_table && !json && io::stdout().is_terminal();
    let mut told_unproved = false;
    loop {
        let asking = question.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let answer = control.ask(&asking);
            (control, answer)
        });
        let answer = match interrupt.unless(asked).await {
            Some(asked) => {
                let (back, answer) = asked?;
                control = back;
                answer.map_err(unanswered)?
            }
            None if pause.is_some() => break,
            None => bail!("it was interrupted before the node answered"),
        };
        if clears {
            print(CLEAR.to_owned())?;
        }
        // Of a state that is watched, that nothing has changed; or that there is none yet, which is told once.
        let is_empty = answer["accounts"].as_array().is_some_and(Vec::is_empty);
        let is_unproved = is_empty && answer["height"].is_null();
        let is_news = is_unproved && !std::mem::replace(&mut told_unproved, true);
        if is_news && !json {
            remark(
                "the node has verified no state yet; what the accounts hold follows once it has",
            );
        } else if is_news || !is_empty {
            let told = words::sentences(&question, &answer);
            once(json, Tone::Plain, told, answer)?;
        }
        let Some(pause) = pause else {
            return Ok(());
        };
        if interrupt.unless(Delay::new(pause)).await.is_none() {
            break;
        }
    }
    if json {
        once(json, Tone::Plain, "", json!({"type": "end"}))?;
    }
    Ok(())
}

/// How long a ban lasts, for clap.
fn seconds(text: &str) -> Result<u64, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (time.as_secs(), time.subsec_nanos()) {
        (0, 0) => Err("this is no time; selkie unban lets a peer in again".to_owned()),
        (seconds, 0) => Ok(seconds),
        _ => Err("give whole seconds".to_owned()),
    }
}

/// Why there is no answer, for people. No error of the socket is passed on as it is: one of a closed pipe would be taken for stdout's.
fn unanswered(error: io::Error) -> anyhow::Error {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    match error.kind() {
        BrokenPipe | ConnectionReset | UnexpectedEof => {
            anyhow::anyhow!("the node has ended, or answers this user nothing")
        }
        TimedOut | WouldBlock => anyhow::anyhow!(
            "the node does not answer: it is starting, which a large chain makes slow, or many others ask it; try again later"
        ),
        _ => anyhow::anyhow!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_lasts_whole_seconds() {
        assert_eq!(seconds("1m 30s"), Ok(90));
        for (text, problem) in [
            ("0s", "unban"),
            ("500ms", "whole"),
            ("1500ms", "whole"),
            ("soon", "number"),
        ] {
            let error = seconds(text).expect_err("it is none");
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn why_there_is_no_answer_is_said_in_words() {
        for (kind, says) in [
            (io::ErrorKind::BrokenPipe, "has ended"),
            (io::ErrorKind::UnexpectedEof, "has ended"),
            (io::ErrorKind::WouldBlock, "is starting"),
            (io::ErrorKind::TimedOut, "is starting"),
            (io::ErrorKind::Other, "other error"),
        ] {
            let told = unanswered(kind.into());
            assert!(told.to_string().contains(says), "{told}");
            assert!(told.downcast_ref::<io::Error>().is_none(), "{kind}");
        }
    }
}
