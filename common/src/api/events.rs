//! Events of `GET /v1/events` (server-sent events): what changed, as it changes.

super::body! {
    /// One change. The event's `event` field is its `kind`; its `id` ends in `-` and `seq` and is opaque otherwise.
    pub struct Event {
        /// Counts events since the coordinator started; a gap means some were missed.
        pub seq: u64,
        /// When it happened.
        pub time: String,
        /// What happened.
        pub kind: EventKind,
        /// To which node.
        pub node: Option<String>,
        /// To which image.
        pub image: Option<String>,
        /// With which digest.
        pub digest: Option<String>,
        /// In words, where there is more to say.
        pub detail: Option<String>,
    }

    /// What can happen.
    #[derive(Copy)]
    #[serde(rename_all = "snake_case")]
    pub enum EventKind {
        /// A node's inventory is current.
        NodeOnline,
        /// A node's lease expired.
        NodeOffline,
        /// A root of a node became degraded or unknown, or is well again.
        NodeRoots,
        /// A node got its first certificate, or one of a new epoch; `detail` says from where.
        NodeEnrolled,
        /// A node's certificates count no longer.
        NodeRevoked,
        /// An image can be run on a node.
        ImageReady,
        /// An image is no longer vouched for on a node: gone, replaced, or being written.
        ImageGone,
        /// A push began, or stands otherwise; `detail` says which one and how.
        PushChanged,
        /// A removal began, or stands otherwise; `detail` says which one and how.
        RemovalChanged,
        /// Limits of transfers were changed, or nodes are busy that were not, or are not any longer; `detail` says which.
        LimitsChanged,
        /// A partition's list of nodes changed.
        PartitionChanged,
        /// The reader was too slow and missed events: read the lists again.
        Missed,
    }
}
