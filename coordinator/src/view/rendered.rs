//! An answer together with its JSON, so that a question answered before costs one copy of bytes.
//!
//! The two fields that differ from request to request are the last ones of the body: when the answer is true, and
//! the number of the view. Everything before them is written once.

use std::sync::OnceLock;

use sifleet_common::api::availability::Availability;

/// What most answers fit into.
const BUFFER: usize = 1024;

/// An availability answer and the unchanging part of its JSON.
#[derive(Debug)]
pub struct Rendered {
    body: Availability,
    /// The JSON up to `as_of`; absent should that and the generation not be its end.
    unchanging: OnceLock<Option<Box<[u8]>>>,
}

impl Rendered {
    /// Keeps an answer; its JSON is made when it is first asked for.
    #[must_use]
    pub fn new(body: Availability) -> Self {
        Self { body, unchanging: OnceLock::new() }
    }

    /// Borrows the answer, with the time and generation at which it was worked out.
    #[must_use]
    pub fn body(&self) -> &Availability {
        &self.body
    }

    /// Returns the answer's JSON as of a time and a generation.
    ///
    /// # Errors
    /// Whatever serde says; it knows no reason.
    pub fn json(&self, as_of: String, generation: u64) -> serde_json::Result<Vec<u8>> {
        match self.unchanging.get_or_init(|| unchanging(&self.body)) {
            Some(unchanging) => Ok([unchanging, changing(&as_of, generation)?.as_bytes()].concat()),
            None => serde_json::to_vec(&Availability { as_of, generation, ..self.body.clone() }),
        }
    }
}

fn unchanging(body: &Availability) -> Option<Box<[u8]>> {
    let mut json = Vec::with_capacity(BUFFER);
    serde_json::to_writer(&mut json, body).ok()?;
    json.strip_suffix(changing(&body.as_of, body.generation).ok()?.as_bytes()).map(Box::from)
}

/// Writes the end of a body.
fn changing(as_of: &str, generation: u64) -> serde_json::Result<String> {
    Ok(format!(r#""as_of":{},"generation":{generation}}}"#, serde_json::to_string(as_of)?))
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
            message: changing("long ago", 1).unwrap(),
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
            let json = rendered.json(as_of.to_owned(), generation).unwrap();
            assert_eq!(json, serde_json::to_vec(&expected).unwrap());
        }
    }

    #[test]
    fn the_changing_fields_are_the_last_ones_of_the_body() {
        assert!(unchanging(&body()).is_some(), "every answer would be written anew");
    }
}
