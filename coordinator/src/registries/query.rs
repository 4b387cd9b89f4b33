//! Questions about registries in the words of MongoDB, read and answered over records. Bounded in every way; the clock is
//! asked only whether an answer takes too long.
//!
//! `{field: value}` asks for equality, `{field: {$op: …}}` for something else; a list matches if one of its items does. Fields
//! are those of [`Field`]; below `metadata`, `config` and `storage_info` paths go on with dots, through lists too.
//! Outside facts: MongoDB manual, query and projection operators, version 8.

mod read;

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::{Map, Number, Value};

use super::record::Field;
use crate::store::registry::RegistryRecord;

/// Most steps of an answer: values looked at, and bytes matched by the weight of the pattern. About a second at worst.
pub const MAX_STEPS: usize = 4_000_000;
/// Longest time for an answer, whatever the steps say: a machine may be slow or busy.
const MAX_TIME: Duration = Duration::from_secs(2);
/// Steps between two looks at the clock.
const LOOK: usize = 4_096;

/// Says why a question is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadQuery(pub String);

/// A question that can be answered.
#[derive(Debug)]
pub struct Query {
    clause: Clause,
    /// What it looks at: the rest of a record is not touched.
    fields: Vec<Field>,
}

#[derive(Debug)]
enum Clause {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Field(Field, Vec<String>, Vec<Test>),
}

#[derive(Debug)]
enum Test {
    In(Vec<Value>),
    Nin(Vec<Value>),
    Order(Comparison, Value),
    Exists(bool),
    Matches(Pattern),
    Not(Vec<Self>),
}

/// A regular expression, and what it costs.
#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// KiB that it takes: at worst each byte of a text is held against all of that, which is two bytes for a step.
    weight: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrSame,
    More,
    MoreOrSame,
}

impl Query {
    /// Reads a question.
    ///
    /// # Errors
    /// [`BadQuery`] for the first mistake, and for one that is too large.
    pub fn read(filter: &Map<String, Value>) -> Result<Self, BadQuery> {
        let mut reader = read::Reader::default();
        let clause = reader.clause(filter, 1)?;
        Ok(Self { clause, fields: reader.fields })
    }

    /// Picks the records that match.
    ///
    /// # Errors
    /// [`BadQuery`] where that takes more than [`MAX_STEPS`], or too long.
    pub fn pick<'a>(
        &self,
        records: impl IntoIterator<Item = &'a RegistryRecord>,
    ) -> Result<Vec<&'a RegistryRecord>, BadQuery> {
        self.pick_until(Instant::now() + MAX_TIME, records)
    }

    fn pick_until<'a>(
        &self,
        end: Instant,
        records: impl IntoIterator<Item = &'a RegistryRecord>,
    ) -> Result<Vec<&'a RegistryRecord>, BadQuery> {
        let (mut steps, mut picked) = (Steps { left: MAX_STEPS, unlooked: 0, end }, Vec::new());
        for record in records {
            steps.look()?;
            let fields: Vec<_> = self.fields.iter().map(|field| (*field, field.of(record))).collect();
            if self.clause.holds(&fields, &mut steps)? {
                picked.push(record);
            }
        }
        Ok(picked)
    }
}

/// What is left of an answer's steps.
struct Steps {
    left: usize,
    /// Taken since the clock was looked at.
    unlooked: usize,
    /// When it is over.
    end: Instant,
}

impl Steps {
    fn take(&mut self, count: usize) -> Result<(), BadQuery> {
        self.left = self.left.checked_sub(count).ok_or_else(too_long)?;
        self.unlooked = self.unlooked.saturating_add(count);
        if self.unlooked < LOOK { Ok(()) } else { self.look() }
    }

    fn look(&mut self) -> Result<(), BadQuery> {
        self.unlooked = 0;
        if Instant::now() < self.end { Ok(()) } else { Err(too_long()) }
    }
}

fn too_long() -> BadQuery {
    BadQuery("the question takes too long to answer: ask for less at once".to_owned())
}

