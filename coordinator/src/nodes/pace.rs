//! How much of the coordinator one node may use: what its messages cost, and how long one waits when too much was used.
//!
//! Pure: it is told the time. A session whose message waits is not read further; QUIC's flow control then makes its agent
//! wait, and nobody else. Accounts are of nodes, not of sessions: dialling again settles no debt. Heartbeats have an account
//! of their own, so that debt alone never stops them. Behind a message that waits they wait as well: a node on which some
//! 100,000 images change at once may become unknown for a while, and that is true, for nobody knows yet what it holds. Costs are what messages take of one processor as
//! measured (`cargo measure flood`), not what they take at a moment: a busy machine must not make nodes look guilty.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sifleet_common::inventory::Change;
use sifleet_common::name::NodeName;
use sifleet_common::time::Monotonic;
use sifleet_common::wire::control::ToCoordinator;

/// What a message costs beside its changes, in microseconds: its packets, its turn in the loop, its acknowledgement.
const MESSAGE: u64 = 80;
/// What each change costs.
const CHANGE: u64 = 20;
/// What each replica of the node costs when all are looked at anew.
const REPLICA: u64 = 10;
/// What a message costs that makes a line in the log.
const TOLD: u64 = 1_000;
/// What the description of an image costs, which the coordinator asked for.
const DESCRIBED: u64 = 40;
/// What a question of a node's jobs costs: a look into the store, or a push.
const PULLED: u64 = 2_000;
/// What a session costs: its handshake and all that is said at its beginning.
pub const SESSION: u64 = 2_000;
/// Of how many microseconds of a processor a node may use one: a twentieth of a processor.
pub const SHARE: u64 = 20;
/// What a node may use at once, in microseconds: to tell of 10,000 images and describe them.
pub const AT_ONCE: u64 = 2_000_000;
/// The same of heartbeats: an agent sends one in a second or less often.
const BEATS_SHARE: u64 = 200;
const BEATS_AT_ONCE: u64 = 20 * MESSAGE;
/// Connections of one node at a time: the one in use, and old ones that nobody has given up yet.
const CONNECTIONS: usize = 4;
/// Nodes without a connection whose debts are remembered; beyond them those that are paid are forgotten.
const REMEMBERED: usize = 1_024;

/// Estimates what a message costs, in microseconds of a processor; `held` is how many replicas the node has.
#[must_use]
pub fn cost(message: &ToCoordinator, held: usize) -> u64 {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let all = || REPLICA.saturating_mul(count(held));
    let changes = |changes: &[Change]| CHANGE.saturating_mul(count(changes.len()));
    let more = match message {
        // The last part is compared with all that was known before.
        ToCoordinator::Snapshot(part) => changes(&part.changes) + if part.last { all() } else { 0 },
        ToCoordinator::Delta(delta) => {
            let roots = count(delta.changes.iter().filter(|change| is_root(change)).count());
            let all = if roots > 0 { all() } else { 0 };
            changes(&delta.changes).saturating_add(all).saturating_add(TOLD.saturating_mul(roots))
        }
        ToCoordinator::Described(_) => DESCRIBED,
        ToCoordinator::Clock { .. } => TOLD,
        ToCoordinator::Pull(_) => PULLED,
        ToCoordinator::Hello(_)
        | ToCoordinator::Heartbeat(_)
        | ToCoordinator::Goodbye
        | ToCoordinator::Report(_)
        | ToCoordinator::Renew
        | ToCoordinator::Reconciled { .. } => 0,
    };
    MESSAGE.saturating_add(more)
}

/// Tells whether the cost of a message depends on how many replicas the node has.
#[must_use]
pub fn depends_on_replicas(message: &ToCoordinator) -> bool {
    match message {
        ToCoordinator::Snapshot(part) => part.last,
        ToCoordinator::Delta(delta) => delta.changes.iter().any(is_root),
        ToCoordinator::Hello(_)
        | ToCoordinator::Heartbeat(_)
        | ToCoordinator::Described(_)
        | ToCoordinator::Goodbye
        | ToCoordinator::Report(_)
        | ToCoordinator::Renew
        | ToCoordinator::Clock { .. }
        | ToCoordinator::Reconciled { .. }
        | ToCoordinator::Pull(_) => false,
    }
}

const fn is_root(change: &Change) -> bool {
    matches!(change, Change::Root(..))
}

/// What was used and is not paid yet: time pays it, at the rate of the share.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    paid_at: Monotonic,
}

