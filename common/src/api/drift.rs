//! Body of `GET /v1/drift`.

super::body! {
    /// Every name under which current nodes hold different bytes.
    pub struct DriftList {
        /// The names, in their order.
        pub drift: Vec<Drift>,
        /// When this was true.
        pub as_of: String,
    }

    /// One name and who holds what.
    pub struct Drift {
        /// The image's name.
        pub name: String,
        /// The digest the library holds under this name.
        pub expected_digest: Option<String>,
        /// The digests on the nodes, most nodes first.
        pub digests: Vec<super::availability::DigestNodes>,
    }
}
