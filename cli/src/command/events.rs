//! `sifleet events`: follows what changes until told to stop, until its reader goes away, or until the
//! coordinator does.

use sifleet_common::api::events::Event;

use crate::client::{Client, Target};
use crate::outcome::Outcome;
use crate::output::{Note, Screen, event_line};

/// Follows and prints, one line each.
pub(super) fn run(client: &Client, screen: &mut Screen, count: Option<u64>) -> anyhow::Result<Outcome> {
    let mut events = client.events(&Target::v1("events"))?;
    let mut shown = 0;
    while count.is_none_or(|count| shown < count) && !screen.is_closed() {
        let text = events.next()?;
        match serde_json::from_str::<Event>(&text) {
            Ok(event) => screen.print(&event_line(screen.format(), &event, &text, shown == 0))?,
            Err(error) => screen.tell(&[Note::Warning(format!("an event is not understood: {error}"))]),
        }
        shown += 1;
    }
    Ok(Outcome::Yes)
}
