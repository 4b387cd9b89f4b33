//! Giving spans to other nodes.
//!
//! What is offered to whom is decided by the pure [`offer`], whose turn it is by the pure [`giving`]; [`run`] is the loop
//! around them, [`connection`] speaks with one peer.

pub mod connection;
pub mod find;
pub mod giving;
pub mod held;
mod looking;
mod map;
pub mod offer;
pub mod permits;
mod places;
pub mod run;
mod turn;
