//! Bodies of `POST /v1/removals`, `GET /v1/removals`, `GET /v1/removals/{id}` and `POST /v1/removals/{id}/cancel`.

use crate::removal::RemovalPhase;

super::body! {
    /// A wish: these nodes should not have this image any longer.
    #[serde(deny_unknown_fields)]
    pub struct RemovalRequest {
        /// Name of the image, as `GET /v1/availability` takes it; absent if the digest says it all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(min_length = 1))]
        pub image: Option<String>,
        /// Which bytes, `blake3:<64 hex>`; absent: those of the library, or else those that all current replicas agree on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(pattern = "^blake3:[0-9a-f]{64}$"))]
        pub digest: Option<String>,
        /// Which nodes.
        pub from: RemovalTarget,
        /// Below which root, as its path; absent: below every root that is no library.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub root: Option<String>,
        /// Whether even the last ready replica of the cluster may go.
        #[serde(default)]
        pub force: bool,
        /// Whether to try again, until the deadline, where somebody uses the file.
        #[serde(default)]
        pub when_idle: bool,
        /// After how many seconds nodes that still have it fail; absent: a day.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2_592_000))]
        pub deadline_s: Option<u64>,
        /// Whether to say only what would be done.
        #[serde(default)]
        pub dry_run: bool,
    }

    /// Which nodes a removal is for.
    #[serde(rename_all = "snake_case")]
    pub enum RemovalTarget {
        /// Every member of a partition.
        Partition(String),
        /// These, as a node set.
        Nodes(String),
    }

    /// What a removal would do; answers a dry run.
    pub struct RemovalPlan {
        /// Name of the image.
        pub image: String,
        /// Its digest.
        pub digest: String,
        /// Its length in bytes.
        pub size: u64,
        /// Nodes that will lose it.
        pub nodes: String,
        /// How many.
        pub count: u32,
        /// Nodes that do not have it, and nothing else under its name either.
        pub absent: String,
        /// Nodes that hold other bytes under its name, which stay.
        #[serde(default)]
        pub others: String,
        /// Nodes that are away: they lose it when they come back before the deadline.
        pub deferred: String,
        /// Nodes that keep it, and why.
        pub refused: Vec<RemovalReason>,
        /// Bytes that will be free on all nodes together, unless other names of a file keep them.
        pub bytes: u64,
        /// Nodes that are online and still hold the image afterwards, the library's included.
        pub left: String,
        /// Whether no ready replica would be left in the cluster: such a removal is refused unless it is forced.
        pub last: bool,
    }

    /// All removals that are kept, newest first.
    pub struct RemovalList {
        /// The removals.
        pub removals: Vec<RemovalBody>,
        /// When this was true.
        pub as_of: String,
    }

    /// One removal.
    pub struct RemovalBody {
        /// Names it in every request.
        pub id: String,
        /// Name of the image.
        pub image: String,
        /// Its digest.
        pub digest: String,
        /// Its length in bytes.
        pub size: u64,
        /// How it stands.
        pub state: RemovalState,
        /// Below which root; absent: below every root that is no library.
        pub root: Option<String>,
        /// Whether even the last ready replica of the cluster may go.
        pub force: bool,
        /// Whether it is tried again where somebody uses the file.
        pub when_idle: bool,
        /// When it was asked for.
        pub created: String,
        /// When nothing was under way any longer.
        pub ended: Option<String>,
        /// When nodes that still have it fail.
        pub deadline: String,
        /// How many nodes it is for.
        pub nodes: u32,
        /// Nodes by phase, in the order of a good end; phases without a node are left out.
        pub phases: Vec<RemovalNodes>,
        /// Why nodes keep it, wait or are deferred, most nodes first.
        pub reasons: Vec<RemovalReason>,
        /// How many files are gone.
        pub files: u64,
        /// Their bytes: free by now, unless other names of a file keep them.
        pub freed: u64,
    }

    /// How a removal stands.
    #[derive(Copy)]
    #[serde(rename_all = "snake_case")]
    pub enum RemovalState {
        /// Nodes are at it, or will try again.
        Running,
        /// No node has the image any longer.
        Done,
        /// Nothing is under way; some nodes still have the image, or are away.
        Partial,
        /// Nothing is under way, and every node still has the image.
        Failed,
        /// Somebody ended it.
        Cancelled,
    }

    /// Nodes in one phase.
    pub struct RemovalNodes {
        /// Which phase.
        pub phase: RemovalPhase,
        /// How many.
        pub count: u32,
        /// Which ones.
        pub nodes: String,
    }

    /// Nodes with one reason.
    pub struct RemovalReason {
        /// Stable code, for scripts.
        pub code: String,
        /// How many nodes.
        pub count: u32,
        /// Which ones.
        pub nodes: String,
        /// What one of them said.
        pub message: String,
        /// What to do about it.
        pub hint: String,
    }
}

impl RemovalState {
    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}
