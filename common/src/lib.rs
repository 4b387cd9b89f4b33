//! Words and plumbing shared by every sifleet program.
//!
//! The words (names, digests, inventories, availability, API bodies) do no I/O, know no clock and no
//! runtime. The plumbing (wire, TLS, QUIC, settings, telemetry, service conduct) is for the daemons and
//! sits behind the cargo feature `node`, so the command line links neither QUIC nor bincode.

pub mod api;
pub mod availability;
pub mod digest;
pub mod epoch;
pub mod image;
pub mod inventory;
pub mod name;
pub mod nodeset;
pub mod policy;
pub mod push;
pub mod removal;
pub mod role;
pub mod sif;
pub mod time;
pub mod units;

#[cfg(feature = "manual")]
pub mod manual;

#[cfg(feature = "node")]
pub mod beneath;
#[cfg(feature = "node")]
pub mod capability;
#[cfg(feature = "node")]
pub mod chunk;
#[cfg(feature = "node")]
pub mod clock;
#[cfg(feature = "node")]
pub mod inherit;
#[cfg(feature = "node")]
pub mod keyring;
#[cfg(feature = "node")]
pub mod once;
#[cfg(feature = "node")]
pub mod patient;
#[cfg(feature = "node")]
pub mod quic;
#[cfg(feature = "node")]
pub mod settings;
#[cfg(feature = "node")]
pub mod systemd;
#[cfg(feature = "node")]
pub mod task;
#[cfg(feature = "node")]
pub mod telemetry;
#[cfg(feature = "node")]
pub mod tls;
#[cfg(feature = "node")]
pub mod wire;
