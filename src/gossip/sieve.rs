//! What of a gossipsub frame reaches gossipsub.
//!
//! gossipsub decodes a whole frame, keeps each message in three caches and only then looks whether anybody here wants
//! it. So the frame is sifted first, as bytes: messages on topics that nobody here joined, signed ones, names and ids
//! longer than anybody needs, more control entries than a frame may hold, and pauses after a prune that no clock should be asked to
//! add (CVE-2026-34219) do not pass. What is left is written anew, and counted. A frame of more than [`MAX_ENTRIES`] is none.
//!
//! Bounds: nothing is kept; what passes is no longer than the frame.

use std::collections::HashSet;

use libp2p::gossipsub::MessageId;
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};

use crate::fields::{Fields, Malformed};

/// The longest name of a topic, in bytes.
pub(crate) const MAX_TOPIC_NAME: usize = 256;
/// The most topics that a node takes part in: a user's, and those of our items.
pub(crate) const MAX_TOPICS: usize = 256 + 3;
/// The most messages in a frame; gossipsub's own limit.
const MAX_MESSAGES: u64 = 500;
/// The most grafts, prunes and message ids in a frame.
const MAX_CONTROLS: u64 = 1024;
/// The most entries of all kinds in a frame, two bytes each: three times what others' implementations announce at once, 5,000 ids.
const MAX_ENTRIES: u64 = 16_384;
/// The most bytes of those and of subscriptions that pass: under gossipsub's own 16 KiB, over which it drops the stream.
const MAX_CONTROL_BYTES: usize = 15 << 10;
/// The longest message id, in bytes. Ours have 20; others' do not matter here, and have some 40.
const MAX_ID: usize = 64;
/// The longest pause after a prune, in seconds. gossipsub's own is a minute.
const MAX_BACKOFF: u64 = 3600;

/// Of gossipsub's `RPC` (libp2p/specs pubsub).
const SUBSCRIPTION: u32 = 1;
const PUBLISH: u32 = 2;
const CONTROL: u32 = 3;

/// What became of a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sifted {
    /// What passes, without a length in front; empty where nothing does.
    pub(crate) frame: Vec<u8>,
    /// Messages, subscriptions and control entries that it held.
    pub(crate) items: u64,
    /// Those among them that nobody has a reason to send.
    pub(crate) useless: u64,
    /// Those among them that pass.
    pub(crate) passed: u64,
    /// The messages that it asks for, by their ids.
    pub(crate) wants: Vec<MessageId>,
    /// Whether it held signed messages, which this network does not use.
    pub(crate) signed: bool,
}

/// A prune, without the peers that it recommends.
#[derive(Clone, PartialEq, prost::Message)]
struct Prune {
    #[prost(string, optional, tag = "1")]
    topic: Option<String>,
    #[prost(uint64, optional, tag = "3")]
    backoff: Option<u64>,
}

/// For fuzzing: sifts any bytes as a frame; what passes has to pass again as it is. How many bytes passed.
///
/// # Errors
/// As the sieve has them.
///
/// # Panics
/// Where something passes that should not.
#[doc(hidden)]
pub fn check_gossip(frame: &[u8]) -> Result<usize, impl std::error::Error> {
    let joined = HashSet::from(["ours".to_owned()]);
    let sifted = sift(frame, &joined)?;
    let again = sift(&sifted.frame, &joined)?;
    assert!(again.useless == 0 && again.frame == sifted.frame);
    Ok::<_, Malformed>(sifted.frame.len())
}

