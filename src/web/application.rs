//! A chain that is written in JavaScript: rules whose answers are promises.
//!
//! What the user gives is called by the facade (`js/src/application.ts`), on the same thread as this, many items a call. It
//! holds each call to the deadline and has an answer for whatever the user's object does, which is why its promises are never rejected. What
//! it answers is read here like a peer's message all the same.
//!
//! Bytes are copied once each way. A block that is taken apart comes back as places in it, so its parts share its memory.

use bytes::{Buf, Bytes};
use futures::{FutureExt, future::BoxFuture};
use js_sys::{Array, Promise, Uint8Array, Uint32Array};
use libp2p::PeerId;
use send_wrapper::SendWrapper;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::{
    chain::{
        Block, BlockParts, Checked, ItemId, ItemKind, StateRequest, StateResponse, TransactionKey,
        Unkept, Verdict,
        rules::{Candidate, Failures, Rules, failed},
    },
    config::ValidationConfig,
};

/// What the facade answers for an item over which the application failed: no verdict, and the reason is how.
const FAILURE: u8 = 3;

#[wasm_bindgen]
extern "C" {
    /// The facade's side of an application.
    pub type Host;
    /// Whether the application has a method of this name.
    #[wasm_bindgen(method)]
    fn has(this: &Host, call: &str) -> bool;
    /// Calls it. Resolves to what it says, or to a text: how it failed.
    #[wasm_bindgen(method, catch)]
    fn ask(this: &Host, call: &str, arguments: &Array) -> Result<Promise, JsValue>;
    /// How long a call may take, in milliseconds.
    #[wasm_bindgen(method, setter)]
    fn set_timeout(this: &Host, milliseconds: f64);
}

/// See the module's documentation.
pub(super) struct Scripted {
    host: SendWrapper<Host>,
    failures: Failures,
    unkept: Unkept,
}

impl Scripted {
    pub(super) fn new(host: Host, config: &ValidationConfig) -> Self {
        host.set_timeout(config.application_timeout.as_secs_f64() * 1e3);
        Self {
            host: SendWrapper::new(host),
            failures: Failures::default(),
            unkept: Unkept::default(),
        }
    }

    /// What the application says to a call that it has; `None` where it has no answer, and where it fails.
    async fn ask(&self, call: &'static str, arguments: Array) -> Option<JsValue> {
        let answer = match self.host.ask(call, &arguments) {
            Ok(promise) => JsFuture::from(promise).await.ok(),
            Err(_) => None,
        };
        let Some(answer) = answer else {
            self.failures.note(call, "it can't be called".to_owned());
            return None;
        };
        if let Some(reason) = answer.as_string() {
            self.failures.note(call, reason);
            return None;
        }
        (!answer.is_undefined()).then_some(answer)
    }

    /// What the application says to these items, each in its place.
    async fn check(
        &self,
        call: &'static str,
        items: impl Iterator<Item = Asked<'_>> + Clone,
    ) -> Vec<Checked> {
        let bytes: Array = items.clone().map(|item| copied(item.data)).collect();
        let keys = items.clone().filter_map(|item| item.key);
        let keys: Vec<u8> = keys.flat_map(|key| *key.as_bytes()).collect();
        let delivers: Vec<u8> = items.clone().map(|item| item.delivers.into()).collect();
        let arguments = Array::of3(&bytes, &copied(&keys), &copied(&delivers));
        let answers = self.ask(call, arguments).await;
        let answers = answers.and_then(|answers| answers.dyn_into::<Uint8Array>().ok());
        let answers = answers.map(|answers| answers.to_vec()).unwrap_or_default();
        let mut answers = answers.as_slice();
        let checked = items.map(|item| {
            let Some(answer) = Answer::read(&mut answers) else {
                // Nothing after it has a place.
                answers = &[];
                return failed(item.data);
            };
            if answer.verdict == FAILURE {
                self.failures.note(call, answer.reason.clone());
            }
            let checked = answer.checked(&item);
            checked.unwrap_or_else(|| failed(item.data))
        });
        checked.collect()
    }

    async fn check_one(&self, call: &'static str, item: Asked<'_>) -> Checked {
        let checked = self.check(call, std::iter::once(item)).await;
        let checked = checked.into_iter().next();
        checked.unwrap_or_else(|| failed(item.data))
    }
}

/// An item about which the application is asked.
#[derive(Clone, Copy)]
struct Asked<'a> {
    data: &'a [u8],
    /// `None`: the header of a block, which has no name that we know.
    key: Option<&'a TransactionKey>,
    delivers: bool,
}

