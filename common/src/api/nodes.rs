//! Bodies of `GET /v1/nodes`, `GET /v1/nodes/{name}` and `POST /v1/nodes/{nodeset}/rescan`.

super::body! {
    /// All nodes in natural order.
    pub struct NodeList {
        /// The nodes.
        pub nodes: Vec<NodeSummary>,
        /// When this was true.
        pub as_of: String,
    }

    /// One node.
    pub struct NodeSummary {
        /// Its name, from its certificate.
        pub name: String,
        /// How current its inventory is.
        pub state: NodeState,
        /// Why its watching is impaired, one sentence a root, why no other node fetches from it, or how far its clock is off;
        /// empty when all is well.
        pub degraded: Vec<String>,
        /// How often its name was enrolled or revoked; certificates of older epochs do not count.
        pub epoch: u32,
        /// When it was last enrolled; absent if its certificate was made by hand.
        pub enrolled: Option<String>,
        /// When it was revoked; absent if it has been enrolled since.
        pub revoked: Option<String>,
        /// Why it is held to the limits of busy nodes; absent if it is not.
        pub busy: Option<String>,
        /// Partitions it belongs to.
        pub partitions: Vec<String>,
        /// Replicas a job can run.
        pub images: u32,
        /// When the coordinator last heard of it; absent if never.
        pub last_seen: Option<String>,
        /// Version of its agent.
        pub build: Option<String>,
        /// Its processor, as Go names it.
        pub arch: Option<String>,
    }

    /// How current a node's inventory is.
    #[derive(Copy)]
    #[serde(rename_all = "snake_case")]
    pub enum NodeState {
        /// Leased: its answers count.
        Online,
        /// Connected, its inventory is on the way.
        Syncing,
        /// Its lease has expired: its answers are unknown.
        Offline,
        /// A partition names it, no agent of that name ever spoke.
        NeverSeen,
    }

    /// One node with its roots and replicas.
    pub struct NodeDetail {
        /// The node.
        pub summary: NodeSummary,
        /// Its roots.
        pub roots: Vec<RootBody>,
        /// What is below them, in the order of root and name; current only while the node is online.
        pub replicas: Vec<ReplicaBody>,
        /// Whether the list was cut at the limit of 10,000.
        pub truncated: bool,
        /// Number of the node's last change.
        pub generation: u64,
    }

    /// One watched directory.
    pub struct RootBody {
        /// Absolute path on the node.
        pub path: String,
        /// `watched`, `degraded`, `partial` or `unknown`.
        pub state: String,
        /// Why it is not `watched`.
        pub reason: Option<String>,
        /// Whether it is the cluster's library.
        pub library: bool,
        /// Whether other nodes may fetch from it: not if ordinary users can write there.
        pub trusted: bool,
    }

    /// One entry below a root.
    pub struct ReplicaBody {
        /// The image's name: its path below the root.
        pub name: String,
        /// The root's path.
        pub root: String,
        /// `ready`, `pending` or `unusable`; `last_known` below a root whose contents are not known at present.
        pub state: String,
        /// Stable code of why it is not ready.
        pub code: Option<String>,
        /// Why it is not ready.
        pub detail: Option<String>,
        /// The digest, when it is or was an image.
        pub digest: Option<String>,
        /// Length in bytes.
        pub size: u64,
        /// Modification time.
        pub modified: String,
    }

    /// Which nodes were marked as busy, or are not any longer.
    pub struct Marked {
        /// These.
        pub nodes: String,
        /// Names no node has.
        pub unheard_of: String,
    }

    /// Which nodes were told to scan.
    pub struct Rescan {
        /// Nodes that were told.
        pub told: String,
        /// Nodes that are not connected; they scan when they come back.
        pub offline: String,
        /// Names no node has.
        pub unheard_of: String,
    }
}
