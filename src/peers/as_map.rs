//! Whose an address is: the autonomous system (AS) that announces it to the internet, by a map that the operator gives.
//!
//! A provider has many networks of the size by which a node counts without a map ([`Grouping`](super::Grouping)), and so has whoever rents there. A map says
//! which of them are one's. Its format is that of Bitcoin Core's `-asmap` (`src/util/asmap.cpp` there), in which maps of the whole internet are published
//! at 1 to 2 MB: a program of bits, of each byte the lowest first, that is run over the 128 bits of an IPv6 address, the highest first; an address of IPv4 is
//! the one of IPv6 that maps it (`::ffff:0:0/96`). There are four instructions:
//!
//! - `0`, a number: the answer is this AS.
//! - `10`, a number: takes a bit of the address, and where it is set leaves out so many bits of the program.
//! - `110`, a pattern: takes as many bits of the address; where they differ, the answer is the last default, or none.
//! - `111`, a number: the default from here on.
//!
//! A number begins with its class: each 1 goes on to a class that has one bit more, a 0 (none in the last class) stays. In the class are so many bits, the
//! highest first, to which the least number and all smaller classes are added. A pattern is a number whose highest set bit only marks where it begins.
//!
//! What is no such program is refused when it is read ([`AsMap::read`]), and not in the middle of an answer: all jumps lead forward, to where an instruction
//! begins, no bit is taken beyond the address's last, each way ends with an answer, and nothing lies in the file that no way leads to. Bounds: [`MAX_AS_MAP_BYTES`];
//! an answer takes 257 instructions at most, since two defaults never follow each other.

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use sha2::{Digest as _, Sha256};

/// No map is larger, in bytes: those of the whole internet have less than a quarter of that.
pub const MAX_AS_MAP_BYTES: usize = 8 << 20;
/// Bits of an address.
const BITS: u32 = 128;
/// The least number, and how many bits the classes have.
const SYSTEM: (u32, RangeInclusive<u32>) = (1, 15..=24);
const JUMP: (u32, RangeInclusive<u32>) = (17, 5..=30);
const PATTERN: (u32, RangeInclusive<u32>) = (2, 1..=8);
/// Bits of the longest pattern: of several that follow each other only one is shorter.
const LONGEST: u32 = 8;

/// See the module's documentation.
#[derive(Clone, PartialEq, Eq)]
pub struct AsMap {
    program: Box<[u8]>,
    mark: [u8; 4],
}

/// Why bytes are no map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AsMapError {
    /// There are none.
    #[error("it is empty")]
    Empty,
    /// More than [`MAX_AS_MAP_BYTES`].
    #[error("it is larger than an AS map can be, {} MiB", MAX_AS_MAP_BYTES >> 20)]
    TooLarge,
    /// No program of this form: torn, or something else.
    #[error(
        "it is no AS map of Bitcoin Core's format (asmap.dat), or only a part of one: at byte {byte} {problem}"
    )]
    Malformed {
        /// Where that shows.
        byte: usize,
        /// What is wrong there.
        problem: &'static str,
    },
}

impl AsMap {
    /// The map that a file holds.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, AsMapError> {
        match bytes.len() {
            0 => return Err(AsMapError::Empty),
            size if size > MAX_AS_MAP_BYTES => return Err(AsMapError::TooLarge),
            _ => {}
        }
        check(bytes)?;
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let [a, b, c, d, ..] = digest;
        Ok(Self {
            program: bytes.into(),
            mark: [a, b, c, d],
        })
    }

    /// The number of the AS that has an address; `None` where the map knows none.
    pub fn system_of(&self, ip: IpAddr) -> Option<u32> {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let found = look_up(&self.program, ip.into());
        debug_assert!(found.is_some(), "a map that was checked has an answer");
        found.filter(|number| *number > 0)
    }

    /// What tells this map from others.
    pub(crate) fn mark(&self) -> [u8; 4] {
        self.mark
    }
}

impl fmt::Debug for AsMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsMap({} bytes)", self.program.len())
    }
}

/// One instruction.
#[derive(Clone, Copy)]
enum Step {
    Answer(u32),
    Jump(usize),
    /// So many bits, and what they have to be.
    Match(u32, u32),
    Default(u32),
}

