//! Asks agents to look at all of their roots, and notes who has come to the end of it.
//!
//! Scans are numbered. An agent repeats the number once everything it found has been said, in the same stream, so that a
//! view that shows the number shows what was found.

use sifleet_common::api;
use sifleet_common::name::NodeName;
use sifleet_common::nodeset::fold;
use sifleet_common::wire::control::ToAgent;

use super::index::NodeId;
use super::{Effect, State};

/// A scan that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Its number; a node that shows this or a higher one has come to its end.
    pub number: u64,
    /// Who was told, and who was not there.
    pub nodes: api::nodes::Rescan,
}

impl State {
    /// Asks the agents of these nodes to reconcile.
    pub fn rescan(&mut self, names: &[NodeName]) -> (api::nodes::Rescan, Vec<Effect>) {
        let answer = self.tell(names, &ToAgent::Rescan);
        (answer, std::mem::take(&mut self.effects))
    }

    /// Asks the agents of these nodes to reconcile, and to say when they have.
    pub fn scan(&mut self, names: &[NodeName]) -> (Scan, Vec<Effect>) {
        self.scans = self.scans.saturating_add(1);
        let number = self.scans;
        let nodes = self.tell(names, &ToAgent::Reconcile { request: number });
        (Scan { number, nodes }, std::mem::take(&mut self.effects))
    }

    fn tell(&mut self, names: &[NodeName], message: &ToAgent) -> api::nodes::Rescan {
        let (mut told, mut offline, mut unheard_of) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            match self.by_name.get(name).map(|id| self.session_of(*id)) {
                None => unheard_of.push(name.as_str()),
                Some(None) => offline.push(name.as_str()),
                Some(Some(session)) => {
                    self.effects.push(Effect::Send(session, message.clone()));
                    told.push(name.as_str());
                }
            }
        }
        api::nodes::Rescan { told: fold(told), offline: fold(offline), unheard_of: fold(unheard_of) }
    }

    /// Notes that a node has come to the end of a scan; one that nobody asked for is none.
    pub(super) fn reconciled(&mut self, id: NodeId, request: u64) {
        if let Some(node) = self.nodes.get_mut(id.index())
            && request <= self.scans
            && request > node.scanned
        {
            node.scanned = request;
            self.shown.touch(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use sifleet_common::wire::control::ToCoordinator;

    use super::*;
    use crate::state::testing::Site;

    fn shown(site: &mut Site, place: usize) -> u64 {
        site.view().nodes.get(place).map_or(0, |node| node.scanned)
    }

    #[test]
    fn a_node_is_scanned_once_it_says_so_and_not_before() {
        let mut site = Site::new();
        site.partition("viz", "n[1-2]");
        let session = site.agent("n1", Vec::new());
        let names: Vec<NodeName> = ["n1", "n2", "nobody"].map(|name| name.parse().unwrap()).into();
        let (scan, effects) = site.state.scan(&names);
        assert_eq!(effects, [Effect::Send(session, ToAgent::Reconcile { request: 1 })]);
        let nodes =
            api::nodes::Rescan { told: "n1".into(), offline: "n2".into(), unheard_of: "nobody".into() };
        assert_eq!(scan, Scan { number: 1, nodes });
        let place = site.view().place_of(&names[0]).unwrap();
        assert_eq!(shown(&mut site, place), 0);
        site.say(session, ToCoordinator::Reconciled { request: 1 });
        assert_eq!(shown(&mut site, place), 1);
    }

    #[test]
    fn nobody_comes_to_the_end_of_a_scan_that_was_not_begun() {
        let mut site = Site::new();
        let session = site.agent("n1", Vec::new());
        site.say(session, ToCoordinator::Reconciled { request: u64::MAX });
        assert_eq!(shown(&mut site, 0), 0);
    }
}
