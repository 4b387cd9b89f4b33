//! Bodies of `POST /v1/imports`, `GET /v1/imports` and `GET /v1/imports/{id}`.

super::body! {
    /// A wish: the library should hold an image of an external registry.
    #[serde(deny_unknown_fields)]
    pub struct ImportRequest {
        /// Which image: `oras://HOST/REPOSITORY:TAG`, or `@sha256:…` in the place of the tag. The host is that of a registry
        /// in the catalogue.
        #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 2048))]
        pub source: String,
        /// Its name in the library; made from repository and tag if not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub name: Option<String>,
    }

    /// How an import stands.
    pub struct ImportBody {
        /// What it is called, such as `i-1795363200`.
        pub id: String,
        /// Where the image comes from.
        pub source: String,
        /// The registry's id in the catalogue.
        pub registry: String,
        /// The image's name in the library.
        pub name: String,
        /// How it stands.
        pub state: ImportState,
        /// The image's length in bytes, once the registry has told it.
        pub size: Option<u64>,
        /// How many bytes are there.
        pub done: u64,
        /// SHA-256 of the image, as the registry's manifest says it; the library verifies it.
        pub sha256: Option<String>,
        /// The image's digest, once it is in the library.
        pub digest: Option<String>,
        /// Why it failed, as the stable code of a problem.
        pub code: Option<String>,
        /// The same, for people.
        pub detail: Option<String>,
        /// When it was asked for.
        pub created: String,
        /// When it ended.
        pub ended: Option<String>,
    }

    /// Imports, newest first. The last 100 that ended are kept, until the coordinator starts again.
    pub struct ImportList {
        /// The imports.
        pub imports: Vec<ImportBody>,
        /// When this was true.
        pub as_of: String,
    }

    /// How an import stands.
    #[derive(Copy)]
    #[serde(rename_all = "snake_case")]
    pub enum ImportState {
        /// Others come first.
        Waiting,
        /// The registry is asked what the image is.
        Resolving,
        /// Its bytes arrive.
        Fetching,
        /// The library holds them against their SHA-256, and looks whether they are an image.
        Verifying,
        /// The image is in the library.
        Done,
        /// It is not; `code` and `detail` say why.
        Failed,
    }
}

impl ImportState {
    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Resolving => "resolving",
            Self::Fetching => "fetching",
            Self::Verifying => "verifying",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// Tells whether nothing more will happen.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}
