//! Cuts hostile bytes into decisions; when they are used up, everything is zero and empty.

/// The bytes that are left.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Starts with all of them.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Tells whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().map_or((0, self.rest), |(first, rest)| (*first, rest));
        self.rest = rest;
        first
    }

    /// Takes a stretch whose length, two bytes, stands before it.
    pub fn stretch(&mut self) -> &'a [u8] {
        let len = usize::from(u16::from_le_bytes([self.byte(), self.byte()])).min(self.rest.len());
        let (stretch, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        self.rest = rest;
        stretch
    }

    /// Takes all that is left.
    pub const fn all(self) -> &'a [u8] {
        self.rest
    }
}

/// Writes a stretch as [`Input::stretch`] reads it, for seeds.
#[must_use]
pub fn stretch(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let mut written = len.to_le_bytes().to_vec();
    written.extend(bytes.iter().take(usize::from(len)));
    written
}
