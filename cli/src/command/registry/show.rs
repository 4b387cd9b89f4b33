//! `sifleet registry show`.

use sifleet_common::api::registries::RegistryBody;

use super::one;
use crate::client::Client;
use crate::outcome::Outcome;
use crate::output::Screen;

/// Shows a registry.
pub(super) fn run(client: &Client, screen: &mut Screen, registry: &str) -> anyhow::Result<Outcome> {
    screen.show(&client.get::<RegistryBody>(&one(registry))?)?;
    Ok(Outcome::Yes)
}
