//! A new node, from nothing to the verified tip. State machines without I/O.

pub mod snapshots;
