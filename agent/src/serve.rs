//! Giving spans to other nodes.
//!
//! Owns nothing yet but decisions: what is offered to whom is decided by the pure [`offer`], whose turn it is by the pure
//! [`giving`].

pub mod connection;
pub mod find;
pub mod giving;
pub mod held;
pub mod offer;
pub mod run;
mod turn;
