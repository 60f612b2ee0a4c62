//! Work for the chain, which may do I/O and is done off the network task.
//!
//! How much of it is under way is bounded by who asks for it (`taking.rs`, `giving.rs`). What panics counts as the chain's own trouble; nobody is blamed for it.

use bytes::Bytes;
use libp2p::PeerId;

use super::{LoadError, Loaded, Part, Trust};
use crate::{
    chain::{
        ChunkOrder, MAX_SNAPSHOT_PROOF, Snapshot, SnapshotChunk, SnapshotHash, SnapshotId,
        SnapshotProof, SyncVerdict, rules::Synced,
    },
    platform,
};

/// One piece of work.
#[derive(Debug)]
pub(crate) enum Job {
    /// What there is to serve.
    List,
    /// Makes a snapshot of a height, in chunks of so many bytes, if that can be done.
    Make(u64, u32),
    /// Forgets some that are too many.
    Forget(Vec<Snapshot>),
    /// Reads a part for peers, and checks it.
    Load {
        snapshot: Snapshot,
        part: Part,
        hash: SnapshotHash,
    },
    /// Which snapshot an earlier run has begun to take.
    Resume,
    /// Whether a snapshot is the chain's state, by what each of these peers has for it.
    Trust(Snapshot, Vec<(PeerId, SnapshotProof)>),
    /// Offers a snapshot to the sink, with the final header of its height where there is one.
    Offer(Snapshot, Option<Bytes>),
    /// Gives it chunks, one at least.
    Apply(SnapshotId, Vec<SnapshotChunk>),
    /// It has all.
    Finish(Snapshot),
    /// Has it forget what it has taken.
    Abandon,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    Listed(Vec<(Snapshot, Option<SnapshotProof>)>),
    /// A snapshot of this height.
    Made(u64, Result<Option<Snapshot>, String>),
    Forgotten(Result<(), String>),
    Loaded(SnapshotId, Part, Result<Loaded, LoadError>),
    Resumable(Option<Snapshot>),
    Trusted(SnapshotId, Judged),
    Offered {
        id: SnapshotId,
        verdict: SyncVerdict,
        stored: Vec<u32>,
        order: ChunkOrder,
    },
    /// So many of these, and what is said of the next one.
    Applied(SnapshotId, Vec<SnapshotChunk>, (usize, SyncVerdict)),
    Finished(SnapshotId, SyncVerdict),
    Abandoned(Result<(), String>),
}

/// What is known of a snapshot's state root.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) trust: Trust,
    /// The final header of its height, if somebody had it.
    pub(crate) header: Option<Bytes>,
    /// Who has sent as a final header what is none, or not that of the snapshot's height.
    pub(crate) liars: Vec<PeerId>,
}

const PANICKED: &str = "the application panicked; see its own log";

impl Job {
    /// Does it. May take long.
    pub(crate) fn run(self, chain: &Synced) -> Done {
        let retry = |_| SyncVerdict::Retry(PANICKED.to_owned());
        match self {
            Self::List => Done::Listed(platform::guard(|| list(chain)).unwrap_or_default()),
            Self::Make(height, chunk_bytes) => {
                let made = platform::guard(|| match &chain.source {
                    Some(source) => source.make_snapshot(height, chunk_bytes),
                    None => Ok(None),
                });
                Done::Made(height, made.unwrap_or_else(panicked))
            }
            Self::Forget(snapshots) => {
                let forgotten = platform::guard(|| match &chain.source {
                    Some(source) => snapshots
                        .iter()
                        .try_for_each(|snapshot| source.forget_snapshot(snapshot)),
                    None => Ok(()),
                });
                Done::Forgotten(forgotten.unwrap_or_else(panicked))
            }
            Self::Load {
                snapshot,
                part,
                hash,
            } => {
                let loaded = platform::guard(|| Loaded::of(load(chain, &snapshot, part), &hash));
                let loaded = loaded.unwrap_or(Err(LoadError::Missing));
                Done::Loaded(snapshot.id(), part, loaded)
            }
            Self::Resume => {
                let begun = platform::guard(|| chain.sink.as_ref()?.unfinished_snapshot());
                Done::Resumable(begun.ok().flatten())
            }
            Self::Trust(snapshot, proofs) => {
                let judged = platform::guard(|| judge(chain, &snapshot, &proofs));
                Done::Trusted(snapshot.id(), judged.unwrap_or_else(|_| Judged::not_yet()))
            }
            Self::Offer(snapshot, header) => offer(chain, &snapshot, header.as_ref()),
            Self::Apply(snapshot, chunks) => {
                let apply = || match &chain.sink {
                    Some(sink) => sink.apply_snapshot_chunks(&chunks),
                    None => (0, no_sink()),
                };
                let applied = platform::guard(apply).unwrap_or_else(|panic| (0, retry(panic)));
                Done::Applied(snapshot, chunks, applied)
            }
            Self::Finish(snapshot) => {
                let finish = || match &chain.sink {
                    Some(sink) => sink.finish_snapshot(&snapshot),
                    None => no_sink(),
                };
                let verdict = platform::guard(finish).unwrap_or_else(retry);
                Done::Finished(snapshot.id(), verdict)
            }
            Self::Abandon => {
                let abandoned = platform::guard(|| match &chain.sink {
                    Some(sink) => sink.abandon_snapshot(),
                    None => Ok(()),
                });
                Done::Abandoned(abandoned.unwrap_or_else(panicked))
            }
        }
    }
}

