//! In which form a block goes to a peer: in coded chunks or not. Of the other forms BIP-152's choice is ([`compact::choose`]).

use super::compact::{self, Choice, Form, Offer};

/// Blocks up to this size are never coded: a few round trips cost less than twice the bytes.
const CODED_FROM: usize = 128 << 10;
/// A block is coded when more than this part of its bytes, one in so many, was new here.
const NOVEL_PART: usize = 4;

/// Large blocks whose transactions were new here go in coded chunks, since they will be new elsewhere too; all others as
/// BIP-152 has it.
pub(super) fn choose(offer: &Offer<'_>) -> Choice {
    let is_novel = offer.novel_bytes > offer.whole_bytes / NOVEL_PART;
    if is_novel && offer.whole_bytes > CODED_FROM && !offer.asked {
        let why = "it is large, and much of it was new here";
        return Choice {
            form: Form::Coded,
            why,
        };
    }
    compact::choose(offer)
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;
    use crate::{chain::ItemId, platform::test};

    #[test]
    fn large_and_new_blocks_are_coded_unless_somebody_waits() {
        let (peer, block) = (PeerId::random(), ItemId::sha256(b"a block"));
        let offer = |whole_bytes, novel_bytes, asked| Offer {
            peer: &peer,
            block: &block,
            whole_bytes,
            compact_bytes: Some(1000),
            novel_bytes,
            high_bandwidth: true,
            asked,
        };
        let form = |whole, novel, asked| choose(&offer(whole, novel, asked)).form;
        assert_eq!(form(1 << 20, 1 << 20, false), Form::Coded);
        assert_eq!(form(1 << 20, 1 << 20, true), Form::Compact);
        assert_eq!(form(1 << 20, 1 << 17, false), Form::Compact);
        assert_eq!(form(CODED_FROM, CODED_FROM, false), Form::Compact);
    }
}
