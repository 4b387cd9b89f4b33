//! Bodies of `POST /v1/library/uploads` and of what can be asked of an upload: how far it is, and its end.

super::body! {
    /// A wish: the library should hold this image.
    #[serde(deny_unknown_fields)]
    pub struct UploadRequest {
        /// Its name in the library: a path below it, without hidden parts.
        #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096))]
        pub name: String,
        /// Its length in bytes.
        pub size: u64,
        /// Its digest, `blake3:<64 hex>`.
        #[cfg_attr(feature = "openapi", schema(pattern = "^blake3:[0-9a-f]{64}$"))]
        pub digest: String,
    }

    /// How an upload stands.
    pub struct Upload {
        /// How it stands.
        pub state: UploadState,
        /// Names it in every request; absent where nothing is to be sent.
        pub id: Option<String>,
        /// How many bytes are there: the next ones are sent from here.
        pub offset: u64,
        /// The image's name in the library.
        pub name: String,
        /// The image's length in bytes.
        pub size: u64,
        /// The image's digest.
        pub digest: String,
    }

    /// How an upload stands.
    #[derive(Copy)]
    #[serde(rename_all = "snake_case")]
    pub enum UploadState {
        /// The library held the image under this name before.
        Present,
        /// The library held the image under another name, and holds it under both names by now.
        Deduplicated,
        /// Bytes are waited for.
        Open,
        /// The image is in the library.
        Published,
    }
}