impl Judged {
    fn not_yet() -> Self {
        Self {
            trust: Trust::NotYet,
            header: None,
            liars: Vec::new(),
        }
    }
}

fn panicked<T, E>(_: E) -> Result<T, String> {
    Err(PANICKED.to_owned())
}

fn no_sink() -> SyncVerdict {
    SyncVerdict::Ignore("this chain takes no snapshots".to_owned())
}

fn list(chain: &Synced) -> Vec<(Snapshot, Option<SnapshotProof>)> {
    let Some(source) = &chain.source else {
        return Vec::new();
    };
    let listed = source.list_snapshots().into_iter();
    let prove = |snapshot: Snapshot| {
        let proof = source.prove_snapshot(&snapshot);
        let proof = proof.filter(|it| it.header.len() + it.proof.len() <= MAX_SNAPSHOT_PROOF);
        (snapshot, proof)
    };
    listed.map(prove).collect()
}

fn load(chain: &Synced, snapshot: &Snapshot, part: Part) -> Option<Bytes> {
    let source = chain.source.as_ref()?;
    match part {
        Part::Hashes => source.load_snapshot_hashes(snapshot),
        Part::Chunk(index) => source.load_snapshot_chunk(snapshot, index),
    }
}

fn judge(chain: &Synced, snapshot: &Snapshot, proofs: &[(PeerId, SnapshotProof)]) -> Judged {
    let mut judged = Judged::not_yet();
    let (Some(trust), Some(store)) = (&chain.trust, &chain.store) else {
        return judged;
    };
    for (peer, SnapshotProof { header, proof }) in proofs {
        let height = store.read_header(header).map(|header| header.height);
        let verdict = match height {
            Some(height) if height == snapshot.height => trust.is_final(header, proof),
            _ => SyncVerdict::Reject("it is another height's".to_owned()),
        };
        match verdict {
            SyncVerdict::Accept => {
                let is_right = trust.state_root(header).as_ref() == Some(&snapshot.state_root);
                judged.trust = if is_right { Trust::Final } else { Trust::False };
                judged.header = Some(header.clone());
                return judged;
            }
            SyncVerdict::Reject(reason) => {
                tracing::debug!(%peer, reason, "what it has for a final header is none");
                judged.liars.push(*peer);
            }
            SyncVerdict::Ignore(_) | SyncVerdict::Retry(_) => {}
        }
    }
    judged
}

fn offer(chain: &Synced, snapshot: &Snapshot, header: Option<&Bytes>) -> Done {
    let offered = platform::guard(|| {
        let Some(sink) = &chain.sink else {
            return (no_sink(), Vec::new(), ChunkOrder::Any);
        };
        let verdict = sink.offer_snapshot(snapshot, header);
        let stored = match verdict {
            SyncVerdict::Accept => sink.stored_snapshot_chunks(snapshot),
            _ => Vec::new(),
        };
        (verdict, stored, sink.chunk_order())
    });
    let (verdict, stored, order) = offered.unwrap_or_else(|_| {
        let verdict = SyncVerdict::Retry(PANICKED.to_owned());
        (verdict, Vec::new(), ChunkOrder::Any)
    });
    Done::Offered {
        id: snapshot.id(),
        verdict,
        stored,
        order,
    }
}
