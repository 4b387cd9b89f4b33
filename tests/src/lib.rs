//! x
pub mod sim;

pub mod sif;
