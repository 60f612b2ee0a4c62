//! Answers about accounts, and what shows that they hold: to whoever trusts a state root, or only the genesis.
//!
//! A question is an address; its answer's proof is a [`Proof`](super::Proof) for the state root of its height. Or it is the word `final` and an
//! address: its answer is of the newest final block, and the proof stands alone: that block's header (213 bytes), the length of its
//! certificate (4), the certificate, and the proof of the account.
//!
//! A batch asks for many addresses in the state of a root that is named. Its proof is the addresses' proofs in a row, each after its length (2 bytes).

use bytes::Bytes;

use super::address::Address;
use super::codec::{Malformed, Reader};
use super::genesis::Genesis;
use super::header::Header;
use super::stored::Head;
use super::tree::{Hash, root_hash};
use super::vote::Certificate;
use super::{Judgement, Ledger, ProofError, verify};
use crate::chain::{ProvenState, StateBatch, StateRequest, StateResponse, StateRoot};
use crate::storage::StoreError;

const FINAL: &[u8] = b"final";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// What an account holds, at a height or now.
    Account(Address),
    /// What it holds in the newest final state.
    Final(Address),
}

impl Question {
    pub(super) fn read(key: &[u8]) -> Option<Self> {
        let address = |key: &[u8]| Some(Address::new(key.try_into().ok()?));
        match key.strip_prefix(FINAL) {
            Some(rest) if rest.len() == Address::LENGTH => address(rest).map(Self::Final),
            _ => address(key).map(Self::Account),
        }
    }
}

/// The address that a key of a batch is.
pub(super) fn address(key: &[u8]) -> Option<Address> {
    match Question::read(key)? {
        Question::Account(address) => Some(address),
        Question::Final(_) => None,
    }
}

/// A state by its height and its root.
pub(super) fn state_root(height: u64, root: &Hash) -> StateRoot {
    StateRoot {
        height,
        root: Bytes::copy_from_slice(root),
    }
}

/// Whether a batch's answer holds in the state that it names, whose root is trusted. It has a value for each key.
pub(super) fn verify_batch(batch: &StateBatch, answer: &ProvenState) -> Result<(), Judgement> {
    let root = Hash::try_from(&*batch.at.root);
    let root = root.map_err(|_| Judgement::Useless("it is of no state's root".to_owned()))?;
    let mut reader = Reader::new(&answer.proof, "proofs in a row");
    for (key, value) in batch.keys.iter().zip(&answer.values) {
        let address = address(key);
        let address =
            address.ok_or_else(|| Judgement::Useless("it is about no account".to_owned()))?;
        let length = usize::from(reader.u16()?);
        check(&root, &address, value, reader.take(length)?)?;
    }
    Ok(reader.end()?)
}

/// The question about an account in the newest final state, in place of one about its latest.
pub(super) fn of_final(request: StateRequest) -> StateRequest {
    match (Question::read(&request.key), request.height) {
        (Some(Question::Account(address)), None) => StateRequest {
            key: [FINAL, address.as_bytes()].concat().into(),
            height: None,
        },
        _ => request,
    }
}

impl Ledger {
    /// An account's value in the state of a block, and what shows it.
    pub(super) fn prove(
        &self,
        head: &Head,
        address: &Address,
    ) -> Result<(Bytes, Vec<u8>), StoreError> {
        let (value, proof) = self.0.stored.tree().prove(head.root, address.as_bytes())?;
        Ok((value.unwrap_or_default(), proof.encode()))
    }

    /// The same of the newest final block, with what shows that it is.
    pub(super) fn prove_final(
        &self,
        address: &Address,
    ) -> Result<Option<StateResponse>, StoreError> {
        let stored = &self.0.stored;
        let height = self.0.chain().final_height;
        let (Some(head), Some(certificate)) = (self.head_at(height)?, stored.certificate(height)?)
        else {
            return Ok(None);
        };
        let Some(header) = stored.headers(height, 1)?.pop() else {
            return Ok(None);
        };
        let (value, proof) = self.prove(&head, address)?;
        Ok(Some(StateResponse {
            height,
            value,
            proof: encode(&header, &certificate, &proof),
        }))
    }

