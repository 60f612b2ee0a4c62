//! One attack: the victim, the honest two, the attacker, and what came of it.

use std::{
    io,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Attack,
    attacker::{Deeds, Order, Via, address},
    child::{self, Child, Part, cpu_seconds, memory},
    honest::{self, HOSTS, Pair},
    victim::Account,
};
use libp2p::Multiaddr;

/// Where the victim is stopped, in MiB, to spare the host.
const STOP_AT: f64 = 1536.0;
const SAMPLE: Duration = Duration::from_millis(50);
/// How long honest items may be on the way after the attack: what a flood pushed out of the logs comes by the next comparison of
/// pools, once a minute.
const PATIENCE: Duration = Duration::from_secs(75);

/// How long each part of a measurement takes.
#[derive(Clone, Copy)]
pub struct Times {
    pub settling: Duration,
    pub rest: Duration,
    pub attack: Duration,
    pub after: Duration,
    pub newcomers: usize,
}

impl Times {
    /// For facts without figures.
    pub const SMOKE: Self = Self {
        settling: Duration::from_millis(200),
        rest: Duration::from_millis(500),
        attack: Duration::from_millis(1500),
        after: Duration::ZERO,
        newcomers: 2,
    };
}

/// How many new nodes got in during an attack.
#[derive(Clone, Copy, Debug)]
pub struct Newcomers {
    pub via: Via,
    /// Of so many.
    pub of: usize,
    /// From the attacker's address, and from another.
    pub came: [usize; HOSTS.len()],
}

/// What came of an attack.
pub struct Row {
    pub attack: &'static Attack,
    /// The victim's memory in MiB: at rest, at most, a while after.
    pub memory: [f64; 3],
    /// The victim's CPU during the attack, as a share of a core; and at rest.
    pub cpu: [f64; 2],
    /// Honest votes' 99th percentile at rest and under attack, in milliseconds.
    pub p99: [f64; 2],
    /// Honest votes and transactions made during the attack, and those of them that did not come.
    pub votes: (usize, usize),
    pub transactions: (usize, usize),
    /// What honest peers had to suffer: scores and ends of connections, on either side.
    pub suffered: Vec<String>,
    pub newcomers: Option<Newcomers>,
    /// How many of this host's threads wanted a core at the end of the attack (Linux: over a minute).
    pub load: f64,
    pub account: Account,
    pub deeds: Deeds,
    /// Why the measurement ended before its time.
    pub stopped: Option<String>,
}

impl Row {
    /// What the attack added to the victim's memory at most, in MiB.
    pub fn added(&self) -> f64 {
        (self.memory[1] - self.memory[0]).max(0.0)
    }
}

/// Measures an attack.
///
/// # Errors
/// Where the victim does not come up.
pub async fn measure(attack: &'static Attack, times: Times) -> io::Result<Row> {
    let mut victim = Child::start(&Part::Victim {
        attack: attack.name.to_owned(),
    });
    let addresses: Vec<Multiaddr> = victim.answer()?;
    let mut pair = Pair::join(&address(&addresses, Via::Tcp)).await;
    for id in &pair.ids {
        victim.tell(&format!("friend {id}"))?;
    }
    pair.talk();
    tokio::time::sleep(times.settling).await;

    let rest = Instant::now();
    let before = cpu_seconds(victim.id());
    let mut memories = [0.0f64; 3];
    while rest.elapsed() < times.rest {
        memories[0] = memories[0].max(memory(victim.id()));
        tokio::time::sleep(SAMPLE).await;
    }
    let rest_cpu = (cpu_seconds(victim.id()) - before) / rest.elapsed().as_secs_f64();

    let _ = victim.tell("begin");
    let salt = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut attacker = Child::start(&Part::Attacker {
        attack: attack.name.to_owned(),
        order: Order {
            addresses: addresses.clone(),
            salt: salt.as_nanos() as u64,
        },
    });
    let begin = Instant::now();
    let before = cpu_seconds(victim.id());
    memories[1] = memories[0];
    let mut stopped = None;
    while begin.elapsed() < times.attack && stopped.is_none() {
        tokio::time::sleep(SAMPLE).await;
        stopped = look(&mut victim, &mut memories[1]);
    }
    let end = Instant::now();
    let cpu = (cpu_seconds(victim.id()) - before) / (end - begin).as_secs_f64();
    let mut newcomers = None;
    if let (Some(via), None) = (attack.newcomers, &stopped) {
        let (of, mut came) = (times.newcomers, [0; HOSTS.len()]);
        for (came, from) in came.iter_mut().zip(HOSTS) {
            *came = honest::newcomers(&addresses, via, from, of).await;
        }
        newcomers = Some(Newcomers { via, of, came });
        stopped = look(&mut victim, &mut memories[1]);
    }
    // Before the attacker goes: its going is none of its fate.
    let account: Account = victim.ask("report").unwrap_or_default();
    let deeds: Deeds = attacker.ask("report").unwrap_or_default();
    attacker.kill();

    let after = Instant::now();
    let waits = |pair: &Pair| {
        let lost = [b'v', b't'].map(|kind| pair.ledger.lost(kind, begin, end).1);
        after.elapsed() < times.after || lost != [0, 0] && after.elapsed() < PATIENCE
    };
    while stopped.is_none() && waits(&pair) {
        tokio::time::sleep(SAMPLE).await;
        if after.elapsed() < times.after {
            memories[2] = memory(victim.id());
        }
        stopped = look(&mut victim, &mut memories[1]);
    }
    let later: Account = victim.ask("report").unwrap_or_default();
    let honest = if attack.honest {
        &account.strangers[..]
    } else {
        &[]
    };
    let fates = later.friends.iter().chain(&deeds.suffered);
    let mut suffered: Vec<_> = fates
        .chain(honest)
        .map(|fate| format!("{} ({:.2} s)", fate.what, fate.seconds))
        .collect();
    suffered.extend(pair.complaints.lock().expect("no panic").iter().cloned());
    let row = Row {
        attack,
        memory: memories,
        cpu: [cpu, rest_cpu],
        p99: [
            quantile(pair.ledger.votes(rest, begin), 0.99),
            quantile(pair.ledger.votes(begin, end), 0.99),
        ],
        votes: pair.ledger.lost(b'v', begin, end),
        transactions: pair.ledger.lost(b't', begin, end),
        suffered,
        newcomers,
        load: child::load(),
        account,
        deeds,
        stopped,
    };
    pair.leave().await;
    Ok(row)
}

/// Looks after the victim: its memory, and whether it is there; why it has to be stopped.
fn look(victim: &mut Child, most: &mut f64) -> Option<String> {
    *most = most.max(memory(victim.id()));
    if victim.has_ended() {
        return Some("the victim crashed".to_owned());
    }
    if *most > STOP_AT {
        victim.kill();
        return Some(format!("stopped at {most:.0} MiB"));
    }
    None
}

/// The value below which this share of the samples lies.
fn quantile(mut samples: Vec<f64>, share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = (samples.len() as f64 * share).ceil() as usize;
    samples.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}
