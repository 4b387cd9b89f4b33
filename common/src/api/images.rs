//! Bodies of `GET /v1/images` and `GET /v1/images/{name or digest}`.

use crate::image::ImageMetadata;

super::body! {
    /// One page of images in the order of their names.
    pub struct ImageList {
        /// The images.
        pub images: Vec<ImageSummary>,
        /// Pass as `cursor` for the next page; absent on the last.
        pub next_cursor: Option<String>,
        /// When this was true.
        pub as_of: String,
    }

    /// One name and where it stands.
    pub struct ImageSummary {
        /// The image's name.
        pub name: String,
        /// Digests under this name, most nodes first; more than one is drift.
        pub digests: Vec<DigestUse>,
        /// Whether nodes disagree about the bytes under this name.
        pub drift: bool,
        /// Nodes on which a job can run it.
        pub nodes: String,
        /// How many such nodes.
        pub count: u32,
        /// Nodes that held it when they were last heard of, and are not current.
        pub last_known: String,
    }

    /// One digest under a name.
    pub struct DigestUse {
        /// The digest.
        pub digest: String,
        /// Length in bytes.
        pub size: u64,
        /// Processor, as Go names it; `unknown` where the format does not say.
        pub arch: String,
        /// `sif`, `squashfs` or `ext3`.
        pub format: String,
        /// Whether running it may change it.
        pub mutable: bool,
        /// Whether the library holds this digest.
        pub in_library: bool,
        /// How many current nodes.
        pub count: u32,
        /// Which current nodes.
        pub nodes: String,
    }

    /// Everything known of an image.
    pub struct ImageDetail {
        /// The image's summary.
        pub summary: ImageSummary,
        /// Where the file is.
        pub paths: Vec<super::availability::PathNodes>,
        /// Entries under this name that no job can run, or that nobody vouches for yet.
        pub problems: Vec<super::availability::Reason>,
        /// What the image says of itself, one for each digest known.
        pub metadata: Vec<Described>,
        /// When this was true.
        pub as_of: String,
    }

    /// What an image says of itself.
    pub struct Described {
        /// The digest.
        pub digest: String,
        /// Read from the file, without running anything.
        pub metadata: ImageMetadata,
        /// The text of a sidecar `NAME.sif.json`, for display only.
        pub sidecar: Option<String>,
    }
}
