//! For tests: a chain whose blocks have a header, and a bench with one node whose checks are answered at once.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use sha2::{Digest, Sha256};

use super::actions::Action;
use super::choice::{Form, choose};
use super::compact_block::CompactBlock;
use super::compact_blocks::CompactBlocks;
use super::config::CompactConfig;
use super::message::{Announcement, BlockMessage, GetBlock, WholeBlock};
use crate::chain::Block;
use crate::chain::TransactionKey;
use crate::chain::{Application, BlockParts, Checked, ItemId, Verdict};
use crate::platform::Instant;

/// The transactions at hand.
pub(super) type Pool = BTreeMap<TransactionKey, Bytes>;

/// A header is the letter H (or I for a block that the chain ignores) and a hash over the keys of the
/// transactions, each of which has two bytes of length in front. A transaction of "invalid" makes a block invalid.
pub(in crate::propagation) struct TestChain;

const HEADER: usize = 33;

impl Application for TestChain {
    fn check_header(&self, header: &Bytes) -> Checked {
        match header.first() {
            Some(b'H') if header.len() == HEADER => Checked::accept(ItemId::sha256(header)),
            Some(b'I') => Checked::ignore(header, "ignored"),
            _ => Checked::reject(header, "no header"),
        }
    }

    fn split_block(&self, block: &Block) -> Option<BlockParts> {
        let mut rest = block.data.clone();
        if rest.len() < HEADER {
            return None;
        }
        let header = rest.split_to(HEADER);
        let mut transactions = Vec::new();
        while let Some(length) = rest.first_chunk::<2>() {
            let length = usize::from(u16::from_le_bytes(*length));
            let _ = rest.split_to(2);
            if length > rest.len() {
                return None;
            }
            transactions.push(rest.split_to(length));
        }
        rest.is_empty().then_some(BlockParts {
            header,
            transactions,
        })
    }

    fn join_block(&self, header: &Bytes, transactions: &[Bytes]) -> Option<Block> {
        (header.get(1..)? == root(transactions)).then(|| {
            let mut data = header.to_vec();
            for transaction in transactions {
                data.extend(u16::try_from(transaction.len()).unwrap().to_le_bytes());
                data.extend_from_slice(transaction);
            }
            Block::new(data)
        })
    }

    fn check_block(&self, block: &Block) -> Checked {
        let refused = || Checked::reject(&block.data, "no block");
        let Some(BlockParts {
            header,
            transactions,
        }) = self.split_block(block)
        else {
            return refused();
        };
        if header.starts_with(b"I") {
            return Checked::ignore(&block.data, "ignored");
        }
        let invalid = transactions.iter().any(|it| it.starts_with(b"invalid"));
        if invalid || self.join_block(&header, &transactions).as_ref() != Some(block) {
            return refused();
        }
        self.check_header(&header)
    }
}

fn root(transactions: &[Bytes]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for transaction in transactions {
        hash.update(TransactionKey::of(transaction).as_bytes());
    }
    hash.finalize().into()
}

/// A block of these transactions, with its parts and its identity.
pub(in crate::propagation) fn block(transactions: &[Bytes]) -> (ItemId, Block, BlockParts) {
    let header = Bytes::from([&b"H"[..], &root(transactions)].concat());
    let block = TestChain.join_block(&header, transactions).unwrap();
    let parts = TestChain.split_block(&block).unwrap();
    (ItemId::sha256(&header), block, parts)
}

/// Transactions of 100 bytes, different ones for each seed.
pub(super) fn transactions(seed: u64, count: u64) -> Vec<Bytes> {
    let transaction = |number: u64| {
        let mut bytes = [seed.to_le_bytes(), number.to_le_bytes()].concat();
        bytes.resize(100, 0);
        Bytes::from(bytes)
    };
    (0..count).map(transaction).collect()
}

pub(super) fn pool(transactions: &[Bytes]) -> Pool {
    let named = transactions
        .iter()
        .map(|it| (TransactionKey::of(it), it.clone()));
    named.collect()
}

/// What a node takes as the transactions at hand.
pub(super) fn entries(pool: &Pool) -> impl Iterator<Item = (TransactionKey, &Bytes)> + Clone {
    pool.iter().map(|(key, transaction)| (*key, transaction))
}

/// Whether an action wants an answer of the chain.
pub(super) fn is_check(action: &Action) -> bool {
    matches!(
        action,
        Action::CheckHeader(_) | Action::Match(_) | Action::Join(_) | Action::CheckBlock(_)
    )
}

/// Answers a check.
pub(super) fn answer(
    chain: &dyn Application,
    core: &mut CompactBlocks,
    check: Action,
    pool: &Pool,
    now: Instant,
) -> Vec<Action> {
    match check {
        Action::CheckHeader(check) => {
            let checked = chain.check_header(&check.header);
            core.header_checked(check, &checked, now)
        }
        Action::Match(matching) => core.matched(matching.run(entries(pool)), now),
        Action::Join(join) => {
            let block = chain.join_block(&join.header, &join.transactions);
            core.joined(join, block, now)
        }
        Action::CheckBlock(check) => {
            let checked = chain.check_block(&check.block);
            let accepted = checked.verdict == Verdict::Accept;
            let parts = chain.split_block(&check.block).filter(|_| accepted);
            core.block_checked(check, &checked, parts, 0, now)
        }
        other => panic!("no check: {other:?}"),
    }
}

