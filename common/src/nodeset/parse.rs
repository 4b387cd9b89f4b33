//! Reads a node set into items that can be counted before they are expanded.
//!
//! Everything here is bounded by the length of the text; only [`Item::expand`] takes more memory, and its
//! caller has counted first.

use super::{MAX_DIGITS, MAX_EXPRESSION, NodeSetError};
use crate::name::{MAX_NODE_NAME, NameError, NodeName};

/// Longest part of a user's text that an error repeats, in bytes.
const QUOTED: usize = 80;
/// What ClusterShell reads as union, difference, intersection, symmetric difference and wildcards.
const OPERATORS: [char; 5] = ['!', '&', '^', '*', '?'];

/// One comma-separated item: text and bracketed numbers in turn.
#[derive(Debug)]
pub(super) struct Item<'a> {
    written: &'a str,
    parts: Vec<Part<'a>>,
}

#[derive(Debug)]
enum Part<'a> {
    Text(&'a str),
    Numbers(Vec<Range>),
}

/// Numbers from `first` to `last` in steps, padded with zeros to at least `width` digits.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: u64,
    last: u64,
    step: u64,
    width: usize,
}

/// Reads all items of an expression; each is well formed, none is expanded.
pub(super) fn items(text: &str) -> Result<Vec<Item<'_>>, NodeSetError> {
    if text.len() > MAX_EXPRESSION {
        return Err(NodeSetError::TooLong { len: text.len() });
    }
    if text.trim().is_empty() {
        return Err(NodeSetError::Empty);
    }
    let mut found = Vec::new();
    let mut start = 0;
    let mut depth = 0_u8;
    for (at, character) in text.char_indices() {
        match character {
            '[' if depth == 0 => depth = 1,
            ']' if depth == 1 => depth = 0,
            '[' | ']' => return Err(NodeSetError::Bracket { at }),
            ',' if depth == 0 => {
                found.push(item(text, start, at)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth != 0 {
        return Err(NodeSetError::Bracket { at: text.rfind('[').unwrap_or(start) });
    }
    found.push(item(text, start, text.len())?);
    Ok(found)
}

fn item(text: &str, start: usize, end: usize) -> Result<Item<'_>, NodeSetError> {
    let written = text.get(start..end).unwrap_or_default().trim();
    if written.is_empty() {
        return Err(NodeSetError::EmptyItem { at: start });
    }
    if written.starts_with('@') {
        return Err(NodeSetError::Group { item: quoted(written) });
    }
    if let Some(operator) = written.chars().find(|character| OPERATORS.contains(character)) {
        return Err(NodeSetError::Operator { operator, item: quoted(written) });
    }
    let mut parts = Vec::new();
    let mut rest = written;
    while let Some((before, bracket)) = rest.split_once('[') {
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        // The caller has seen that brackets pair up.
        let (inside, after) = bracket.split_once(']').unwrap_or((bracket, ""));
        parts.push(Part::Numbers(inside.split(',').map(range).collect::<Result<_, _>>()?));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    let item = Item { written, parts };
    item.check_length()?;
    Ok(item)
}

fn range(text: &str) -> Result<Range, NodeSetError> {
    let text = text.trim();
    let wrong = |why| NodeSetError::Range { range: quoted(text), why };
    let (bounds, step) = match text.split_once('/') {
        Some((bounds, step)) if bounds.contains('-') => (bounds, number(step).map_err(wrong)?),
        Some(_) => return Err(wrong("a step follows a range, as in 1-9/2")),
        None => (text, 1),
    };
    if step == 0 {
        return Err(wrong("the step must be at least 1"));
    }
    let (from, to) = bounds.split_once('-').unwrap_or((bounds, bounds));
    let (first, last) = (number(from).map_err(wrong)?, number(to).map_err(wrong)?);
    if first > last {
        return Err(wrong("it ends before it starts"));
    }
    if from.len() != to.len() && (padded(from) || padded(to)) && (padded(to) || to.len() < from.len()) {
        return Err(wrong("both ends must be padded to the same width, as in 01-10"));
    }
    Ok(Range { first, last, step, width: from.len() })
}

fn padded(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0')
}

fn number(text: &str) -> Result<u64, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("only numbers, ranges like 1-9 and steps like 1-9/2 stand in brackets");
    }
    if text.len() > MAX_DIGITS {
        return Err("a number has at most 18 digits");
    }
    text.parse().ok().ok_or("a number has at most 18 digits")
}

/// Cuts a user's text for an error message, at a character.
fn quoted(text: &str) -> String {
    text.get(..text.floor_char_boundary(QUOTED)).unwrap_or(text).to_owned()
}

impl Range {
    fn count(self) -> u64 {
        (self.last - self.first) / self.step + 1
    }

    fn texts(self) -> impl Iterator<Item = String> {
        (0..self.count())
            .map(move |nth| format!("{:0width$}", self.first + nth * self.step, width = self.width))
    }
}

impl Item<'_> {
    /// Counts the names it stands for, duplicates included; more than 64 bits can hold is `u64::MAX`.
    pub(super) fn count(&self) -> u64 {
        self.parts.iter().fold(1, |product: u64, part| match part {
            Part::Text(_) => product,
            Part::Numbers(ranges) => product
                .saturating_mul(ranges.iter().fold(0, |sum: u64, range| sum.saturating_add(range.count()))),
        })
    }

    /// Appends all its names. The caller has checked [`Item::count`]; a single name is bounded already.
    pub(super) fn expand(&self, names: &mut Vec<NodeName>) -> Result<(), NodeSetError> {
        let mut grown = vec![String::new()];
        for part in &self.parts {
            grown = match part {
                Part::Text(text) => grown.into_iter().map(|name| name + text).collect(),
                Part::Numbers(ranges) => {
                    let numbers: Vec<String> = ranges.iter().flat_map(|range| range.texts()).collect();
                    grown
                        .iter()
                        .flat_map(|name| numbers.iter().map(move |number| format!("{name}{number}")))
                        .collect()
                }
            };
        }
        for name in grown {
            names.push(name.parse().map_err(|source| self.wrong(source))?);
        }
        Ok(())
    }

    /// Refuses an item whose names cannot be node names, before any is made.
    fn check_length(&self) -> Result<(), NodeSetError> {
        let longest: usize = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.len(),
                Part::Numbers(ranges) => ranges.iter().map(|range| range.width).max().unwrap_or_default(),
            })
            .sum();
        if longest > MAX_NODE_NAME {
            return Err(self.wrong(NameError::TooLong { kind: "node", max: MAX_NODE_NAME, len: longest }));
        }
        Ok(())
    }

    fn wrong(&self, source: NameError) -> NodeSetError {
        NodeSetError::Name { item: quoted(self.written), source }
    }
}
