//! An answer together with its JSON, so that a question answered before costs one copy of bytes.
//!
//! The two fields that differ from request to request are the last ones of the body: when the answer is true, and
//! the number of the view. Everything before them is written once.

use sifleet_common::api::availability::Availability;

/// What most answers fit into.
const BUFFER: usize = 1024;

/// An availability answer and the unchanging part of its JSON.
#[derive(Debug)]
pub struct Rendered {
    body: Availability,
    /// The JSON up to `as_of`; absent should that and the generation not be its end.
    unchanging: Option<Box<[u8]>>,
}

/// The end of all answers of one moment.
#[derive(Debug)]
pub struct Ending {
    as_of: String,
    generation: u64,
    json: String,
}

impl Ending {
    /// Writes the end of answers that are true at `as_of`, by the view of that number.
    ///
    /// # Errors
    /// Whatever serde says; it knows no reason.
    pub fn new(as_of: String, generation: u64) -> serde_json::Result<Self> {
        let json = format!(r#""as_of":{},"generation":{generation}}}"#, serde_json::to_string(&as_of)?);
        Ok(Self { as_of, generation, json })
    }
}

impl Rendered {
    /// Keeps an answer, and writes its JSON.
    #[must_use]
    pub fn new(body: Availability) -> Self {
        let unchanging = unchanging(&body);
        Self { body, unchanging }
    }

    /// Borrows the answer, with the time and generation at which it was worked out.
    #[must_use]
    pub fn body(&self) -> &Availability {
        &self.body
    }

    /// Returns how long its JSON is, but for the end.
    pub(super) fn json_len(&self) -> usize {
        self.unchanging.as_ref().map_or(0, |json| json.len())
    }

    /// Writes the answer's JSON as of a moment.
    ///
    /// # Errors
    /// Whatever serde says; it knows no reason.
    pub fn write(&self, json: &mut Vec<u8>, ending: &Ending) -> serde_json::Result<()> {
        if let Some(unchanging) = &self.unchanging {
            json.extend_from_slice(unchanging);
            json.extend_from_slice(ending.json.as_bytes());
            return Ok(());
        }
        let (as_of, generation) = (ending.as_of.clone(), ending.generation);
        serde_json::to_writer(json, &Availability { as_of, generation, ..self.body.clone() })
    }
}

fn unchanging(body: &Availability) -> Option<Box<[u8]>> {
    let mut json = Vec::with_capacity(BUFFER);
    serde_json::to_writer(&mut json, body).ok()?;
    let ending = Ending::new(body.as_of.clone(), body.generation).ok()?;
    json.strip_suffix(ending.json.as_bytes()).map(Box::from)
}

#[cfg(test)]
mod tests {
    use sifleet_common::api::availability::Nodes;
    use sifleet_common::api::partitions::Membership;
    use sifleet_common::availability::{Counts, Require};

    use super::*;

    fn body() -> Availability {
        let counts = Counts { ready: 1, outdated: 0, missing: 0, unknown: 0 };
        let none = String::new;
        Availability {
            image: "a \"quoted\" name.sif".to_owned(),
            partition: "viz".to_owned(),
            verdict: counts.verdict(),
            require: Require::All.to_string(),
            satisfied: counts.satisfied(Require::All),
            // What looks like the end must not be taken for it.
            message: Ending::new("long ago".to_owned(), 1).unwrap().json,
            expected_digest: None,
            counts,
            nodes: Nodes { ready: "viz1".to_owned(), outdated: none(), missing: none(), unknown: none() },
            digests: Vec::new(),
            paths: Vec::new(),
            reasons: Vec::new(),
            degraded: Vec::new(),
            membership: Membership { source: none(), as_of: none(), stale: false, reason: None },
            as_of: "long ago".to_owned(),
            generation: 1,
        }
    }

    #[test]
    fn the_json_is_that_of_the_body_with_time_and_generation_replaced() {
        let rendered = Rendered::new(body());
        for (as_of, generation) in [("2026-01-01T00:00:00Z", 7), ("a \"strange\" time", u64::MAX)] {
            let expected = Availability { as_of: as_of.to_owned(), generation, ..body() };
            let (mut json, ending) =
                (b"before ".to_vec(), Ending::new(as_of.to_owned(), generation).unwrap());
            rendered.write(&mut json, &ending).unwrap();
            assert_eq!(json, [b"before ".as_slice(), &serde_json::to_vec(&expected).unwrap()].concat());
        }
    }

    #[test]
    fn the_changing_fields_are_the_last_ones_of_the_body() {
        assert!(unchanging(&body()).is_some(), "every answer would be written anew");
    }
}