/// A program, and where in it, in bits.
struct Program<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Program<'_> {
    /// The next instruction; `None`: the program ends in it.
    fn step(&mut self) -> Option<Step> {
        let step = if !self.bit()? {
            Step::Answer(self.number(SYSTEM)?)
        } else if !self.bit()? {
            Step::Jump(usize::try_from(self.number(JUMP)?).ok()?)
        } else if !self.bit()? {
            let pattern = self.number(PATTERN)?;
            let length = pattern.ilog2();
            Step::Match(length, pattern & !(1 << length))
        } else {
            Step::Default(self.number(SYSTEM)?)
        };
        Some(step)
    }

    fn number(&mut self, (least, sizes): (u32, RangeInclusive<u32>)) -> Option<u32> {
        let (mut size, largest) = sizes.into_inner();
        let mut number = least;
        while size < largest && self.bit()? {
            number += 1 << size;
            size += 1;
        }
        for place in (0..size).rev() {
            number += u32::from(self.bit()?) << place;
        }
        Some(number)
    }

    fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = (byte >> (self.at % 8)) & 1 == 1;
        self.at += 1;
        Some(bit)
    }

    /// How many bits are left.
    fn rest(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }
}

/// Runs a program; 0 where it knows no AS, `None` where it is none.
fn look_up(bytes: &[u8], address: u128) -> Option<u32> {
    let mut program = Program { bytes, at: 0 };
    let (mut default, mut left) = (0, BITS);
    loop {
        match program.step()? {
            Step::Answer(number) => return Some(number),
            Step::Default(number) => default = number,
            Step::Jump(by) => {
                left = left.checked_sub(1)?;
                if (address >> left) & 1 == 1 {
                    program.at = program.at.checked_add(by)?;
                }
            }
            Step::Match(length, pattern) => {
                left = left.checked_sub(length)?;
                if (address >> left) & ((1 << length) - 1) != u128::from(pattern) {
                    return Some(default);
                }
            }
        }
    }
}

/// Walks over a program as it lies in its file: what a jump leaves out is walked over before the place where it leads to.
fn check(bytes: &[u8]) -> Result<(), AsMapError> {
    let mut program = Program { bytes, at: 0 };
    // Where jumps lead to, the next place last, and how much of the address is left there.
    let mut places: Vec<(usize, u32)> = Vec::new();
    let mut left = BITS;
    let (mut before, mut had_short) = (Step::Jump(0), false);
    loop {
        let from = program.at;
        let wrong = |problem| {
            let byte = from / 8;
            AsMapError::Malformed { byte, problem }
        };
        let step = program.step();
        let step = step.ok_or_else(|| wrong("it ends in the middle of an instruction"))?;
        if places.last().is_some_and(|(place, _)| program.at > *place) {
            return Err(wrong("an instruction lies where a jump leads to"));
        }
        let takes = match step {
            Step::Jump(_) => 1,
            Step::Match(length, _) => length,
            Step::Answer(_) | Step::Default(_) => 0,
        };
        left = left
            .checked_sub(takes)
            .ok_or_else(|| wrong("it asks for more than an address has"))?;
        match step {
            Step::Jump(by) => {
                let place = program.at.saturating_add(by);
                if by >= program.rest() {
                    return Err(wrong("a jump leads out of it"));
                }
                if places.last().is_some_and(|(next, _)| place >= *next) {
                    return Err(wrong("a jump leads over the end of another"));
                }
                places.push((place, left));
            }
            Step::Match(length, _) => {
                let is_short = length < LONGEST;
                had_short &= matches!(before, Step::Match(..));
                if is_short && had_short {
                    return Err(wrong("two short patterns stand in the place of one"));
                }
                had_short = is_short;
            }
            Step::Default(_) | Step::Answer(_) if matches!(before, Step::Default(_)) => {
                return Err(wrong("a default is of no use"));
            }
            Step::Default(_) => {}
            Step::Answer(_) => match places.pop() {
                Some((place, rest)) if place == program.at => left = rest,
                Some(_) => return Err(wrong("no way leads to what comes next")),
                None => return check_end(&mut program),
            },
        }
        before = match step {
            // As if it had jumped to the next one.
            Step::Answer(_) => Step::Jump(0),
            step => step,
        };
    }
}

/// Behind the last answer is what fills up its byte, and nothing else.
fn check_end(program: &mut Program<'_>) -> Result<(), AsMapError> {
    let byte = program.at / 8;
    let is_empty = program.rest() < 8 && std::iter::from_fn(|| program.bit()).all(|bit| !bit);
    let problem = "something follows its end";
    is_empty
        .then_some(())
        .ok_or(AsMapError::Malformed { byte, problem })
}

#[cfg(test)]
pub(crate) mod tests;
