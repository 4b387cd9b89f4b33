//! Prints answers and tells failures: data on standard output, all the rest on standard error.
//!
//! Owns the formats and the two streams. Colours are written always and taken out again by anstream where the
//! stream is no terminal or NO_COLOR is set (no-color.org). A reader that goes away ends the output quietly.
//! What an answer looks like is in the file of its noun; how text is laid out and made safe, in `text.rs`.

mod audit;
mod availability;
mod drift;
mod enrolments;
mod events;
mod export;
mod human;
mod images;
mod imports;
mod limits;
mod metadata;
mod nodes;
mod partitions;
mod progress;
mod pushes;
mod registries;
mod removals;
#[cfg(test)]
pub(crate) mod samples;
mod text;
mod tokens;

use std::io::{self, Write};

use crate::client::Answer;

pub(crate) use events::event_line;
pub(crate) use export::Exported;
pub(crate) use human::{digest, lasting, size};
pub(crate) use nodes::MarkedAs;
pub(crate) use progress::{Bytes, bar, frame, line, plain, top};
pub(crate) use pushes::in_phase;
pub(crate) use removals::gone_from;
pub(crate) use text::Note;
use text::{Block, Csv};

/// How to print an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people; long lists are cut.
    #[default]
    Table,
    /// For people; everything.
    Wide,
    /// The coordinator's answer as it is.
    Json,
    /// Names alone, or a folded nodeset.
    Name,
    /// For spreadsheets (RFC 4180).
    Csv,
}

/// What can be printed in every format; JSON needs no help.
pub(crate) trait Render {
    /// Lays it out for people.
    fn blocks(&self, wide: bool) -> Vec<Block>;
    /// Lists names, one a line.
    fn names(&self) -> Vec<String>;
    /// Lists it as rows.
    fn csv(&self) -> Csv;
    /// Warns and hints, for people.
    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }
}

/// The two streams of the process and the format asked for.
pub(crate) struct Screen {
    format: Format,
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    closed: bool,
}

impl Screen {
    /// Writes to the streams of this process.
    pub(crate) fn of_process(format: Format) -> Self {
        Self { format, out: Box::new(anstream::stdout()), err: Box::new(anstream::stderr()), closed: false }
    }

    /// Returns the format asked for.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Tells whether the reader of standard output has gone away.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Prints an answer, then what there is to warn about.
    ///
    /// # Errors
    /// When standard output cannot be written, unless because its reader went away.
    pub(crate) fn show<T: Render>(&mut self, answer: &Answer<T>) -> io::Result<()> {
        self.print(&in_format(self.format, answer))?;
        if matches!(self.format, Format::Table | Format::Wide) {
            self.tell(&answer.value.notes());
        }
        Ok(())
    }

    /// Prints an answer for people on standard error, before what is asked for is done; without its notes.
    pub(crate) fn announce<T: Render>(&mut self, answer: &T) {
        self.say(&text::layout(&answer.blocks(self.format == Format::Wide)));
    }

    /// Prints text that is safe for a terminal on standard error.
    pub(crate) fn say(&mut self, text: &str) {
        self.closed |= self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush()).is_err();
    }

    /// Prints one JSON text as one line.
    ///
    /// # Errors
    /// As [`Screen::show`].
    pub(crate) fn print_json(&mut self, text: &str) -> io::Result<()> {
        self.print(&text::json(&text.replace('\n', " ")))
    }

    /// Prints text that is safe for a terminal.
    ///
    /// # Errors
    /// As [`Screen::show`].
    pub(crate) fn print(&mut self, text: &str) -> io::Result<()> {
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            result => result,
        }
    }

    /// Prints on standard error. Where nobody listens there, nobody can be told.
    pub(crate) fn tell(&mut self, notes: &[Note]) {
        let text: String = notes.iter().map(Note::line).collect();
        self.say(&text);
    }
}

/// Shows a text as one line that is safe for a terminal.
pub(crate) fn safe_line(text: &str) -> String {
    text::safe(text)
}

fn in_format<T: Render>(format: Format, answer: &Answer<T>) -> String {
    match format {
        Format::Table => text::layout(&answer.value.blocks(false)),
        Format::Wide => text::layout(&answer.value.blocks(true)),
        Format::Json => text::json(&answer.text),
        Format::Name => answer.value.names().iter().map(|name| text::safe(name) + "\n").collect(),
        Format::Csv => answer.value.csv().to_string(),
    }
}
