//! Lays text out and makes it safe: whatever an image, a file name or a coordinator says, nothing but what
//! this file writes moves the cursor or changes a colour.

use std::fmt::{self, Display, Formatter};

use clap::builder::styling::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns after which a cell of a table is cut, unless it is wide.
const CUT: usize = 56;
/// Between two columns.
const GAP: usize = 2;

/// What a text means, by colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Plain,
    /// Names and headings.
    Strong,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Not as it should be.
    Bad,
    /// Not known.
    Unsure,
    /// Beside the point.
    Faint,
}

impl Tone {
    fn style(self) -> Style {
        let colour = |colour: AnsiColor| colour.on_default();
        match self {
            Self::Plain => Style::new(),
            Self::Strong => Style::new().bold(),
            Self::Good => colour(AnsiColor::Green),
            Self::Warn => colour(AnsiColor::Yellow),
            Self::Bad => colour(AnsiColor::Red),
            Self::Unsure => colour(AnsiColor::Magenta),
            Self::Faint => Style::new().dimmed(),
        }
    }

    fn paint(self, text: &str) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }
}

/// One safe line of text with its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// Makes any text safe.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self { text: safe(text.as_ref()), tone: Tone::Plain, right: false }
    }

    /// Shows a number, at the right.
    pub(crate) fn number(number: impl Display) -> Self {
        Self { right: true, ..Self::new(number.to_string()) }
    }

    /// Shows a list or nodeset; unless `wide`, cuts it and says so with an ellipsis.
    pub(crate) fn long(text: &str, wide: bool) -> Self {
        let mut cell = Self::new(text);
        if !wide && cell.text.width() > CUT {
            let mut cut = String::new();
            for character in cell.text.chars() {
                if cut.width() >= CUT - 1 {
                    break;
                }
                cut.push(character);
            }
            cut.push('…');
            cell.text = cut;
        }
        cell
    }

    /// Gives it a meaning.
    pub(crate) fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// Rows under a header; columns are as wide as their widest cell, the last one is never padded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    header: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// Starts a table; an empty header is not shown.
    pub(crate) fn new(header: &'static [&'static str]) -> Self {
        Self { header, rows: Vec::new(), indent: 0 }
    }

    /// Moves it two columns to the right.
    pub(crate) fn indented(self) -> Self {
        Self { indent: GAP, ..self }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Tells whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn write(&self, out: &mut String) {
        let header: Vec<Cell> = self.header.iter().map(|name| Cell::new(name).tone(Tone::Faint)).collect();
        let rows = || Some(&header).filter(|header| !header.is_empty()).into_iter().chain(&self.rows);
        let mut widths: Vec<usize> = Vec::new();
        let mut rights: Vec<bool> = Vec::new();
        for row in rows() {
            widths.resize(widths.len().max(row.len()), 0);
            rights.resize(widths.len(), false);
            for ((width, right), cell) in widths.iter_mut().zip(&mut rights).zip(row) {
                *width = (*width).max(cell.text.width());
                *right |= cell.right;
            }
        }
        for row in rows() {
            // Empty cells at the end would only leave blanks there.
            let filled = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
            out.extend(std::iter::repeat_n(' ', self.indent));
            for (column, cell) in row.iter().enumerate().take(filled) {
                let width = widths.get(column).copied().unwrap_or_default();
                let blanks = width.saturating_sub(cell.text.width());
                let right = rights.get(column).copied().unwrap_or_default();
                let (before, after) = if right { (blanks, 0) } else { (0, blanks) };
                out.extend(std::iter::repeat_n(' ', before));
                out.push_str(&cell.tone.paint(&cell.text));
                if column + 1 < filled {
                    out.extend(std::iter::repeat_n(' ', after + GAP));
                }
            }
            out.push('\n');
        }
    }
}

/// A piece of what people see.
#[derive(Clone, Debug)]
pub(crate) enum Block {
    /// One line, its cells set side by side.
    Line(Vec<Cell>),
    /// A table; nothing where it is empty.
    Table(Table),
    /// A heading with text of several lines below.
    Text(&'static str, String),
}

/// Lays out blocks one below the other.
pub(super) fn layout(blocks: &[Block]) -> String {
    let mut out = String::new();
    for block in blocks {
        match block {
            Block::Line(cells) => {
                out.extend(cells.iter().map(|cell| cell.tone.paint(&cell.text)));
                out.push('\n');
            }
            Block::Table(table) if table.is_empty() => {}
            Block::Table(table) => table.write(&mut out),
            Block::Text(title, body) => {
                out.push_str(&Tone::Strong.paint(title));
                out.push('\n');
                for line in body.trim_end().lines() {
                    out.push_str("  ");
                    out.push_str(&safe(&line.replace('\t', "    ")));
                    out.push('\n');
                }
            }
        }
    }
    out
}

/// Sets cells side by side in one line of at most `width` columns.
pub(super) fn fit(cells: &[Cell], width: usize) -> String {
    let (mut line, mut left) = (String::new(), width);
    for cell in cells {
        let mut shown = String::new();
        for character in cell.text.chars() {
            let columns = UnicodeWidthChar::width(character).unwrap_or_default();
            let Some(rest) = left.checked_sub(columns) else {
                left = 0;
                break;
            };
            left = rest;
            shown.push(character);
        }
        line.push_str(&cell.tone.paint(&shown));
    }
    line
}

/// What is told beside the data, on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// What happened.
    Error(String),
    /// Why it happened.
    Because(String),
    /// What else is wrong.
    Warning(String),
    /// What to do.
    Hint(String),
    /// How the coordinator's log knows the request.
    Request(String),
}

