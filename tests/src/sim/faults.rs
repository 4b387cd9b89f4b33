//! What may go wrong in a simulated cluster, and how often.

/// What the links and machines do to the system.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Share of messages that vanish, in percent.
    pub loss: u32,
    /// Share of messages that arrive twice, in percent.
    pub double: u32,
    /// Longest time a message is under way, in milliseconds.
    pub delay: u64,
    /// Share of steps in which something crashes or breaks off, in percent.
    pub crash: u32,
    /// Renumbers every delta to what the coordinator waits for, as if it did not look at generations.
    pub blind_generations: bool,
}

impl Faults {
    /// Links and machines as they should be.
    pub const NONE: Self = Self { loss: 0, double: 0, delay: 20, crash: 0, blind_generations: false };
}
