//! Bodies of `POST /v1/pushes`, `GET /v1/pushes`, `GET /v1/pushes/{id}`, `GET /v1/pushes/{id}/nodes` and of what can be
//! asked of a push: `cancel`, `retry`, `rate`.

use crate::push::{FailCode, Fault, Phase};

super::body! {
    /// A wish: these nodes should have this image.
    #[serde(deny_unknown_fields)]
    pub struct PushRequest {
        /// Name of the image, as `GET /v1/availability` takes it; absent if the digest says it all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(min_length = 1))]
        pub image: Option<String>,
        /// Which bytes, `blake3:<64 hex>`; absent: those of the library, or else those that all current replicas agree on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(pattern = "^blake3:[0-9a-f]{64}$"))]
        pub digest: Option<String>,
        /// The only node to take it from at first; absent: every node that holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub from: Option<String>,
        /// Which nodes.
        pub to: PushTarget,
        /// Below which root, as its path; absent: the first one of each node that is no library.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub root: Option<String>,
        /// When the push counts as done: `all`, `best_effort`, or a share of the nodes such as `80%`; absent: `all`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub completion: Option<String>,
        /// After how many seconds nodes that have not got it fail; absent: a day.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2_592_000))]
        pub deadline_s: Option<u64>,
        /// Bytes a second that each node may fetch; absent: no limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(minimum = 100_000, maximum = 1_000_000_000_000_i64))]
        pub rate: Option<u64>,
        /// Pushes with a higher one come first on each node; absent: 100.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub priority: Option<u8>,
        /// Whether to say only what would be done.
        #[serde(default)]
        pub dry_run: bool,
        /// Length in bytes of an image that is to go into the library first, for a dry run of it; with `image` and `digest`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub upload: Option<u64>,
    }

    /// Which nodes a push is for.
    #[serde(rename_all = "snake_case")]
    pub enum PushTarget {
        /// Every member of a partition.
        Partition(String),
        /// These, as a node set.
        Nodes(String),
        /// The members of a partition that are not known to be ready.
        MissingOn(String),
    }

    /// What a push would do; answers a dry run.
    pub struct PushPlan {
        /// Name under which the image will be.
        pub image: String,
        /// Its digest.
        pub digest: String,
        /// Its length in bytes.
        pub size: u64,
        /// Nodes that will get it.
        pub nodes: String,
        /// How many.
        pub count: u32,
        /// Nodes that have it already.
        pub ready: String,
        /// Nodes that are away: they get it when they come back before the deadline.
        pub deferred: String,
        /// Nodes that cannot get it, and why.
        pub refused: Vec<PushReason>,
        /// Nodes that have it and can give it.
        pub sources: String,
        /// Nodes of `nodes` that hold other bytes under this name: they are replaced, and what both have in common does not
        /// cross the network.
        #[serde(default)]
        pub replaces: String,
        /// Below which roots it will lie, most nodes first; nodes of which no root is known are left out.
        #[serde(default)]
        pub roots: Vec<super::availability::PathNodes>,
        /// Most bytes that go into the library first; absent if that is not asked about.
        #[serde(default)]
        pub upload: Option<u64>,
        /// Most bytes that will cross the network: nothing is known here of chunks the nodes have already.
        pub bytes: u64,
        /// Least time in seconds at the rate asked for and the limits that are set; absent without any.
        pub seconds: Option<u64>,
    }

    /// All pushes that are kept, newest first.
    pub struct PushList {
        /// The pushes.
        pub pushes: Vec<PushBody>,
        /// When this was true.
        pub as_of: String,
    }

    /// One push as a whole.
    pub struct PushBody {
        /// Names it in every request.
        pub id: String,
        /// Name of the image.
        pub image: String,
        /// Its digest.
        pub digest: String,
        /// Its length in bytes.
        pub size: u64,
        /// How it stands.
        pub state: PushState,
        /// When it counts as done: `all`, `best_effort` or a share such as `80%`.
        pub completion: String,
        /// The only node it may be taken from at first.
        pub from: Option<String>,
        /// Below which root; absent: the first one of each node that is no library.
        pub root: Option<String>,
        /// When it was asked for.
        pub created: String,
        /// When its last node came to an end; absent while it runs.
        pub ended: Option<String>,
        /// When nodes that have not got it fail.
        pub deadline: String,
        /// Bytes a second that each node may fetch.
        pub rate: Option<u64>,
        /// Pushes with a higher one come first on each node.
        pub priority: u8,
        /// How many nodes it is for.
        pub nodes: u32,
        /// Nodes by phase, in the order of a good end; phases without a node are left out.
        pub phases: Vec<PhaseNodes>,
        /// Why nodes failed, are deferred or wait, most nodes first.
        pub reasons: Vec<PushReason>,
        /// Bytes of all nodes together.
        pub bytes: PushBytes,
        /// Nodes that broke the rules or fell silent as sources, with what they did.
        pub dropped: Vec<DroppedSource>,
    }

    /// How a push stands.
    #[derive(Copy)]
    #[serde(rename_all = "snake_case")]
    pub enum PushState {
        /// Some nodes are under way.
        Running,
        /// It has come to what was asked for.
        Done,
        /// Nothing is under way; some nodes have the image and some do not.
        Partial,
        /// Nothing is under way, and no node got the image.
        Failed,
        /// Somebody ended it.
        Cancelled,
    }

    /// Nodes in one phase.
    pub struct PhaseNodes {
        /// Which phase.
        pub phase: Phase,
        /// How many.
        pub count: u32,
        /// Which ones.
        pub nodes: String,
    }

    /// Nodes with one reason.
    pub struct PushReason {
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

    /// Bytes of a push, by where they come from.
    #[derive(Copy, Default)]
    pub struct PushBytes {
        /// All nodes together need so many.
        pub total: u64,
        /// From other nodes.
        pub fetched: u64,
        /// From images that were on the nodes already.
        pub reused: u64,
        /// From earlier attempts.
        pub resumed: u64,
        /// On nodes that had the image before.
        pub present: u64,
        /// Fetched, and of no use: arrived twice, or wrong.
        pub wasted: u64,
        /// Bytes a second that all nodes together are fetching at present.
        pub rate: u64,
    }

    /// A source that is left alone.
    pub struct DroppedSource {
        /// Which node.
        pub node: String,
        /// What it did.
        pub fault: Fault,
        /// Whom it did it to.
        pub by: String,
    }

    /// The nodes of a push.
    pub struct PushNodes {
        /// In natural order.
        pub nodes: Vec<PushNode>,
        /// When this was true.
        pub as_of: String,
    }

    /// One node of a push.
    pub struct PushNode {
        /// Which node.
        pub node: String,
        /// How far it is.
        pub phase: Phase,
        /// Why it failed, is deferred or waits, if it does: stable code.
        pub code: Option<FailCode>,
        /// In words.
        pub message: Option<String>,
        /// What to do about it.
        pub hint: Option<String>,
        /// Below which root the image will be, as its path.
        pub root: Option<String>,
        /// Bytes from other nodes.
        pub fetched: u64,
        /// Bytes from images that were there already.
        pub reused: u64,
        /// Bytes from an earlier attempt.
        pub resumed: u64,
        /// Bytes fetched that were of no use.
        pub wasted: u64,
        /// Bytes a second at present.
        pub rate: u64,
        /// Where they come from, most bytes first.
        pub sources: Vec<SourceBytes>,
        /// When its first byte moved.
        pub started: Option<String>,
        /// When it came to its end.
        pub ended: Option<String>,
    }

    /// What one source gave.
    pub struct SourceBytes {
        /// Which node.
        pub node: String,
        /// How many bytes.
        pub bytes: u64,
    }

    /// Asks for another rate.
    #[derive(Copy)]
    #[serde(deny_unknown_fields)]
    pub struct RateRequest {
        /// Bytes a second that each node may fetch; absent: no limit.
        #[serde(default)]
        #[cfg_attr(feature = "openapi", schema(minimum = 100_000, maximum = 1_000_000_000_000_i64))]
        pub rate: Option<u64>,
    }
}

impl PushRequest {
    /// Asks for an image on some nodes, with everything else as it is unless somebody says otherwise.
    #[must_use]
    pub fn new(image: impl Into<String>, to: PushTarget) -> Self {
        Self {
            image: Some(image.into()),
            digest: None,
            from: None,
            to,
            root: None,
            completion: None,
            deadline_s: None,
            rate: None,
            priority: None,
            dry_run: false,
            upload: None,
        }
    }
}

impl PushState {
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