impl Account {
    /// Uses so much; tells how long it has to wait for that.
    fn spend(&mut self, cost: u64, (share, at_once): (u64, u64), now: Monotonic) -> Duration {
        let time = |cost: u64| Duration::from_micros(cost.saturating_mul(share));
        let wait = self.paid_at.since(now.after(time(at_once)));
        self.paid_at = self.paid_at.max(now).after(time(cost));
        wait
    }
}

/// What one node has used, and how many connections it has.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    messages: Account,
    beats: Account,
    connections: usize,
}

#[derive(Debug, Default)]
struct Known {
    nodes: BTreeMap<NodeName, Usage>,
    /// How many of them have no connection.
    left: usize,
}

/// The accounts of all nodes; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Accounts(Arc<Mutex<Known>>);

impl Accounts {
    /// Takes a connection in, unless the node has too many.
    #[must_use]
    pub fn open(&self, node: &NodeName, now: Monotonic) -> Option<Seat> {
        let mut known = self.known();
        let Known { nodes, left } = &mut *known;
        if *left > REMEMBERED {
            nodes.retain(|_, usage| usage.connections > 0 || usage.messages.paid_at > now);
            *left = nodes.values().filter(|usage| usage.connections == 0).count();
        }
        let before = nodes.len();
        let usage = nodes.entry(node.clone()).or_default();
        if usage.connections >= CONNECTIONS {
            return None;
        }
        usage.connections += 1;
        if usage.connections == 1 && nodes.len() == before {
            *left = left.saturating_sub(1);
        }
        Some(Seat { accounts: self.clone(), node: node.clone() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of a node, as long as it lasts.
#[derive(Debug)]
pub struct Seat {
    accounts: Accounts,
    node: NodeName,
}

impl Seat {
    /// Uses what a message costs; tells how long it has to wait until it is handed on.
    #[must_use]
    pub fn say(&self, message: &ToCoordinator, held: usize, now: Monotonic) -> Duration {
        let mut known = self.accounts.known();
        let Some(usage) = known.nodes.get_mut(&self.node) else { return Duration::ZERO };
        if matches!(message, ToCoordinator::Heartbeat(_)) {
            usage.beats.spend(MESSAGE, (BEATS_SHARE, BEATS_AT_ONCE), now)
        } else {
            usage.messages.spend(cost(message, held), (SHARE, AT_ONCE), now)
        }
    }

    /// Uses what a session costs; tells how long it has to wait until it begins.
    ///
    /// # Errors
    /// The same if that is more than `at_most`: nothing was used then, for the session does not begin.
    pub fn begin(&self, at_most: Duration, now: Monotonic) -> Result<Duration, Duration> {
        let mut known = self.accounts.known();
        let Some(usage) = known.nodes.get_mut(&self.node) else { return Ok(Duration::ZERO) };
        let mut after = usage.messages;
        let wait = after.spend(SESSION, (SHARE, AT_ONCE), now);
        if wait > at_most {
            return Err(wait);
        }
        usage.messages = after;
        Ok(wait)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut known = self.accounts.known();
        let Known { nodes, left } = &mut *known;
        if let Some(usage) = nodes.get_mut(&self.node) {
            usage.connections = usage.connections.saturating_sub(1);
            *left += usize::from(usage.connections == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sifleet_common::inventory::{Generation, Root, RootId, RootKind, RootState};
    use sifleet_common::wire::control::{Delta, Described, Heartbeat, Snapshot, Stamp};

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn removed(count: usize) -> Vec<Change> {
        (0..count).map(|n| crate::state::testing::gone(&format!("{n}.sif"))).collect()
    }

    fn delta(changes: Vec<Change>) -> ToCoordinator {
        ToCoordinator::Delta(Delta { generation: Generation(1), changes })
    }

    fn part(changes: usize, last: bool) -> ToCoordinator {
        let (generation, part) = (Generation(1), 0);
        ToCoordinator::Snapshot(Snapshot { generation, part, last, changes: removed(changes) })
    }

    fn beat() -> ToCoordinator {
        let digest = sifleet_common::inventory::Inventory::default().digest();
        ToCoordinator::Heartbeat(Heartbeat { generation: Generation(1), digest, stamp: Stamp(1) })
    }

    #[test]
    fn ten_thousand_images_are_told_of_and_described_without_a_pause() {
        let seat = Accounts::default().open(&node("a"), at(0)).unwrap();
        assert_eq!(seat.begin(Duration::ZERO, at(0)), Ok(Duration::ZERO));
        for last in [false, false, false, false, true] {
            assert_eq!(seat.say(&part(2_000, last), 0, at(0)), Duration::ZERO);
        }
        for n in 0..10_000_u32 {
            let digest = sifleet_common::digest::Digest::of(&n.to_be_bytes());
            let described = Box::new(Described { digest, metadata: None, sidecar: None });
            assert_eq!(seat.say(&ToCoordinator::Described(described), 0, at(0)), Duration::ZERO);
        }
        assert_eq!(seat.say(&delta(removed(1)), 10_000, at(0)), Duration::ZERO);
    }

    #[test]
    fn a_node_that_never_stops_gets_a_twentieth_of_a_processor() {
        let (accounts, mut now, mut said) = (Accounts::default(), at(0), 0);
        let seat = accounts.open(&node("a"), now).unwrap();
        let message = delta(removed(1));
        while now < at(100_000) {
            now = now.after(seat.say(&message, 0, now).max(Duration::from_micros(1)));
            said += cost(&message, 0);
        }
        let expected = AT_ONCE + 100_000_000 / SHARE;
        assert!((expected * 99 / 100..=expected * 101 / 100).contains(&said), "{said} µs");
    }

    #[test]
    fn what_makes_all_replicas_be_looked_at_costs_as_much() {
        let root = Root { path: "/x".into(), kind: RootKind::Plain, state: RootState::Watched };
        let root = delta(vec![Change::Root(RootId(0), root)]);
        assert_eq!(cost(&root, 0), MESSAGE + CHANGE + TOLD);
        assert_eq!(cost(&root, 1_000), MESSAGE + CHANGE + TOLD + 1_000 * REPLICA);
        assert!(depends_on_replicas(&root) && depends_on_replicas(&part(0, true)));
        assert!(!depends_on_replicas(&delta(removed(1))) && !depends_on_replicas(&part(0, false)));
        assert_eq!(cost(&part(0, true), 1_000), MESSAGE + 1_000 * REPLICA);
        assert_eq!(cost(&part(0, false), 1_000), MESSAGE);
    }

    #[test]
    fn heartbeats_are_not_charged_for_what_else_a_node_says_and_nobody_else_is() {
        let accounts = Accounts::default();
        let (one, other) =
            (accounts.open(&node("a"), at(0)).unwrap(), accounts.open(&node("b"), at(0)).unwrap());
        assert_eq!(one.say(&part(0, true), 1_000_000, at(0)), Duration::ZERO, "it pays afterwards");
        assert!(one.say(&delta(removed(1)), 0, at(0)) > Duration::from_secs(100));
        for second in 0..60 {
            assert_eq!(one.say(&beat(), 0, at(second * 1_000)), Duration::ZERO);
        }
        assert_eq!(other.say(&delta(removed(1)), 0, at(0)), Duration::ZERO);
    }

    #[test]
    fn a_flood_of_heartbeats_waits_too() {
        let seat = Accounts::default().open(&node("a"), at(0)).unwrap();
        let longest = (0..100).map(|_| seat.say(&beat(), 0, at(0))).max();
        assert!(longest > Some(Duration::from_secs(1)), "{longest:?}");
    }

    #[test]
    fn dialling_again_settles_no_debt() {
        let accounts = Accounts::default();
        let seat = accounts.open(&node("a"), at(0)).unwrap();
        let _paid_later = seat.say(&part(0, true), 1_000_000, at(0));
        drop(seat);
        let seat = accounts.open(&node("a"), at(1)).unwrap();
        let refused = seat.begin(Duration::from_secs(10), at(1));
        assert!(refused > Err(Duration::from_secs(100)), "{refused:?}");
        assert_eq!(seat.begin(Duration::from_secs(10), at(1)), refused, "who is turned away owes no more");
    }

    #[test]
    fn connections_of_one_node_are_few_and_places_are_given_back() {
        let accounts = Accounts::default();
        let mut seats: Vec<Seat> =
            (0..CONNECTIONS).map(|_| accounts.open(&node("a"), at(0)).unwrap()).collect();
        assert!(accounts.open(&node("a"), at(0)).is_none());
        assert!(accounts.open(&node("b"), at(0)).is_some());
        seats.pop();
        assert!(accounts.open(&node("a"), at(0)).is_some());
    }

    #[test]
    fn nodes_that_left_without_debt_are_forgotten() {
        let accounts = Accounts::default();
        for n in 0..5_000 {
            drop(accounts.open(&node(&format!("n{n}")), at(n)).unwrap());
        }
        assert!(accounts.known().nodes.len() <= REMEMBERED + 2, "{}", accounts.known().nodes.len());
        let seat = accounts.open(&node("n4999"), at(5_000)).unwrap();
        let left = accounts.known().left;
        drop(seat);
        assert_eq!(accounts.known().left, left + 1);
    }
}
