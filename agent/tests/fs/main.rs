//! The agent's eyes on a real file system: whatever happens below a root, the inventory ends up equal to a walk.
//!
//! The walk it is compared with ([`walk`]) is written apart from the agent's own, as naively as possible. Nothing
//! here needs a coordinator.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "a test that skips says why")]

mod harness;
mod hidden;
mod mount;
mod odd;
mod restart;
mod root;
mod storm;
mod walk;
mod writer;