/// What the facade says to one item: the verdict, an identity (its length, then its bytes), whether there is a fee (1 or 0) and the fee, a reason (its
/// length in two bytes, then its text). Numbers have their low bytes first.
struct Answer {
    verdict: u8,
    id: Vec<u8>,
    fee: Option<u64>,
    reason: String,
}

impl Answer {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let verdict = bytes.try_get_u8().ok()?;
        let length = bytes.try_get_u8().ok()?;
        let id = part(bytes, length.into())?.to_vec();
        let fee = match bytes.try_get_u8().ok()? {
            0 => None,
            _ => Some(bytes.try_get_u64_le().ok()?),
        };
        let length = bytes.try_get_u16_le().ok()?;
        let reason = String::from_utf8_lossy(part(bytes, length.into())?).into_owned();
        Some(Self {
            verdict,
            id,
            fee,
            reason,
        })
    }

    /// As the network has it; what has no identity of its chain's has that of its bytes. `None`: it is none.
    fn checked(self, item: &Asked<'_>) -> Option<Checked> {
        let (verdict, reason) = match self.verdict {
            0 => (Verdict::Accept, self.reason),
            1 => (Verdict::Ignore, self.reason),
            2 => (Verdict::Reject, self.reason),
            _ => {
                let reason = format!("the application failed: {}", self.reason);
                (Verdict::Ignore, reason)
            }
        };
        let id = if self.id.is_empty() {
            let unnamed = || ItemId::sha256(item.data);
            item.key.map_or_else(unnamed, ItemId::of_key)
        } else {
            ItemId::new(&self.id)?
        };
        Some(Checked {
            id,
            fee: self.fee,
            verdict,
            reason,
        })
    }
}

/// The next so many bytes.
fn part<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

/// A copy that is JavaScript's own.
fn copied(bytes: &[u8]) -> JsValue {
    Uint8Array::from(bytes).into()
}

/// The parts of a block, whose places come as pairs of a beginning and an end, those of the header first.
fn parts(block: &Block, places: &[u32]) -> Option<BlockParts> {
    let part = |place: &[u32]| {
        let &[begin, end] = place else {
            return None;
        };
        let place = usize::try_from(begin).ok()?..usize::try_from(end).ok()?;
        block.data.get(place.clone())?;
        Some(block.data.slice(place))
    };
    let mut parts = places.chunks(2).map(part);
    Some(BlockParts {
        header: parts.next()??,
        transactions: parts.collect::<Option<_>>()?,
    })
}

impl Rules for Scripted {
    fn takes_its_thread(&self) -> bool {
        false
    }

    fn judge<'a>(&'a self, candidates: &'a [Candidate]) -> BoxFuture<'a, Vec<Checked>> {
        let judge = async move {
            let Some(first) = candidates.first() else {
                return Vec::new();
            };
            let call = match first.item.kind() {
                ItemKind::Vote => "checkVote",
                ItemKind::Block => "checkBlock",
                ItemKind::Transaction => "checkTransaction",
            };
            let items = candidates.iter().map(|candidate| Asked {
                data: candidate.item.data(),
                key: Some(&candidate.key),
                delivers: candidate.delivers,
            });
            self.check(call, items).await
        };
        SendWrapper::new(judge).boxed()
    }

    fn check_block<'a>(&'a self, block: &'a Block) -> BoxFuture<'a, Checked> {
        let check = async move {
            let key = TransactionKey::of(&block.data);
            let item = Asked {
                data: &block.data,
                key: Some(&key),
                delivers: false,
            };
            self.check_one("checkBlock", item).await
        };
        SendWrapper::new(check).boxed()
    }

    fn check_header<'a>(&'a self, header: &'a Bytes) -> BoxFuture<'a, Checked> {
        let check = async move {
            let call = "checkHeader";
            if !self.host.has(call) {
                return Checked::ignore(header, "this chain does not check headers alone");
            }
            let item = Asked {
                data: header,
                key: None,
                delivers: false,
            };
            self.check_one(call, item).await
        };
        SendWrapper::new(check).boxed()
    }

    fn split_block<'a>(&'a self, block: &'a Block) -> BoxFuture<'a, Option<BlockParts>> {
        let split = async move {
            let call = "splitBlock";
            if !self.host.has(call) {
                return None;
            }
            let places = self.ask(call, Array::of1(&copied(&block.data))).await?;
            let places: Uint32Array = places.dyn_into().ok()?;
            parts(block, &places.to_vec())
        };
        SendWrapper::new(split).boxed()
    }

