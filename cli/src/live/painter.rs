//! Draws a few lines on a terminal again and again, in the same place.
//!
//! The only place that moves a cursor. Colours are left out where NO_COLOR or the like says so; the cursor moves all the
//! same, which is why this does not write through [`crate::output::Screen`].
//! Outside facts: ECMA-48: CUU (`ESC [ n A`) moves up, ED (`ESC [ J`) clears to the end of the screen.

use std::io::Write;
use std::os::fd::AsFd;

use anstream::{AutoStream, ColorChoice};

/// What is taken for a terminal that does not tell its size, in columns and rows.
const USUAL: (usize, usize) = (80, 24);

/// Remembers what it has drawn.
pub(crate) struct Painter {
    out: Box<dyn Write>,
    size: fn() -> (usize, usize),
    colours: bool,
    drawn: usize,
}

impl Painter {
    /// Draws on standard error.
    pub(crate) fn of_stderr() -> Self {
        let colours = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
        Self { out: Box::new(std::io::stderr()), size: || size_of(std::io::stderr()), colours, drawn: 0 }
    }

    /// Draws on standard output.
    pub(crate) fn of_stdout() -> Self {
        let colours = AutoStream::choice(&std::io::stdout()) != ColorChoice::Never;
        Self { out: Box::new(std::io::stdout()), size: || size_of(std::io::stdout()), colours, drawn: 0 }
    }

    /// Draws the lines in the place of those before; they are made for a width and a height.
    ///
    /// A terminal that is gone draws nothing, and nobody misses it.
    pub(crate) fn paint(&mut self, lines: impl FnOnce(usize, usize) -> Vec<String>) {
        let (columns, rows) = (self.size)();
        // The last column would wrap, and what is above the first row could not be taken back.
        let mut lines = lines(columns.saturating_sub(1), rows.saturating_sub(1));
        lines.truncate(rows.saturating_sub(1).max(1));
        let text = frame(self.drawn, &lines, self.colours);
        self.drawn = lines.len();
        drop(self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()));
    }

    /// Takes everything away.
    pub(crate) fn clear(&mut self) {
        if self.drawn > 0 {
            self.paint(|_, _| Vec::new());
        }
    }
}

fn size_of(terminal: impl AsFd) -> (usize, usize) {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        Ok(_) | Err(_) => USUAL,
    }
}

fn frame(drawn: usize, lines: &[String], colours: bool) -> String {
    let mut text = if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
    text.push_str("\r\x1b[J");
    for line in lines {
        if colours {
            text.push_str(line);
        } else {
            text.push_str(&anstream::adapter::strip_str(line).to_string());
        }
        text.push_str("\r\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_takes_the_place_of_the_one_before() {
        let lines = ["\x1b[1ma\x1b[0m".to_owned(), "b".to_owned()];
        assert_eq!(frame(0, &lines, true), "\r\x1b[J\x1b[1ma\x1b[0m\r\nb\r\n");
        assert_eq!(frame(2, &lines, false), "\x1b[2A\r\x1b[Ja\r\nb\r\n");
        assert_eq!(frame(3, &[], true), "\x1b[3A\r\x1b[J");
    }

    #[test]
    fn no_more_is_drawn_than_can_be_taken_back() {
        let mut painter =
            Painter { out: Box::new(std::io::sink()), size: || (10, 3), colours: true, drawn: 0 };
        painter.paint(|width, height| {
            assert_eq!((width, height), (9, 2));
            vec![String::new(); 50]
        });
        assert_eq!(painter.drawn, 2);
        painter.clear();
        assert_eq!(painter.drawn, 0);
    }
}
