//! What is kept of limits on transfers: how fast bytes may move, and how many images at once.

/// No rate that somebody sets is lower, in bytes a second: an image of a gigabyte takes three hours.
pub const LEAST_RATE: u64 = 100_000;
/// No rate that somebody sets is higher, in bytes a second: a mistake, for no link of a node is as fast by far.
pub const MOST_RATE: u64 = 1_000_000_000_000;

/// What a node may do. Rates are bytes a second; no limit if absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// What it may send to others.
    pub up: Option<u64>,
    /// What it may fetch.
    pub down: Option<u64>,
    /// How many images it fetches at once; absent: what its own settings say.
    pub concurrent: Option<u16>,
}

impl Caps {
    /// Returns the lower of each.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            up: lower(self.up, other.up),
            down: lower(self.down, other.down),
            concurrent: lower(self.concurrent, other.concurrent),
        }
    }
}

/// All limits there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSet {
    /// Bytes a second that all nodes together may fetch; no limit if absent.
    pub total: Option<u64>,
    /// What each node may do.
    pub node: Caps,
    /// What each busy node may do, besides.
    pub busy: Caps,
}

/// Returns the lower of two limits, either of which may be none.
pub(crate) fn lower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (limit, None) | (None, limit) => limit,
    }
}
