//! A stream of bytes with a name and a place, for errors that say where.

use std::fmt;
use std::io::{self, Cursor, Read};

use super::BlockFileError;

/// How many bytes are read at once where they are only looked at.
const CHUNK: usize = 64 * 1024;

pub(super) struct Input {
    name: String,
    reader: Box<dyn Read + Send>,
    offset: u64,
}

impl Input {
    pub(super) fn new(name: String, reader: Box<dyn Read + Send>) -> Self {
        Self {
            name,
            reader,
            offset: 0,
        }
    }

    /// Bytes that have been read so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn unrecognised(self) -> BlockFileError {
        BlockFileError::Unrecognised { file: self.name }
    }

    pub(super) fn malformed(&self, offset: u64, expected: impl Into<String>) -> BlockFileError {
        BlockFileError::Malformed {
            file: self.name.clone(),
            offset,
            expected: expected.into(),
        }
    }

    /// The first bytes, which will be read again; only before anything was read.
    pub(super) fn peek(&mut self, count: u64) -> Result<Vec<u8>, BlockFileError> {
        let mut prefix = Vec::new();
        let read = self.reader.by_ref().take(count).read_to_end(&mut prefix);
        self.counted(read)?;
        self.offset = 0;
        let rest = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        self.reader = Box::new(Cursor::new(prefix.clone()).chain(rest));
        Ok(prefix)
    }

    /// The next bytes: fewer than `count` only where the file ends.
    pub(super) fn up_to(&mut self, count: usize) -> Result<Vec<u8>, BlockFileError> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(count).unwrap_or(u64::MAX);
        let read = self.reader.by_ref().take(limit).read_to_end(&mut bytes);
        self.counted(read)?;
        Ok(bytes)
    }

    /// The next `count` bytes, which are `what`. The caller has checked `count` against a limit.
    pub(super) fn exactly(&mut self, count: usize, what: &str) -> Result<Vec<u8>, BlockFileError> {
        let bytes = self.up_to(count)?;
        if bytes.len() < count {
            let expected = format!("{} more bytes of {what}", count - bytes.len());
            return Err(self.malformed(self.offset, expected));
        }
        Ok(bytes)
    }

    /// The next `N` bytes, which are `what`.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], BlockFileError> {
        let bytes = self.exactly(N, what)?;
        bytes
            .try_into()
            .map_err(|_| self.malformed(self.offset, what))
    }

    /// Passes over `count` bytes, which are `what`, without holding them.
    pub(super) fn skip(&mut self, count: u64, what: &str) -> Result<(), BlockFileError> {
        let skipped = io::copy(&mut self.reader.by_ref().take(count), &mut io::sink());
        let skipped = self.counted(skipped)?;
        if skipped < count {
            let expected = format!("{} more bytes of {what}", count - skipped);
            return Err(self.malformed(self.offset, expected));
        }
        Ok(())
    }

    /// Reads to the end of the file, where nothing but zeros may stand.
    pub(super) fn zeros_to_end(&mut self) -> Result<(), BlockFileError> {
        loop {
            let start = self.offset;
            let chunk = self.up_to(CHUNK)?;
            if chunk.is_empty() {
                return Ok(());
            }
            if let Some((place, _)) = (start..).zip(&chunk).find(|(_, byte)| **byte != 0) {
                return Err(self.malformed(place, "zeros up to the end of the file"));
            }
        }
    }

    fn counted<N>(&mut self, read: io::Result<N>) -> Result<N, BlockFileError>
    where
        N: Copy + TryInto<u64>,
    {
        match read {
            Ok(count) => {
                self.offset = self
                    .offset
                    .saturating_add(count.try_into().unwrap_or(u64::MAX));
                Ok(count)
            }
            Err(source) => Err(BlockFileError::Read {
                file: self.name.clone(),
                offset: self.offset,
                source,
            }),
        }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("name", &self.name)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
