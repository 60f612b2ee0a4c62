//! The verdict on a block, whoever put it together: one that came whole, in compact form or in chunks, or is our own.

use super::DeliveredBlocks;
use crate::{
    chain::{Application, Block, Checked, Item, ItemId, Verdict},
    propagation::blocks::AcceptedBlock,
};

/// Has a block checked, and hands it to the application if it is accepted and was `delivered` by no other way; `None`
/// there: it is only checked. One that came under an identity (`named`) must have that one. May take long.
pub(crate) fn check_block(
    block: &Block,
    named: Option<&ItemId>,
    application: &dyn Application,
    delivered: Option<&DeliveredBlocks>,
) -> (Checked, Option<Box<AcceptedBlock>>) {
    let checked = application.check_block(block);
    let checked = match named {
        Some(id) => named_so(id, checked),
        None => checked,
    };
    if checked.verdict != Verdict::Accept {
        return (checked, None);
    }
    let mut accepted = AcceptedBlock::of(checked.id.clone(), block.clone(), application);
    if let Some(delivered) = delivered {
        let deliver = || application.deliver(&Item::Block(block.clone()));
        accepted.is_first = delivered.deliver(&checked.id, deliver);
    }
    (checked, Some(Box::new(accepted)))
}

/// What the chain says, of bytes that came under this identity.
pub(crate) fn named_so(id: &ItemId, checked: Checked) -> Checked {
    if checked.verdict != Verdict::Accept || checked.id == *id {
        return checked;
    }
    Checked {
        verdict: Verdict::Reject,
        reason: format!("it is {}, and not what it was said to be", checked.id),
        ..checked
    }
}
