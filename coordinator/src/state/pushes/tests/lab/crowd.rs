//! What ten thousand nodes do: nothing is read twice, nothing is remembered of what is said.

use sifleet_common::api::pushes::PushRequest;
use sifleet_common::chunk::MapDigest;
use sifleet_common::inventory::Change;
use sifleet_common::push::Phase;
use sifleet_common::wire::assignment::{AssignmentId, Mapped, Moved, Order, Progress, Report};
use sifleet_common::wire::control::{ToAgent, ToCoordinator};

use super::{Lab, said};
use crate::state::pushes::{Command, Wish};
use crate::state::{Effect, SessionId};
use crate::store::push::PushNo;

impl Lab {
    pub(in crate::state::pushes) fn connect_all(&mut self, changes: &[Change]) {
        for node in self.members() {
            let session = self.site.agent(&node, changes.to_vec());
            self.sessions.insert(node, session);
            self.site.effects.clear();
        }
    }

    pub(in crate::state::pushes) fn wish(&mut self, wish: &PushRequest) -> Wish {
        self.site.state.view().wish(wish, self.site.now).unwrap()
    }

    pub(in crate::state::pushes) fn push_only(&mut self, wish: Wish) -> PushNo {
        self.command_only(Command::Create(Box::new(wish)))
    }

    pub(in crate::state::pushes) fn cancel_only(&mut self, push: PushNo) {
        self.command_only(Command::Cancel(push));
    }

    fn command_only(&mut self, command: Command) -> PushNo {
        let (answer, effects) = self.site.state.command(command, self.site.now);
        self.site.stored.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Store(op) => Some(op.clone()),
            Effect::Send(..) | Effect::Close(..) | Effect::Announce(_) => None,
        }));
        self.site.effects.extend(effects);
        answer.unwrap()
    }

    pub(in crate::state::pushes) fn map_only(&mut self, node: &str) {
        let image = crate::state::testing::digest(1);
        let mapped = Mapped { image, map: Some(MapDigest::from_bytes([1; 32])), detail: String::new() };
        let report = ToCoordinator::Report(Box::new(Report::Mapped(mapped)));
        self.site.say(self.session(node), report);
    }

    pub(in crate::state::pushes) fn take_assigned(&mut self) -> Vec<(SessionId, AssignmentId)> {
        let effects = std::mem::take(&mut self.site.effects);
        let mut assigned = Vec::new();
        for effect in effects {
            if let Effect::Send(session, ToAgent::Order(order)) = effect
                && let Order::Assign(assignment) = *order
            {
                assigned.push((session, assignment.id));
            }
        }
        assigned
    }

    pub(in crate::state::pushes) fn progress_only(
        &mut self,
        session: SessionId,
        id: AssignmentId,
        phase: Phase,
    ) {
        let progress = Progress { bytes: Moved { fetched: 1, ..Moved::default() }, ..said(id, phase) };
        self.site.say(session, ToCoordinator::Report(Box::new(Report::Progress(progress))));
    }

    pub(in crate::state::pushes) fn lose_only(&mut self, node: &str) {
        let session = self.sessions.remove(node).unwrap();
        self.site.say(session, ToCoordinator::Goodbye);
    }

    pub(in crate::state::pushes) fn is_connected(&self, node: &str) -> bool {
        self.sessions.contains_key(node)
    }

    pub(in crate::state::pushes) fn done_only(&mut self, node: &str) {
        self.site.change(node, vec![crate::state::testing::image("a.sif", 1)]);
    }
}
