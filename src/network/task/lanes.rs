//! What the lanes have for the task.

use super::*;

impl Task {
    pub(super) fn on_lanes(&mut self, event: LanesEvent) {
        match event {
            LanesEvent::Ready(id) => self.shared.peers().lanes(id, true, platform::now()),
            LanesEvent::Unsupported(id) => self.shared.peers().lanes(id, false, platform::now()),
            LanesEvent::Check(batch) => self.check_batch(batch),
            LanesEvent::Ask(question) => self.ask(question),
            LanesEvent::Work(step) => {
                let stepped = platform::offload(move || step.run());
                self.work.push(stepped.map(Done::Stepped).boxed());
            }
            LanesEvent::Refused(source, reason) => self.shared.emit(NetworkEvent::ItemRefused {
                kind: ItemKind::Block,
                source,
                reason,
            }),
            // The loop looks for submissions next.
            LanesEvent::Room => {}
            LanesEvent::Misdeed(peer, misdeed) => self.note(peer, misdeed),
        }
    }
}