    fn join_block<'a>(
        &'a self,
        header: &'a Bytes,
        transactions: &'a [Bytes],
    ) -> BoxFuture<'a, Option<Block>> {
        let join = async move {
            let call = "joinBlock";
            if !self.host.has(call) {
                return None;
            }
            let transactions: Array = transactions.iter().map(|bytes| copied(bytes)).collect();
            let arguments = Array::of2(&copied(header), &transactions);
            let block: Uint8Array = self.ask(call, arguments).await?.dyn_into().ok()?;
            Some(Block::new(block.to_vec()))
        };
        SendWrapper::new(join).boxed()
    }

    fn deliver_block<'a>(&'a self, block: &'a Block) -> BoxFuture<'a, bool> {
        let deliver = async move {
            let call = "deliver";
            if !self.host.has(call) {
                return true;
            }
            let kind = ItemKind::Block.name().into();
            let answer = self.ask(call, Array::of2(&kind, &copied(&block.data)));
            answer.await.is_some()
        };
        SendWrapper::new(deliver).boxed()
    }

    fn query<'a>(&'a self, request: &'a StateRequest) -> BoxFuture<'a, Option<StateResponse>> {
        let query = async move {
            let call = "query";
            if !self.host.has(call) {
                return None;
            }
            let height = request.height.map_or(JsValue::UNDEFINED, JsValue::from);
            let arguments = Array::of2(&copied(&request.key), &height);
            let answer: Array = self.ask(call, arguments).await?.dyn_into().ok()?;
            let bytes = |index| Some(answer.get(index).dyn_into::<Uint8Array>().ok()?.to_vec());
            Some(StateResponse {
                height: u64::try_from(answer.get(0)).ok()?,
                value: bytes(1)?.into(),
                proof: bytes(2)?.into(),
            })
        };
        SendWrapper::new(query).boxed()
    }

    fn stake_of<'a>(&'a self, peer: &'a PeerId) -> BoxFuture<'a, Option<u64>> {
        let ask = async move {
            let call = "stakeOf";
            if !self.host.has(call) {
                return Some(0);
            }
            let stake = self.ask(call, Array::of1(&peer.to_string().into())).await?;
            u64::try_from(stake).ok()
        };
        SendWrapper::new(ask).boxed()
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn unkept(&self) -> &Unkept {
        &self.unkept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    /// An answer as the facade writes it.
    fn answer(verdict: u8, id: &[u8], fee: Option<u64>, reason: &str) -> Vec<u8> {
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).expect("it is short");
        let mut bytes = vec![verdict, length(id)];
        bytes.extend_from_slice(id);
        bytes.push(fee.is_some().into());
        bytes.extend(fee.into_iter().flat_map(u64::to_le_bytes));
        bytes.extend([length(reason.as_bytes()), 0]);
        bytes.extend_from_slice(reason.as_bytes());
        bytes
    }

    fn asked<'a>(data: &'a [u8], key: Option<&'a TransactionKey>) -> Asked<'a> {
        Asked {
            data,
            key,
            delivers: true,
        }
    }

    #[test]
    fn an_answer_is_read_and_what_is_cut_short_is_none() {
        let key = TransactionKey::of(b"pay Ann 5");
        let item = asked(b"pay Ann 5", Some(&key));
        let read = |bytes: &[u8]| Answer::read(&mut &*bytes)?.checked(&item);
        let whole = answer(2, b"an id", Some(u64::MAX), "no");
        let checked = read(&whole).expect("it is whole");
        assert_eq!(checked.verdict, Verdict::Reject);
        assert_eq!(checked.id.as_bytes(), b"an id");
        assert_eq!((checked.fee, &*checked.reason), (Some(u64::MAX), "no"));
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), None, "{length}");
        }
        let unnamed = read(&answer(0, b"", None, "")).expect("it is whole");
        assert_eq!(unnamed, Checked::accept(ItemId::of_key(&key)));
        assert_eq!(read(&answer(0, &[7; 65], None, "")), None);
        let failed = read(&answer(FAILURE, b"", None, "out of paper")).expect("it is whole");
        assert_eq!(failed.verdict, Verdict::Ignore);
        assert!(failed.reason.contains("out of paper"), "{}", failed.reason);
    }

    #[test]
    fn parts_are_slices_of_their_block_or_none() {
        let block = Block::new(vec![1, 2, 3, 4, 5]);
        let split = parts(&block, &[0, 2, 2, 2, 3, 5]).expect("they are in it");
        assert_eq!(split.header, [1, 2][..]);
        assert_eq!(split.transactions, [&[][..], &[4, 5]]);
        assert_eq!(
            split.header.as_ptr(),
            block.data.as_ptr(),
            "nothing is copied"
        );
        for places in [&[][..], &[0], &[0, 6], &[2, 1], &[0, 2, 5], &[9, 9]] {
            assert_eq!(parts(&block, places), None, "{places:?}");
        }
    }
}
