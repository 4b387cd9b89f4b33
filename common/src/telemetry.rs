//! Logs of a daemon: to the journal with their fields intact, or to standard error as text.
//!
//! Owns the one tracing subscriber and how an event becomes an entry. What is worth logging, and that no secret
//! is, is the business of whoever logs: constant lower-case messages, values in fields. Repeats of a warning
//! become one line with a count. Outside facts: systemd.journal-fields(7), crate systemd-journal-logger (used
//! through `journal_send`; installed as a plain logger it would flatten all fields into the message).

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Deserialize;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

pub mod catalog;

mod repeat;
mod sink;

use repeat::{Key, Repeats};
use sink::Sink;

/// Most bytes of one value in a log; the rest is cut off, because values may come from other people's files.
const MAX_VALUE: usize = 4096;
/// Fields that tell one occurrence of a warning from another.
const SUBJECTS: [&str; 5] = ["node", "peer", "image", "path", "task"];

/// Says where logs go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// To the journal if systemd connected standard error to it, else to standard error.
    #[default]
    Auto,
    /// To the journal.
    Journal,
    /// To standard error, as text.
    Stderr,
}

/// Says why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("{filter:?} is not a log filter; write for example \"info\" or \"info,sifleet_agent=debug\"")]
    Filter {
        /// What was written.
        filter: String,
        /// What the parser said.
        #[source]
        source: ParseError,
    },
    /// The journal was asked for and is not there.
    #[error("cannot reach the journal; set the log output to \"stderr\" where there is no systemd")]
    Journal {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Logging was set up before, or is gone; an error of ours.
    #[error("logging cannot be {step}")]
    Subscriber {
        /// What was attempted: "set up" or "changed".
        step: &'static str,
        /// What tracing said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Keeps logging going; dropping it writes the counts of repeats that are still held back.
#[derive(Debug)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    shared: Arc<Shared>,
}

impl Telemetry {
    /// Changes what is logged, while running.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`]; the previous filter stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), TelemetryError> {
        self.filter
            .reload(parse(filter)?)
            .map_err(|source| TelemetryError::Subscriber { step: "changed", source: Box::new(source) })
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let held = self.shared.repeats().drain();
        held.iter().for_each(|entry| self.shared.sink.write(entry));
    }
}

/// Sets up logging for the process, and has panics logged with their place.
///
/// `filter` is a level or a list such as `info,sifleet_agent=debug`.
///
/// # Errors
/// [`TelemetryError`]; nothing is set up then.
pub fn init(output: Output, filter: &str) -> Result<Telemetry, TelemetryError> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let layer = LogLayer::new(sink::open(output).map_err(|source| TelemetryError::Journal { source })?);
    let shared = Arc::clone(&layer.shared);
    tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init()
        .map_err(|source| TelemetryError::Subscriber { step: "set up", source: Box::new(source) })?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(error = text, place, "the program panicked");
    }));
    Ok(Telemetry { filter: handle, shared })
}

/// Shows an error with all its causes, as logs do.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .with_regex(false)
        .parse(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    level: Level,
    target: &'static str,
    module: Option<&'static str>,
    file: Option<&'static str>,
    line: Option<u32>,
    message: String,
    fields: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Shared {
    sink: Box<dyn Sink>,
    repeats: Mutex<Repeats>,
}

impl Shared {
    /// The map of repeats is valid whatever panicked while it was held.
    fn repeats(&self) -> MutexGuard<'_, Repeats> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct LogLayer {
    shared: Arc<Shared>,
}

impl LogLayer {
    fn new(sink: Box<dyn Sink>) -> Self {
        Self { shared: Arc::new(Shared { sink, repeats: Mutex::default() }) }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.inherit(outer);
            }
        }
        let metadata = event.metadata();
        let entry = Entry {
            level: *metadata.level(),
            target: metadata.target(),
            module: metadata.module_path(),
            file: metadata.file(),
            line: metadata.line(),
            message: fields.message,
            fields: fields.values,
        };
        let subjects = entry.fields.iter().filter(|(name, _)| SUBJECTS.contains(name));
        let key = Key::new(&metadata.callsite(), subjects.map(|(_, value)| value.as_str()));
        let due = self.shared.repeats().admit(key, entry, Instant::now());
        due.iter().for_each(|entry| self.shared.sink.write(entry));
    }
}

/// Collects the values of an event or span.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    values: Vec<(&'static str, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, mut value: String) {
        if value.len() > MAX_VALUE {
            let end = (0..=MAX_VALUE).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
            value.truncate(end);
            value.push('…');
        }
        match field.name() {
            "message" => self.message = value,
            name => match self.values.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => self.values.push((name, value)),
            },
        }
    }

    /// Takes over what an enclosing span says, unless the event itself says it.
    fn inherit(&mut self, outer: &Self) {
        for (name, value) in &outer.values {
            if !self.values.iter().any(|(known, _)| known == name) {
                self.values.push((name, value.clone()));
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, Chain(value).to_string());
    }
}

#[cfg(test)]
mod tests;
