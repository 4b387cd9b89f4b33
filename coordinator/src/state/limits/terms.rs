//! What limits come to: what can be set, what a node may do, and among how many the total is divided.
//!
//! Pure arithmetic. Who is busy and who fetches is the state's business.

use sifleet_common::api::limits::LimitsChange;

use crate::store::limits::{Caps, LEAST_RATE, LimitSet, MOST_RATE, lower};

/// A share of the total is never less, in bytes a second: below it a source would be taken for silent.
const LEAST_SHARE: u64 = 16_000;
/// Most images at once that can be asked for: as many as an agent takes orders for.
const MOST_CONCURRENT: u16 = 64;

/// Looks whether a change can be meant.
///
/// # Errors
/// What cannot, in words.
pub fn check(change: &LimitsChange) -> Result<(), String> {
    let rates = [
        ("total", change.total),
        ("up", change.up),
        ("down", change.down),
        ("busy_up", change.busy_up),
        ("busy_down", change.busy_down),
    ];
    for (name, rate) in rates {
        if let Some(rate) = rate.at().filter(|rate| !(LEAST_RATE..=MOST_RATE).contains(rate)) {
            return Err(format!(
                "{name} is {rate} bytes a second: set {LEAST_RATE} to {MOST_RATE}, or null for no limit"
            ));
        }
    }
    let counts = [("concurrent", change.concurrent), ("busy_concurrent", change.busy_concurrent)];
    for (name, count) in counts {
        if let Some(count) = count.at().filter(|count| !(1..=MOST_CONCURRENT).contains(count)) {
            return Err(format!(
                "{name} is {count}: set 1 to {MOST_CONCURRENT}, or null for what agents' settings say"
            ));
        }
    }
    Ok(())
}

/// Returns what each of so many may have of a total.
pub(super) fn share(total: u64, among: u64) -> u64 {
    (total / among.max(1)).max(LEAST_SHARE)
}

/// When it is looked among how many a total is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// One more begins to fetch.
    Begins,
    /// They were counted, and are others than the time before.
    Counted,
    /// They were counted, and are as many as the time before.
    Steady,
}

/// Tells among how many a total is divided from here on: `before` until now, `fetch` of them fetch. More always count at
/// once, and some more are expected; fewer count when it is worth telling all others, or nothing else is going on.
pub(super) fn divided(before: u64, fetch: u64, look: Look) -> u64 {
    match look {
        Look::Begins if fetch > before => fetch + fetch / 8,
        Look::Begins => before,
        Look::Counted if fetch <= before && fetch * 10 > before * 8 => before,
        Look::Counted | Look::Steady => fetch,
    }
}

/// Tells what a node may do.
pub(super) fn allowed(set: &LimitSet, busy: bool, share: Option<u64>) -> Caps {
    let caps = if busy { set.node.and(set.busy) } else { set.node };
    Caps { down: lower(caps.down, share), ..caps }
}

/// Returns limits as they are after a change.
pub(super) fn changed(set: LimitSet, change: &LimitsChange) -> LimitSet {
    LimitSet {
        total: change.total.over(set.total),
        node: Caps {
            up: change.up.over(set.node.up),
            down: change.down.over(set.node.down),
            concurrent: change.concurrent.over(set.node.concurrent),
        },
        busy: Caps {
            up: change.busy_up.over(set.busy.up),
            down: change.busy_down.over(set.busy.down),
            concurrent: change.busy_concurrent.over(set.busy.concurrent),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_add_up_to_more_than_the_total_and_leave_little_of_it() {
        for total in [1_000_000, 125_000_000, u64::MAX] {
            let (mut among, mut told) = (0, 0);
            for fetch in (1..=1_000).chain((1..1_000).rev()) {
                let look = if fetch % 7 == 0 { Look::Counted } else { Look::Begins };
                let next = divided(among, fetch, look);
                told += u64::from(next != among) * fetch;
                among = next;
                assert!(among >= fetch, "{fetch} fetch, divided among {among}");
                assert!(share(total, among) == LEAST_SHARE || share(total, among) <= total / fetch);
                assert!(
                    look == Look::Begins || fetch * 10 > among * 8,
                    "{fetch} fetch, divided among {among}"
                );
                assert_eq!(divided(among, fetch, Look::Steady), fetch);
            }
            assert!(told < 20_000, "{told} orders for 1,000 nodes that begin and end one by one");
        }
        assert_eq!(share(1_000_000, 1_000_000), LEAST_SHARE);
        assert_eq!(share(1_000_000, 0), 1_000_000);
    }

    #[test]
    fn the_lowest_of_all_caps_counts_and_only_busy_nodes_are_held_to_theirs() {
        let node = Caps { up: Some(50), down: Some(100), concurrent: None };
        let busy = Caps { up: Some(80), down: Some(10), concurrent: Some(1) };
        let set = LimitSet { total: None, node, busy };
        assert_eq!(allowed(&set, false, None), node);
        assert_eq!(allowed(&set, false, Some(30)), Caps { down: Some(30), ..node });
        let both = Caps { up: Some(50), down: Some(10), concurrent: Some(1) };
        assert_eq!(allowed(&set, true, None), both);
        assert_eq!(allowed(&set, true, Some(5)), Caps { down: Some(5), ..both });
    }

    #[test]
    fn what_would_stop_everything_is_refused() {
        for (text, says) in [
            (r#"{"total":0}"#, "total is 0 bytes"),
            (r#"{"busy_up":99999}"#, "busy_up is 99999 bytes"),
            (r#"{"concurrent":0}"#, "concurrent is 0: set 1 to 64"),
            (r#"{"busy_concurrent":65}"#, "busy_concurrent is 65"),
        ] {
            let told = check(&serde_json::from_str(text).unwrap()).unwrap_err();
            assert!(told.starts_with(says), "{told}");
        }
        assert_eq!(
            check(&serde_json::from_str(r#"{"up":100000,"concurrent":64,"down":null}"#).unwrap()),
            Ok(())
        );
    }
}
