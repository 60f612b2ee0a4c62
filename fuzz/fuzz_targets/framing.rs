//! A peer's bytes on a stream, cut into frames: of a request, and of a lane. No frame is over its limit, whatever its length says, and
//! no more bytes come out than went in.

#![no_main]

use futures::{FutureExt, io::Cursor};
use libfuzzer_sys::fuzz_target;
use selkie::{check_lane, network::codec::FrameCodec};

const LIMIT: usize = 1 << 10;

fuzz_target!(|data: &[u8]| {
    let request = FrameCodec::new(LIMIT);
    let mut stream = Cursor::new(data);
    let frame = request.read(&mut stream).now_or_never();
    if let Ok(frame) = frame.expect("a cursor never waits") {
        assert!(frame.len() <= LIMIT.min(data.len()));
    }
    if let Ok(frames) = check_lane(data) {
        assert!(frames <= data.len());
    }
});
