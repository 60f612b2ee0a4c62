//! What the chain says to a batch from a peer's lanes, made ready where the check ran, so that the network task only hands it on.

use bytes::Bytes;

use super::{Batch, Origin};
use crate::{
    chain::{Application, Checked, Item, ItemKind, Transaction, TransactionKey, Verdict},
    network::NetworkEvent,
    peers::Misdeed,
    platform,
    propagation::plumtree::{Accepted, Fresh, fee_rate},
};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) origin: Origin,
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) refused: Vec<(TransactionKey, Verdict)>,
    /// For subscribers, if there are any.
    pub(crate) events: Vec<NetworkEvent>,
    /// What the sender pays for.
    pub(crate) misdeed: Option<Misdeed>,
}

impl Judged {
    /// Has every item checked, and hands the accepted ones to the application. May take long.
    pub(crate) fn of(batch: Batch, application: &dyn Application, told: bool) -> Self {
        let mut judged = Self {
            origin: batch.origin(),
            accepted: Vec::with_capacity(batch.items.len()),
            refused: Vec::new(),
            events: Vec::new(),
            misdeed: None,
        };
        let (kind, source) = (batch.kind, Some(batch.source));
        let received_at = platform::date();
        if told {
            judged.events.reserve(batch.items.len());
        }
        for fresh in batch.items {
            // A copy: a slice would keep the whole frame that it came in.
            let data = Bytes::copy_from_slice(&fresh.data);
            let Fresh { key, promised, .. } = fresh;
            let (item, checked) = check(kind, data.clone(), &key, application);
            let Checked {
                id,
                fee,
                verdict,
                reason,
            } = checked;
            if promised.is_some_and(|promised| promised > fee_rate(fee, data.len())) {
                judged.misdeed = Some(Misdeed::FalseAnnouncement);
            }
            if verdict == Verdict::Accept {
                application.deliver(&item);
                judged.accepted.push(Accepted { key, data, fee });
                judged
                    .events
                    .extend(told.then_some(NetworkEvent::ItemAccepted {
                        item,
                        id,
                        source,
                        received_at,
                    }));
                continue;
            }
            judged.refused.push((key, verdict));
            if verdict == Verdict::Reject {
                judged.misdeed = Some(Misdeed::InvalidItem);
            }
            judged.events.push(NetworkEvent::ItemRefused {
                kind,
                source: batch.source,
                reason,
            });
        }
        judged
    }

    /// A batch of which nothing is known: there was no room for it, or the application failed over it.
    pub(crate) fn ignored((origin, keys): (Origin, Vec<TransactionKey>)) -> Self {
        let refused = keys.into_iter().map(|key| (key, Verdict::Ignore));
        Self {
            origin,
            accepted: Vec::new(),
            refused: refused.collect(),
            events: Vec::new(),
            misdeed: None,
        }
    }
}

fn check(
    kind: ItemKind,
    data: Bytes,
    key: &TransactionKey,
    application: &dyn Application,
) -> (Item, Checked) {
    if kind == ItemKind::Transaction {
        let transaction = Transaction::new(data);
        let checked = application.check_transaction_by_key(&transaction, key);
        return (Item::Transaction(transaction), checked);
    }
    let item = Item::new(kind, data);
    let checked = item.check(application);
    (item, checked)
}
