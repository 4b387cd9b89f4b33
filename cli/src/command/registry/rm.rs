//! `sifleet registry rm`.

use sifleet_common::api::registries::RegistryBody;

use super::one;
use crate::client::Client;
use crate::outcome::Outcome;
use crate::output::Screen;

/// Forgets a registry and shows what it was.
pub(super) fn run(client: &Client, screen: &mut Screen, registry: &str) -> anyhow::Result<Outcome> {
    screen.show(&client.delete::<RegistryBody>(&one(registry))?)?;
    Ok(Outcome::Yes)
}
