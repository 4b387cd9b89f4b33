//! What may be written down of a registry, and what `$set` makes of it. Pure.
//!
//! A registry's fields are shown to everybody who may read, so what looks like a secret is refused: credentials have a
//! place of their own.

use serde_json::{Map, Value};
use sifleet_common::api::registries::RegistryRequest;
use sifleet_common::time::UnixMillis;

use super::address::Origin;
use crate::store::registry::RegistryRecord;

/// Most bytes of one record as JSON.
pub const MAX_RECORD: usize = 64 * 1024;
/// Most characters of a name, a tag, an id and a key.
const MAX_WORD: usize = 64;
/// Most tags.
const MAX_TAGS: usize = 64;
/// Deepest nesting of values; a path of `$set` is as deep.
const MAX_DEPTH: usize = 8;
/// Longest prefix, in bytes.
const MAX_PREFIX: usize = 512;
/// What the older form of the catalogue puts before each name.
const LONG: &str = "container_registry_";
/// Ends of keys under which people keep secrets, without `_` and `-`.
const SECRET_ENDS: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "credential",
    "credentials",
];
/// Words of such keys, wherever they stand between `_` and `-`.
const SECRET_WORDS: [&str; 4] = ["password", "passwd", "passphrase", "secret"];
/// Last words of such keys; in longer ones they mean something else, as in `bypass`.
const SECRET_LAST: [&str; 3] = ["pass", "auth", "authorization"];

/// The fields of a record that people see and ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Names it for good.
    Id,
    /// What people call it.
    Name,
    /// Whatever people want to know.
    Metadata,
    /// Words to find it by.
    Tags,
    /// Where it answers.
    PublicUrl,
    /// What names of images begin with.
    ImagePrefix,
    /// How it is set up.
    Config,
    /// Where it keeps its images.
    StorageInfo,
}

/// Says what is wrong with a record, or with a change of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRecord(pub String);

impl Field {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Id, "id"),
        (Self::Name, "name"),
        (Self::Metadata, "metadata"),
        (Self::Tags, "tags"),
        (Self::PublicUrl, "public_url"),
        (Self::ImagePrefix, "image_prefix"),
        (Self::Config, "config"),
        (Self::StorageInfo, "storage_info"),
    ];

    /// Finds a field by its name, with the older prefix or without.
    ///
    /// # Errors
    /// [`BadRecord`], which lists the names there are.
    pub fn named(text: &str) -> Result<Self, BadRecord> {
        let short = text.strip_prefix(LONG).unwrap_or(text);
        let found = Self::ALL.iter().find(|(_, name)| *name == short);
        found.map(|(field, _)| *field).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(_, name)| *name).collect();
            BadRecord(format!("a registry has no field {:?}; there are {}", cut(text), names.join(", ")))
        })
    }

    /// Lists all of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.iter().map(|(field, _)| *field)
    }

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(field, _)| *field == self).map_or("", |(_, name)| name)
    }

    /// Returns what a record holds there.
    #[must_use]
    pub fn of(self, record: &RegistryRecord) -> Value {
        match self {
            Self::Id => record.id.as_str().into(),
            Self::Name => record.name.as_str().into(),
            Self::Metadata => record.metadata.clone().into(),
            Self::Tags => record.tags.clone().into(),
            Self::PublicUrl => record.public_url.as_str().into(),
            Self::ImagePrefix => record.image_prefix.as_str().into(),
            Self::Config => record.config.clone().into(),
            Self::StorageInfo => record.storage_info.clone().into(),
        }
    }
}

/// Makes a record of what somebody wrote.
///
/// # Errors
/// [`BadRecord`].
pub fn make(request: RegistryRequest, id: String, now: UnixMillis) -> Result<RegistryRecord, BadRecord> {
    let RegistryRequest { id: wanted, name, metadata, tags, public_url, image_prefix, config, storage_info } =
        request;
    checked(RegistryRecord {
        id: wanted.unwrap_or(id),
        name,
        metadata,
        tags,
        public_url,
        image_prefix,
        config,
        storage_info,
        credentials: None,
        created: now,
        changed: now,
    })
}

/// Applies `$set`. Credentials that were meant for another host go.
///
/// # Errors
/// [`BadRecord`].
pub fn set(
    known: &RegistryRecord,
    changes: &Map<String, Value>,
    now: UnixMillis,
) -> Result<RegistryRecord, BadRecord> {
    if changes.is_empty() {
        return Err(BadRecord("$set names nothing to change".to_owned()));
    }
    let mut record = known.clone();
    for (path, value) in changes {
        change(&mut record, path, value)?;
    }
    record.changed = now;
    let mut record = checked(record)?;
    let url = record.public_url.clone();
    record.credentials = record.credentials.take().filter(|own| own.origin == url);
    Ok(record)
}

