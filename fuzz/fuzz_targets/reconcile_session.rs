//! A peer's messages in a comparison of pools, in any order: a session ends at most once, sends little for each message, and says
//! nothing once it has ended. The bytes are messages, each behind its length; the first byte says which side we are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use selkie::{
    chain::TransactionKey,
    propagation::pool::reconcile::{Action, Initiator, Message, Request, Responder, Snapshot},
};

fuzz_target!(|data: &[u8]| {
    let Some((side, mut rest)) = data.split_first() else {
        return;
    };
    let keys = (0_u32..64).map(|number| TransactionKey::of(&number.to_le_bytes()));
    let snapshot = Snapshot::new(keys.collect(), Vec::new()).expect("few keys");
    let now = web_time::Instant::now();
    let mut ends = 0;
    let mut take = |actions: Vec<Action>| {
        assert!(ends == 0 || actions.is_empty(), "it has ended");
        assert!(actions.len() < 1024);
        ends += actions.iter().filter(|action| matches!(action, Action::End(_))).count();
        assert!(ends <= 1);
    };
    let mut initiator = Initiator::new(snapshot.clone(), 1, now).0;
    let request = Request { salt: 1, pool_size: u32::from(*side) };
    let (mut responder, first) = Responder::new(snapshot, 2, request, now);
    let initiates = side % 2 == 0;
    if !initiates {
        take(first);
    }
    while let Some((length, more)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(more.len());
        let (message, more) = more.split_at(length);
        rest = more;
        let Ok(message) = Message::from_bytes(message) else {
            continue;
        };
        take(if initiates {
            initiator.on_message(message)
        } else {
            responder.on_message(message)
        });
    }
});
