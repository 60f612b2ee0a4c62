//! The verdict on a block, whoever put it together: one that came whole, in compact form or in chunks, or is our own.

use super::DeliveredBlocks;
use crate::{
    chain::{
        Block, Checked, ItemId, TransactionKey, Verdict,
        rules::{Rules, failed},
    },
    propagation::blocks::AcceptedBlock,
};

/// Has a block checked, and hands it to the application if it is accepted and was `delivered` by no other way; `None`
/// there: it is only checked. One that came under an identity (`named`) must have that one. Our own `word` is under this key; one that the chain has and
/// has not kept is accepted again. May take long.
pub(crate) async fn check_block(
    block: &Block,
    named: Option<&ItemId>,
    rules: &dyn Rules,
    delivered: Option<&DeliveredBlocks>,
    word: Option<&TransactionKey>,
) -> (Checked, Option<Box<AcceptedBlock>>) {
    let checked = rules.check_block(block).await;
    let checked = match named {
        Some(id) => named_so(id, checked),
        None => checked,
    };
    if checked.verdict == Verdict::Ignore
        && let Some(id) = word.and_then(|key| rules.unkept().given(key))
    {
        if let Some(claim) = delivered.and_then(|delivered| delivered.claim(&id)) {
            claim.keep();
        }
        let accepted = AcceptedBlock::of(id.clone(), block.clone(), rules).await;
        return (Checked::accept(id), Some(Box::new(accepted)));
    }
    if checked.verdict != Verdict::Accept {
        return (checked, None);
    }
    let mut accepted = AcceptedBlock::of(checked.id.clone(), block.clone(), rules).await;
    if let Some(delivered) = delivered {
        match delivered.claim(&checked.id) {
            Some(claim) => {
                let saying = word.map(|key| rules.unkept().begin(*key, checked.id.clone()));
                if !rules.deliver_block(block).await {
                    return (failed(&block.data), None);
                }
                if let Some(saying) = saying {
                    saying.said();
                }
                claim.keep();
            }
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
