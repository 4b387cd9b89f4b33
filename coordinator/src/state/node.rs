//! One node as the coordinator sees it: its session, its lease, its inventory.

// The words for addresses only: no sockets.
use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;
use std::time::Duration;

use sifleet_common::inventory::{Generation, Inventory};
use sifleet_common::name::NodeName;
use sifleet_common::time::{Monotonic, UnixMillis};
use sifleet_common::wire::control::{Stamp, StreamId};

use super::SessionId;
use crate::store::NodeFacts;
use crate::store::limits::Caps;

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: NodeName,
    /// What its agent said of itself; absent if only a partition ever named the node.
    pub(super) facts: Option<NodeFacts>,
    pub(super) last_seen: Option<UnixMillis>,
    pub(super) session: Option<Session>,
    /// Where it gave to others when it was last connected; absent if it takes no part.
    pub(super) gives: Option<SocketAddr>,
    /// At which of its addresses it reaches the coordinator's host.
    pub(super) reached: Option<IpAddr>,
    /// To which life of the agent `generation` belongs.
    pub(super) stream: StreamId,
    pub(super) generation: Generation,
    /// The inventory at `generation`: what is so if `current`, else what was last known.
    pub(super) inventory: Inventory,
    /// Whether the agent confirmed, in this session, that `inventory` is its own.
    pub(super) current: bool,
    /// Until when its answers count; absent means they do not.
    pub(super) lease_until: Option<Monotonic>,
    /// A snapshot that is not complete yet.
    pub(super) staging: Option<Staging>,
    /// How far its clock is ahead of ours, in milliseconds, when it last said; less than zero: behind.
    pub(super) ahead: Option<i64>,
    /// Number of the newest scan that its agent has come to the end of.
    pub(super) scanned: u64,
}

impl Node {
    pub(super) fn new(name: NodeName) -> Self {
        Self {
            name,
            facts: None,
            last_seen: None,
            session: None,
            gives: None,
            reached: None,
            stream: StreamId::default(),
            generation: Generation::default(),
            inventory: Inventory::default(),
            current: false,
            lease_until: None,
            staging: None,
            ahead: None,
            scanned: 0,
        }
    }
}

/// A snapshot on its way.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) generation: Generation,
    pub(super) next_part: u32,
    pub(super) inventory: Inventory,
}

/// The open connection of a node.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) stream: StreamId,
    /// When a snapshot was asked for that is not complete yet.
    pub(super) resyncing: Option<Monotonic>,
    /// Whether the agent was told which assignments it has.
    pub(super) listed: bool,
    /// What the agent was told that it may do.
    pub(super) told: Caps,
    /// Whether it was told.
    pub(super) limited: bool,
    stamps: VecDeque<(Stamp, Monotonic)>,
}

impl Session {
    /// Stamps closer together than this share of a lease are one: 256 of them span a whole lease.
    pub(super) const STAMPS_A_LEASE: u32 = 256;
    /// A lease's worth of stamps, and some that are just running out.
    const MAX_STAMPS: usize = 300;

    pub(super) fn new(id: SessionId, stream: StreamId) -> Self {
        Self {
            id,
            stream,
            resyncing: None,
            listed: false,
            told: Caps::default(),
            limited: false,
            stamps: VecDeque::new(),
        }
    }

    /// Returns the newest stamp if it is younger than `spacing`, else `next`, sent at `now`.
    pub(super) fn stamp(&mut self, next: Stamp, now: Monotonic, spacing: Duration) -> Stamp {
        if let Some((newest, at)) = self.stamps.back()
            && now.since(*at) < spacing
        {
            return *newest;
        }
        if self.stamps.len() >= Self::MAX_STAMPS {
            self.stamps.pop_front();
        }
        self.stamps.push_back((next, now));
        next
    }

    /// Tells when a stamp was sent, and forgets older ones; `None` for a stamp that was not sent here.
    pub(super) fn sent(&mut self, stamp: Stamp) -> Option<Monotonic> {
        while self.stamps.front().is_some_and(|(oldest, _)| *oldest < stamp) {
            self.stamps.pop_front();
        }
        self.stamps.front().filter(|(oldest, _)| *oldest == stamp).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    #[test]
    fn a_stamp_tells_when_it_was_sent_and_forged_ones_tell_nothing() {
        let mut session = Session::new(SessionId(1), StreamId(1));
        let spacing = Duration::from_millis(10);
        assert_eq!(session.stamp(Stamp(1), at(0), spacing), Stamp(1));
        assert_eq!(session.stamp(Stamp(2), at(5), spacing), Stamp(1), "closer than the spacing");
        assert_eq!(session.stamp(Stamp(2), at(20), spacing), Stamp(2));
        assert_eq!(session.sent(Stamp(9)), None);
        let mut session = Session::new(SessionId(1), StreamId(1));
        session.stamp(Stamp(1), at(0), spacing);
        session.stamp(Stamp(2), at(20), spacing);
        assert_eq!(session.sent(Stamp(2)), Some(at(20)));
        assert_eq!(session.sent(Stamp(1)), None, "older than one already seen");
        assert_eq!(session.sent(Stamp(2)), Some(at(20)), "a heartbeat may repeat it");
    }

    #[test]
    fn stamps_are_bounded() {
        let mut session = Session::new(SessionId(1), StreamId(1));
        for n in 0..10_000 {
            session.stamp(Stamp(n), at(n * 10), Duration::from_millis(10));
        }
        assert!(session.stamps.len() <= Session::MAX_STAMPS);
    }
}