/// What becomes of an action where everybody reads at once; `None`: nothing to see.
pub(super) fn read(core: &mut CompactBlocks, action: Action, now: Instant) -> Option<Action> {
    match action {
        Action::Ask { peer, why, .. } => {
            let message = core.next_request(&peer, now)?;
            Some(Action::Send { peer, message, why })
        }
        Action::Serve {
            peer,
            block,
            part,
            why,
        } => {
            let message = match core.serve(&block, part) {
                Some(mut sending) => {
                    let message = sending.piece(usize::MAX).into();
                    BlockMessage::decode(message, 64 << 20).expect("right")
                }
                None => BlockMessage::NotFound(block),
            };
            Some(Action::Send { peer, message, why })
        }
        Action::Gone(_) => None,
        other => Some(other),
    }
}

/// One node and its surroundings. Checks are answered at once, unless a test keeps them.
pub(super) struct Bench {
    pub(super) core: CompactBlocks,
    pub(super) pool: Pool,
    pub(super) now: Instant,
    /// Actions that are not answered but returned, by their variant.
    pub(super) keeps: fn(&Action) -> bool,
    /// Who was told that a block is settled here, and which; that is not returned.
    pub(super) settled: Vec<(PeerId, ItemId)>,
}

impl Bench {
    pub(super) fn new(config: CompactConfig) -> Self {
        Self {
            core: CompactBlocks::new(config, [7; 16], choose),
            pool: Pool::new(),
            now: crate::platform::now(),
            keeps: |_| false,
            settled: Vec::new(),
        }
    }

    /// Connects a new peer.
    pub(super) fn peer(&mut self, outbound: bool) -> PeerId {
        let peer = PeerId::random();
        self.core.peer_connected(peer, outbound);
        peer
    }

    pub(super) fn receive(&mut self, peer: PeerId, message: BlockMessage) -> Vec<Action> {
        let actions = self.core.receive(peer, message, self.now);
        self.settle(actions)
    }

    pub(super) fn settle(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut rest = Vec::new();
        for action in actions {
            if matches!(action, Action::Ask { .. }) && (self.keeps)(&action) {
                rest.push(action);
                continue;
            }
            let Some(action) = read(&mut self.core, action, self.now) else {
                continue;
            };
            if let Action::Send {
                peer,
                message: BlockMessage::Settled(id),
                ..
            } = action
            {
                self.settled.push((peer, id));
            } else if (self.keeps)(&action) || !is_check(&action) {
                rest.push(action);
            } else {
                let after = answer(&TestChain, &mut self.core, action, &self.pool, self.now);
                rest.extend(self.settle(after));
            }
        }
        rest
    }

    /// Time passes.
    pub(super) fn wait(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        let actions = self.core.on_time(self.now);
        self.settle(actions)
    }

    /// A block that was made here, offered to all.
    pub(super) fn make(&mut self, transactions: &[Bytes]) -> (ItemId, Vec<Action>) {
        let (id, block, parts) = block(transactions);
        let actions = self
            .core
            .accepted(id.clone(), block, Some(parts), 0, None, self.now);
        (id, self.settle(actions))
    }
}

/// An action in few words: what is sent to whom, who is blamed for what.
pub(super) fn words(peers: &[PeerId], actions: &[Action]) -> Vec<String> {
    let place = |peer: &PeerId| peers.iter().position(|it| it == peer).unwrap();
    let words = actions.iter().map(|action| match action {
        Action::Send { peer, message, .. } => {
            let form = match message {
                BlockMessage::GetBlock(GetBlock { form, .. }) => format!(" {form:?}"),
                BlockMessage::HighBandwidth(on) => format!(" {on}"),
                _ => String::new(),
            };
            format!("{} {}{form}", place(peer), message.name())
        }
        Action::Ask { peer, .. } => format!("{} is to be asked", place(peer)),
        Action::Serve { peer, part, .. } => format!("{} {}", place(peer), part.name()),
        Action::Gone(_) => "gone".to_owned(),
        Action::SendCoded { peer, .. } => format!("{} coded", place(peer)),
        Action::Misdeed { peer, misdeed, .. } => format!("{} {misdeed:?}", place(peer)),
        Action::CheckHeader(_) => "check header".to_owned(),
        Action::Match(_) => "match".to_owned(),
        Action::Join(_) => "join".to_owned(),
        Action::CheckBlock(_) => "check block".to_owned(),
    });
    words.collect()
}

/// One with the limits that a node has by default.
pub(super) fn bench() -> Bench {
    Bench::new(CompactConfig::default())
}

/// A request for a block in this form.
pub(super) fn get(id: &ItemId, form: Form) -> BlockMessage {
    let id = id.clone();
    BlockMessage::GetBlock(GetBlock { id, form })
}

/// An announcement of a block of these transactions.
pub(super) fn announcement(transactions: &[Bytes]) -> BlockMessage {
    let (id, _, parts) = block(transactions);
    let header = parts.header;
    BlockMessage::Announcement(Announcement { id, header })
}

/// The compact form of a block of these transactions, the first one prefilled.
pub(super) fn compact(transactions: &[Bytes]) -> BlockMessage {
    let (id, _, parts) = block(transactions);
    BlockMessage::Compact(CompactBlock::new(id, &parts, 5, 0, |_, _| false).unwrap())
}

/// A whole block of these transactions.
pub(super) fn whole(transactions: &[Bytes]) -> BlockMessage {
    let (id, block, _) = block(transactions);
    let data = block.data;
    BlockMessage::Whole(WholeBlock { id, data })
}
