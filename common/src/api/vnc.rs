//! Bodies of `GET /api/vnc/images`.

use crate::availability::{Counts, Satisfied};

super::body! {
    /// The images for remote desktops.
    pub struct VncImages {
        /// In the order of their names, the default one first.
        pub images: Vec<VncImage>,
        /// The partition whose images these are.
        pub partition: String,
        /// How many of its nodes must be ready: `all`, `any` or a number.
        pub require: String,
        /// When this was true.
        pub as_of: String,
    }

    /// One image for remote desktops.
    pub struct VncImage {
        /// What it is called in paths: its name without `.sif`.
        pub id: String,
        /// For people, by sidecar or label; else its file name.
        pub name: String,
        /// For people, by sidecar or label; may be empty.
        pub description: String,
        /// A character or the name of a picture, by sidecar or label.
        pub icon: String,
        /// Whether the sidecar calls it the default.
        pub default: bool,
        /// Whether as many nodes as are required are ready; false, too, while that is not known.
        pub available: bool,
        /// Yes, no, or not known.
        pub satisfied: Satisfied,
        /// Stable code.
        pub reason: String,
        /// One sentence for people.
        pub message: String,
        /// What to do.
        pub hint: Option<String>,
        /// Nodes that are ready.
        pub nodeset: String,
        /// How many nodes gave which answer.
        pub counts: Counts,
    }
}
