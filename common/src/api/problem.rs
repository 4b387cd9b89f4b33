//! The body of every error answer (RFC 9457, `application/problem+json`).

super::body! {
    /// Says what went wrong, to what, and what to do.
    pub struct Problem {
        /// Always `about:blank`: the meaning is in `code`.
        #[serde(rename = "type")]
        pub kind: String,
        /// Short, the same for every occurrence of the code.
        pub title: String,
        /// HTTP status.
        pub status: u16,
        /// Stable code for programs, such as `unknown_image`.
        pub code: String,
        /// What happened, with names.
        pub detail: String,
        /// What to do.
        #[serde(default)]
        pub hint: Option<String>,
        /// Names that were perhaps meant.
        #[serde(default)]
        pub candidates: Vec<String>,
        /// Finds the request in the coordinator's log.
        #[serde(default)]
        pub request_id: Option<String>,
    }
}
