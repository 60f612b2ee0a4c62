//! A peer's stream, and how it is read.
//!
//! A frame's length is looked at first. It is read when the peer's pace allows and there is room for it, within [`PATIENCE`]. A long one is
//! for peers whose kind is known, and asks for the pace of all before it takes room on the node: so none keeps that room only to wait.
//! Its room is its own until the behaviour has taken what came of it; while it comes slowly, it gives way to who waits for room
//! (`traffic/room.rs`): so slow senders hold up nobody for long. What is left of it is skipped, and the stream read on: who sent
//! one frame too slowly is heard again with the next.

use std::{io, time::Duration};

use futures::{
    AsyncRead, AsyncReadExt, FutureExt, StreamExt,
    future::{self, Either},
    stream::{self, BoxStream},
};

use super::handler::{Decoder, Fault, Guest, Heard, Places, Standing, decode, heard};
use crate::{
    frames::{read_length, read_on},
    platform::{self, Delay, Instant},
    traffic::{Admission, Cost},
};

/// Frames up to here are read from everybody and need no room of the node's, in bytes.
pub(super) const SMALL: usize = 64 << 10;
/// How long a frame may take once it has begun.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module's documentation.
pub(super) struct Ears<T> {
    stream: T,
    decoder: Decoder,
    guest: Guest,
    /// Bytes that are left of a frame that was given up.
    skips: usize,
}

impl<T: AsyncRead + Unpin + Send + 'static> Ears<T> {
    pub(super) fn new(stream: T, decoder: Decoder, guest: Guest) -> Self {
        Self {
            stream,
            decoder,
            guest,
            skips: 0,
        }
    }

    /// All that comes, to the stream's end.
    pub(super) fn listen(self) -> BoxStream<'static, Heard> {
        let (upgrade, info) = self.decoder.clone();
        let version = decode(upgrade, info, Vec::new());
        let version = version.map(|(version, _)| Heard::of(version));
        let frames = stream::unfold(Some(self), |ears| async move {
            let mut ears = ears?;
            match ears.next().await {
                Ok(None) => None,
                Ok(Some(heard)) => Some((heard, Some(ears))),
                Err(error) => {
                    let broken = error.kind() == io::ErrorKind::InvalidData;
                    broken.then(|| (Heard::not(Fault::Broken), None))
                }
            }
        });
        stream::iter(version).chain(frames).boxed()
    }

    /// The next frame; `None` at the stream's end. `InvalidData` is the peer's fault.
    async fn next(&mut self) -> io::Result<Option<Heard>> {
        let Guest { reading, peer, .. } = self.guest.clone();
        wait(|now| reading.ready(&peer, now)).await;
        skip(&mut self.stream, std::mem::take(&mut self.skips)).await?;
        let Some(length) = read_length(&mut self.stream).await? else {
            return Ok(None);
        };
        if length > reading.longest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let since = platform::now();
        let mut places = self.places(length, since).await?;
        reading.begin(peer, length, platform::now());
        let Some(frame) = self.read(length, &mut places).await? else {
            return Ok(Some(Heard::not(Fault::Slow)));
        };
        let heard = heard(&self.decoder, &reading, peer, &frame);
        let mut heard = heard.ok_or(io::ErrorKind::InvalidData)?;
        let cost = heard.cost;
        if places._node.is_some() {
            // It was let in before it came.
            reading.count(peer, cost, since, platform::now());
        } else {
            wait(|now| reading.enter(peer, cost, since, now)).await;
        }
        heard.places = places;
        Ok(Some(heard))
    }

    /// Room for a frame: the connection's own, and for a long one the node's, which is for those whose kind is known.
    async fn places(&mut self, length: usize, since: Instant) -> io::Result<Places> {
        let guest = &mut self.guest;
        let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
        let own = guest.room.clone().acquire_many_owned(kib).await;
        let mut places = Places {
            _own: Some(own.map_err(io::Error::other)?),
            _node: None,
        };
        if length > SMALL {
            let known = |standing: &Standing| *standing != Standing::Stranger;
            let known = guest.standing.wait_for(known).await;
            drop(known.map_err(io::Error::other)?);
            let bytes = length as u64;
            let lets_in = |now| {
                let cost = Cost { items: 1, bytes };
                guest.reading.lets_in(&guest.peer, cost, since, now)
            };
            while places._node.is_none() {
                wait(lets_in).await;
                let who = (guest.peer, guest.account);
                let place = guest.reading.room.enter(who, length).await;
                // Others may have used up the pace while it waited for room.
                let still = lets_in(platform::now()) == Admission::Now;
                places._node = still.then_some(place);
            }
        }
        Ok(places)
    }

    /// A frame of this length; `None` where it comes too slowly, and what is left of it is to be skipped.
    async fn read(&mut self, length: usize, places: &mut Places) -> io::Result<Option<Vec<u8>>> {
        let (mut bytes, stream) = (Vec::new(), &mut self.stream);
        let comes = async {
            match &mut places._node {
                Some(place) => place.read(stream, &mut bytes, length).await,
                None => read_on(stream, &mut bytes, length).await,
            }
        };
        let is_slow = match future::select(comes.boxed(), Delay::new(PATIENCE)).await {
            Either::Left((Ok(()), _)) => false,
            Either::Left((Err(error), _)) if error.kind() != io::ErrorKind::ResourceBusy => {
                return Err(error);
            }
            _ => true,
        };
        if is_slow {
            self.skips = length.saturating_sub(bytes.len());
        }
        Ok((!is_slow).then_some(bytes))
    }
}

/// Waits until it is time.
async fn wait(mut admission: impl FnMut(Instant) -> Admission) {
    while let Admission::At(moment) = admission(platform::now()) {
        Delay::new(moment.saturating_duration_since(platform::now())).await;
    }
}

/// Reads so many bytes, and keeps none.
///
/// # Errors
/// `UnexpectedEof` where there are fewer.
async fn skip(stream: &mut (impl AsyncRead + Unpin), mut bytes: usize) -> io::Result<()> {
    let mut nowhere = [0; 1024];
    while bytes > 0 {
        let most = bytes.min(nowhere.len());
        let buffer = nowhere.get_mut(..most).unwrap_or_default();
        match stream.read(buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes = bytes.saturating_sub(count),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
