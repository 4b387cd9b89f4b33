//! `sifleet partition ls` and `sifleet partition show`.

use sifleet_common::api::partitions::{PartitionDetail, PartitionList};

use crate::args::PartitionVerb;
use crate::client::{Client, Target};
use crate::outcome::Outcome;
use crate::output::Screen;

/// Asks and prints.
pub(super) fn run(client: &Client, screen: &mut Screen, verb: PartitionVerb) -> anyhow::Result<Outcome> {
    let partitions = Target::v1("partitions");
    match verb {
        PartitionVerb::Ls => screen.show(&client.get::<PartitionList>(&partitions)?)?,
        PartitionVerb::Show { partition } => {
            screen.show(&client.get::<PartitionDetail>(&partitions.segment(partition.as_str()))?)?;
        }
    }
    Ok(Outcome::Yes)
}
