//! What transfers do to accounts.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::address::{Account, Address};
use super::transfer::Transfer;
use super::tree::{Child, Key, Tree};
use crate::storage::StoreError;

/// Why a transfer can't be executed on a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was executed before, or one with its nonce was.
    #[error("transfer {nonce} of an account that has sent {sent} already")]
    Replayed {
        /// The transfer's nonce.
        nonce: u64,
        /// How many the account has sent.
        sent: u64,
    },
    /// Others of the account have to come first.
    #[error("transfer {nonce} of an account that has sent {sent} so far")]
    Early {
        /// The transfer's nonce.
        nonce: u64,
        /// How many the account has sent.
        sent: u64,
    },
    /// The account has too little.
    #[error("{wanted} and the fee are more than the balance of {balance}")]
    Balance {
        /// The amount.
        wanted: u64,
        /// What is there.
        balance: u64,
    },
    /// It pays too little.
    #[error("a fee of {fee} is under the least, {least}")]
    Fee {
        /// What it pays.
        fee: u64,
        /// The least.
        least: u64,
    },
}

/// What executing can come to grief over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Accounts as they are after some transfers, over the state before.
pub(super) struct Execution<'a> {
    tree: Tree<'a>,
    root: Option<Child>,
    minimum_fee: u64,
    accounts: BTreeMap<Address, Account>,
    fees: u64,
}

impl<'a> Execution<'a> {
    pub(super) fn new(tree: Tree<'a>, root: Option<Child>, minimum_fee: u64) -> Self {
        Self {
            tree,
            root,
            minimum_fee,
            accounts: BTreeMap::new(),
            fees: 0,
        }
    }

    pub(super) fn account(&self, address: &Address) -> Result<Account, StoreError> {
        match self.accounts.get(address) {
            Some(account) => Ok(*account),
            None => read(&self.tree, self.root, address),
        }
    }

    /// Executes a transfer, whose signature was checked, or leaves all as it was.
    pub(super) fn transfer(&mut self, transfer: &Transfer) -> Result<(), Fault> {
        let from = self.account(&transfer.from)?;
        check(transfer, &from, self.minimum_fee)?;
        if transfer.nonce > from.nonce {
            return Err(Fault::Refused(Refused::Early {
                nonce: transfer.nonce,
                sent: from.nonce,
            }));
        }
        // Checked to be there. All coins together fit, so no sum of some overflows.
        let spent = transfer.amount.saturating_add(transfer.fee);
        let paid = Account {
            balance: from.balance.saturating_sub(spent),
            nonce: from.nonce.saturating_add(1),
        };
        self.accounts.insert(transfer.from, paid);
        let mut to = self.account(&transfer.to)?;
        to.balance = to.balance.saturating_add(transfer.amount);
        self.accounts.insert(transfer.to, to);
        self.fees = self.fees.saturating_add(transfer.fee);
        Ok(())
    }

    /// All fees go to who made the block. What the state's keys have then.
    pub(super) fn finish(
        mut self,
        proposer: &Address,
    ) -> Result<BTreeMap<Key, Option<Bytes>>, StoreError> {
        if self.fees > 0 {
            let mut account = self.account(proposer)?;
            account.balance = account.balance.saturating_add(self.fees);
            self.accounts.insert(*proposer, account);
        }
        Ok(values(&self.accounts))
    }
}

/// What the state's keys have for these accounts.
pub(super) fn values<'a>(
    accounts: impl IntoIterator<Item = (&'a Address, &'a Account)>,
) -> BTreeMap<Key, Option<Bytes>> {
    let value = |account: &Account| Some(Bytes::copy_from_slice(&account.encode()?));
    let accounts = accounts.into_iter();
    accounts
        .map(|(address, account)| (*address.as_bytes(), value(account)))
        .collect()
}

/// An account in a state.
pub(super) fn read(
    tree: &Tree<'_>,
    root: Option<Child>,
    address: &Address,
) -> Result<Account, StoreError> {
    let value = tree.get(root, address.as_bytes())?;
    let account = value.map(|value| Account::decode(&value)).transpose();
    let account = account.map_err(|wrong| StoreError::Damaged {
        place: "the ledger's state".to_owned(),
        reason: wrong.to_string(),
    })?;
    Ok(account.unwrap_or_default())
}

/// What can be said of a transfer before others of its account are executed.
pub(super) fn check(transfer: &Transfer, from: &Account, minimum_fee: u64) -> Result<(), Refused> {
    if transfer.nonce < from.nonce {
        return Err(Refused::Replayed {
            nonce: transfer.nonce,
            sent: from.nonce,
        });
    }
    if transfer.fee < minimum_fee {
        return Err(Refused::Fee {
            fee: transfer.fee,
            least: minimum_fee,
        });
    }
    let spent = transfer.amount.checked_add(transfer.fee);
    if spent.is_none_or(|spent| spent > from.balance) {
        return Err(Refused::Balance {
            wanted: transfer.amount,
            balance: from.balance,
        });
    }
    Ok(())
}
