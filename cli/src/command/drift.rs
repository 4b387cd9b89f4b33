//! `sifleet drift`: which names mean different bytes on different nodes?

use sifleet_common::api::drift::DriftList;

use crate::client::{Client, Target};
use crate::outcome::Outcome;
use crate::output::Screen;

/// Asks and prints.
pub(super) fn run(client: &Client, screen: &mut Screen) -> anyhow::Result<Outcome> {
    screen.show(&client.get::<DriftList>(&Target::v1("drift"))?)?;
    Ok(Outcome::Yes)
}