/// Sifts a frame: messages pass that are on one of the `joined` topics.
///
/// # Errors
/// [`Malformed`]: it is no frame of gossipsub's, or has more than [`MAX_ENTRIES`].
pub(crate) fn sift(frame: &[u8], joined: &HashSet<String>) -> Result<Sifted, Malformed> {
    let mut sifted = Sifted::default();
    let (mut messages, mut subscriptions) = (0, 0);
    let mut controls = Controls::default();
    for field in Fields::of(frame) {
        match field? {
            (PUBLISH, message) => {
                messages += 1;
                sifted.items += 1;
                if messages > MAX_MESSAGES || !on_one_of(message, 4, joined) {
                    sifted.useless += 1;
                } else if [1, 3, 5].into_iter().any(|tag| has(message, tag)) {
                    sifted.signed = true;
                } else {
                    sifted.passed += 1;
                    put(&mut sifted.frame, PUBLISH, message);
                }
            }
            (SUBSCRIPTION, subscription) => {
                subscriptions += 1;
                sifted.items += 1;
                let name = Fields::of(subscription).tagged(2).last();
                let fits = name.is_some_and(|name| name.len() <= MAX_TOPIC_NAME);
                if fits && subscriptions <= MAX_TOPICS && controls.take_room(subscription.len()) {
                    sifted.passed += 1;
                    put(&mut sifted.frame, SUBSCRIPTION, subscription);
                } else {
                    sifted.useless += 1;
                }
            }
            (CONTROL, control) => controls.sift(control, joined)?,
            // Extensions that are not spoken here.
            _ => {}
        }
        if sifted.items + controls.entries > MAX_ENTRIES {
            return Err(Malformed);
        }
    }
    sifted.items += controls.entries;
    sifted.passed += controls.entries.min(MAX_CONTROLS);
    sifted.useless += controls.useless;
    sifted.wants = controls.wants;
    if !controls.passed.is_empty() {
        put(&mut sifted.frame, CONTROL, &controls.passed);
    }
    Ok(sifted)
}

/// Control entries, of all parts of a frame together.
#[derive(Default)]
struct Controls {
    passed: Vec<u8>,
    /// Bytes of what has passed, subscriptions too.
    bytes: usize,
    entries: u64,
    useless: u64,
    wants: Vec<MessageId>,
}

impl Controls {
    /// Takes room for an entry, with what is written in front of it; false where there is none.
    fn take_room(&mut self, length: usize) -> bool {
        let taken = self.bytes + length + 8;
        let fits = taken <= MAX_CONTROL_BYTES;
        if fits {
            self.bytes = taken;
        }
        fits
    }

    fn sift(&mut self, control: &[u8], joined: &HashSet<String>) -> Result<(), Malformed> {
        for field in Fields::of(control) {
            match field? {
                // I have: a topic and ids.
                (1, entry) => {
                    let topic = Fields::of(entry).tagged(1).last().unwrap_or_default();
                    let known = is_one_of(topic, joined) && self.take_room(topic.len());
                    let mut passed = Vec::new();
                    put(&mut passed, 1, topic);
                    self.ids(Fields::of(entry).tagged(2), known, 2, &mut passed);
                    if known {
                        put(&mut self.passed, 1, &passed);
                    }
                }
                // I want, I don't want: ids.
                (tag @ (2 | 5), entry) => {
                    let mut passed = Vec::new();
                    self.ids(Fields::of(entry).tagged(1), true, 1, &mut passed);
                    if !passed.is_empty() && self.take_room(0) {
                        put(&mut self.passed, tag, &passed);
                        if tag == 2 {
                            let ids = Fields::of(&passed).tagged(1);
                            self.wants.extend(ids.map(MessageId::new));
                        }
                    }
                }
                (3, entry) => {
                    self.entry();
                    if on_one_of(entry, 1, joined) && self.take_room(entry.len()) {
                        put(&mut self.passed, 3, entry);
                    }
                }
                (4, entry) => {
                    self.entry();
                    let mut prune = Prune::decode(entry).map_err(|_| Malformed)?;
                    prune.backoff = prune.backoff.map(|seconds| seconds.min(MAX_BACKOFF));
                    let known = prune
                        .topic
                        .as_deref()
                        .is_some_and(|topic| joined.contains(topic));
                    let entry = prune.encode_to_vec();
                    if known && self.take_room(entry.len()) {
                        put(&mut self.passed, 4, &entry);
                    }
                }
                (6, entry) if self.take_room(entry.len()) => put(&mut self.passed, 6, entry),
                _ => {}
            }
            if self.entries > MAX_ENTRIES {
                return Err(Malformed);
            }
        }
        Ok(())
    }

