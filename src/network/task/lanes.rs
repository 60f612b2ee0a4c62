//! What the lanes have for the task, and what propagates over them.

use super::*;
use crate::{
    intake::{Batch, Source},
    lanes::Event,
    network::cores::Event as CoreEvent,
    propagation::{Event as Propagated, Unchecked},
};

impl Task {
    pub(super) fn on_lanes(&mut self, event: Event<CoreEvent>) {
        match event {
            Event::Ready(id) => {
                self.shared.peers().lanes(id, true, platform::now());
                let round_trip = self.shared.peers().round_trip(&id);
                let core = &mut self.swarm.behaviour_mut().lanes.core;
                core.propagation
                    .measured(&id, round_trip.unwrap_or_default());
            }
            Event::Unsupported(id) => self.shared.peers().lanes(id, false, platform::now()),
            Event::Misdeed(peer, misdeed) => self.note(peer, misdeed),
            Event::Dropped(peer, class) => {
                tracing::debug!(%peer, ?class, "the peer reads too slowly: a frame for it is dropped");
                self.shared.state().recorder.unsent(1);
            }
            Event::Skipped(peer, lane) => {
                tracing::debug!(%peer, ?lane, "the peer sends too slowly while others wait: a long frame is lost");
                self.shared.state().recorder.turned_away(1);
            }
            Event::GiveWay => {}
            Event::Unheard(peers) => {
                let mut table = self.shared.peers();
                for (peer, time) in peers {
                    self.requests.unheard(&peer, time);
                    table.unheard(&peer, time);
                }
            }
            Event::Core(CoreEvent::Propagation(event)) => self.on_propagated(*event),
            Event::Core(CoreEvent::Sync(event)) => self.on_sync(*event),
        }
    }

    fn on_propagated(&mut self, event: Propagated) {
        match event {
            Propagated::Check(Unchecked {
                kind,
                from,
                items,
                took,
            }) => {
                let lane = took.lane();
                let source = Source::Lanes(from, took);
                let batch = Batch {
                    kind,
                    source,
                    items,
                };
                self.check_batch(from, lane, batch);
            }
            Propagated::Ask(question, took) => self.ask((question, took)),
            Propagated::Work(step) => {
                let stepped = platform::offload(move || step.run());
                self.work.push(stepped.map(Done::Stepped).boxed());
            }
            Propagated::Overtaken(peer, batches) => self.lost(
                peer,
                batches,
                "batches of votes or transactions were gone before it had read them",
            ),
            // The loop looks for submissions next.
            Propagated::Room => {}
        }
    }
}
