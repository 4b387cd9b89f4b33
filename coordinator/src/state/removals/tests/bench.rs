//! A site with agents that remember which removals they were told.

use std::collections::BTreeMap;
use std::time::Duration;

use sifleet_common::api::removals::{RemovalBody, RemovalPlan, RemovalRequest, RemovalTarget};
use sifleet_common::inventory::{Change, RootState};
use sifleet_common::wire::assignment::{Order, Removal, RemovalOutcome, Removed, Report};
use sifleet_common::wire::control::{ToAgent, ToCoordinator};

use crate::state::removals::{RemovalCommand, RemovalError};
use crate::state::testing::stored::restored;
use crate::state::testing::{Site, gone, image, library, root};
use crate::state::{Effect, Event, Limits, SessionId};
use crate::store::removal::RemovalNo;

/// A head node whose library may hold `a.sif`, and nodes that hold it.
pub(super) struct Bench {
    pub(super) site: Site,
    sessions: BTreeMap<String, SessionId>,
    heard: usize,
}

pub(super) fn watched() -> Change {
    root(RootState::Watched)
}

pub(super) fn request(nodes: &str) -> RemovalRequest {
    RemovalRequest {
        image: Some("a".into()),
        digest: None,
        from: RemovalTarget::Nodes(nodes.into()),
        root: None,
        force: false,
        when_idle: false,
        deadline_s: None,
        dry_run: false,
    }
}

impl Bench {
    pub(super) fn new(in_library: bool, nodes: &[&str]) -> Self {
        let mut bench = Self { site: Site::new(), sessions: BTreeMap::new(), heard: 0 };
        bench.site.partition("p", "n[1-9]");
        let held = in_library.then(|| image("a.sif", 1));
        bench.connect("head", [library(RootState::Watched)].into_iter().chain(held).collect());
        for node in nodes {
            bench.connect(node, vec![watched(), image("a.sif", 1)]);
        }
        bench
    }

    pub(super) fn connect(&mut self, node: &str, changes: Vec<Change>) {
        let session = self.site.agent(node, changes);
        self.sessions.insert(node.into(), session);
    }

    pub(super) fn lose(&mut self, node: &str) {
        let session = self.sessions.remove(node).unwrap();
        self.site.say(session, ToCoordinator::Goodbye);
        self.site.handle(Event::Closed { session });
    }

    pub(super) fn ask(&mut self, command: RemovalCommand) -> Result<RemovalNo, RemovalError> {
        let (answer, effects) = self.site.state.remove(command, self.site.now);
        let stored = effects.iter().filter_map(|effect| match effect {
            Effect::Store(op) => Some(op.clone()),
            Effect::Send(..) | Effect::Close(..) | Effect::Announce(_) => None,
        });
        self.site.stored.extend(stored);
        self.site.effects.extend(effects);
        answer
    }

    pub(super) fn try_remove(&mut self, request: &RemovalRequest) -> Result<RemovalNo, RemovalError> {
        let wish = self.site.view().removal_wish(request, self.site.now)?;
        self.ask(RemovalCommand::Create(Box::new(wish)))
    }

    pub(super) fn remove(&mut self, request: &RemovalRequest) -> RemovalNo {
        self.try_remove(request).unwrap()
    }

    pub(super) fn plan(&mut self, request: &RemovalRequest) -> RemovalPlan {
        let view = self.site.view();
        view.removal_plan(&view.removal_wish(request, self.site.now).unwrap(), self.site.now)
    }

    pub(super) fn body(&mut self, no: RemovalNo) -> RemovalBody {
        let view = self.site.view();
        view.removal_body(view.removal_info(no).unwrap())
    }

    /// Says which nodes are in which phase, and why.
    pub(super) fn shown(&mut self, no: RemovalNo) -> String {
        let body = self.body(no);
        let phases = body.phases.iter().map(|one| format!("{} {}", one.phase, one.nodes));
        let reasons = body.reasons.iter().map(|one| format!("({} {})", one.code, one.nodes));
        phases.chain(reasons).collect::<Vec<_>>().join(" ")
    }

    /// Returns what agents were told since this was last asked.
    pub(super) fn told(&mut self) -> Vec<(String, Removal)> {
        let new = self.site.effects[self.heard..].iter().filter_map(|effect| {
            let Effect::Send(session, ToAgent::Order(order)) = effect else { return None };
            let Order::Remove(removal) = &**order else { return None };
            let (node, _) = self.sessions.iter().find(|(_, known)| *known == session)?;
            Some((node.clone(), removal.clone()))
        });
        let told = new.collect();
        self.heard = self.site.effects.len();
        told
    }

    pub(super) fn told_names(&mut self) -> Vec<String> {
        self.told().into_iter().map(|(node, _)| node).collect()
    }

    pub(super) fn answers(&mut self, node: &str, removal: &Removal, outcome: RemovalOutcome) {
        let removed = Removed { id: removal.id, outcome, detail: "so it is".into() };
        let session = self.sessions[node];
        self.site.say(session, ToCoordinator::Report(Box::new(Report::Removed(removed))));
    }

    /// Lets a node remove what it was told to.
    pub(super) fn obeys(&mut self, node: &str, removal: &Removal) {
        self.answers(node, removal, RemovalOutcome::Gone);
        self.site.change(node, vec![gone("a.sif")]);
    }

    /// Lets time pass while all agents live.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds.div_ceil(5) {
            self.site.now.mono = self.site.now.mono.after(Duration::from_secs(5));
            self.site.now.wall.0 += 5_000;
            let nodes: Vec<String> = self.sessions.keys().cloned().collect();
            for node in nodes.iter().chain(&nodes) {
                self.site.beat(node);
            }
            self.site.handle(Event::Tick);
        }
    }

    /// Starts the coordinator anew with what the store was handed; nobody is connected.
    pub(super) fn restart(&mut self) {
        let mut site = Site::with(Limits::default(), restored(&self.site.stored));
        (site.stored, site.now) = (std::mem::take(&mut self.site.stored), self.site.now);
        (self.site, self.sessions, self.heard) = (site, BTreeMap::new(), 0);
        self.site.partition("p", "n[1-9]");
    }
}
