//! Plain topics, and the bridge to peers that speak only gossipsub.
//!
//! Items travel between Selkie's nodes on their lanes. gossipsub (libp2p/specs pubsub, v1.0 to v1.3) carries what is plain:
//! topics that a user joins, and our items to and from peers that know nothing else. It is libp2p's, and trusts whoever
//! speaks to it; so [`Gossip`] stands around it:
//!
//! - **What comes in** goes through a [`sieve`] before it is decoded, is read at a limited rate, from each peer and from all
//!   together, and only where there is room for it. Who is too fast is read more slowly; who sends what nobody wants, pays.
//! - **Places**: at most `max_plain_peers` peers that are none of ours are spoken to. A peer whose kind is not known
//!   yet is read in frames of at most [`ears::SMALL`] bytes.
//! - **Silence** where there is nothing to say: a stream to a peer is opened when it is known to be plain, when it has said something, or when
//!   this node takes part in some topic. So nodes that propagate to each other, and share no topic, hold no streams for it.
//! - **Scores**: a peer's reputation is its score here. From half of what it takes to be let go it is not in a mesh, and at the whole
//!   it is not listened to.
//!
//! Bounds, with the defaults: 16 MiB of frames being read or waiting, and 64 KiB more for each connection; messages that gossipsub keeps to
//! hand on, 14 MiB at 4 MiB a second and 8 MiB at once, and as many again by known peers' shares; ids of messages against duplicates, 120 s at 1,000 a
//! second and 20,000 at once, and as many again by known peers' shares; 64 KiB of topic names a peer. What waits for a peer to read is
//! at most `queue_length` messages, and as many bytes as two of the largest items have or [`behaviour::MAX_UNREAD`], for all
//! together twice as much or 16 MiB, of which each leaves as much free as it has: two of the largest find room beside the little that others
//! have not read yet, one beside a peer that reads nothing; our own messages wait for peers that read ([`unread`]).

mod behaviour;
mod ears;
mod handler;
mod inner;
mod members;
mod paces;
mod reading;
mod sieve;
mod sizes;
mod unread;

pub(crate) use behaviour::{Gossip, GossipEvent};
pub(crate) use sieve::MAX_TOPIC_NAME;
pub use sieve::check_gossip;
