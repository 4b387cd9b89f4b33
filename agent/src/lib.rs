//! Agent library, being written.
pub mod describe;
pub mod hash;
pub mod inventory;
pub mod memory;
pub mod scan;
pub mod session;
pub mod sys;
pub mod watch;
