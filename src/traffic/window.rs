//! How much may be on its way to a peer that has not acknowledged it.
//!
//! A fixed window: what is sent opens it no further than its size, what is acknowledged makes room again. It keeps a
//! flood of bulk traffic from filling every buffer between two nodes before a vote.

/// Bytes that may be on their way.
const SIZE: usize = 1 << 20;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Window {
    in_flight: usize,
}

impl Window {
    /// Bytes that may be sent now; the last message may go over it.
    pub fn room(&self) -> usize {
        SIZE.saturating_sub(self.in_flight)
    }

    /// Bytes that were sent.
    pub fn on_sent(&mut self, bytes: usize) {
        self.in_flight += bytes;
    }

    /// Bytes that the peer says it is done with. One that acknowledges more than it was sent only gets more than it can take.
    pub fn on_acknowledged(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn what_is_acknowledged_makes_room_and_no_more() {
        let mut window = Window::default();
        window.on_sent(SIZE - 1);
        assert_eq!(window.room(), 1);
        window.on_sent(100);
        assert_eq!(window.room(), 0);
        window.on_acknowledged(99);
        assert_eq!(window.room(), 0);
        window.on_acknowledged(usize::MAX);
        assert_eq!(window.room(), SIZE);
    }
}
