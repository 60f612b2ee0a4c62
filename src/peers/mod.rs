//! Who may come, who may stay, and where to look for them: one table of peers with their reputation, bans and places, whom to
//! dial, the address book, the policy on addresses, and the alarm about an eclipse.
//!
//! State machines without I/O: what happened and `now` go in, decisions come out. The thin
//! `NetworkBehaviour` that acts on them is `network/gate.rs`.

mod account;
mod address_policy;
mod alarm;
mod as_map;
mod bans;
mod book;
mod connected;
mod crowds;
mod dialing;
mod duties;
mod handshakes;
mod info;
mod neighbours;
mod record;
mod reputation;
mod scope;
mod table;
mod trimming;

pub(crate) use account::Account;
pub(crate) use address_policy::without_id;
pub use address_policy::{AddressPolicy, RefusedAddress};
pub use alarm::{Alarm, EclipseSign, Outlook};
pub use as_map::{AsMap, AsMapError, MAX_AS_MAP_BYTES};
pub use bans::{Ban, Banned, BannedError, Bans, Kept};
pub use book::{
    ANCHORS, AddressBook, BookError, CONTESTS, Candidate, FRESH, Grouping, KnownPeer,
    MAX_BOOK_BYTES, NetworkGroup,
};
pub use connected::Connected;
pub use dialing::{Dialing, Due, Teller};
pub use duties::{AHEAD, Duties, DutyError, HORIZON, LONGEST, MAX_ON_DUTY, Relieved};
pub use handshakes::{Crowded, HandshakeId, Handshakes};
pub(crate) use info::transport_name;
pub use info::{ConnectionInfo, Direction, PeerInfo, PeerInfoError};
pub use neighbours::{Heard, Neighbour, Neighbours};
pub use record::{RecordFault, SignedRecord};
pub use reputation::{Deed, Judgement, Misdeed, Reputation};
pub use scope::{AddressGroup, Scope};
pub(crate) use scope::{begins_with_a_name, ip_of};
pub use table::{
    Action, BANNED, CONNECTIONS_PER_PEER, FULL, Limits, MADE_ROOM, MAX_PROTECTED, MAX_TAG,
    MAX_TAGS, NEWCOMERS, ProtectError, Stage, Table,
};
