//! The verdict on a block, whoever put it together: one that came whole, in compact form or in chunks, or is our own.

use super::DeliveredBlocks;
use crate::{
    chain::{
        Block, Checked, ItemId, Verdict,
        rules::{Rules, failed},
    },
    propagation::blocks::AcceptedBlock,
};

/// Has a block checked, and hands it to the application if it is accepted and was `delivered` by no other way; `None`
/// there: it is only checked. One that came under an identity (`named`) must have that one. May take long.
pub(crate) async fn check_block(
    block: &Block,
    named: Option<&ItemId>,
    rules: &dyn Rules,
    delivered: Option<&DeliveredBlocks>,
) -> (Checked, Option<Box<AcceptedBlock>>) {
    let checked = rules.check_block(block).await;
    let checked = match named {
        Some(id) => named_so(id, checked),
        None => checked,
    };
    if checked.verdict != Verdict::Accept {
        return (checked, None);
    }
    let mut accepted = AcceptedBlock::of(checked.id.clone(), block.clone(), rules).await;
    if let Some(delivered) = delivered {
        match delivered.claim(&checked.id) {
            Some(claim) if rules.deliver_block(block).await => claim.keep(),
            Some(_) => return (failed(&block.data), None),
            None => accepted.is_first = false,
        }
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
