//! Bodies of `GET` and `POST /v1/availability`.

use crate::availability::{Counts, NodeAnswer, Satisfied, Verdict};

super::body! {
    /// One question: is this image available on this partition?
    #[serde(deny_unknown_fields)]
    pub struct Query {
        /// `vnc_desktop`, `vnc_desktop.sif`, a path below a root, a digest prefix or `name@blake3:…`.
        pub image: String,
        /// Name of the partition.
        pub partition: String,
        /// `all` (default), `any` or a number of nodes.
        #[serde(default)]
        pub require: Option<String>,
    }

    /// Several questions at once, for a dashboard page; at most 1,000.
    #[serde(deny_unknown_fields)]
    pub struct Batch {
        /// The questions.
        pub queries: Vec<Query>,
    }

    /// The answers in the order of the questions.
    pub struct BatchAnswer {
        /// One for each question.
        pub answers: Vec<BatchEntry>,
    }

    /// One answer of a batch: exactly one of the two is present.
    pub struct BatchEntry {
        /// The answer, if there is one.
        #[serde(default)]
        pub answer: Option<Availability>,
        /// What was wrong with the question.
        #[serde(default)]
        pub problem: Option<super::problem::Problem>,
    }

    /// Where an image stands on a partition, node by node.
    pub struct Availability {
        /// The image as resolved: its name or its digest.
        pub image: String,
        /// The partition.
        pub partition: String,
        /// Sum over the nodes.
        pub verdict: Verdict,
        /// The requirement that was asked for.
        pub require: String,
        /// Whether the requirement is met.
        pub satisfied: Satisfied,
        /// One sentence for people.
        pub message: String,
        /// The digest that counts as ready, where the question or the library names one.
        pub expected_digest: Option<String>,
        /// How many nodes gave which answer.
        pub counts: Counts,
        /// Which nodes gave which answer.
        pub nodes: Nodes,
        /// Digests found under this name on current nodes; more than one is drift.
        pub digests: Vec<DigestNodes>,
        /// Where the file is, on the ready nodes.
        pub paths: Vec<PathNodes>,
        /// Why nodes are outdated, missing or unknown, and what was last known.
        pub reasons: Vec<Reason>,
        /// Nodes whose watching is impaired; their answer rests on scans alone.
        pub degraded: Vec<Degraded>,
        /// Where the list of nodes came from.
        pub membership: super::partitions::Membership,
        /// When the answer was true.
        pub as_of: String,
        /// Number of the coordinator's state that gave the answer.
        pub generation: u64,
    }

    /// Folded nodesets by answer; empty text for none.
    pub struct Nodes {
        /// Nodes that are ready.
        pub ready: String,
        /// Nodes with another digest than expected.
        pub outdated: String,
        /// Nodes without it.
        pub missing: String,
        /// Nodes nothing current is known of.
        pub unknown: String,
    }

    /// Nodes that hold one digest.
    pub struct DigestNodes {
        /// The digest.
        pub digest: String,
        /// How many nodes.
        pub count: u32,
        /// Which nodes.
        pub nodes: String,
    }

    /// Nodes that hold the image at one path.
    pub struct PathNodes {
        /// Absolute path on the node.
        pub path: String,
        /// How many nodes.
        pub count: u32,
        /// Which nodes.
        pub nodes: String,
    }

    /// Nodes with the same reason for their answer.
    pub struct Reason {
        /// Their answer.
        pub answer: NodeAnswer,
        /// Stable code, such as `lease_expired` or `truncated`.
        pub code: String,
        /// One sentence for people.
        pub message: String,
        /// How many nodes.
        pub count: u32,
        /// Which nodes.
        pub nodes: String,
    }

    /// Nodes whose watching is impaired for the same reason.
    pub struct Degraded {
        /// Why, and what to do.
        pub reason: String,
        /// Which nodes.
        pub nodes: String,
    }
}
