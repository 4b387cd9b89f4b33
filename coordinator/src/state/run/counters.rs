//! What passed through the loop, counted for metrics; whoever shows it only reads.

use std::sync::atomic::AtomicU64;

/// Counts what passed through the loop since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events of any kind.
    pub events: AtomicU64,
    /// Deltas.
    pub deltas: AtomicU64,
    /// Snapshot parts.
    pub snapshot_parts: AtomicU64,
    /// Snapshots asked for because a node and the coordinator disagreed.
    pub resyncs: AtomicU64,
    /// Sessions accepted.
    pub sessions: AtomicU64,
    /// Sessions that are open.
    pub sessions_open: AtomicU64,
    /// Views published.
    pub views: AtomicU64,
    /// Number of the last event told to followers.
    pub announced: AtomicU64,
    /// Batches of durable steps that the store refused.
    pub store_failures: AtomicU64,
}
