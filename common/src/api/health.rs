//! Body of `GET /healthz` and `GET /readyz`.

super::body! {
    /// One word on how the coordinator is.
    pub struct Health {
        /// `alive` or `ready`.
        pub status: String,
    }
}
