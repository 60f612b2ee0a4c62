//! Work on the chain's store, which may do I/O and is done off the network task.
//!
//! How much of it is under way is bounded by who asks for it: one [`Job`] that changes the store or looks at it, one that judges
//! headers, and a few that read blocks or serve peers. One that panics counts as the chain's own trouble; nobody is blamed for it.

use std::collections::VecDeque;

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    serving,
    wire::{self, GetBlocks, GetHeaders, Kind, MAX_HEADERS, MAX_HEADERS_BYTES, Reason},
};
use crate::{
    chain::{Block, BlockPlace, ChainStore, ItemId, SyncHeader, SyncVerdict},
    platform,
};

/// One piece of work.
#[derive(Debug)]
pub(crate) enum Job {
    /// Where the chain is, and whether it holds what peers say is their tip.
    Look(Vec<BlockPlace>),
    /// Takes blocks in order. They are of a branch that was better than the chain with this header.
    Append {
        blocks: Vec<Block>,
        best: SyncHeader,
    },
    /// Takes a block that propagation brought, if it is the next.
    Offer(Block),
    /// Judges headers that are to follow on one of these places.
    Headers {
        anchors: Vec<BlockPlace>,
        headers: Vec<Bytes>,
    },
    /// Which blocks these are, each with who sent it as the answer to which request.
    Bodies(Vec<(PeerId, u64, Block)>),
    /// A peer's request, with the ticket of whoever has taken it.
    ServeHeaders(PeerId, u64, GetHeaders),
    ServeBlocks(PeerId, u64, GetBlocks),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    Looked {
        chain: Chain,
        /// Those that are on the best chain.
        held: Vec<BlockPlace>,
    },
    Appended {
        /// So many are in the store.
        count: usize,
        /// What it says to the next one. `Ignore`: to all of its branch.
        verdict: SyncVerdict,
        chain: Chain,
    },
    /// The chain has grown since it was asked: the blocks' branch is not better any more.
    Outgrown {
        chain: Chain,
    },
    Offered {
        chain: Chain,
        /// Where the block stands, if its parent is not here.
        orphan: Option<SyncHeader>,
        verdict: SyncVerdict,
    },
    Headers(Judged),
    Bodies(Vec<(PeerId, u64, Block, Option<ItemId>)>),
    /// What a peer is sent.
    Served {
        peer: PeerId,
        ticket: u64,
        frames: VecDeque<Bytes>,
        /// Blocks that it has asked for and that are not here.
        missing: usize,
    },
    /// It panicked.
    Failed(Failed),
}

/// The store's chain as it is.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) tip: BlockPlace,
    pub(crate) base: u64,
    /// Places of it, the highest first, each further from the one before.
    pub(crate) locator: Vec<BlockPlace>,
    /// Whether there is more to it than headers.
    pub(crate) keeps_blocks: bool,
}

/// What the chain says to headers.
#[derive(Debug)]
pub(crate) struct Judged {
    /// What the first new one follows on, and those that were accepted.
    pub(crate) anchor: Option<BlockPlace>,
    pub(crate) accepted: Vec<SyncHeader>,
    pub(crate) fault: Option<Fault>,
    /// Whether the chain that ends with the last of them is better than the store's.
    pub(crate) is_better: bool,
    /// Where headers are the chain: what it is now.
    pub(crate) chain: Option<Chain>,
}

/// What is wrong with headers.
#[derive(Debug)]
pub(crate) enum Fault {
    /// They are none, or do not follow each other.
    Broken,
    /// The chain rejects this one.
    Rejected(SyncHeader, String),
    /// They are of no use to it.
    Useless(String),
    /// It can't judge them now.
    Later(String),
}

/// Blocks for a peer.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) number: u64,
    pub(crate) blocks: Vec<Bytes>,
    /// How many of the request's blocks were looked for.
    pub(crate) handled: usize,
}

impl Served {
    fn missing(&self) -> usize {
        self.handled.saturating_sub(self.blocks.len())
    }
}

/// What has panicked.
#[derive(Debug)]
pub(crate) enum Failed {
    /// [`Job::Look`], [`Job::Append`] or [`Job::Offer`].
    Chain,
    Headers,
    Bodies(Vec<(PeerId, u64, usize)>),
    /// What a peer asked for.
    Serving(PeerId, u64),
}

impl Job {
    /// Does it. May take long.
    pub(crate) fn run(self, store: &dyn ChainStore) -> Done {
        let failed = self.failed();
        platform::guard(|| self.work(store)).unwrap_or(Done::Failed(failed))
    }

    fn failed(&self) -> Failed {
        match self {
            Self::Look(_) | Self::Append { .. } | Self::Offer(_) => Failed::Chain,
            Self::Headers { .. } => Failed::Headers,
            Self::Bodies(blocks) => {
                let name = |(peer, number, block): &(PeerId, u64, Block)| {
                    (*peer, *number, block.data.len())
                };
                Failed::Bodies(blocks.iter().map(name).collect())
            }
            Self::ServeHeaders(peer, ticket, _) | Self::ServeBlocks(peer, ticket, _) => {
                Failed::Serving(*peer, *ticket)
            }
        }
    }

