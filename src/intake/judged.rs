//! What the chain says to a batch, made ready where the check ran, so that the network task only hands it on.

use bytes::Bytes;

use super::{
    DeliveredBlocks,
    batch::{Load, Outcomes},
    check_block,
};
use crate::{
    chain::{
        Checked, Item, ItemKind, TransactionKey, Verdict,
        rules::{Candidate, Rules},
    },
    error::ProtocolError,
    network::NetworkEvent,
    peers::Misdeed,
    platform::{self, SystemTime},
    propagation::{
        blocks::AcceptedBlock,
        plumtree::{Accepted, Fresh, fee_rate},
    },
    storage::StoreError,
};

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
    /// For subscribers.
    pub(crate) events: Vec<NetworkEvent>,
    /// What the sender pays for: of several misdeeds the dearest.
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

/// What the chain says to an item, and what an accepted block is.
type Said = (Checked, Option<Box<AcceptedBlock>>);

impl Judged {
    /// Has every item of these batches, all of one kind, checked, and hands the accepted ones to the application. May take long.
    pub(crate) async fn of(
        loads: Vec<Load>,
        rules: &dyn Rules,
        blocks: &DeliveredBlocks,
    ) -> Vec<Self> {
        let received_at = platform::date();
        let candidates = loads.iter().flat_map(Load::candidates);
        let candidates: Vec<_> = candidates.collect();
        let ours = loads
            .iter()
            .flat_map(|load| load.items.iter().map(|_| load.is_our_word()));
        let ours: Vec<_> = ours.collect();
        let said = said(&candidates, &ours, rules, blocks).await;
        let mut said = candidates.into_iter().zip(said);
        let judge = |mut load: Load| {
            let items = std::mem::take(&mut load.items);
            let mut judged = Self {
                accepted: Vec::with_capacity(items.len()),
                events: Vec::with_capacity(items.len()),
                ..Self::default()
            };
            for (fresh, (candidate, said)) in items.into_iter().zip(&mut said) {
                judged.add(&load, (fresh, candidate), said, received_at);
            }
            judged
        };
        loads.into_iter().map(judge).collect()
    }

    /// What is said to one more item. Its event is made whether anybody listens or not: who subscribes during the check hears of it too.
    fn add(
        &mut self,
        load: &Load,
        (fresh, candidate): (Fresh, Candidate),
        (checked, block): Said,
        received_at: SystemTime,
    ) {
        let Fresh { key, promised, .. } = fresh;
        if checked.verdict != Verdict::Accept {
            return self.refuse(load, key, checked);
        }
        let data = candidate.item.data().clone();
        // Of what is not accepted the chain may not have looked at the fee.
        if let (Some(promised), Some(fee)) = (promised, checked.fee)
            && promised > fee_rate(fee, data.len())
        {
            Misdeed::FalseAnnouncement.note(&mut self.misdeed);
        }
        self.accept(load, (key, data, block), &checked);
        // A block's event is made where it goes on.
        if candidate.delivers && load.kind != ItemKind::Block {
            self.events.push(NetworkEvent::ItemAccepted {
                item: candidate.item,
                id: checked.id,
                source: load.from,
                received_at,
            });
        }
    }

    /// How many items it was.
    pub(crate) fn count(&self) -> usize {
        self.accepted.len() + self.refused.len() + usize::from(self.block.is_some())
    }

    /// What was accepted, by the keys of its bytes.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &TransactionKey> {
        let accepted = self.accepted.iter().map(|item| &item.key);
        accepted.chain(self.block.iter().map(|block| &block.key))
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

    /// What was accepted of our own can't be kept here: nobody is told, and it may be given again.
    pub(crate) fn is_not_kept(
        &mut self,
        kind: ItemKind,
        error: &StoreError,
        blocks: &DeliveredBlocks,
    ) {
        if let Some(block) = self.block.as_ref().filter(|block| block.is_first) {
            blocks.forget(&block.id);
        }
        self.withdraw();
        self.events.clear();
        let refused = || Err(refusal(kind, Verdict::Ignore, &error.to_string()));
        for outcome in self.outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            *outcome = refused();
        }
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
            Misdeed::InvalidItem.note(&mut self.misdeed);
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

/// What the chain says to each, of which some are our own word.
async fn said(
    candidates: &[Candidate],
    ours: &[bool],
    rules: &dyn Rules,
    blocks: &DeliveredBlocks,
) -> Vec<Said> {
    let words = candidates.iter().zip(ours);
    let words = words.map(|(candidate, ours)| ours.then_some(&candidate.key));
    let mut said = Vec::new();
    for (candidate, word) in candidates.iter().zip(words.clone()) {
        if let Item::Block(block) = &candidate.item {
            let delivered = candidate.delivers.then_some(blocks);
            said.push(check_block(block, None, rules, delivered, word).await);
        }
    }
    if said.is_empty() {
        let judged = rules.judge(candidates).await.into_iter().zip(words);
        said.extend(judged.map(|(checked, word)| (word_of(checked, word, rules), None)));
    }
    said
}

/// What is said to a vote that may be our own word, under this key: one that the chain has and has not kept is accepted again.
fn word_of(checked: Checked, word: Option<&TransactionKey>, rules: &dyn Rules) -> Checked {
    let Some(key) = word else {
        return checked;
    };
    match (checked.verdict, rules.unkept().given(key)) {
        (Verdict::Ignore, Some(id)) => Checked::accept(id),
        (Verdict::Accept, _) => {
            rules.unkept().say(*key, checked.id.clone());
            checked
        }
        _ => checked,
    }
}
