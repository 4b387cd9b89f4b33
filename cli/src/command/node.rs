//! `sifleet node ls`, `show`, `rescan`, `revoke`, `busy` and `idle`.

use sifleet_common::api::enrolments::Revoked;
use sifleet_common::api::nodes::{Marked, NodeDetail, NodeList, Rescan};
use sifleet_common::nodeset::NodeSet;

use crate::args::NodeVerb;
use crate::client::{Answer, Client, Target};
use crate::outcome::{Outcome, Wrong};
use crate::output::{MarkedAs, Screen};

/// Asks, or has nodes scan or be marked, and prints.
pub(super) fn run(client: &Client, screen: &mut Screen, verb: NodeVerb) -> anyhow::Result<Outcome> {
    let nodes = Target::v1("nodes");
    match verb {
        NodeVerb::Ls => screen.show(&client.get::<NodeList>(&nodes)?)?,
        NodeVerb::Show { node } => screen.show(&client.get::<NodeDetail>(&nodes.segment(node.as_str()))?)?,
        NodeVerb::Rescan { nodes: wanted } => {
            let target = nodes.segment(&wanted.to_string()).segment("rescan");
            let answer = client.post::<Rescan>(&target)?;
            screen.show(&answer)?;
            return Ok(outcome(&answer.value));
        }
        NodeVerb::Revoke { nodes: wanted } => {
            let answer = client.post::<Revoked>(&nodes.segment(&wanted.to_string()).segment("revoke"))?;
            let Answer { value: Revoked { nodes, unheard_of }, text } = answer;
            return marked(screen, Answer { value: Marked { nodes, unheard_of }, text }, "revoked");
        }
        NodeVerb::Busy { nodes: wanted } => return mark(client, screen, &wanted, "busy"),
        NodeVerb::Idle { nodes: wanted } => return mark(client, screen, &wanted, "idle"),
    }
    Ok(Outcome::Yes)
}

fn mark(client: &Client, screen: &mut Screen, nodes: &NodeSet, verb: &str) -> anyhow::Result<Outcome> {
    let answer = client.post::<Marked>(&Target::v1("nodes").segment(&nodes.to_string()).segment(verb))?;
    let what = if verb == "busy" { "marked as busy" } else { "no longer marked as busy" };
    marked(screen, answer, what)
}

fn marked(screen: &mut Screen, answer: Answer<Marked>, what: &'static str) -> anyhow::Result<Outcome> {
    let Answer { value: marked, text } = answer;
    if marked.nodes.is_empty() {
        let what = format!("no node is called {}", marked.unheard_of);
        return Err(Wrong::new(what, "see `sifleet node ls`").ending(Outcome::NotFound).into());
    }
    let outcome = if marked.unheard_of.is_empty() { Outcome::Yes } else { Outcome::Partial };
    screen.show(&Answer { value: MarkedAs { marked, what }, text })?;
    Ok(outcome)
}

fn outcome(rescan: &Rescan) -> Outcome {
    if rescan.told.is_empty() {
        Outcome::No
    } else if rescan.offline.is_empty() && rescan.unheard_of.is_empty() {
        Outcome::Yes
    } else {
        Outcome::Partial
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rescan_is_done_when_all_were_told() {
        for (told, offline, unheard_of, expected) in [
            ("a", "", "", Outcome::Yes),
            ("a", "b", "", Outcome::Partial),
            ("a", "", "c", Outcome::Partial),
            ("", "b", "", Outcome::No),
        ] {
            let rescan = Rescan { told: told.into(), offline: offline.into(), unheard_of: unheard_of.into() };
            assert_eq!(outcome(&rescan), expected, "{rescan:?}");
        }
    }
}