    /// The values of accounts in a state that is here, and what shows them.
    pub(super) fn prove_batch(
        &self,
        batch: &StateBatch,
    ) -> Result<Option<ProvenState>, StoreError> {
        let head = self.head_at(batch.at.height)?;
        let Some(head) = head.filter(|head| root_hash(head.root) == batch.at.root[..]) else {
            return Ok(None);
        };
        let mut answer = ProvenState::default();
        let mut proofs = Vec::new();
        for key in &batch.keys {
            let Some(address) = address(key) else {
                return Ok(None);
            };
            let (value, proof) = self.prove(&head, &address)?;
            // The longest proof has some 8 KB.
            let length = u16::try_from(proof.len()).unwrap_or(u16::MAX);
            proofs.extend(length.to_be_bytes());
            proofs.extend(proof);
            answer.values.push(value);
        }
        answer.proof = proofs.into();
        Ok(Some(answer))
    }

    /// The state after the newest final block.
    pub(super) fn final_state(&self) -> Result<Option<StateRoot>, StoreError> {
        let height = self.0.chain().final_height;
        let head = self.head_at(height)?;
        Ok(head.map(|head| state_root(height, &root_hash(head.root))))
    }

    /// Whether a peer's answer holds, by the block of its height that is here.
    pub(super) fn check_answer(
        &self,
        request: &StateRequest,
        answer: &StateResponse,
    ) -> Result<(), Judgement> {
        let Some(Question::Account(address)) = Question::read(&request.key) else {
            return Err(Judgement::Useless("it is about no account".to_owned()));
        };
        let Some(head) = self.0.stored.head(answer.height)? else {
            return Err(Judgement::Trouble(format!(
                "block {} is not here",
                answer.height
            )));
        };
        if request.height.is_some_and(|height| height != answer.height) {
            return Err(Judgement::Invalid("it is of another height".to_owned()));
        }
        check_known(&root_hash(head.root), &address, answer)
    }
}

/// The proof that stands alone.
pub(super) fn encode(header: &[u8], certificate: &Certificate, proof: &[u8]) -> Bytes {
    let certificate = certificate.encode();
    let length = u32::try_from(certificate.len()).unwrap_or(u32::MAX);
    [header, &length.to_be_bytes(), &certificate, proof]
        .concat()
        .into()
}

/// Whether an answer holds in the state of this root.
pub(super) fn check(
    root: &Hash,
    address: &Address,
    value: &[u8],
    proof: &[u8],
) -> Result<(), Judgement> {
    let verified = verify(root, address, value, proof);
    verified
        .map(drop)
        .map_err(|wrong| Judgement::Invalid(wrong.to_string()))
}

/// The same by a root that is known here. Where the proof leads to another one, the peer may have another block at that height, and
/// be right of it: so that is no lie, whatever is final here.
pub(super) fn check_known(
    root: &Hash,
    address: &Address,
    answer: &StateResponse,
) -> Result<(), Judgement> {
    let verified = verify(root, address, &answer.value, &answer.proof);
    verified.map(drop).map_err(|wrong| match wrong {
        ProofError::Root => Judgement::Useless(wrong.to_string()),
        wrong => Judgement::Invalid(wrong.to_string()),
    })
}

/// Whether an answer holds by its own proof, and the header that is final by it.
pub(super) fn check_final(
    genesis: &Genesis,
    address: &Address,
    answer: &StateResponse,
) -> Result<Header, Judgement> {
    let (header, certificate, proof) = parts(&answer.proof)?;
    if header.height != answer.height {
        return Err(Judgement::Invalid(
            "the proof is of another height than the answer".to_owned(),
        ));
    }
    certificate
        .verify(genesis, &header)
        .map_err(|wrong| Judgement::Invalid(wrong.to_string()))?;
    check(&header.state_root, address, &answer.value, proof)?;
    Ok(header)
}

fn parts(proof: &[u8]) -> Result<(Header, Certificate, &[u8]), Malformed> {
    let mut reader = Reader::new(proof, "a header, a certificate and a proof");
    let header = Header::decode(reader.take(Header::LENGTH)?)?;
    let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    let certificate = Certificate::decode(reader.take(length)?)?;
    Ok((header, certificate, reader.rest()))
}