    fn work(self, store: &dyn ChainStore) -> Done {
        match self {
            Self::Look(places) => {
                let is_held = |place: &BlockPlace| holds(store, place);
                Done::Looked {
                    held: places.into_iter().filter(is_held).collect(),
                    chain: Chain::of(store),
                }
            }
            Self::Append { blocks, best } => {
                let appended = append(store, &blocks, &best);
                let chain = Chain::of(store);
                match appended {
                    Some((count, verdict)) => Done::Appended {
                        count,
                        verdict,
                        chain,
                    },
                    None => Done::Outgrown { chain },
                }
            }
            Self::Offer(block) => {
                let (orphan, verdict) = offer(store, &block);
                Done::Offered {
                    orphan,
                    verdict,
                    chain: Chain::of(store),
                }
            }
            Self::Headers { anchors, headers } => Done::Headers(judge(store, &anchors, headers)),
            Self::Bodies(blocks) => {
                let read = |(peer, number, block): (PeerId, u64, Block)| {
                    let id = store.read_block(&block).map(|header| header.id);
                    (peer, number, block, id)
                };
                Done::Bodies(blocks.into_iter().map(read).collect())
            }
            Self::ServeHeaders(peer, ticket, request) => Done::Served {
                peer,
                ticket,
                frames: [headers(store, &request)].into(),
                missing: 0,
            },
            Self::ServeBlocks(peer, ticket, request) => {
                let mut served = blocks(store, &request);
                // What could not be read just then looks as if it were not here.
                if served.missing() > 0 && store.is_readable() {
                    served = blocks(store, &request);
                }
                let missing = served.missing();
                let (missing, frames) = if missing == 0 || store.is_readable() {
                    (missing, serving::frames(served))
                } else {
                    (0, [serving::refusal(served.number, Reason::Busy)].into())
                };
                Done::Served {
                    peer,
                    ticket,
                    missing,
                    frames,
                }
            }
        }
    }
}

impl Chain {
    fn of(store: &dyn ChainStore) -> Self {
        let (tip, base) = (store.tip(), store.base());
        let mut locator = vec![tip.clone()];
        let (mut height, mut step) = (tip.height, 1);
        let keeps_blocks = store.keeps_blocks();
        // What the lowest block stands on may be known, and others' blocks may stand on it too. Where headers are all, all of them are here.
        let lowest = if keeps_blocks {
            base.saturating_sub(1)
        } else {
            0
        };
        while height > lowest && locator.len() < wire::MAX_LOCATOR {
            height = height.saturating_sub(step).max(lowest);
            let id = store.id_at(height);
            locator.extend(id.map(|id| BlockPlace { height, id }));
            // One by one at first: forks are short.
            if locator.len() > 8 {
                step *= 2;
            }
        }
        Self {
            tip,
            base,
            locator,
            keeps_blocks,
        }
    }
}

fn holds(store: &dyn ChainStore, place: &BlockPlace) -> bool {
    store.id_at(place.height).as_ref() == Some(&place.id)
}

/// How many of the blocks are in the store now, and what it says to the next one. `None`: their branch is not better any more.
fn append(
    store: &dyn ChainStore,
    blocks: &[Block],
    best: &SyncHeader,
) -> Option<(usize, SyncVerdict)> {
    let (first, tip) = (blocks.first(), store.tip());
    let is_fork = first
        .and_then(|block| store.read_block(block))
        .is_some_and(|first| first.parent != tip.id && !holds(store, &first.place()));
    if is_fork && !store.is_better(best) {
        return None;
    }
    for (count, block) in blocks.iter().enumerate() {
        let verdict = store.append(block);
        let is_here = match &verdict {
            SyncVerdict::Accept => true,
            SyncVerdict::Ignore(_) => {
                let id = store.read_block(block).map(|header| header.id);
                id.is_some_and(|id| store.block(&id).is_some())
            }
            SyncVerdict::Reject(_) | SyncVerdict::Retry(_) => false,
        };
        if !is_here {
            return Some((count, verdict));
        }
    }
    Some((blocks.len(), SyncVerdict::Accept))
}

/// Takes a block that is the next: what the store says to it. Of one that leads further than the chain, and is not the next: its place.
fn offer(store: &dyn ChainStore, block: &Block) -> (Option<SyncHeader>, SyncVerdict) {
    let Some(header) = store.read_block(block) else {
        return (None, SyncVerdict::Accept);
    };
    let tip = store.tip();
    if header.parent == tip.id {
        let verdict = store.append(block);
        tracing::debug!(height = header.height, ?verdict, "a block from propagation");
        return (None, verdict);
    }
    let is_orphan = header.height > tip.height && !holds(store, &header.place());
    (is_orphan.then_some(header), SyncVerdict::Accept)
}

