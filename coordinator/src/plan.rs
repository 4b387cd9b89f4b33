//! Who gives what to whom: pure, from what is known to what is to be done.

pub mod mesh;
pub mod ring;
