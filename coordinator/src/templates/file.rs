//! One file of a template: YAML or JSON, one template a file.
//!
//! ```yaml
//! id: angle-drop            # else the file's name without its ending
//! image: KooSimulation.sif
//! partition: compute
//! require: all              # all, any or a number of nodes
//! ```
//!
//! Outside facts: YAML 1.2 and JSON (RFC 8259). Files are other people's: aliases, depth and nodes are bounded by the
//! parser's budget, and length by [`super::folder`].

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use sifleet_common::api::templates::{TemplateBody, TemplateMistake};
use sifleet_common::time::UnixMillis;

use crate::store::template::{TemplateId, TemplateRecord, Unfit};

/// Longest message about a mistake, in bytes.
const MAX_MESSAGE: usize = 500;

/// A template as files write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: Option<String>,
    name: Option<String>,
    description: Option<String>,
    image: String,
    partition: String,
    #[serde(default, deserialize_with = "require")]
    require: Option<String>,
    digest: Option<String>,
    signer: Option<String>,
}

/// Takes a number of nodes with quotes and without.
fn require<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<String>, D::Error> {
    struct Require;
    impl Visitor<'_> for Require {
        type Value = Option<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("all, any or a number of nodes")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_u64<E: Error>(self, nodes: u64) -> Result<Self::Value, E> {
            Ok(Some(nodes.to_string()))
        }

        fn visit_i64<E: Error>(self, nodes: i64) -> Result<Self::Value, E> {
            Err(E::invalid_value(Unexpected::Signed(nodes), &self))
        }
    }
    reader.deserialize_any(Require)
}

/// Reads the text of a file; `file` is its name in the directory.
///
/// # Errors
/// The first mistake, with its place where that is known.
pub fn parse(file: &str, bytes: &[u8], changed: UnixMillis) -> Result<TemplateRecord, TemplateMistake> {
    let mistake = |place: Option<(u64, u64)>, message: String| {
        let mut message = message;
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        let (line, column) = place.unzip();
        TemplateMistake { file: file.to_owned(), line, column, message }
    };
    let text = std::str::from_utf8(bytes).map_err(|wrong| {
        let before = bytes.get(..wrong.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u64;
        mistake(Some((line, 1)), "this is not UTF-8 text".to_owned())
    })?;
    let written = if file.ends_with(".json") { json(text) } else { yaml(text) };
    let written = written.map_err(|(place, message)| mistake(place, message))?;
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let id: Result<TemplateId, Unfit> = written.id.as_deref().unwrap_or(stem).parse();
    let body = TemplateBody {
        name: written.name,
        description: written.description,
        image: written.image,
        partition: written.partition,
        require: written.require,
        digest: written.digest,
        signer: written.signer,
    };
    let record = id.and_then(|id| TemplateRecord::read(id, body, changed));
    record.map_err(|unfit| mistake(field_at(text, &unfit.0), unfit.0))
}

type Wrong = (Option<(u64, u64)>, String);

fn json(text: &str) -> Result<Written, Wrong> {
    serde_json::from_str(text).map_err(|error| {
        let place = (error.line() as u64, error.column() as u64);
        let message = error.to_string();
        let said = message.rsplit_once(" at line ").map_or(message.as_str(), |(said, _)| said);
        (Some(place), said.to_owned())
    })
}

fn yaml(text: &str) -> Result<Written, Wrong> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(|at| (at.line(), at.column()));
        let message = error.to_string();
        // The place stands beside it.
        let said = message.rsplit_once(" at line ").map_or(message.as_str(), |(said, _)| said);
        (place, said.to_owned())
    })
}

/// Finds what a file that cannot be read seems to call itself: the first line that says an id.
#[must_use]
pub fn claimed(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let said = text.lines().find_map(|line| {
        let key = line.trim_start().trim_start_matches(['"', '\'', '{', ' ']);
        key.strip_prefix("id")?.trim_start_matches(['"', '\'', ' ']).strip_prefix(':')
    })?;
    let id = said.trim_start_matches(['"', '\'', ' ']).split([' ', '"', '\'', ',', '#', '}']).next()?;
    id.parse().ok().map(|id: TemplateId| id.to_string())
}

/// Finds the line on which the field stands that a message begins with.
fn field_at(text: &str, message: &str) -> Option<(u64, u64)> {
    let (field, _) = message.split_once(':')?;
    let is_it = |line: &str| {
        let key = line.trim_start().trim_start_matches(['"', '\'', '{', ' ']);
        key.strip_prefix(field).is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    let line = text.lines().position(is_it)?;
    Some((line as u64 + 1, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, text: &str) -> Result<TemplateRecord, TemplateMistake> {
        parse(file, text.as_bytes(), UnixMillis(0))
    }

    #[track_caller]
    fn wrong(file: &str, text: &str, place: Option<(u64, u64)>, said: &str) {
        let mistake = read(file, text).unwrap_err();
        assert_eq!(mistake.line.zip(mistake.column), place, "{mistake:?}");
        assert!(mistake.message.contains(said), "{mistake:?}");
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = read("drop.yaml", "image: a.sif\npartition: viz # for all\nrequire: 2\n").unwrap();
        let json = r#"{"id": "drop", "image": "a.sif", "partition": "viz", "require": "2"}"#;
        assert_eq!(read("other.json", json).unwrap(), yaml);
        assert_eq!(yaml.id.as_str(), "drop");
        assert_eq!(yaml.require.to_string(), "2");
        assert_eq!(read("x.yml", "{image: a, partition: p}").unwrap().require.to_string(), "all");
    }

    #[test]
    fn a_mistake_has_a_place() {
        wrong("a.yaml", "image: a.sif\npartition: viz\nrequre: all\n", Some((3, 1)), "requre");
        wrong("a.yaml", "image: a.sif\nimage: b.sif\npartition: viz\n", Some((2, 1)), "image");
        wrong("a.json", "{\"image\": \"a.sif\",\n \"partition\": 7}", Some((2, 15)), "invalid type");
        wrong("a.yaml", "image: a.sif\npartition: viz\nrequire: 0\n", Some((3, 1)), "require: ");
        wrong("a.json", "{\n \"image\": \"a\",\n \"partition\": \"a b\"}", Some((3, 1)), "partition: ");
        wrong("a b.yaml", "image: a.sif\npartition: viz\n", None, "cannot be the id");
        let mistake = parse("a.yaml", b"image: a\n\xff", UnixMillis(0)).unwrap_err();
        assert_eq!((mistake.line, mistake.message.as_str()), (Some(2), "this is not UTF-8 text"));
    }

    #[test]
    fn what_yaml_can_be_abused_for_is_refused() {
        let bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n\
             c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\n\
             image: [*d, *d, *d, *d, *d, *d, *d, *d]\npartition: viz\n";
        assert!(read("a.yaml", bomb).is_err());
        assert!(read("a.yaml", &"[".repeat(50_000)).is_err());
        assert!(read("a.json", &"[".repeat(50_000)).is_err());
        assert!(read("a.yaml", "").is_err());
        assert!(read("a.yaml", "image: !!binary aGk=\npartition: *nothing\n").is_err());
    }
}
