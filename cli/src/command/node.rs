//! `sifleet node ls`, `sifleet node show` and `sifleet node rescan`.

use sifleet_common::api::nodes::{NodeDetail, NodeList, Rescan};

use crate::args::NodeVerb;
use crate::client::{Client, Target};
use crate::outcome::Outcome;
use crate::output::Screen;

/// Asks, or has nodes scan, and prints.
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
    }
    Ok(Outcome::Yes)
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
