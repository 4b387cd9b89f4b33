//! What the scenarios, the demo, the benchmarks and `cargo verify` share: programs, clusters, images, a simulation.
//!
//! Nothing of it ships. Helpers that report to a person write to the terminal; tests assert.

pub mod apptainer;
pub mod bench;
pub mod callers;
pub mod cluster;
pub mod fleet;
pub mod flood;
pub mod head;
pub mod lan;
pub mod machine;
pub mod mover;
pub mod packaging;
pub mod programs;
pub mod python;
pub mod rogue;
pub mod sif;
pub mod sim;
pub mod swarm;
pub mod wait;

/// Parses a text that the tests themselves wrote.
///
/// # Panics
/// When it does not parse: a mistake in a test.
pub(crate) fn known<T: std::str::FromStr>(text: &str) -> T {
    match text.parse() {
        Ok(value) => value,
        Err(_mistake) => panic!("a test wrote {text:?}"),
    }
}
