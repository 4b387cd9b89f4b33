//! `sifleet audit`.

use sifleet_common::api::audit::AuditList;

use crate::args::AuditArgs;
use crate::client::{Client, Target};
use crate::outcome::Outcome;
use crate::output::Screen;

/// Asks for one page and prints it.
pub(super) fn run(client: &Client, screen: &mut Screen, which: &AuditArgs) -> anyhow::Result<Outcome> {
    let target = Target::v1("audit")
        .query_if("since", which.since.as_deref())
        .query_if("who", which.who.as_deref())
        .query("limit", &which.limit.to_string());
    screen.show(&client.get::<AuditList>(&target)?)?;
    Ok(Outcome::Yes)
}
