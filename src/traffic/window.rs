//! Stand-in.
use web_time::Instant;
/// Stand-in.
#[derive(Debug, Default)]
pub struct Window {
    in_flight: usize,
}
impl Window {
    /// .
    pub fn room(&self) -> usize {
        (1usize << 20).saturating_sub(self.in_flight)
    }
    /// .
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
    /// .
    pub fn on_sent(&mut self, bytes: usize, _: Instant) {
        self.in_flight += bytes;
    }
    /// .
    pub fn on_acknowledged(&mut self, bytes: usize, _: Instant) {
        self.in_flight -= bytes;
    }
    /// .
    pub fn on_time(&mut self, _: Instant) {}
    /// .
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }
}
