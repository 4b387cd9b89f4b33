//! Giving spans to other nodes.
//!
//! What is offered to whom is decided by the pure [`offer`].

pub mod offer;
