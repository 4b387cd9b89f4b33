//! Bodies of `GET /v1/partitions` and `GET /v1/partitions/{name}`.

super::body! {
    /// All partitions in the order of their names.
    pub struct PartitionList {
        /// The partitions.
        pub partitions: Vec<PartitionSummary>,
        /// When this was true.
        pub as_of: String,
    }

    /// One partition.
    pub struct PartitionSummary {
        /// Its name.
        pub name: String,
        /// Its nodes, folded.
        pub nodes: String,
        /// How many nodes.
        pub count: u32,
        /// How many of them are online.
        pub online: u32,
        /// The nodes that are not.
        pub not_online: String,
        /// Where the list of nodes came from.
        pub membership: Membership,
    }

    /// One partition and the images on it.
    pub struct PartitionDetail {
        /// The partition.
        pub summary: PartitionSummary,
        /// Images on at least one of its nodes, by name.
        pub images: Vec<PartitionImage>,
        /// When this was true.
        pub as_of: String,
    }

    /// One image on a partition.
    pub struct PartitionImage {
        /// The image's name.
        pub name: String,
        /// Sum over the nodes.
        pub verdict: crate::availability::Verdict,
        /// How many nodes gave which answer.
        pub counts: crate::availability::Counts,
    }

    /// Where a partition's list of nodes came from, and how old it is.
    pub struct Membership {
        /// `file`, `slurm`, `agents`, or several joined by `+`.
        pub source: String,
        /// When it was last confirmed.
        pub as_of: String,
        /// Whether the source does not answer, so that this is the last known list.
        pub stale: bool,
        /// Why it is stale: what the source said instead.
        pub reason: Option<String>,
    }
}