impl Note {
    pub(super) fn line(&self) -> String {
        let (tone, word, text) = match self {
            Self::Error(text) => (Tone::Bad, "error", text),
            Self::Because(text) => (Tone::Faint, "because", text),
            Self::Warning(text) => (Tone::Warn, "warning", text),
            Self::Hint(text) => (Tone::Good, "hint", text),
            Self::Request(text) => (Tone::Faint, "request", text),
        };
        format!("{} {}\n", tone.paint(&format!("{word}:")), safe(text))
    }
}

/// Rows for a spreadsheet (RFC 4180), with line feeds alone.
#[derive(Clone, Debug)]
pub(crate) struct Csv {
    header: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Csv {
    /// Starts with the names of the columns.
    pub(crate) fn new(header: &'static [&'static str]) -> Self {
        Self { header, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Formats the rows alone, for an output that goes on.
    pub(crate) fn rows(&self) -> String {
        self.rows.iter().map(|row| csv_line(row.iter().map(String::as_str))).collect()
    }
}

impl Display for Csv {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&csv_line(self.header.iter().copied()))?;
        f.write_str(&self.rows())
    }
}

fn csv_line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = cells
        .map(|cell| {
            let cell = safe(cell);
            // A spreadsheet takes these for the beginning of a formula.
            let formula = cell.starts_with(['=', '+', '-', '@']);
            let cell = if formula { format!("'{cell}") } else { cell };
            if cell.contains([',', '"']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
        })
        .collect();
    quoted.join(",") + "\n"
}

/// Shows a text in one line: characters that act on a terminal or reorder text are written out as escapes.
pub(super) fn safe(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if acts(character) { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    shown
}

/// Passes JSON on as it is, one line feed at its end; characters that act on a terminal stand in it as JSON
/// escapes, which mean the same.
pub(super) fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 1);
    for character in text.trim_end().chars() {
        // Outside of strings JSON has no other controls than these, and inside none at all.
        if character == '\r' {
            shown.push(' ');
        } else if acts(character) && !matches!(character, '\n' | '\t') {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(character);
        }
    }
    shown.push('\n');
    shown
}

fn acts(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(blocks: &[Block]) -> String {
        anstream::adapter::strip_str(&layout(blocks)).to_string()
    }

    #[test]
    fn columns_align_by_what_is_seen() {
        let mut table = Table::new(&["NAME", "COUNT", "NODES"]);
        table.row(vec![Cell::new("한글.sif").tone(Tone::Bad), Cell::number(5), Cell::new("n1")]);
        table.row(vec![Cell::new("a"), Cell::number(12), Cell::new("")]);
        assert_eq!(
            plain(&[Block::Table(table)]),
            "NAME      COUNT  NODES\n한글.sif      5  n1\na            12\n"
        );
    }

    #[test]
    fn long_cells_are_cut_with_an_ellipsis_unless_wide() {
        let long = "n1,".repeat(100);
        let cut = Cell::long(&long, false).text;
        assert!(cut.ends_with('…') && cut.width() == CUT, "{cut}");
        assert_eq!(Cell::long(&long, true).text, long);
    }

    #[test]
    fn nothing_hostile_reaches_the_terminal() {
        let hostile = "a\u{1b}[2Jb\rc\u{9b}31md\u{202e}e\u{7f}";
        let mut csv = Csv::new(&["x"]);
        csv.row(vec![hostile.into()]);
        let mut table = Table::new(&[]);
        table.row(vec![Cell::new(hostile)]);
        let body = format!("x\n\t{hostile}\n");
        for shown in [
            plain(&[Block::Line(vec![Cell::new(hostile)]), Block::Table(table), Block::Text("t", body)]),
            csv.to_string(),
            json(&format!("\"{hostile}\"")),
            anstream::adapter::strip_str(&Note::Hint(hostile.into()).line()).to_string(),
        ] {
            assert!(!shown.replace('\n', "").contains(acts), "{shown:?}");
        }
        assert_eq!(safe("a\nb"), "a\\nb");
    }

    #[test]
    fn json_means_the_same_after_it_is_made_safe() {
        let text = serde_json::to_string(&"\u{9b}\u{202e}\u{7f}é\u{1f600}\u{feff}").unwrap();
        let shown = json(&text);
        assert_ne!(shown.trim_end(), text);
        assert_eq!(
            serde_json::from_str::<String>(&shown).unwrap(),
            serde_json::from_str::<String>(&text).unwrap()
        );
        assert_eq!(json("{\"a\": 1}\n"), "{\"a\": 1}\n");
    }

    #[test]
    fn csv_is_quoted_and_starts_no_formula() {
        let mut csv = Csv::new(&["a", "b"]);
        csv.row(vec!["n[1,3]".into(), "say \"hi\"".into()]);
        csv.row(vec!["=1+1".into(), "x\ny".into()]);
        assert_eq!(csv.to_string(), "a,b\n\"n[1,3]\",\"say \"\"hi\"\"\"\n'=1+1,x\\ny\n");
    }
}
