//! A stream of bytes with a name and a place, for errors that say where.

use std::fmt;
use std::io::{self, Read};

use super::BlockFileError;

/// How many bytes are read at once where they are only looked at.
const CHUNK: usize = 64 * 1024;

pub(super) struct Input {
    name: String,
    reader: Box<dyn Read + Send>,
    /// Bytes that were looked at and not passed yet, from `at` on.
    ahead: Vec<u8>,
    at: usize,
    offset: u64,
    /// Bytes other than zero that were passed over because they belong to no block.
    skipped: u64,
}

impl Input {
    pub(super) fn new(name: String, reader: Box<dyn Read + Send>) -> Self {
        Self {
            name,
            reader,
            ahead: Vec::new(),
            at: 0,
            offset: 0,
            skipped: 0,
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

    /// How many bytes belonged to no block, zeros aside, which fill gaps and say nothing.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The next bytes, which are not passed yet: `count` or more, and fewer only where the file ends.
    pub(super) fn ahead(&mut self, count: usize) -> Result<&[u8], BlockFileError> {
        let missing = count.saturating_sub(self.ahead.len() - self.at);
        if missing > 0 {
            self.ahead.drain(..self.at);
            self.at = 0;
            // More than is asked for, so that looking on byte by byte does not move the rest each time.
            let limit = u64::try_from(missing.max(CHUNK)).unwrap_or(u64::MAX);
            let mut rest = self.reader.by_ref().take(limit);
            let read = rest.read_to_end(&mut self.ahead);
            // What was read before a failure counts, and the failure will show again.
            if let Err(source) = read
                && self.ahead.len() < count
            {
                return Err(self.unreadable(source));
            }
        }
        Ok(self.ahead.get(self.at..).unwrap_or_default())
    }

    /// Passes bytes that were looked at.
    pub(super) fn pass(&mut self, count: usize) {
        let count = count.min(self.ahead.len() - self.at);
        self.at += count;
        let passed = u64::try_from(count).unwrap_or(u64::MAX);
        self.offset = self.offset.saturating_add(passed);
    }

    /// Passes bytes that were looked at and belong to no block.
    pub(super) fn leave_out(&mut self, count: usize) {
        let ahead = self.ahead.get(self.at..).unwrap_or_default();
        let told = ahead.iter().take(count).filter(|byte| **byte != 0).count();
        self.skipped = self
            .skipped
            .saturating_add(u64::try_from(told).unwrap_or(u64::MAX));
        self.pass(count);
    }

    /// The next bytes: fewer than `count` only where the file ends.
    pub(super) fn up_to(&mut self, count: usize) -> Result<Vec<u8>, BlockFileError> {
        let ahead = self.ahead.get(self.at..).unwrap_or_default();
        let mut bytes = ahead.get(..count).unwrap_or(ahead).to_vec();
        self.pass(bytes.len());
        let limit = u64::try_from(count - bytes.len()).unwrap_or(u64::MAX);
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

    /// Passes over `count` bytes, which are `what`, without holding them.
    pub(super) fn skip(&mut self, count: u64, what: &str) -> Result<(), BlockFileError> {
        let before = self.offset;
        self.pass(usize::try_from(count).unwrap_or(usize::MAX));
        let rest = count - (self.offset - before);
        let skipped = io::copy(&mut self.reader.by_ref().take(rest), &mut io::sink());
        self.counted(skipped)?;
        let skipped = self.offset - before;
        if skipped < count {
            let expected = format!("{} more bytes of {what}", count - skipped);
            return Err(self.malformed(self.offset, expected));
        }
        Ok(())
    }

    /// Counts bytes that were read past what was looked at.
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
            Err(source) => Err(self.unreadable(source)),
        }
    }

    fn unreadable(&self, source: io::Error) -> BlockFileError {
        BlockFileError::Read {
            file: self.name.clone(),
            offset: self.offset,
            source,
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
