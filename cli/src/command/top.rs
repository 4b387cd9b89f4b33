//! `sifleet top`: what moves at present, drawn anew until somebody has had enough.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use sifleet_common::api::pushes::{PushBody, PushList, PushNode, PushNodes, PushState};

use crate::client::{Client, Target};
use crate::live::Painter;
use crate::outcome::{Outcome, Wrong};
use crate::output::{self, Format, Screen};
use crate::waiting::{Keys, signals};

/// Most pushes whose nodes are asked for: each may have thousands.
const MAX_PUSHES: usize = 8;
/// How long to wait between two looks.
const LONGEST: Duration = Duration::from_secs(3_600);
/// What is shown off a terminal, in columns and rows: everything that may be of use.
const PAGE: (usize, usize) = (200, 1_000);

/// Shows until `q` or Ctrl-C; off a terminal once.
pub(super) fn run(client: &Client, screen: &mut Screen, interval: Duration) -> anyhow::Result<Outcome> {
    if interval > LONGEST {
        let hint = "write --interval 2s, or any time up to 1h".to_owned();
        return Err(Wrong { what: "that is too long to wait between two looks".to_owned(), hint }.into());
    }
    if !matches!(screen.format(), Format::Table | Format::Wide) {
        screen.show(&client.get::<PushList>(&Target::v1("pushes"))?)?;
        return Ok(Outcome::Yes);
    }
    if !io::stdout().is_terminal() {
        let lines = output::top(&look(client)?, PAGE.0, PAGE.1);
        screen.print(&lines.iter().map(|line| format!("{}\n", line.trim_end())).collect::<String>())?;
        return Ok(Outcome::Yes);
    }
    let (tell, enough) = sync_channel(1);
    signals(tell.clone(), || ())?;
    let _keys = Keys::listen(b'q', tell, || ())?;
    let mut painter = Painter::of_stdout();
    loop {
        let pushes = look(client)?;
        painter.paint(|width, height| output::top(&pushes, width, height));
        match enough.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(Outcome::Yes),
        }
    }
}

/// Asks for what runs, and for the nodes of the first pushes.
fn look(client: &Client) -> anyhow::Result<Vec<(PushBody, Vec<PushNode>)>> {
    let list = client.get::<PushList>(&Target::v1("pushes"))?.value;
    let running = list.pushes.into_iter().filter(|push| push.state == PushState::Running);
    let with_nodes = running.enumerate().map(|(number, push)| {
        let nodes = if number < MAX_PUSHES {
            client.get::<PushNodes>(&Target::v1("pushes").segment(&push.id).segment("nodes"))?.value.nodes
        } else {
            Vec::new()
        };
        Ok((push, nodes))
    });
    with_nodes.collect()
}
