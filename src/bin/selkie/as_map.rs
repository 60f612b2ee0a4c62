//! The AS map's file.

use std::{fs::File, io::Read, path::Path};

use selkie::peers::{AsMap, MAX_AS_MAP_BYTES};

/// Reads it; an error says what is wrong with the file, and not which one it is.
pub(crate) fn read(path: &Path) -> Result<AsMap, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("it can't be opened: {error}"))?;
    // One byte more than there may be.
    file.take(MAX_AS_MAP_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("it can't be read: {error}"))?;
    let remedy = "give one of https://github.com/bitcoin-core/asmap-data, or none";
    AsMap::read(&bytes).map_err(|error| format!("{error}; {remedy}"))
}
