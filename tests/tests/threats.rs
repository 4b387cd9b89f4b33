//! What somebody who means harm may try, one test a threat. docs/security.md lists them with what stands against each.

#![cfg(test)]

#[path = "threats/clocks.rs"]
mod clocks;
#[path = "threats/flood.rs"]
mod flood;
#[path = "threats/identity.rs"]
mod identity;
#[path = "threats/paths.rs"]
mod paths;
#[path = "threats/transfers.rs"]
mod transfers;
