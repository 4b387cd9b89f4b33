//! The protocol between agents and the coordinator.
//!
//! **Participants.** An agent dials the coordinator; the coordinator never dials. Both prove who they are with
//! certificates of the cluster's own authority (mutual TLS 1.3); a node's name is read from its certificate
//! and from nowhere else, so no message carries one.
//!
//! **Transport.** One QUIC connection per node, ALPN [`CONTROL_ALPN`], one bidirectional stream opened by the
//! agent. Each message is a frame: a little-endian `u32` length, at most [`frame::MAX_FRAME`], and that many
//! bytes of bincode 2 (standard configuration). Enumerations are append-only; a change that an older side
//! cannot read gets a new ALPN.
//!
//! **Goals.** The coordinator holds each node's inventory as it was at a known moment, and knows when it stops
//! knowing. A reconnect of an unchanged node costs two small frames each way. Nothing an agent sends can make
//! the coordinator hold more than the limits of [`control`] or vouch for more than the agent vouches for.
//!
//! **Non-goals.** Image bytes (another ALPN), messages between agents, ordering between nodes.
//!
//! **A session.**
//! ```text
//! agent                                     coordinator
//!   Hello{stream, generation, digest} ─────►            "I am at change 41 of stream 7"
//!         ◄──── Welcome{known: Current, stamp: 1}       "so am I": a heartbeat is enough
//!         ◄──── Welcome{known: At(39), stamp: 1}        "send me 40 and 41"
//!         ◄──── Welcome{known: Nothing, stamp: 1}       "send me all of it"
//!   Snapshot{generation: 41, part 0, last} ────►        the whole inventory, in parts
//!   Delta{generation: 42, changes} ────────────►        one step, applied only onto 41
//!         ◄──── Ack{generation: 42, stamp: 2}
//!   Heartbeat{generation, digest, stamp: 2} ───►        "still here, still 42, and I saw stamp 2"
//!         ◄──── Ack{generation: 42, stamp: 3}
//!         ◄──── Resync                                  a gap or another digest: send a snapshot
//!         ◄──── Describe{digest} / Rescan
//!   Described{digest, metadata} ───────────────►
//!         ◄──── Reconcile{request}                      look at every root, and say so
//!   Delta ... Reconciled{request} ─────────────►        what was found, then that nothing is left to look at
//! ```
//!
//! **Transfers.** What a node is to have is stated as assignments ([`assignment`]); the bytes travel between agents
//! by another protocol ([`chunk`]).
//! ```text
//! agent                                     coordinator
//!         ◄──── MakeMap{image}                          to one that holds the image, once
//!   Mapped{image, map} ────────────────────────►
//!         ◄──── Assign{id, image, map, name, peers}     "have this image": begins, or changes what differs
//!   Progress{id, phase, bytes, sources} ───────►        each second, and at each phase
//!         ◄──── Keyring{keys}                           whose signatures count; before anything that needs it
//!         ◄──── AssignUnder{policy, assignment}         the same, published only if its signatures are good
//!         ◄──── Verify{image}                           to one that holds the image
//!   Verified{image, keyring, verdict} ─────────►
//!         ◄──── Unassign{id}                            "not any longer"
//!         ◄──── Capabilities{key}                       after the Welcome: whose permissions to fetch count
//!         ◄──── Rates{up, down} / Concurrent{fetches}   after the Welcome, and whenever it is to be otherwise
//!         ◄──── Assigned{ids}                           once in a session, after the first heartbeat that agrees:
//!                                                       "that is all"; others are ended
//! ```
//!
//! **Certificates.** A node gets its first one by another protocol ([`enrol`]) and renews it here; its public key and
//! its name are those of the certificate that it showed, so a renewal says nothing and can change neither.
//! ```text
//! agent                                     coordinator
//!   Renew ─────────────────────────────────►            at half of the certificate's life
//!         ◄──── Renewed{chain, authorities}
//!         ◄──── RenewNow                                an authority came or went
//!   Clock{at} ─────────────────────────────►            after the Welcome, and each hour
//! ```
//!
//! **Leases.** The coordinator stamps what it sends; a heartbeat repeats the newest stamp the agent has seen. A
//! heartbeat with stamp `s` was sent after the coordinator sent `s`, so the inventory it claims was right at
//! that moment or later, and the lease runs from then: no delay on the network, however long, makes an old
//! claim look fresh, and no two clocks are compared. Nothing but a heartbeat whose generation and digest agree
//! extends a lease, so an agent answers a `Welcome` or a `Resync` with one, after what it has to catch up on.
//!
//! **Streams.** `stream` numbers one life of one agent process at random, `generation` counts its changes.
//! A restarted agent has a new stream; equal inventory digests let it take over where the old one stood.

pub mod assignment;
pub mod chunk;
pub mod code;
pub mod control;
pub mod enrol;
pub mod frame;
pub mod pull;

/// Application protocol of the control connection; its number is the version of everything in [`control`].
pub const CONTROL_ALPN: &[u8] = b"sifleet-control/1";
