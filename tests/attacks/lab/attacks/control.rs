//! No attack, to compare the others with: what it costs the honest that the attacker's process has a core.

use crate::lab::Attack;

pub const ATTACKS: &[Attack] = &[Attack::new(
    "a-core-alone",
    "no attack: connects to nobody, and computes without end",
    |_| {
        Box::pin(async {
            loop {
                std::hint::spin_loop()
            }
        })
    },
)];
