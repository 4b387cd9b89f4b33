//! What goes wrong on real machines, made to happen: disks that are full, refuse or break, programs that are killed.
//!
//! File systems are mounted, so all of this needs root; `strace` makes single system calls fail.

#![cfg(test)]

#[path = "faults/crashes.rs"]
mod crashes;
#[path = "faults/disks.rs"]
mod disks;
#[path = "faults/identities.rs"]
mod identities;
#[path = "faults/kills.rs"]
mod kills;
#[path = "faults/mount.rs"]
mod mount;
#[path = "faults/power.rs"]
mod power;
#[path = "faults/rogues.rs"]
mod rogues;
#[path = "faults/room.rs"]
mod room;
#[path = "faults/site.rs"]
mod site;
#[path = "faults/strace.rs"]
mod strace;
#[path = "faults/uploads.rs"]
mod uploads;