    /// Counts an entry; false where there are too many.
    fn entry(&mut self) -> bool {
        self.entries += 1;
        let fits = self.entries <= MAX_CONTROLS;
        self.useless += u64::from(!fits);
        fits
    }

    fn ids<'a>(
        &mut self,
        ids: impl Iterator<Item = &'a [u8]>,
        wanted: bool,
        tag: u32,
        passed: &mut Vec<u8>,
    ) {
        let left = MAX_ENTRIES.saturating_sub(self.entries) as usize;
        for id in ids.take(left.saturating_add(1)) {
            let fits = self.entry() && id.len() <= MAX_ID;
            if wanted && fits && self.take_room(id.len()) {
                put(passed, tag, id);
            }
        }
    }
}

/// A frame that says which messages its sender does not want.
pub(super) fn unwanted<'a>(ids: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut entry, mut control, mut frame) = (Vec::new(), Vec::new(), Vec::new());
    ids.for_each(|id| put(&mut entry, 1, id));
    put(&mut control, 5, &entry);
    put(&mut frame, CONTROL, &control);
    frame
}

fn has(message: &[u8], wanted: u32) -> bool {
    Fields::of(message).tagged(wanted).next().is_some()
}

fn is_one_of(topic: &[u8], joined: &HashSet<String>) -> bool {
    str::from_utf8(topic).is_ok_and(|topic| joined.contains(topic))
}

/// Whether the field with a tag names one of these topics. Where there are several the last one counts, as for the decoder.
fn on_one_of(message: &[u8], tag: u32, joined: &HashSet<String>) -> bool {
    let topic = Fields::of(message).tagged(tag).last();
    topic.is_some_and(|topic| is_one_of(topic, joined))
}

