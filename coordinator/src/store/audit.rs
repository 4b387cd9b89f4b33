//! What is kept of requests: who asked for what, from where, and what came of it.

use sifleet_common::time::UnixMillis;

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// The bearer of a token.
    Token {
        /// Its number.
        no: u64,
        /// What it is for.
        name: String,
    },
    /// A user of the coordinator's machine, over the socket.
    User {
        /// The user's number.
        uid: u32,
        /// The user's name, if the system knows one.
        name: Option<String>,
    },
    /// Nobody knows.
    Anonymous,
}

/// One request, or several alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When; of several the last.
    pub at: UnixMillis,
    /// Who asked.
    pub actor: Actor,
    /// From where: an address, or `socket`.
    pub origin: String,
    /// The method.
    pub method: String,
    /// The route.
    pub route: String,
    /// The path that was asked for, or of what came of it.
    pub target: String,
    /// Whether it was refused for want of a role, or of a name.
    pub refused: bool,
    /// HTTP status.
    pub status: u16,
    /// How many.
    pub count: u64,
    /// Finds the request, of several the last, in the log.
    pub request: String,
}

/// Which records are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only since then.
    pub since: Option<UnixMillis>,
    /// Only of whom: a token by its number, or anybody by name.
    pub who: Option<Asker>,
    /// Only older ones than this.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// Of whom records are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Of a token.
    Token(u64),
    /// Of a user, by number.
    User(u32),
    /// Of nobody known.
    Anonymous,
    /// Of tokens and users of this name.
    Named(String),
}
