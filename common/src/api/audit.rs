//! Body of `GET /v1/audit`.

super::body! {
    /// Who asked for changes, and who was refused; newest first.
    pub struct AuditList {
        /// One page.
        pub entries: Vec<AuditEntry>,
        /// Pass it as `cursor` for what is older; absent when nothing is.
        pub next_cursor: Option<String>,
    }

    /// One request that changes something, or that was refused; or several alike.
    pub struct AuditEntry {
        /// When; of several the last.
        pub time: String,
        /// Who asked: `token`, `user` (over the socket) or `anonymous`.
        pub kind: String,
        /// The token's id, or the user's number.
        pub id: Option<String>,
        /// What the token is for, or the user's name.
        pub name: Option<String>,
        /// From where: an address, or `socket`.
        pub from: String,
        /// The method.
        pub method: String,
        /// The route, as in the OpenAPI document.
        pub route: String,
        /// The path that was asked for, or of what came of it; without its query.
        pub target: String,
        /// HTTP status of the answer.
        pub status: u16,
        /// How many requests this entry stands for.
        pub count: u64,
        /// Finds the request, of several the last, in the coordinator's log.
        pub request_id: String,
    }
}
