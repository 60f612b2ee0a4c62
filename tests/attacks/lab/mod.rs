//! A laboratory for attacks: a victim in a process of its own, two honest nodes that talk through it, and a raw peer
//! that does to it what no honest one does.
//!
//! | file | what is there |
//! | --- | --- |
//! | `attacks/` | the attacks, one file a family |
//! | `link.rs`, `proto.rs` | the raw peer: connections, streams and messages without any of Selkie's code |
//! | `attacker.rs`, `victim.rs`, `child.rs` | the processes |
//! | `honest.rs` | the two that talk, and newcomers |
//! | `measure.rs` | one attack, and what came of it |
//!
//! An attack is an [`Attack`] in one of the families' lists: a name, a sentence, how many identities it has, and what it does.

pub mod attacker;
mod attacks;
pub mod child;
mod honest;
pub mod link;
pub mod measure;
pub mod proto;
pub mod victim;

use futures::future::BoxFuture;
use selkie::Config;

use attacker::{Ctx, Via};
pub use attacks::FAMILIES;

/// Something that an outsider does to a node.
pub struct Attack {
    pub name: &'static str,
    /// What it does, for a person.
    pub about: &'static str,
    /// How many peers it is.
    pub identities: usize,
    /// The way on which newcomers come meanwhile.
    pub newcomers: Option<Via>,
    /// Whether it is none: all its peers are honest, and none of them may have to pay.
    pub honest: bool,
    /// What the victim's configuration has that the default has not.
    pub configure: fn(&mut Config),
    /// Attacks until it is ended from outside.
    pub run: fn(Ctx) -> BoxFuture<'static, ()>,
}

impl Attack {
    /// An attack by one peer on a node in its default configuration.
    const fn new(
        name: &'static str,
        about: &'static str,
        run: fn(Ctx) -> BoxFuture<'static, ()>,
    ) -> Self {
        Self {
            name,
            about,
            identities: 1,
            newcomers: None,
            honest: false,
            configure: |_| {},
            run,
        }
    }

    const fn by(self, identities: usize) -> Self {
        Self { identities, ..self }
    }

    const fn newcomers(self, via: Via) -> Self {
        Self {
            newcomers: Some(via),
            ..self
        }
    }
}

/// All attacks.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    FAMILIES.iter().copied().flatten()
}

/// The attack of this name.
pub fn find(name: &str) -> &'static Attack {
    all()
        .find(|attack| attack.name == name)
        .unwrap_or_else(|| panic!("there is no attack {name:?}"))
}
