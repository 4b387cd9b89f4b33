//! `sifleet limits show` and `sifleet limits set`.

use sifleet_common::api::limits::LimitsBody;

use crate::args::LimitsVerb;
use crate::client::{Client, Target};
use crate::outcome::Outcome;
use crate::output::Screen;

/// Asks, or sets, and prints.
pub(super) fn run(client: &Client, screen: &mut Screen, verb: &LimitsVerb) -> anyhow::Result<Outcome> {
    let limits = Target::v1("limits");
    let answer = match verb {
        LimitsVerb::Show => client.get::<LimitsBody>(&limits)?,
        LimitsVerb::Set(setting) => client.change::<LimitsBody>(&limits, &setting.body())?,
    };
    screen.show(&answer)?;
    Ok(Outcome::Yes)
}
