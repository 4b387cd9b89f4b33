//! `sifleet available`: is an image ready on the nodes of a partition?

use sifleet_common::api::availability::Availability;
use sifleet_common::availability::{Require, Satisfied};
use sifleet_common::name::PartitionName;

use crate::client::{Client, Target};
use crate::outcome::Outcome;
use crate::output::Screen;

/// What is asked.
pub(super) struct Question {
    /// As the user wrote it: the coordinator resolves it.
    pub(super) image: String,
    /// Where.
    pub(super) partition: PartitionName,
    /// On how many nodes.
    pub(super) require: Require,
}

/// Asks and prints.
pub(super) fn run(client: &Client, screen: &mut Screen, question: &Question) -> anyhow::Result<Outcome> {
    let target = Target::v1("availability")
        .query("image", &question.image)
        .query("partition", question.partition.as_str())
        .query("require", &question.require.to_string());
    let answer = client.get::<Availability>(&target)?;
    screen.show(&answer)?;
    Ok(outcome(answer.value.satisfied, answer.value.counts.ready))
}

fn outcome(satisfied: Satisfied, ready: u32) -> Outcome {
    match satisfied {
        Satisfied::Yes => Outcome::Yes,
        Satisfied::Unknown => Outcome::Partial,
        Satisfied::No if ready > 0 => Outcome::Partial,
        Satisfied::No => Outcome::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_certain_no_without_any_ready_node_is_a_no() {
        assert_eq!(outcome(Satisfied::Yes, 2), Outcome::Yes);
        assert_eq!(outcome(Satisfied::No, 0), Outcome::No);
        assert_eq!(outcome(Satisfied::No, 1), Outcome::Partial);
        assert_eq!(outcome(Satisfied::Unknown, 0), Outcome::Partial);
    }
}
