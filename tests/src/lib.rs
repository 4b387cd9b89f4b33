//! What the scenarios, the demo, the benchmarks and `cargo verify` share: programs, clusters, images, a simulation.
//!
//! Nothing of it ships. Helpers that report to a person write to the terminal; tests assert.

pub mod cluster;
pub mod fleet;
pub mod programs;
pub mod sif;
pub mod sim;
pub mod wait;
