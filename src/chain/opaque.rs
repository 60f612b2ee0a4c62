//! The default application: items are bytes, and any but none are well formed.

use super::Application;

/// Accepts every non-empty item; an item's identity is the SHA-256 of its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opaque;

impl Application for Opaque {}
