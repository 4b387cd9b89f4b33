//! How a push ends.
#![cfg(test)]

use super::*;
use crate::output::samples;

#[test]
fn the_exit_code_says_how_many_nodes_got_it() {
    for (state, done, expected) in [
        (PushState::Done, 2, Outcome::Yes),
        (PushState::Partial, 1, Outcome::Partial),
        (PushState::Failed, 0, Outcome::No),
        (PushState::Cancelled, 1, Outcome::Partial),
        (PushState::Cancelled, 0, Outcome::No),
    ] {
        let mut push = samples::push(state);
        push.phases.retain(|one| one.phase != Phase::Done || done > 0);
        assert_eq!(outcome(&push), expected, "{state:?} {done}");
    }
}
