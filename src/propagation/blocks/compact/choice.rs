//! In which form a block goes to a peer: what the caller's hook is asked and answers, and BIP-152's choice, on which it falls back.

use libp2p::PeerId;

use crate::chain::ItemId;

/// The forms in which a block travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Its header, or its identity where the chain's blocks are opaque.
    Announcement,
    /// Header and short ids.
    Compact,
    /// All of it.
    Whole,
    /// In coded chunks, which is another protocol's: this only says to whom. Who asked and does not have the
    /// block soon asks others, and in the end counts as not answered.
    Coded,
}

/// A block and a peer that does not have it.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// Who.
    pub peer: &'a PeerId,
    /// Which block.
    pub block: &'a ItemId,
    /// The whole block, in bytes.
    pub whole_bytes: usize,
    /// The compact form on the wire, in bytes; `None` where it has none (an opaque block, or one over a limit).
    pub compact_bytes: Option<usize>,
    /// Bytes of its transactions that were new here when it came, and so may be new to the peer; 0 for an opaque block.
    pub novel_bytes: usize,
    /// Whether the peer wants new blocks in compact form, unasked.
    pub high_bandwidth: bool,
    /// Whether the peer asks for this block in compact form now. An announcement is then no answer and counts as
    /// [`Form::Whole`].
    pub asked: bool,
}

/// A form, and why, for a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The form. What cannot be had is replaced: no compact form by the whole block, if it was asked for, else by an
    /// announcement.
    pub form: Form,
    /// For a person.
    pub why: &'static str,
}

/// BIP-152's choice: compact blocks to those who asked for them, announcements to all others. The whole block goes
/// where it is no larger than its compact form.
pub fn choose(offer: &Offer<'_>) -> Choice {
    let pays = offer
        .compact_bytes
        .is_some_and(|compact| compact < offer.whole_bytes);
    let (form, why) = if offer.asked && pays {
        (Form::Compact, "it asked for the compact form")
    } else if offer.asked {
        (Form::Whole, "it asked, and the compact form is no smaller")
    } else if !offer.high_bandwidth {
        (Form::Announcement, "it did not ask to be sent new blocks")
    } else if pays {
        (Form::Compact, "it wants to be sent new blocks")
    } else if offer.compact_bytes.is_some() {
        (
            Form::Whole,
            "it wants to be sent new blocks, and the compact form is no smaller",
        )
    } else {
        (Form::Announcement, "the block has no compact form")
    };
    Choice { form, why }
}