fn change(record: &mut RegistryRecord, path: &str, value: &Value) -> Result<(), BadRecord> {
    let parts: Vec<&str> = path.split('.').collect();
    let (first, below) = parts.split_first().ok_or_else(|| bad("$set names nothing"))?;
    if parts.len() > MAX_DEPTH {
        return Err(bad("a path of $set has too many parts"));
    }
    let field = Field::named(first)?;
    let whole = || {
        if below.is_empty() {
            Ok(())
        } else {
            Err(BadRecord(format!("{} has no parts to set", field.name())))
        }
    };
    let text = || {
        whole()?;
        value.as_str().map(str::to_owned).ok_or_else(|| BadRecord(format!("{} is text", field.name())))
    };
    match field {
        Field::Id => return Err(bad("the id of a registry is for good")),
        Field::Name => record.name = text()?,
        Field::PublicUrl => record.public_url = text()?,
        Field::ImagePrefix => record.image_prefix = text()?,
        Field::Tags => {
            whole()?;
            record.tags =
                serde_json::from_value(value.clone()).map_err(|_other| bad("tags is a list of texts"))?;
        }
        Field::Metadata => put(&mut record.metadata, below, value)?,
        Field::Config => put(&mut record.config, below, value)?,
        Field::StorageInfo => put(&mut record.storage_info, below, value)?,
    }
    Ok(())
}

/// Sets a value in an object, at a path that is made where it is missing.
fn put(object: &mut Map<String, Value>, path: &[&str], value: &Value) -> Result<(), BadRecord> {
    match path {
        [] => match value {
            Value::Object(all) => {
                object.clone_from(all);
                Ok(())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(bad("metadata, config and storage_info are objects"))
            }
        },
        [last] => {
            object.insert((*last).to_owned(), value.clone());
            Ok(())
        }
        [first, rest @ ..] => {
            let below = object.entry((*first).to_owned()).or_insert_with(|| Value::Object(Map::new()));
            match below {
                Value::Object(below) => put(below, rest, value),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Err(
                    BadRecord(format!("{:?} is no object, so that nothing can be set below it", cut(first))),
                ),
            }
        }
    }
}

/// Looks at a record as a whole and writes its address in one form.
fn checked(mut record: RegistryRecord) -> Result<RegistryRecord, BadRecord> {
    if !is_id(&record.id) {
        return Err(bad(
            "an id has 1 to 64 letters, digits, -, _ and ., begins with a letter or digit, and is not query",
        ));
    }
    word("name", &record.name)?;
    if record.tags.len() > MAX_TAGS {
        return Err(BadRecord(format!("a registry has at most {MAX_TAGS} tags")));
    }
    record.tags.iter().try_for_each(|tag| word("tag", tag))?;
    let origin: Origin =
        record.public_url.parse().map_err(|error| BadRecord(format!("public_url: {error}")))?;
    record.public_url = origin.to_string();
    let prefix = &record.image_prefix;
    let is_plain = prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"@?#\\".contains(&byte));
    if prefix.len() > MAX_PREFIX || !is_plain || prefix.contains("://") {
        return Err(bad("image_prefix is written like registry.example:5000/team, without scheme"));
    }
    let mut length = prefix.len();
    for (name, object) in
        [("metadata", &record.metadata), ("config", &record.config), ("storage_info", &record.storage_info)]
    {
        object_is_fit(name, object, 1)?;
        length = length.saturating_add(serde_json::to_string(object).map_or(MAX_RECORD, |text| text.len()));
    }
    if length > MAX_RECORD {
        return Err(BadRecord(format!("a registry takes at most {MAX_RECORD} bytes of JSON")));
    }
    Ok(record)
}

/// Tells whether a text can be the id of a registry.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    // A path of that name asks questions.
    text != "query"
        && text.len() <= MAX_WORD
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(plain)
}

fn word(what: &str, text: &str) -> Result<(), BadRecord> {
    let length = text.chars().count();
    if (1..=MAX_WORD).contains(&length) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(BadRecord(format!("a {what} has 1 to {MAX_WORD} characters, none of them a control one")))
}

fn object_is_fit(what: &str, object: &Map<String, Value>, depth: usize) -> Result<(), BadRecord> {
    for (key, value) in object {
        word("key", key)?;
        if key.contains(['.', '$']) {
            return Err(BadRecord(format!(
                "{what}: the key {key:?} holds . or $, which paths and queries are made of"
            )));
        }
        if is_secret(key) && !matches!(value, Value::Bool(_)) {
            return Err(BadRecord(format!(
                "{what}: {key:?} looks like a secret, and everybody who may read would see it: set credentials instead"
            )));
        }
        value_is_fit(what, value, depth + 1)?;
    }
    Ok(())
}

/// Tells whether a key looks like a secret's: `password`, `client_secret`, `secretAccessKey`, `X-Api-Key`.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words: Vec<&str> = key.split(['_', '-', ' ']).collect();
    let bare = words.concat();
    SECRET_ENDS.iter().any(|end| bare.ends_with(end))
        || words.iter().any(|word| SECRET_WORDS.contains(word))
        || words.last().is_some_and(|last| SECRET_LAST.contains(last))
}

fn value_is_fit(what: &str, value: &Value, depth: usize) -> Result<(), BadRecord> {
    if depth > MAX_DEPTH {
        return Err(BadRecord(format!("{what} is nested deeper than {MAX_DEPTH} levels")));
    }
    match value {
        Value::Object(object) => object_is_fit(what, object, depth),
        Value::Array(items) => items.iter().try_for_each(|item| value_is_fit(what, item, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn bad(text: &str) -> BadRecord {
    BadRecord(text.to_owned())
}

/// Cuts what is repeated.
fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
