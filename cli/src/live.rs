//! Tells what happens while it happens: bars that are drawn anew on a terminal, lines or JSON elsewhere.
//!
//! Owns how often something is said. What it looks like is decided in [`crate::output`], which knows no terminal.

mod painter;

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sifleet_common::api::pushes::{PushBody, PushNode};

use crate::args::Progress;
use crate::output::{self, Bytes, Screen};

pub(crate) use painter::Painter;

/// Least time between two lines of a log.
const LINES: Duration = Duration::from_secs(5);
/// Least time between two frames: more are not seen.
const FRAMES: Duration = Duration::from_millis(100);
/// Least time between two JSON lines about one step.
const EVENTS: Duration = Duration::from_secs(1);

/// Tells what happens.
pub(crate) struct Live {
    show: Show,
    last: Option<Instant>,
    said: String,
}

enum Show {
    Bar(Painter),
    Plain,
    Json,
    None,
}

/// Something that takes its time before an image is in the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A file is read for its digest.
    Hashing,
    /// It goes into the library.
    Uploading,
    /// The coordinator fetches it.
    Importing,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Hashing => "hashing",
            Self::Uploading => "uploading",
            Self::Importing => "importing",
        }
    }
}

impl Live {
    /// Takes what is wanted, as far as standard error can show it.
    pub(crate) fn new(progress: Progress) -> Self {
        let draws = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let show = match progress {
            Progress::Bar => Show::Bar(Painter::of_stderr()),
            Progress::Auto if draws => Show::Bar(Painter::of_stderr()),
            Progress::Auto | Progress::Plain => Show::Plain,
            Progress::Json => Show::Json,
            Progress::None => Show::None,
        };
        Self { show, last: None, said: String::new() }
    }

    /// Tells whether people follow: a plan is shown to them first.
    pub(crate) fn is_for_people(&self) -> bool {
        matches!(self.show, Show::Bar(_) | Show::Plain)
    }

    /// Tells whether standard output carries JSON lines and nothing else.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self.show, Show::Json)
    }

    /// Tells whether node by node is of use.
    pub(crate) fn wants_nodes(&self) -> bool {
        matches!(self.show, Show::Bar(_))
    }

    /// Says one JSON line, if such are wanted.
    pub(crate) fn event(&self, screen: &mut Screen, kind: &str, key: &str, body: &str) -> io::Result<()> {
        if self.is_json() {
            return screen.print_json(&format!("{{\"event\":\"{kind}\",\"{key}\":{body}}}"));
        }
        Ok(())
    }

    /// Says what happened: a sentence to people, above what is drawn; an event to programs.
    pub(crate) fn remark(&mut self, screen: &mut Screen, event: &Value, text: &str) -> io::Result<()> {
        self.clear();
        if self.is_for_people() {
            screen.say(&format!("{}\n", output::safe_line(text)));
        }
        self.event_alone(screen, event)
    }

    /// Says an event that brings no answer of the coordinator with it, if events are wanted.
    pub(crate) fn event_alone(&self, screen: &mut Screen, event: &Value) -> io::Result<()> {
        if self.is_json() { screen.print_json(&event.to_string()) } else { Ok(()) }
    }

    /// Says how far a step is.
    pub(crate) fn step(&mut self, screen: &mut Screen, step: Step, bytes: Bytes) -> io::Result<()> {
        let ended = bytes.done >= bytes.total;
        match &mut self.show {
            Show::Bar(painter) => {
                if due(&mut self.last, FRAMES, ended) {
                    painter.paint(|width, _| vec![output::bar(step.name(), bytes, width)]);
                }
            }
            Show::Plain => {
                if due(&mut self.last, LINES, ended) {
                    screen.say(&format!("{}\n", output::plain(step.name(), bytes)));
                }
            }
            Show::Json => {
                if due(&mut self.last, EVENTS, ended) {
                    let line = json!({"event": step.name(), "done": bytes.done, "total": bytes.total});
                    screen.print_json(&line.to_string())?;
                }
            }
            Show::None => {}
        }
        Ok(())
    }

    /// Says how a push stands; `text` is the JSON it came as. Off a terminal nothing is said twice.
    pub(crate) fn push(
        &mut self,
        screen: &mut Screen,
        push: &PushBody,
        text: &str,
        nodes: &[PushNode],
    ) -> io::Result<()> {
        match &mut self.show {
            Show::Bar(painter) => painter.paint(|width, _| output::frame(push, nodes, width)),
            Show::Plain => {
                let line = output::line(push);
                let ended = push.ended.is_some();
                if line != self.said && due(&mut self.last, LINES, ended) {
                    screen.say(&format!("{line}\n"));
                    self.said = line;
                }
            }
            Show::Json if text != self.said => {
                screen.print_json(&format!("{{\"event\":\"push\",\"push\":{text}}}"))?;
                text.clone_into(&mut self.said);
            }
            Show::Json | Show::None => {}
        }
        Ok(())
    }

    /// Takes what is drawn away: what follows says it better.
    pub(crate) fn clear(&mut self) {
        if let Show::Bar(painter) = &mut self.show {
            painter.clear();
        }
        self.last = None;
    }
}

/// Tells whether it is time to say something again.
fn due(last: &mut Option<Instant>, pause: Duration, at_once: bool) -> bool {
    let due = at_once || last.is_none_or(|last| last.elapsed() >= pause);
    if due {
        *last = Some(Instant::now());
    }
    due
}
