//! Reads questions about registries, and refuses those that are too large before they are answered.

use regex::{Error, RegexBuilder};
use serde_json::{Map, Value};

use super::super::record::Field;
use super::{BadQuery, Clause, Comparison, Pattern, Test};

/// Most values in a question, keys and lists included.
const MAX_VALUES: usize = 1_000;
/// Deepest nesting of a question.
const MAX_DEPTH: usize = 10;
/// Most items of a list of `$in` or `$nin`.
const MAX_LIST: usize = 256;
/// Most regular expressions in a question.
const MAX_PATTERNS: usize = 8;
/// Longest regular expression, in bytes.
const MAX_PATTERN: usize = 512;
/// Most KiB that one takes when it is compiled: two classes of Unicode's letters would be more. As each byte of a text may be held
/// against all of it, that is also what the longest text of a record may cost: less than half a second.
const MAX_WEIGHT: usize = 64;
/// Bytes that one may take besides while it runs.
const PATTERN_MEMORY: usize = 256 * 1024;

/// Reads a question and counts what is in it.
#[derive(Default)]
pub(super) struct Reader {
    values: usize,
    patterns: usize,
    /// Fields that were named, each once.
    pub(super) fields: Vec<Field>,
}

impl Reader {
    fn count(&mut self, depth: usize) -> Result<(), BadQuery> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(BadQuery(format!("a question has at most {MAX_VALUES} values")));
        }
        if depth > MAX_DEPTH {
            return Err(BadQuery(format!("a question is nested at most {MAX_DEPTH} levels deep")));
        }
        Ok(())
    }

    pub(super) fn clause(&mut self, filter: &Map<String, Value>, depth: usize) -> Result<Clause, BadQuery> {
        self.count(depth)?;
        let mut all = Vec::new();
        for (key, value) in filter {
            all.push(match key.as_str() {
                "$and" => Clause::All(self.list(key, value, depth)?),
                "$or" => Clause::Any(self.list(key, value, depth)?),
                "$not" => Clause::Not(Box::new(self.clause(object(key, value)?, depth + 1)?)),
                _ if key.starts_with('$') => return Err(unknown(key, "$and, $or, $not")),
                _ => self.field(key, value, depth)?,
            });
        }
        Ok(Clause::All(all))
    }

    fn list(&mut self, key: &str, value: &Value, depth: usize) -> Result<Vec<Clause>, BadQuery> {
        let items = value.as_array().filter(|items| !items.is_empty());
        let items = items.ok_or_else(|| BadQuery(format!("{key} takes a list of at least one question")))?;
        items.iter().map(|item| self.clause(object(key, item)?, depth + 1)).collect()
    }

    fn field(&mut self, key: &str, value: &Value, depth: usize) -> Result<Clause, BadQuery> {
        let mut parts = key.split('.').map(str::to_owned);
        let field = Field::named(&parts.next().unwrap_or_default()).map_err(|error| BadQuery(error.0))?;
        if !self.fields.contains(&field) {
            self.fields.push(field);
        }
        let path: Vec<String> = parts.collect();
        if path.len() > MAX_DEPTH || path.iter().any(String::is_empty) {
            return Err(BadQuery(format!("{:?} is no path", cut(key))));
        }
        Ok(Clause::Field(field, path, self.tests(value, depth + 1)?))
    }

    fn tests(&mut self, value: &Value, depth: usize) -> Result<Vec<Test>, BadQuery> {
        self.count(depth)?;
        match value {
            Value::Object(operators) if operators.keys().any(|key| key.starts_with('$')) => {
                operators.iter().map(|(operator, value)| self.test(operator, value, depth)).collect()
            }
            Value::Object(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Ok(vec![Test::In(vec![self.literal(value, depth)?])]),
        }
    }

    fn test(&mut self, operator: &str, value: &Value, depth: usize) -> Result<Test, BadQuery> {
        Ok(match operator {
            "$eq" => Test::In(vec![self.literal(value, depth + 1)?]),
            "$ne" => Test::Nin(vec![self.literal(value, depth + 1)?]),
            "$in" => Test::In(self.literals(operator, value, depth)?),
            "$nin" => Test::Nin(self.literals(operator, value, depth)?),
            "$gt" => Test::Order(Comparison::More, self.ordered(operator, value, depth)?),
            "$gte" => Test::Order(Comparison::MoreOrSame, self.ordered(operator, value, depth)?),
            "$lt" => Test::Order(Comparison::Less, self.ordered(operator, value, depth)?),
            "$lte" => Test::Order(Comparison::LessOrSame, self.ordered(operator, value, depth)?),
            "$exists" => {
                let wanted =
                    value.as_bool().ok_or_else(|| BadQuery("$exists takes true or false".to_owned()))?;
                Test::Exists(wanted)
            }
            "$regex" => Test::Matches(self.pattern(value)?),
            "$not" => {
                let operators = object(operator, value)?;
                if !operators.keys().next().is_some_and(|key| key.starts_with('$')) {
                    return Err(BadQuery("$not takes operators, such as {\"$in\": […]}".to_owned()));
                }
                Test::Not(self.tests(value, depth + 1)?)
            }
            _ => {
                let known = "$in, $nin, $eq, $ne, $gt, $gte, $lt, $lte, $exists, $regex, $not";
                return Err(unknown(operator, known));
            }
        })
    }

    fn literals(&mut self, operator: &str, value: &Value, depth: usize) -> Result<Vec<Value>, BadQuery> {
        let items = value.as_array().ok_or_else(|| BadQuery(format!("{operator} takes a list")))?;
        if items.len() > MAX_LIST {
            return Err(BadQuery(format!("a list of {operator} has at most {MAX_LIST} items")));
        }
        items.iter().map(|item| self.literal(item, depth + 1)).collect()
    }

    fn ordered(&mut self, operator: &str, value: &Value, depth: usize) -> Result<Value, BadQuery> {
        if !(value.is_number() || value.is_string()) {
            return Err(BadQuery(format!("{operator} takes a number or a text")));
        }
        self.literal(value, depth + 1)
    }

    fn literal(&mut self, value: &Value, depth: usize) -> Result<Value, BadQuery> {
        self.weigh(value, depth)?;
        Ok(value.clone())
    }

    /// Counts a value and all below it.
    fn weigh(&mut self, value: &Value, depth: usize) -> Result<(), BadQuery> {
        self.count(depth)?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.weigh(item, depth + 1)),
            Value::Object(fields) => {
                if let Some(key) = fields.keys().find(|key| key.starts_with('$')) {
                    return Err(BadQuery(format!("{:?} stands where a plain value is expected", cut(key))));
                }
                fields.values().try_for_each(|item| self.weigh(item, depth + 1))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    fn pattern(&mut self, value: &Value) -> Result<Pattern, BadQuery> {
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(BadQuery(format!("a question has at most {MAX_PATTERNS} regular expressions")));
        }
        let text = value.as_str().filter(|text| text.len() <= MAX_PATTERN);
        let text =
            text.ok_or_else(|| BadQuery(format!("$regex takes a text of at most {MAX_PATTERN} bytes")))?;
        compiled(text).map_err(|error| {
            let text = cut(text);
            if matches!(error, Error::CompiledTooBig(_)) {
                let advice = r"count less far, or write (?-u:\w) for letters of ASCII";
                return BadQuery(format!("$regex: {text:?} takes more than {MAX_WEIGHT} KiB: {advice}"));
            }
            let said = error.to_string();
            let last = said.lines().last().unwrap_or_default();
            BadQuery(format!("$regex: {text:?} cannot be read: {}", cut(last)))
        })
    }
}

/// Compiles with ever more memory: how much it takes is not told otherwise.
fn compiled(text: &str) -> Result<Pattern, Error> {
    let mut builder = RegexBuilder::new(text);
    builder.dfa_size_limit(PATTERN_MEMORY).nest_limit(32);
    let mut weight = 1;
    loop {
        match builder.size_limit(weight * 1024).build() {
            Err(Error::CompiledTooBig(_)) if weight < MAX_WEIGHT => weight *= 2,
            built => return built.map(|regex| Pattern { regex, weight }),
        }
    }
}

fn object<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>, BadQuery> {
    value.as_object().ok_or_else(|| BadQuery(format!("{key} takes an object")))
}

fn unknown(operator: &str, known: &str) -> BadQuery {
    BadQuery(format!("there is no operator {:?} here; there are {known}", cut(operator)))
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
