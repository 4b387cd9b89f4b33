//! What must hold for bytes of strangers, one module for each place where they are read.
//!
//! Each `run` takes any bytes and panics when a promise is broken. `targets/` gives them to libFuzzer, `run.sh`
//! builds and runs those on stable Rust; `tests/inputs.rs` holds the seeds and replays what once went wrong.

pub mod chunk;
pub mod control;
pub mod frame;
pub mod input;
pub mod names;
pub mod nodeset;
pub mod registries;
pub mod settings;
pub mod sif;
pub mod signatures;

/// A target: takes any bytes, panics when a promise is broken.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 9] = [
    ("frame", frame::run),
    ("control", control::run),
    ("chunk", chunk::run),
    ("sif", sif::run),
    ("signatures", signatures::run),
    ("settings", settings::run),
    ("nodeset", nodeset::run),
    ("names", names::run),
    ("registries", registries::run),
];
