//! One source of settings as a tree that remembers where each key and value was written.
//!
//! Owns positions: every layer covers its own range of offsets, so an error found after the layers were merged
//! still leads back to a file and line. Reads no files and knows no setting.

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Place;

/// The position of what stands in no layer: the whole of the settings.
pub(super) const NOWHERE: Range<usize> = 0..0;

/// Where a layer comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// A TOML file.
    File(PathBuf),
    /// An environment variable, the keys that lead to its setting, and whether its value is plain text.
    Variable { name: String, keys: Vec<String>, plain: bool },
}

/// What is wrong, and at which offset.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) message: String,
}

impl Fault {
    /// Takes over what the parser says of a text that begins at `base`.
    pub(super) fn new(error: &toml::de::Error, base: usize) -> Self {
        let at = error.span().map_or(NOWHERE.start, |span| span.start + base);
        Self { at, message: error.message().to_owned() }
    }
}

/// A source of settings.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    origin: Origin,
    text: String,
    base: usize,
}

impl Layer {
    /// Makes a layer that covers the offsets behind those of `before`.
    pub(super) fn new(origin: Origin, text: String, before: &[Self]) -> Self {
        let base = before.last().map_or(NOWHERE.end, |layer| layer.base + layer.text.len()) + 1;
        Self { origin, text, base }
    }

    /// Says whether an offset lies in this layer.
    pub(super) fn holds(&self, at: usize) -> bool {
        (self.base..=self.base + self.text.len()).contains(&at)
    }

    /// Reads a variable as plain text from here on; `false` if that changes nothing.
    pub(super) fn take_as_text(&mut self) -> bool {
        match &mut self.origin {
            Origin::Variable { plain, .. } if !*plain => {
                *plain = true;
                true
            }
            Origin::Variable { .. } | Origin::File(_) => false,
        }
    }

    /// Parses the layer; all offsets, those of a fault too, are the layer's own.
    pub(super) fn table(&self) -> Result<DeTable<'_>, Fault> {
        match &self.origin {
            Origin::File(_) => match DeTable::parse(&self.text) {
                Ok(table) => Ok(moved_table(table.into_inner(), self.base)),
                Err(error) => Err(Fault::new(&error, self.base)),
            },
            Origin::Variable { keys, plain, .. } => Ok(self.nested(keys, *plain)),
        }
    }

    /// Says where an offset is, in words for people; `None` when it is in another layer.
    pub(super) fn place(&self, at: usize) -> Option<Place> {
        let before = at.checked_sub(self.base).and_then(|at| self.text.get(..at))?;
        Some(match &self.origin {
            Origin::Variable { name, .. } => Place::Variable { name: name.clone() },
            Origin::File(path) => Place::File {
                path: path.clone(),
                line: before.matches('\n').count() + 1,
                column: before.rsplit('\n').next().unwrap_or(before).chars().count() + 1,
            },
        })
    }

    fn nested<'a>(&'a self, keys: &'a [String], plain: bool) -> DeTable<'a> {
        let all = self.base..self.base + self.text.len();
        let parsed = if plain { None } else { DeValue::parse(&self.text).ok() };
        let mut value = match parsed {
            Some(value) => moved(value.into_inner(), self.base),
            None => DeValue::String(self.text.as_str().into()),
        };
        for key in keys.iter().rev() {
            let mut level = DeTable::new();
            level.insert(Spanned::new(all.clone(), key.as_str().into()), Spanned::new(all.clone(), value));
            value = DeValue::Table(level);
        }
        if let DeValue::Table(table) = value { table } else { DeTable::new() }
    }
}

/// Lays one table over another: tables are merged, everything else is replaced together with its position.
pub(super) fn lay_over<'a>(under: &mut DeTable<'a>, over: DeTable<'a>) {
    for (key, value) in over {
        match (under.remove(&key).map(Spanned::into_inner), value) {
            (Some(DeValue::Table(mut below)), value) if value.get_ref().is_table() => {
                let span = value.span();
                if let DeValue::Table(above) = value.into_inner() {
                    lay_over(&mut below, above);
                }
                under.insert(key, Spanned::new(span, DeValue::Table(below)));
            }
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

fn moved_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let shift = |span: Range<usize>| span.start + by..span.end + by;
    table
        .into_iter()
        .map(|(key, value)| {
            let (key_span, value_span) = (shift(key.span()), shift(value.span()));
            (
                Spanned::new(key_span, key.into_inner()),
                Spanned::new(value_span, moved(value.into_inner(), by)),
            )
        })
        .collect()
}

fn moved(value: DeValue<'_>, by: usize) -> DeValue<'_> {
    match value {
        DeValue::Table(table) => DeValue::Table(moved_table(table, by)),
        DeValue::Array(array) => DeValue::Array(
            array
                .into_iter()
                .map(|item| {
                    let span = item.span().start + by..item.span().end + by;
                    Spanned::new(span, moved(item.into_inner(), by))
                })
                .collect(),
        ),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => value,
    }
}