fn judge(store: &dyn ChainStore, anchors: &[BlockPlace], headers: Vec<Bytes>) -> Judged {
    let mut judged = Judged {
        anchor: None,
        accepted: Vec::new(),
        fault: None,
        is_better: false,
        chain: None,
    };
    let mut read: Vec<SyncHeader> = Vec::with_capacity(headers.len());
    for header in &headers {
        let Some(next) = store.read_header(header) else {
            judged.fault = Some(Fault::Broken);
            return judged;
        };
        let follows = |place: &BlockPlace| {
            next.parent == place.id && place.height.checked_add(1) == Some(next.height)
        };
        let is_linked = match read.last() {
            Some(before) => follows(&before.place()),
            None => {
                judged.anchor = anchors.iter().find(|place| follows(place)).cloned();
                judged.anchor.is_some()
            }
        };
        if !is_linked {
            judged.fault = Some(Fault::Broken);
            return judged;
        }
        read.push(next);
    }
    // The locator has gaps: the first ones may be here.
    let known = read
        .iter()
        .take_while(|header| holds(store, &header.place()));
    let known = known.count();
    let (held, new) = read.split_at(known);
    if let Some(last) = held.last() {
        judged.anchor = Some(last.place());
    }
    let Some(new_headers) = headers.get(known..).filter(|new| !new.is_empty()) else {
        return judged;
    };
    let (count, verdict) = store.append_headers(new_headers);
    judged.accepted = new.iter().take(count).cloned().collect();
    judged.fault = match (verdict, new.get(count)) {
        (SyncVerdict::Accept, _) | (_, None) => None,
        (SyncVerdict::Reject(reason), Some(next)) => Some(Fault::Rejected(next.clone(), reason)),
        (SyncVerdict::Ignore(reason), _) => Some(Fault::Useless(reason)),
        (SyncVerdict::Retry(reason), _) => Some(Fault::Later(reason)),
    };
    let head = judged.accepted.last();
    judged.is_better = head.is_some_and(|head| store.is_better(head));
    judged.chain = (!store.keeps_blocks()).then(|| Chain::of(store));
    judged
}

fn headers(store: &dyn ChainStore, request: &GetHeaders) -> Bytes {
    let locator = request.locator().unwrap_or_default();
    let refuse = |reason| serving::refusal(request.number, reason);
    let find = || {
        let base = store.base();
        let common = locator.iter().find(|place| holds(store, place))?;
        (common.height.saturating_add(1) >= base).then_some((common, base))
    };
    let mut found = find();
    // What could not be read just then looks as if it were not here.
    if found.is_none() && store.is_readable() {
        found = find();
    }
    let Some((common, base)) = found else {
        return refuse(if store.is_readable() {
            Reason::NotHere
        } else {
            Reason::Busy
        });
    };
    let tip = store.tip();
    let mut last = common.clone();
    let mut headers: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    // A store may give fewer at a time.
    while last.height < tip.height && headers.len() < MAX_HEADERS && bytes < MAX_HEADERS_BYTES {
        let (count, room) = (MAX_HEADERS - headers.len(), MAX_HEADERS_BYTES - bytes);
        let next = store.headers(last.height.saturating_add(1), count, room);
        let before = headers.len();
        for header in next {
            let Some(place) = store.read_header(&header).map(|header| header.place()) else {
                break;
            };
            if header.len() > MAX_HEADERS_BYTES || headers.len() >= MAX_HEADERS {
                break;
            }
            bytes += header.len();
            last = place;
            headers.push(header);
        }
        if headers.len() == before {
            break;
        }
    }
    if headers.is_empty() && last.height < tip.height {
        // They can't be read.
        return refuse(Reason::Busy);
    }
    let is_full = headers.len() >= MAX_HEADERS || bytes >= MAX_HEADERS_BYTES;
    // The chain may have changed meanwhile: what is said to be its end is what is sent.
    let end = if is_full && tip.height > last.height {
        tip
    } else {
        last
    };
    let base = base.min(end.height);
    let answer = wire::Headers {
        number: request.number,
        headers,
        tip: Some(wire::Status::new(&end, base)),
    };
    Kind::Headers(answer).into_frame()
}

fn blocks(store: &dyn ChainStore, request: &GetBlocks) -> Served {
    let most = usize::try_from(request.max_bytes).unwrap_or(usize::MAX);
    let most = most.min(wire::MAX_ANSWER_BYTES);
    let mut served = Served {
        number: request.number,
        blocks: Vec::new(),
        handled: 0,
    };
    let mut bytes = 0;
    for id in &request.ids {
        if bytes >= most {
            break;
        }
        served.handled += 1;
        let block = ItemId::new(id).and_then(|id| store.block(&id));
        if let Some(block) = block.filter(|block| !block.data.is_empty()) {
            bytes += block.data.len();
            served.blocks.push(block.data);
        }
    }
    served
}
