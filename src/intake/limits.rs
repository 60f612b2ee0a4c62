//! How large an item of each kind may be: one limit a kind, for every way in and out.

use crate::{chain::ItemKind, error::ProtocolError, propagation::PropagationConfig};

/// The largest item of each kind, in bytes. Peers tell each other theirs in the hello: they are the same in a whole network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ItemLimits {
    vote: usize,
    block: usize,
    transaction: usize,
}

impl ItemLimits {
    pub(crate) fn new(config: &PropagationConfig) -> Self {
        Self {
            vote: config.votes.max_item,
            block: config.blocks.max_block_bytes,
            transaction: config.transactions.max_item,
        }
    }

    /// The largest item of a kind, in bytes.
    pub(crate) fn of(&self, kind: ItemKind) -> usize {
        match kind {
            ItemKind::Vote => self.vote,
            ItemKind::Block => self.block,
            ItemKind::Transaction => self.transaction,
        }
    }

    /// Whether an item of this size may pass, either way. An empty one may not: nobody takes it over the lanes, so who has it
    /// can't pass it on.
    ///
    /// # Errors
    /// [`ProtocolError::TooLarge`] names the field that says so; [`ProtocolError::Empty`].
    pub(crate) fn check(&self, kind: ItemKind, size: usize) -> Result<(), ProtocolError> {
        let limit = self.of(kind);
        if size == 0 {
            return Err(ProtocolError::Empty { kind });
        }
        if size <= limit {
            return Ok(());
        }
        let field = field(kind);
        Err(ProtocolError::TooLarge { size, limit, field })
    }
}

/// Where the configuration has a kind's limit.
fn field(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Vote => "protocol.propagation.votes.max_item",
        ItemKind::Block => "protocol.propagation.blocks.max_block_bytes",
        ItemKind::Transaction => "protocol.propagation.transactions.max_item",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn each_kind_has_its_limit_and_the_refusal_names_it() {
        let limits = ItemLimits::new(&PropagationConfig::default());
        for kind in ItemKind::ALL {
            let limit = limits.of(kind);
            assert!(limits.check(kind, limit).is_ok() && limits.check(kind, 1).is_ok());
            let refused = limits.check(kind, 0).expect_err("nothing is no item");
            assert_eq!(refused.code(), "empty");
            let refused = limits.check(kind, limit + 1).expect_err("one byte over");
            assert!(refused.to_string().contains(field(kind)), "{refused}");
        }
    }
}