fn put(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn joined() -> HashSet<String> {
        HashSet::from(["ours".to_owned()])
    }

    fn message(topic: &str, others: &[(u32, &[u8])]) -> Vec<u8> {
        let mut message = Vec::new();
        put(&mut message, 2, b"data");
        put(&mut message, 4, topic.as_bytes());
        for (tag, value) in others {
            put(&mut message, *tag, value);
        }
        message
    }

    fn frame(parts: &[(u32, &[u8])]) -> Vec<u8> {
        let mut frame = Vec::new();
        for (tag, part) in parts {
            put(&mut frame, *tag, part);
        }
        frame
    }

    #[test]
    fn what_is_wanted_passes_as_it_came() {
        let (ours, hello) = (message("ours", &[]), frame(&[(2, b"chat")]));
        let graft = frame(&[(3, &frame(&[(1, b"ours")]))]);
        let whole = frame(&[(SUBSCRIPTION, &hello), (PUBLISH, &ours), (CONTROL, &graft)]);
        let sifted = sift(&whole, &joined()).expect("right");
        let right = Sifted {
            frame: whole,
            items: 3,
            passed: 3,
            ..Sifted::default()
        };
        assert_eq!(sifted, right);
    }

    #[test]
    fn messages_of_topics_that_nobody_joined_do_not_pass() {
        let (ours, other) = (message("ours", &[]), message("other", &[]));
        // The last topic counts.
        let disguised = message("ours", &[(4, b"other")]);
        let whole = frame(&[(PUBLISH, &other), (PUBLISH, &ours), (PUBLISH, &disguised)]);
        let sifted = sift(&whole, &joined()).expect("right");
        assert_eq!(sifted.frame, frame(&[(PUBLISH, &ours)]));
        assert_eq!((sifted.items, sifted.useless), (3, 2));
    }

    #[test]
    fn signed_messages_are_told_and_do_not_pass() {
        for tag in [1, 3, 5] {
            let whole = frame(&[(PUBLISH, &message("ours", &[(tag, b"x")]))]);
            let sifted = sift(&whole, &joined()).expect("right");
            assert!(sifted.signed && sifted.frame.is_empty() && sifted.useless == 0);
        }
    }

    #[test]
    fn long_names_and_too_many_entries_do_not_pass() {
        let long = frame(&[(2, "a".repeat(MAX_TOPIC_NAME + 1).as_bytes())]);
        let sifted = sift(&frame(&[(SUBSCRIPTION, &long)]), &joined()).expect("right");
        assert!(sifted.frame.is_empty() && sifted.useless == 1);

        let want = frame(&[(2, &frame(&[(1, &[][..])]).repeat(10_000))]);
        let sifted = sift(&frame(&[(CONTROL, &want)]), &joined()).expect("right");
        assert!(sifted.frame.len() <= MAX_CONTROL_BYTES && sifted.items == 10_000);
        assert_eq!(sifted.useless, 10_000 - MAX_CONTROLS);
        assert_eq!(sifted.passed, MAX_CONTROLS);
    }

    #[test]
    fn a_frame_of_nothing_but_entries_is_none() {
        for tag in [PUBLISH, SUBSCRIPTION] {
            let most = frame(&[(tag, &[][..])]).repeat(MAX_ENTRIES as usize);
            assert!(sift(&most, &joined()).is_ok());
            assert!(sift(&[most, frame(&[(tag, b"")])].concat(), &joined()).is_err());
        }
        let prune = frame(&[(4, &[][..])]).repeat(MAX_ENTRIES as usize);
        let ids = frame(&[(1, &[][..])]).repeat(MAX_ENTRIES as usize);
        for most in [prune, frame(&[(2, &ids)])] {
            assert!(sift(&frame(&[(CONTROL, &most)]), &joined()).is_ok());
            let more = [most, frame(&[(3, b"")])].concat();
            assert!(sift(&frame(&[(CONTROL, &more)]), &joined()).is_err());
        }
    }

    #[test]
    fn a_prune_asks_for_an_hour_at_most() {
        let prune = |backoff| Prune {
            topic: Some("ours".to_owned()),
            backoff,
        };
        for (asked, passed) in [(u64::MAX, 3600), (60, 60)] {
            let control = frame(&[(4, &prune(Some(asked)).encode_to_vec())]);
            let sifted = sift(&frame(&[(CONTROL, &control)]), &joined()).expect("right");
            let right = frame(&[(4, &prune(Some(passed)).encode_to_vec())]);
            assert_eq!(sifted.frame, frame(&[(CONTROL, &right)]));
        }
    }

    proptest! {
        #[test]
        fn no_pause_that_passes_is_longer_than_an_hour(
            pauses in proptest::collection::vec(prop_oneof![Just(u64::MAX), Just(i64::MAX as u64), any::<u64>(), 0..7200_u64], 0..8),
        ) {
            // One after the other, and all in one entry, of which the last one counts.
            let topic = frame(&[(1, b"ours")]);
            let mut all = topic.clone();
            let mut control = Vec::new();
            for pause in pauses {
                let mut entry = topic.clone();
                for entry in [&mut entry, &mut all] {
                    encode_key(3, WireType::Varint, entry);
                    encode_varint(pause, entry);
                }
                put(&mut control, 4, &entry);
            }
            put(&mut control, 4, &all);
            let sifted = sift(&frame(&[(CONTROL, &control)]), &joined()).expect("right");
            for control in Fields::of(&sifted.frame).tagged(CONTROL) {
                for entry in Fields::of(control).tagged(4) {
                    let prune = Prune::decode(entry).expect("it was written here");
                    prop_assert!(prune.backoff.unwrap_or_default() <= MAX_BACKOFF);
                }
            }
        }

        #[test]
        fn what_passes_any_bytes_passes_again(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(sifted) = sift(&bytes, &joined()) {
                prop_assert!(sifted.frame.len() <= bytes.len() + 32);
                let again = sift(&sifted.frame, &joined()).expect("it was written here");
                prop_assert!(again.useless == 0 && again.frame == sifted.frame);
            }
        }
    }
}
