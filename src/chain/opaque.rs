//! The default application: items are bytes, and any but none are well formed.

use super::{Application, Checked, ItemId};
use crate::chain::{Transaction, TransactionKey};

/// Accepts every non-empty item; an item's identity is the SHA-256 of its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opaque;

impl Application for Opaque {
    fn check_transaction_by_key(&self, transaction: &Transaction, key: &TransactionKey) -> Checked {
        if transaction.data.is_empty() {
            return self.check_transaction(transaction);
        }
        Checked::accept(ItemId::of_key(key))
    }
}
