//! `sifleet registry set`.

use sifleet_common::api::registries::{RegistryBody, RegistryChange};

use super::{credentials, one, sign_in};
use crate::args::Setting;
use crate::client::Client;
use crate::outcome::Outcome;
use crate::output::Screen;

/// Changes a registry, then its credentials, and shows it as it is then.
pub(super) fn run(client: &Client, screen: &mut Screen, setting: Setting) -> anyhow::Result<Outcome> {
    let credentials = credentials(&setting.credentials)?;
    let mut answer = None;
    if !setting.changes.is_empty() {
        let change = RegistryChange { set: setting.changes.into_iter().collect() };
        answer = Some(client.put::<RegistryBody>(&one(&setting.registry), &change)?);
    }
    // The name may be another one by now.
    let registry = answer.as_ref().map_or(setting.registry, |answer| answer.value.id.clone());
    if setting.no_credentials {
        answer = Some(client.delete::<RegistryBody>(&one(&registry).segment("credentials"))?);
    }
    if let Some(credentials) = credentials {
        answer = Some(sign_in(client, &registry, &credentials)?);
    }
    if let Some(answer) = answer {
        screen.show(&answer)?;
    }
    Ok(Outcome::Yes)
}
