//! Close codes of a control connection: why one side ended it.

/// Why a connection was closed. The numbers are on the wire: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// The sender stops in good order.
    Stopping = 0,
    /// The other side broke the protocol; the text says how.
    Protocol = 1,
    /// The certificate names no node.
    NotANode = 2,
    /// A newer connection of the same node took over.
    Superseded = 3,
    /// The sender cannot take more at present; come back later.
    Busy = 4,
    /// Nothing that renews the lease was heard for as long as a lease lasts.
    Silent = 5,
    /// The certificate was revoked, or replaced by a newer enrolment of the name.
    Revoked = 6,
    /// The certificate has run out; it may be renewed by `wire::enrol`.
    Expired = 7,
}

impl CloseCode {
    /// Returns the number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}