impl Clause {
    fn holds(&self, fields: &[(Field, Value)], steps: &mut Steps) -> Result<bool, BadQuery> {
        steps.take(1)?;
        match self {
            Self::All(clauses) => {
                for clause in clauses {
                    if !clause.holds(fields, steps)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Any(clauses) => {
                for clause in clauses {
                    if clause.holds(fields, steps)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Not(clause) => clause.holds(fields, steps).map(|holds| !holds),
            Self::Field(field, path, tests) => {
                let mut found = Vec::new();
                for (_, value) in fields.iter().filter(|(own, _)| own == field) {
                    reach(value, path, &mut found, steps)?;
                }
                all_hold(tests, &found, steps)
            }
        }
    }
}

/// Collects what is at a path; a list is gone through, or into by number.
fn reach<'a>(
    value: &'a Value,
    path: &[String],
    found: &mut Vec<&'a Value>,
    steps: &mut Steps,
) -> Result<(), BadQuery> {
    steps.take(1)?;
    let Some((first, rest)) = path.split_first() else {
        found.push(value);
        return Ok(());
    };
    match value {
        Value::Object(fields) => fields.get(first).map_or(Ok(()), |below| reach(below, rest, found, steps)),
        Value::Array(items) => match first.parse::<usize>() {
            Ok(index) => items.get(index).map_or(Ok(()), |below| reach(below, rest, found, steps)),
            Err(_name) => items.iter().filter(|item| item.is_object()).try_for_each(|item| {
                // Lists in lists are not gone through, as in MongoDB.
                reach(item, path, found, steps)
            }),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn all_hold(tests: &[Test], found: &[&Value], steps: &mut Steps) -> Result<bool, BadQuery> {
    for test in tests {
        if !test.holds(found, steps)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Test {
    fn holds(&self, found: &[&Value], steps: &mut Steps) -> Result<bool, BadQuery> {
        match self {
            Self::In(wanted) => is_among(wanted, found, steps),
            Self::Nin(unwanted) => is_among(unwanted, found, steps).map(|is| !is),
            Self::Order(comparison, than) => any(found, steps, &mut |value, _| {
                Ok(order(value, than).is_some_and(|order| comparison.fits(order)))
            }),
            Self::Exists(wanted) => Ok(found.is_empty() != *wanted),
            Self::Matches(pattern) => any(found, steps, &mut |value, steps| {
                let Some(text) = value.as_str() else { return Ok(false) };
                steps.take(text.len().saturating_mul(pattern.weight).div_ceil(2))?;
                Ok(pattern.regex.is_match(text))
            }),
            Self::Not(tests) => all_hold(tests, found, steps).map(|hold| !hold),
        }
    }
}

/// Nothing there is the same as null.
fn is_among(wanted: &[Value], found: &[&Value], steps: &mut Steps) -> Result<bool, BadQuery> {
    if found.is_empty() {
        return Ok(wanted.iter().any(Value::is_null));
    }
    any(found, steps, &mut |value, steps| {
        steps.take(wanted.len())?;
        Ok(wanted.iter().any(|wanted| is_same(value, wanted)))
    })
}

/// Tries values, and the items of those that are lists.
fn any(
    found: &[&Value],
    steps: &mut Steps,
    fits: &mut impl FnMut(&Value, &mut Steps) -> Result<bool, BadQuery>,
) -> Result<bool, BadQuery> {
    for value in found {
        steps.take(1)?;
        if fits(value, steps)? {
            return Ok(true);
        }
        for item in value.as_array().into_iter().flatten() {
            steps.take(1)?;
            if fits(item, steps)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => order_of(one, other) == Some(Ordering::Equal),
        _ => one == other,
    }
}

/// Compares what can be: numbers with numbers, texts with texts.
fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => order_of(one, other),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

fn order_of(one: &Number, other: &Number) -> Option<Ordering> {
    if let (Some(one), Some(other)) = (one.as_i128(), other.as_i128()) {
        return Some(one.cmp(&other));
    }
    one.as_f64()?.partial_cmp(&other.as_f64()?)
}

impl Comparison {
    fn fits(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrSame => order.is_le(),
            Self::More => order.is_gt(),
            Self::MoreOrSame => order.is_ge(),
        }
    }
}

#[cfg(test)]
mod tests;
