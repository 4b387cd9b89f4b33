//! The few events that systemd's journal has a text for: what happened, and what to do.
//!
//! Owns their identifiers, which are never given to another event. The texts are in `systemd/*.catalog`. An event bears its
//! identifier in the field [`FIELD`]; lines of text leave it out. Outside facts: systemd.journal-fields(7) on MESSAGE_ID.

/// The field that bears the identifier; in the journal it becomes `MESSAGE_ID`.
pub const FIELD: &str = "message_id";

/// A node was enrolled.
pub const NODE_ENROLLED: &str = "ca7a914046dc4be1a3c156273dbc0138";
/// A node's certificates count no longer.
pub const NODE_REVOKED: &str = "59d849f5e90049fba91e414f26f65030";
/// A node has been silent for longer than its lease.
pub const NODE_OFFLINE: &str = "90b5db343b734c1d803b45bc8a1c9f1a";
/// The coordinator's database takes no changes.
pub const STORE_REFUSES: &str = "87fbdcba93f94c46bb827614e580aad7";
/// The agent has no certificate that it could show.
pub const NO_CERTIFICATE: &str = "024d8bba93314f09b2135a806113d6cc";
/// A root is not there, or does not answer.
pub const ROOT_UNKNOWN: &str = "a5dc6deffac340ab823c8aa75a1605e1";
/// A pushed image lies under its name.
pub const IMAGE_PUBLISHED: &str = "1edba4c476cf4fadaca3978010bfa52c";
/// A pushed image could not be brought to this node.
pub const IMAGE_NOT_FETCHED: &str = "a540fd2c070246bcb36aefe3f3b8d452";
/// An image was removed from this node.
pub const IMAGE_REMOVED: &str = "5c0cda9bebb449c8bf0f295c7a8bb149";

/// Those of the coordinator.
pub const OF_COORDINATOR: &[&str] = &[NODE_ENROLLED, NODE_REVOKED, NODE_OFFLINE, STORE_REFUSES];

/// Those of the agent.
pub const OF_AGENT: &[&str] =
    &[NO_CERTIFICATE, ROOT_UNKNOWN, IMAGE_PUBLISHED, IMAGE_NOT_FETCHED, IMAGE_REMOVED];
