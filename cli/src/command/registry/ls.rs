//! `sifleet registry ls`.

use sifleet_common::api::registries::{RegistryList, RegistryQuery};

use super::all;
use crate::args::Object;
use crate::client::Client;
use crate::outcome::Outcome;
use crate::output::Screen;

/// Lists all, or those that a question is about.
pub(super) fn run(client: &Client, screen: &mut Screen, query: Option<Object>) -> anyhow::Result<Outcome> {
    let answer = match query {
        None => client.get::<RegistryList>(&all())?,
        Some(filter) => {
            client.send::<RegistryList>(&all().segment("query"), &RegistryQuery { filter }, None)?
        }
    };
    screen.show(&answer)?;
    Ok(Outcome::Yes)
}
