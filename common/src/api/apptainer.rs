//! Bodies of the addresses that dashboards ask already: `POST /api/apptainer/scan`, `GET /api/apptainer/images`,
//! `GET /api/apptainer/images/{id}/metadata` and `GET /api/apptainer/validate/{image_id}`.
//!
//! Their fields are called as those dashboards call them; what is beside them says what stands behind the answer.

use std::collections::BTreeMap;

use crate::availability::{Counts, Satisfied, Verdict};

super::body! {
    /// Which partitions' nodes are to look at their directories.
    #[derive(Default)]
    #[serde(deny_unknown_fields)]
    pub struct ScanRequest {
        /// Partitions by name; `shared` means the library. Absent: all of them and the library.
        #[serde(default)]
        pub partitions: Option<Vec<String>>,
        /// Taken, and of no effect: every scan looks.
        #[serde(default)]
        pub force: bool,
    }

    /// What came of a scan.
    pub struct ScanAnswer {
        /// One sentence for people.
        pub message: String,
        /// How many images are ready on at least one node, by partition; of `shared`, how many the library holds.
        pub stats: BTreeMap<String, u32>,
        /// The partitions that were asked for.
        pub scanned_partitions: Vec<String>,
        /// Whether every node has looked and told what it found; otherwise the numbers are the last known.
        pub complete: bool,
        /// Nodes that have looked and told what they found.
        pub answered: String,
        /// Nodes that have not, and why.
        pub not_answered: Vec<NotAnswered>,
        /// Partitions that nobody ever named.
        pub unknown_partitions: Vec<String>,
        /// Files that may be images and are not whole or not hashed yet.
        pub unfinished: u32,
        /// When this was true.
        pub as_of: String,
    }

    /// Nodes of which a scan knows nothing, for one reason.
    pub struct NotAnswered {
        /// Which nodes.
        pub nodes: String,
        /// Stable code: `offline` or `silent`.
        pub reason: String,
        /// One sentence for people.
        pub message: String,
    }

    /// The images of a cluster, as dashboards list them.
    pub struct ApptainerImages {
        /// One for each image on each partition; at most 2,000.
        pub images: Vec<ApptainerImage>,
        /// How many there are, shown or not.
        pub total: usize,
        /// Whether there are more than are shown.
        pub truncated: bool,
        /// When this was true.
        pub as_of: String,
    }

    /// One image on one partition.
    pub struct ApptainerImage {
        /// What it is called in paths: its name without `.sif`.
        pub id: String,
        /// Its name.
        pub name: String,
        /// Where it lies on nodes that are ready; absent if none is.
        pub path: Option<String>,
        /// One node that is ready.
        pub node: Option<String>,
        /// The partition; `shared` for what only the library holds.
        pub partition: String,
        /// `viz`, `compute` or `custom`, or what the sidecar says.
        #[serde(rename = "type")]
        pub kind: String,
        /// Length in bytes; 0 if not known.
        pub size: u64,
        /// Version, by sidecar or label.
        pub version: Option<String>,
        /// Description, by sidecar or label.
        pub description: Option<String>,
        /// Labels of the image.
        pub labels: BTreeMap<String, String>,
        /// Names of its apps.
        pub apps: Vec<String>,
        /// Whether at least one node of the partition is ready to run it.
        pub is_active: bool,
        /// When it was made, as the image says.
        pub created_at: Option<String>,
        /// When what is said here was true.
        pub last_scanned: String,
        /// The digest that counts on the partition, or that of the ready nodes; absent if that is not one.
        pub digest: Option<String>,
        /// Sum over the nodes of the partition.
        pub verdict: Verdict,
        /// How many nodes gave which answer.
        pub counts: Counts,
        /// Nodes that are ready.
        pub nodeset: String,
    }

    /// Everything that is known of one image, as dashboards show it.
    pub struct ApptainerMetadata {
        /// What lists show of it.
        #[serde(flatten)]
        pub image: ApptainerImage,
        /// What `apptainer run` does.
        pub runscript: Option<String>,
        /// Its environment scripts, by their path inside the image.
        pub env_vars: BTreeMap<String, String>,
        /// The definition file it was built from.
        pub definition: Option<String>,
        /// Its help text.
        pub help: Option<String>,
        /// The sidecar beside the file, if it is JSON.
        pub sidecar: Option<serde_json::Value>,
    }

    /// Whether an image can be used.
    pub struct ApptainerValidation {
        /// As asked.
        pub image_id: String,
        /// Whether jobs on every node of the partition find it; never yes by a guess.
        pub valid: bool,
        /// Where it lies on nodes that are ready.
        pub path: Option<String>,
        /// One sentence for people.
        pub message: String,
        /// The partition it was looked for on; the one where it stands best unless one was named, and one where it may turn out to be
        /// where only the library is known to hold it.
        pub partition: String,
        /// Yes, no, or not known.
        pub satisfied: Satisfied,
        /// Stable code.
        pub reason: String,
        /// What to do.
        pub hint: Option<String>,
        /// Nodes that are ready.
        pub nodeset: String,
        /// How many nodes gave which answer.
        pub counts: Counts,
        /// When this was true.
        pub as_of: String,
    }
}
