//! What the chain says to a batch, made ready where the check ran, so that the network task only hands it on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::{
    DeliveredBlocks,
    batch::{Load, Outcomes},
    check_block,
};
use crate::{
    chain::{Application, Checked, Item, ItemKind, TransactionKey, Verdict},
    error::ProtocolError,
    network::NetworkEvent,
    peers::Misdeed,
    platform,
    propagation::{
        blocks::AcceptedBlock,
        plumtree::{Accepted, Fresh, fee_rate},
    },
};

/// What a user hears of an item over which the application failed.
const FAILED: &str = "the application failed while checking it; see its log";

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Accepted votes or transactions.
    pub(crate) accepted: Vec<Accepted>,
    /// An accepted block; blocks come one by one.
    pub(crate) block: Option<Box<AcceptedBlock>>,
    pub(crate) refused: Vec<Refused>,
    /// Of our own items, what became of each, in order.
    pub(crate) outcomes: Outcomes,
    /// For subscribers, if there are any.
    pub(crate) events: Vec<NetworkEvent>,
    /// What the sender pays for.
    pub(crate) misdeed: Option<Misdeed>,
}

/// An item that was not accepted.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) key: TransactionKey,
    pub(crate) verdict: Verdict,
    /// For a person.
    pub(crate) reason: String,
}

/// What is the same for all items of a batch.
struct Checks<'a> {
    load: &'a Load,
    application: &'a dyn Application,
    blocks: &'a DeliveredBlocks,
}

impl Judged {
    /// Has every item checked, and hands the accepted ones to the application. May take long. An item over which the
    /// application panics is ignored.
    pub(crate) fn of(
        mut load: Load,
        application: &dyn Application,
        blocks: &DeliveredBlocks,
        told: bool,
    ) -> Self {
        let items = std::mem::take(&mut load.items);
        let mut judged = Self {
            accepted: Vec::with_capacity(items.len()),
            ..Self::default()
        };
        if told {
            judged.events.reserve(items.len());
        }
        let checks = Checks {
            load: &load,
            application,
            blocks,
        };
        let received_at = platform::date();
        for Fresh {
            key,
            data,
            promised,
        } in items
        {
            let data = if load.framed {
                // A slice would keep the whole frame that it came in.
                Bytes::copy_from_slice(&data)
            } else {
                data
            };
            let size = data.len();
            let (item, checked, block) = checks.check(&key, data.clone());
            if checked.verdict == Verdict::Accept {
                // Of what is not accepted the chain may not have looked at the fee.
                if let (Some(promised), Some(fee)) = (promised, checked.fee)
                    && promised > fee_rate(fee, size)
                {
                    judged.misdeed = Some(Misdeed::FalseAnnouncement);
                }
                judged.accept(&load, (key, data, block), &checked);
                // A block's event is made where it goes on.
                let tells = told && load.delivers && load.kind != ItemKind::Block;
                judged
                    .events
                    .extend(tells.then_some(NetworkEvent::ItemAccepted {
                        item,
                        id: checked.id,
                        source: load.from,
                        received_at,
                    }));
            } else {
                judged.refuse(&load, key, checked);
            }
        }
        judged
    }

    /// How many items it was.
    pub(crate) fn count(&self) -> usize {
        self.accepted.len() + self.refused.len() + usize::from(self.block.is_some())
    }

    /// Whether it is a block that the application has got by another way meanwhile.
    pub(crate) fn is_again(&self) -> bool {
        self.block.as_ref().is_some_and(|block| !block.is_first)
    }

    /// What became of an item that came by itself.
    pub(crate) fn outcome(&self, kind: ItemKind) -> Result<(), ProtocolError> {
        self.refused.first().map_or(Ok(()), |refused| {
            Err(refusal(kind, refused.verdict, &refused.reason))
        })
    }

    /// There is nobody to send our own items to: as if they had not been accepted.
    pub(crate) fn withdraw(&mut self) {
        let accepted = self.accepted.drain(..).map(|item| item.key);
        let block = self.block.take().map(|block| block.key);
        let withdrawn = accepted.chain(block).map(|key| Refused {
            key,
            verdict: Verdict::Ignore,
            reason: String::new(),
        });
        self.refused.extend(withdrawn);
    }

    fn accept(
        &mut self,
        load: &Load,
        (key, data, block): (TransactionKey, Bytes, Option<Box<AcceptedBlock>>),
        checked: &Checked,
    ) {
        if load.from.is_none() {
            self.outcomes.push(Ok(checked.id.clone()));
        }
        if load.kind == ItemKind::Block {
            self.block = block;
        } else {
            let fee = checked.fee.unwrap_or_default();
            self.accepted.push(Accepted { key, data, fee });
        }
    }

    fn refuse(&mut self, load: &Load, key: TransactionKey, checked: Checked) {
        let Checked {
            verdict, reason, ..
        } = checked;
        let kind = load.kind;
        match load.from {
            None => self.outcomes.push(Err(refusal(kind, verdict, &reason))),
            Some(source) => self.events.push(NetworkEvent::ItemRefused {
                kind,
                source,
                reason: reason.clone(),
            }),
        }
        if verdict == Verdict::Reject {
            self.misdeed = Some(Misdeed::InvalidItem);
        }
        self.refused.push(Refused {
            key,
            verdict,
            reason,
        });
    }
}

/// A verdict that is no acceptance, as an error.
pub(crate) fn refusal(kind: ItemKind, verdict: Verdict, reason: &str) -> ProtocolError {
    let reason = reason.to_owned();
    match verdict {
        Verdict::Reject => ProtocolError::Rejected { kind, reason },
        _ => ProtocolError::Ignored { kind, reason },
    }
}

impl Checks<'_> {
    /// Has an item checked; accepted, it goes to the application.
    fn check(
        &self,
        key: &TransactionKey,
        data: Bytes,
    ) -> (Item, Checked, Option<Box<AcceptedBlock>>) {
        let item = Item::new(self.load.kind, data);
        // Whatever the application left half done is its own business; nothing of ours is.
        let verdict = catch_unwind(AssertUnwindSafe(|| self.verdict(&item, key)));
        let (checked, block) =
            verdict.unwrap_or_else(|_| (Checked::ignore(item.data(), FAILED), None));
        (item, checked, block)
    }

    fn verdict(&self, item: &Item, key: &TransactionKey) -> (Checked, Option<Box<AcceptedBlock>>) {
        let application = self.application;
        let checked = match item {
            Item::Block(block) => {
                let delivered = self.load.delivers.then_some(self.blocks);
                return check_block(block, None, application, delivered);
            }
            Item::Transaction(transaction) => {
                application.check_transaction_by_key(transaction, key)
            }
            other => other.check(application),
        };
        if checked.verdict != Verdict::Accept {
            return (checked, None);
        }
        if self.load.delivers {
            application.deliver(item);
        }
        (checked, None)
    }
}
