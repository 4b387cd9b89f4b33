//! Where log entries end: the journal, or text on standard error.
//!
//! Owns both notations. An entry that cannot be written is given up: there is nobody left to tell.

use std::fmt;
use std::io::{self, IsTerminal, Write as _};

use systemd_journal_logger::{JournalLog, connected_to_journal};
use tracing::Level;

use super::{Entry, Output, catalog};

/// Takes log entries.
pub(super) trait Sink: fmt::Debug + Send + Sync {
    fn write(&self, entry: &Entry);
}

/// Opens the output that was asked for.
pub(super) fn open(output: Output) -> io::Result<Box<dyn Sink>> {
    let journal = || JournalLog::new().map(|log| Box::new(Journal(log)) as Box<dyn Sink>);
    let stderr = || {
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Box::new(Stderr { colour }) as Box<dyn Sink>
    };
    match output {
        Output::Journal => journal(),
        Output::Auto if connected_to_journal() => Ok(journal().unwrap_or_else(|_unreachable| stderr())),
        Output::Auto | Output::Stderr => Ok(stderr()),
    }
}

struct Journal(JournalLog);

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

impl Sink for Journal {
    fn write(&self, entry: &Entry) {
        with_record(entry, |record| drop(self.0.journal_send(record)));
    }
}

/// Lends an entry in the form that the journal client takes; every field becomes a journal field.
fn with_record(entry: &Entry, send: impl FnOnce(&log::Record<'_>)) {
    let level = match entry.level {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        Level::TRACE => log::Level::Trace,
    };
    send(
        &log::Record::builder()
            .level(level)
            .target(entry.target)
            .module_path_static(entry.module)
            .file_static(entry.file)
            .line(entry.line)
            .key_values(&entry.fields)
            .args(format_args!("{}", entry.message))
            .build(),
    );
}

#[derive(Debug)]
struct Stderr {
    colour: bool,
}

impl Sink for Stderr {
    fn write(&self, entry: &Entry) {
        let mut line = format!("{:.3} ", jiff::Timestamp::now());
        line.push_str(&text(entry, self.colour));
        line.push('\n');
        drop(io::stderr().lock().write_all(line.as_bytes()));
    }
}

/// Shows an entry on one line, whatever its values hold.
fn text(entry: &Entry, colour: bool) -> String {
    let number = match entry.level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG | Level::TRACE => 2,
    };
    let (on, off) = if colour { (format!("\x1b[{number}m"), "\x1b[0m") } else { (String::new(), "") };
    let level = entry.level.as_str();
    let mut line = format!("{on}{level:>5}{off} {}: ", entry.target);
    push_escaped(&mut line, &entry.message);
    for (name, value) in entry.fields.iter().filter(|(name, _)| *name != catalog::FIELD) {
        line.push(' ');
        line.push_str(name);
        line.push('=');
        if value.is_empty() || value.contains([' ', '"', '=']) {
            line.push('"');
            push_escaped(&mut line, &value.replace('"', "\\\""));
            line.push('"');
        } else {
            push_escaped(&mut line, value);
        }
    }
    line
}

/// Keeps control characters away from terminals and from those who read logs line by line.
fn push_escaped(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::kv::{Error, Key, Value, VisitSource};

    fn entry() -> Entry {
        Entry {
            level: Level::WARN,
            target: "sifleet_agent::watch",
            module: Some("sifleet_agent::watch"),
            file: Some("watch.rs"),
            line: Some(7),
            message: "root disappeared".to_owned(),
            fields: vec![
                ("node", "viz001".into()),
                ("error", "no \"such\" file\n\x1b[2J".into()),
                ("took", String::new()),
            ],
        }
    }

    #[test]
    fn every_field_reaches_the_journal_as_a_field() {
        struct Pairs(Vec<(String, String)>);
        impl<'k> VisitSource<'k> for Pairs {
            fn visit_pair(&mut self, key: Key<'k>, value: Value<'k>) -> Result<(), Error> {
                self.0.push((key.to_string(), value.to_string()));
                Ok(())
            }
        }
        let entry = entry();
        let mut pairs = Pairs(Vec::new());
        with_record(&entry, |record| {
            assert_eq!(record.args().to_string(), "root disappeared");
            assert_eq!(record.level(), log::Level::Warn);
            assert_eq!((record.file(), record.line()), (Some("watch.rs"), Some(7)));
            assert_eq!(record.target(), "sifleet_agent::watch");
            record.key_values().visit(&mut pairs).unwrap();
        });
        let expected: Vec<_> =
            entry.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        assert_eq!(pairs.0, expected);
    }

    #[test]
    fn a_text_line_is_one_line_without_control_characters() {
        assert_eq!(
            text(&entry(), false),
            r#" WARN sifleet_agent::watch: root disappeared node=viz001 error="no \"such\" file\n\u{1b}[2J" took="""#
        );
        assert!(text(&entry(), true).starts_with("\x1b[33m WARN\x1b[0m "));
    }
}
