//! `sifleet registry check`.

use sifleet_common::api::registries::RegistryHealth;

use super::one;
use crate::client::Client;
use crate::outcome::Outcome;
use crate::output::Screen;

/// Has the coordinator look, and tells what it saw.
pub(super) fn run(client: &Client, screen: &mut Screen, registry: &str) -> anyhow::Result<Outcome> {
    let health = client.get::<RegistryHealth>(&one(registry).segment("health"))?;
    screen.show(&health)?;
    Ok(if health.value.oci { Outcome::Yes } else { Outcome::No })
}
