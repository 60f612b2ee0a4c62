use std::collections::BTreeMap;

use futures::{AsyncReadExt, executor::block_on, io::Cursor};
use proptest::{collection::vec, prelude::*};

use super::{super::unread::Room, *};

const ACK: u16 = 2;

/// No streams yet, on a node's only connection.
fn none(max: usize, max_theirs: usize, mode: Mode) -> Streams {
    Streams::new(max, max_theirs, mode, Unread::new(Room::default()))
}

fn frame(flags: u16, stream: u32, length: usize) -> Vec<u8> {
    let head = header(DATA, flags, stream, u32::try_from(length).expect("small"));
    [&head[..], &vec![7; length]].concat()
}

/// Bytes with an end that may be seen once, as of a WebSocket.
struct Ending<'a>(Option<Cursor<&'a [u8]>>);

impl AsyncRead for Ending<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = self.0.as_mut().expect("nobody reads after the end");
        let count = ready!(Pin::new(bytes).poll_read(cx, buf))?;
        if count == 0 {
            self.0 = None;
        }
        Poll::Ready(Ok(count))
    }
}

/// It takes nothing.
impl AsyncWrite for Ending<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Found {
    kind: u8,
    flags: u16,
    stream: u32,
    /// Bytes that it brings.
    length: usize,
}

/// The frames that come of these bytes; of each stream so many are read each time.
fn frames(streams: &Streams, said: &[u8], reads: usize) -> Vec<Found> {
    let mut frames = Frames::new(Ending(Some(Cursor::new(said))), streams.clone());
    block_on(async {
        let (mut found, mut head) = (Vec::new(), [0; 12]);
        while frames.read_exact(&mut head).await.is_ok() {
            let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|next| head[at + next]));
            let (kind, stream) = (head[1], word(4));
            let length = if kind == DATA { word(8) } else { 0 };
            let length = usize::try_from(length).expect("small");
            let whole = frames.read_exact(&mut vec![0; length]).await;
            whole.expect("it is whole");
            streams.read(stream, reads);
            let flags = u16::from_be_bytes([head[2], head[3]]);
            found.push(Found {
                kind,
                flags,
                stream,
                length,
            });
        }
        found
    })
}

#[test]
fn bytes_that_come_one_by_one_go_on_in_pieces() {
    let streams = none(4, 4, Mode::Server);
    let count = 1 << 16;
    for flags in [0, ACK] {
        let mut said = [1, 3].map(|id| frame(SYN, id, 0)).concat();
        for _ in 0..count {
            said.extend([1, 3].map(|id| frame(flags, id, 1)).concat());
        }
        let found = frames(&streams, &said, 0);
        let total: usize = found.iter().map(|found| found.length).sum();
        assert_eq!(total, 2 * count);
        let kept = found.iter().filter(|found| found.length > 0).count();
        // Of each stream the first byte too, and what is there at the end.
        assert!(kept <= 2 * (count / PIECE + 2), "{kept}");
    }
}

#[test]
fn an_end_is_one_wherever_it_comes() {
    // Of a stream that nobody has, and of one whose bytes wait: two frames of one byte, and a third.
    let nobodys = frame(0, 9, 100);
    let waiting = [
        frame(SYN, 1, 0),
        frame(0, 1, 1),
        frame(0, 1, 1),
        frame(0, 1, 5),
    ]
    .concat();
    let long = [frame(SYN, 1, 0), frame(0, 1, PIECE)].concat();
    for said in [&nobodys, &waiting, &long] {
        for length in 0..said.len() {
            let mut frames = Frames::new(
                Ending(said.get(..length).map(Cursor::new)),
                none(4, 4, Mode::Server),
            );
            let mut got = Vec::new();
            block_on(frames.read_to_end(&mut got)).expect("an end is no error");
            assert_eq!(
                block_on(frames.read(&mut [0])).ok(),
                Some(0),
                "it stays one"
            );
        }
    }
}

#[test]
fn long_frames_are_cut() {
    let streams = none(4, 4, Mode::Server);
    let said = [frame(SYN, 1, 0), frame(FIN, 1, 2 * LONGEST + 5)].concat();
    let found = frames(&streams, &said, 0);
    let found: Vec<_> = found.iter().map(|one| (one.flags, one.length)).collect();
    assert_eq!(
        found,
        [(SYN, 0), (0, LONGEST), (0, LONGEST), (0, 5), (FIN, 0)]
    );
}

