//! Streams of the user's own protocols, for JavaScript: it pulls what comes, and what it writes is taken when there is room.
//!
//! Bounds are those of [`P2PNetworkManager::handle`] and [`P2PNetworkManager::open`]: what JavaScript holds are streams of these. A read moves
//! [`PIECE`] bytes at most, through one buffer, however many wait.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use futures::{
    AsyncRead, AsyncWrite,
    future::{Either, poll_fn, select},
};
use js_sys::Uint8Array;
use tokio::sync::{Mutex, Semaphore, mpsc};
use wasm_bindgen::JsValue;

use super::convert;
use crate::{P2PNetworkManager, PeerId, ProtocolStream, error::NetworkError};

/// What one read moves to JavaScript at most.
const PIECE: usize = 64 << 10;
/// Streams that peers have opened and JavaScript has not taken yet; further ones wait in tasks of their own.
const ARRIVALS: usize = 16;

/// All that are open, by their numbers.
pub(super) struct Streams {
    open: RefCell<HashMap<u32, Rc<Open>>>,
    last: Cell<u32>,
    /// `None` after the end.
    sender: RefCell<Option<mpsc::Sender<Arrival>>>,
    arrivals: Mutex<mpsc::Receiver<Arrival>>,
    /// Where what is read comes to; of use during a poll. Empty until something is read.
    piece: RefCell<Vec<u8>>,
}

struct Arrival {
    protocol: String,
    peer: PeerId,
    stream: ProtocolStream,
}

/// One of them; borrowed while it is polled, and no longer. Over when `over` closes.
struct Open {
    stream: RefCell<ProtocolStream>,
    over: Semaphore,
}

impl Default for Streams {
    fn default() -> Self {
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        Self {
            open: RefCell::default(),
            last: Cell::default(),
            sender: RefCell::new(Some(sender)),
            arrivals: Mutex::new(arrivals),
            piece: RefCell::default(),
        }
    }
}

impl Streams {
    /// Streams of this protocol arrive from now on.
    pub(super) async fn handle(
        &self,
        manager: &P2PNetworkManager,
        protocol: String,
    ) -> Result<(), NetworkError> {
        let sender = self.sender.borrow().clone();
        let sender = sender.ok_or(NetworkError::NotRunning)?;
        let name = protocol.clone();
        let handler = move |peer, stream| {
            let arrival = Arrival {
                protocol: name.clone(),
                peer,
                stream,
            };
            let sender = sender.clone();
            async move {
                // An error says that the node has ended.
                let _ = sender.send(arrival).await;
                Ok(())
            }
        };
        manager.handle(protocol, handler).await
    }

    /// The next one that a peer has opened; undefined after the end.
    pub(super) async fn next(&self) -> JsValue {
        let Some(arrival) = self.arrivals.lock().await.recv().await else {
            return JsValue::UNDEFINED;
        };
        convert::object([
            ("protocol", arrival.protocol.into()),
            ("peer", arrival.peer.to_string().into()),
            ("stream", self.keep(arrival.stream).into()),
        ])
    }

    /// Its number, under which it is read and written until it is reset.
    pub(super) fn keep(&self, stream: ProtocolStream) -> u32 {
        let id = self.last.get().wrapping_add(1);
        self.last.set(id);
        let open = Open {
            stream: RefCell::new(stream),
            over: Semaphore::new(0),
        };
        self.open.borrow_mut().insert(id, Rc::new(open));
        id
    }

    /// What comes next; undefined after the peer's end.
    pub(super) async fn read(&self, id: u32) -> Result<JsValue, JsValue> {
        let open = self.get(id)?;
        let read = open.until(|stream, cx| {
            let mut piece = self.piece.borrow_mut();
            piece.resize(PIECE, 0);
            let read = stream.poll_read(cx, &mut piece);
            read.map_ok(|count| piece.get(..count).map(Uint8Array::from))
        });
        let bytes = read.await?.filter(|bytes| bytes.length() > 0);
        Ok(bytes.map_or(JsValue::UNDEFINED, JsValue::from))
    }

    /// Returns when all of it is on its way.
    pub(super) async fn write(&self, id: u32, data: &[u8]) -> Result<(), JsValue> {
        let (open, mut rest) = (self.get(id)?, data);
        while !rest.is_empty() {
            let count = open.until(|stream, cx| stream.poll_write(cx, rest)).await?;
            rest = rest.get(count..).unwrap_or_default();
        }
        open.until(AsyncWrite::poll_flush).await
    }

    /// The peer reads an end after what was written.
    pub(super) async fn close(&self, id: u32) -> Result<(), JsValue> {
        let open = self.get(id)?;
        open.until(AsyncWrite::poll_close).await
    }

    /// Returns when its connection has ended.
    ///
    /// # Errors
    /// It is over before that.
    pub(super) async fn connection_end(&self, id: u32) -> Result<(), JsValue> {
        let open = self.get(id)?;
        let end = open.stream.borrow().connection_end();
        match select(pin!(end), pin!(open.over.acquire())).await {
            Either::Left(_) => Ok(()),
            Either::Right(_) => Err(was_reset()),
        }
    }

    /// It is over, at once, also for who reads or writes it.
    pub(super) fn reset(&self, id: u32) {
        if let Some(open) = self.open.borrow_mut().remove(&id) {
            open.over.close();
        }
    }

    pub(super) fn end_all(&self) {
        self.sender.take();
        for (_, open) in self.open.borrow_mut().drain() {
            open.over.close();
        }
    }

    fn get(&self, id: u32) -> Result<Rc<Open>, JsValue> {
        self.open.borrow().get(&id).cloned().ok_or_else(was_reset)
    }
}

impl Open {
    /// Polls it until that is ready, or it is over.
    async fn until<T>(
        &self,
        mut poll: impl FnMut(Pin<&mut ProtocolStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Result<T, JsValue> {
        let ready = poll_fn(|cx| poll(Pin::new(&mut *self.stream.borrow_mut()), cx));
        match select(ready, pin!(self.over.acquire())).await {
            Either::Left((Ok(value), _)) => Ok(value),
            _ => Err(was_reset()),
        }
    }
}

/// It was in the midst of it.
pub(super) fn was_reset() -> JsValue {
    let message = "the stream was reset: the peer, the connection or this side gave it up";
    convert::failure("reset", false, message)
}
