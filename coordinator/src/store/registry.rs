//! What is kept of external registries: the record people wrote, and the credentials nobody is shown again.

use std::fmt;

use serde_json::{Map, Value};
use sifleet_common::time::UnixMillis;

/// One registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryRecord {
    /// Names it for good.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Whatever people want to know of it.
    pub metadata: Map<String, Value>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Where it answers: scheme, host and port.
    pub public_url: String,
    /// What names of its images begin with.
    pub image_prefix: String,
    /// How it is set up.
    pub config: Map<String, Value>,
    /// Where it keeps its images.
    pub storage_info: Map<String, Value>,
    /// With what we sign in there.
    pub credentials: Option<Credentials>,
    /// When it was written down.
    pub created: UnixMillis,
    /// When it was last changed.
    pub changed: UnixMillis,
}

/// With what we sign in at a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password, or a token in its place.
    pub password: String,
    /// Where they were meant to go: they are of no use elsewhere, even if the registry moves.
    pub origin: String,
    /// The service on another host that may see them too, if somebody said so.
    pub realm: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_do_not_get_into_a_log() {
        let credentials = Credentials {
            username: "robot".to_owned(),
            password: "hunter2".to_owned(),
            origin: "https://registry.example".to_owned(),
            realm: None,
        };
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("robot"), "{shown}");
    }
}
