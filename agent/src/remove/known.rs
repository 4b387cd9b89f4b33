//! Which removals this agent was told, and what it answered.
//!
//! Pure. An order that is not answered soon is said again under its number: it must neither be done twice nor get two
//! answers, for the first one may be that the file is in use, and from then on the coordinator counts the replica as one
//! that stays. Nor is it done when it is so old that the coordinator may have given it up.

use std::collections::BTreeMap;
use std::time::Duration;

use sifleet_common::time::Monotonic;
use sifleet_common::wire::assignment::{AssignmentId, REMOVAL_GIVEN_UP, Removal, Removed};

/// Orders that are remembered, the newest; each is some hundred bytes.
const MOST: usize = 1024;
/// What the way here and the last step may take.
const MARGIN: Duration = Duration::from_secs(30);

/// Orders that were heard.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<AssignmentId, Entry>);

#[derive(Debug)]
struct Entry {
    removal: Removal,
    until: Monotonic,
    stands: Stands,
}

#[derive(Debug)]
enum Stands {
    /// There was no room for it.
    Left,
    Queued,
    Answered(Removed),
}

/// What is to be done about an order that was heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is done, unless that time comes first.
    Begin(Monotonic),
    /// It is being done.
    Nothing,
    /// It was answered so.
    Answered(Removed),
}

impl Known {
    /// Takes in an order.
    pub(super) fn hear(&mut self, removal: &Removal, now: Monotonic) -> Heard {
        let known = self.0.get(&removal.id);
        let until = match known.map(|known| (known.removal == *removal, known.until, &known.stands)) {
            Some((_, _, Stands::Queued)) => return Heard::Nothing,
            Some((true, _, Stands::Answered(removed))) => return Heard::Answered(removed.clone()),
            Some((true, until, Stands::Left)) => until,
            // It is new, or its number is from another life of the coordinator.
            Some((false, ..)) | None => now.after(REMOVAL_GIVEN_UP.saturating_sub(MARGIN)),
        };
        let entry = Entry { removal: removal.clone(), until, stands: Stands::Queued };
        self.0.insert(removal.id, entry);
        self.forget();
        Heard::Begin(until)
    }

    /// Notes that there was no room for an order: it is taken when it is heard again, and is no younger then.
    pub(super) fn leave(&mut self, id: AssignmentId) {
        self.stand(id, Stands::Left);
    }

    /// Notes what was answered.
    pub(super) fn answer(&mut self, removed: &Removed) {
        self.stand(removed.id, Stands::Answered(removed.clone()));
    }

    fn stand(&mut self, id: AssignmentId, stands: Stands) {
        if let Some(entry) = self.0.get_mut(&id) {
            entry.stands = stands;
        }
    }

    /// Forgets the oldest; those that are queued are few, and stay.
    fn forget(&mut self) {
        if self.0.len() > MOST
            && let Some(oldest) = self.0.iter().find(|(_, entry)| !matches!(entry.stands, Stands::Queued))
        {
            let oldest = *oldest.0;
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use sifleet_common::digest::Digest;
    use sifleet_common::inventory::RootId;
    use sifleet_common::wire::assignment::RemovalOutcome;

    use super::*;

    fn removal(id: u64) -> Removal {
        let (name, image) = ("a.sif".parse().unwrap(), Digest::of(b"a"));
        Removal { id: AssignmentId(id), root: RootId(0), name, image }
    }

    fn busy(id: u64) -> Removed {
        Removed { id: AssignmentId(id), outcome: RemovalOutcome::Busy, detail: String::new() }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn an_order_that_is_said_again_is_done_once_and_answered_alike() {
        let mut known = Known::default();
        assert_eq!(known.hear(&removal(7), at(0)), Heard::Begin(at(150)));
        assert_eq!(known.hear(&removal(7), at(30)), Heard::Nothing);
        known.answer(&busy(7));
        assert_eq!(known.hear(&removal(7), at(60)), Heard::Answered(busy(7)));
        assert_eq!(known.hear(&removal(8), at(60)), Heard::Begin(at(210)), "another order");
    }

    #[test]
    fn an_order_that_found_no_room_is_as_old_as_when_it_was_heard_first() {
        let mut known = Known::default();
        known.hear(&removal(7), at(0));
        known.leave(AssignmentId(7));
        assert_eq!(known.hear(&removal(7), at(120)), Heard::Begin(at(150)));
        assert_eq!(known.hear(&removal(7), at(140)), Heard::Nothing);
    }

    #[test]
    fn the_oldest_answers_are_forgotten_and_nothing_that_waits() {
        let mut known = Known::default();
        known.hear(&removal(1), at(0));
        for id in 2..2_000 {
            known.hear(&removal(id), at(0));
            known.answer(&busy(id));
        }
        assert_eq!(known.0.len(), MOST);
        assert_eq!(known.hear(&removal(1), at(1)), Heard::Nothing);
        assert_eq!(known.hear(&removal(1_999), at(1)), Heard::Answered(busy(1_999)));
    }

    #[test]
    fn a_number_of_another_life_of_the_coordinator_is_another_order() {
        let mut known = Known::default();
        known.hear(&removal(7), at(0));
        known.answer(&busy(7));
        let other = Removal { name: "b.sif".parse().unwrap(), ..removal(7) };
        assert_eq!(known.hear(&other, at(5)), Heard::Begin(at(155)));
    }
}