#[test]
fn what_nobody_has_brings_nothing() {
    let streams = none(2, 1, Mode::Server);
    let said = [
        frame(SYN, 1, 10),
        // There is room for one.
        frame(SYN, 3, 10_000),
        frame(0, 3, 10_000),
        frame(FIN, 3, 10_000),
        frame(0, 1, 10),
    ];
    let found = frames(&streams, &said.concat(), usize::MAX);
    assert!(streams.has(1) && !streams.has(3));
    let of = |stream: u32| {
        let of = found.iter().filter(move |found| found.stream == stream);
        of.map(|one| (one.flags, one.length)).collect::<Vec<_>>()
    };
    assert_eq!(of(1), [(SYN, 0), (0, 10), (0, 10)]);
    assert_eq!(of(3), [(SYN, 0), (FIN, 0)]);
    streams.dropped(1);
    assert!(frames(&streams, &frame(0, 1, 10), 0).is_empty());
    frames(&streams, &frame(SYN, 5, 0), 0);
    assert!(streams.has(5), "there is room again");
}

#[test]
fn a_stream_that_is_none_takes_no_place() {
    for (mode, numbers) in [(Mode::Server, [0, 2, 4]), (Mode::Client, [0, 1, 3])] {
        let streams = none(3, 2, mode);
        let mut said = numbers.map(|id| frame(SYN, id, 5)).concat();
        said.extend(numbers.map(|id| header(WINDOW, SYN, id, 0)).concat());
        let theirs = [5, 6].into_iter();
        said.extend(theirs.flat_map(|id| header(WINDOW, SYN, id, u32::MAX)));
        frames(&streams, &said, 0);
        let all = lock(&streams.0);
        assert_eq!((all.known.len(), all.theirs), (0, 0), "{mode:?}");
    }
}

/// What a peer says: type, flags, stream, length.
fn said() -> impl Strategy<Value = (u8, u16, u32, usize)> {
    let flags = prop_oneof![
        6 => Just(0), 2 => Just(SYN), 1 => Just(ACK), 1 => Just(FIN), 1 => Just(RST), 1 => 0_u16..16
    ];
    let length = prop_oneof![4 => 0_usize..9, 1 => 0..3 * LONGEST];
    let kind = prop_oneof![4 => Just(DATA), 1 => Just(WINDOW)];
    (kind, flags, 1_u32..5, length)
}

proptest! {
    #[test]
    fn each_stream_brings_what_it_brought_and_then_its_end(
        says in vec(said(), 0..60), reads in 0_usize..6000,
    ) {
        let streams = none(3, 2, Mode::Server);
        // Of each stream how many bytes it has brought, and how many those were at each of its ends.
        let mut brought = BTreeMap::<u32, (usize, Vec<usize>)>::new();
        let (mut known, mut bytes) = (Vec::new(), Vec::new());
        for (kind, flags, id, length) in says {
            let has = |flag: u16| flags & flag != 0;
            let is_theirs = id % 2 == 1;
            if has(SYN) && !has(RST) && is_theirs && known.len() < 2 && !known.contains(&id) {
                known.push(id);
            }
            let (total, ends) = brought.entry(id).or_default();
            if kind == DATA {
                bytes.extend(frame(flags, id, length));
                *total += if known.contains(&id) && !has(RST) { length } else { 0 };
            } else {
                bytes.extend(header(WINDOW, flags, id, 5));
            }
            if has(RST) || has(FIN) {
                ends.push(*total);
            }
        }
        let mut came = BTreeMap::<u32, (usize, Vec<usize>)>::new();
        for found in frames(&streams, &bytes, reads) {
            let (total, ends) = came.entry(found.stream).or_default();
            *total += found.length;
            if found.flags & (FIN | RST) != 0 {
                ends.push(*total);
            }
            prop_assert!(found.kind == WINDOW || found.flags == 0 || found.length == 0);
        }
        brought.retain(|_, of| *of != (0, Vec::new()));
        came.retain(|_, of| *of != (0, Vec::new()));
        prop_assert_eq!(came, brought);
        let all = lock(&streams.0);
        let here = all.known.values().map(|stream| stream.unread + stream.waiting.len());
        prop_assert_eq!(here.sum::<usize>(), all.unread.own);
    }
}
