//! What is durable of identities: the standing of each name, and tokens as hashes.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use sifleet_common::epoch::Epoch;
use sifleet_common::name::NodeName;
use sifleet_common::time::UnixMillis;

/// Numbers a token; drawn at random and no secret. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InviteNo(pub u64);

impl fmt::Display for InviteNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for InviteNo {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// Hash of a token's secret. The secret is 256 random bits, so a plain hash cannot be searched; equality takes the same
/// time whatever differs, as `blake3::Hash` promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InviteHash(pub blake3::Hash);

/// How a name stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Certificates of older epochs do not count.
    pub epoch: Epoch,
    /// When it was last enrolled.
    pub enrolled: Option<UnixMillis>,
    /// When it was revoked, if it has not been enrolled since.
    pub revoked: Option<UnixMillis>,
}

/// Lets one node enrol once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Its number.
    pub id: InviteNo,
    /// Of its secret.
    pub hash: InviteHash,
    /// Which node.
    pub node: NodeName,
    /// From where it counts; from anywhere if empty.
    pub from: Vec<Network>,
    /// When it was made.
    pub created: UnixMillis,
    /// From when on it does not count.
    pub expires: UnixMillis,
    /// When it was used, and from where.
    pub used: Option<(UnixMillis, IpAddr)>,
}

/// A network, such as `10.1.0.0/16`; a single address is one of full length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// The text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no network such as 10.1.0.0/16 or fd00::/8")]
pub struct NetworkError {
    text: String,
}

impl Network {
    /// Joins an address and how many of its bits count; more than it has are all of them.
    #[must_use]
    pub fn new(address: IpAddr, bits: u32) -> Self {
        let width = if address.is_ipv4() { 32 } else { 128 };
        Self { address, bits: u8::try_from(bits.min(width)).unwrap_or(u8::MAX) }
    }

    /// Returns how many bits of an address decide.
    #[must_use]
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// Tells whether it is one of IPv4 addresses.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Tells whether an address is in it. An IPv4 address that arrived over IPv6 counts as itself.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            let shift = width.saturating_sub(u32::from(self.bits));
            a.checked_shr(shift) == b.checked_shr(shift)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError { text: text.chars().take(64).collect() };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_no_detail| error())?;
        let width: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= width).ok_or_else(error)?,
            None => width,
        };
        Ok(Self { address, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: &str, address: &str, expected: bool) {
        let (parsed, address): (Network, IpAddr) = (network.parse().unwrap(), address.parse().unwrap());
        assert_eq!(parsed.holds(address), expected, "{network} {address}");
    }

    #[test]
    fn a_network_holds_what_begins_like_it() {
        check("10.1.0.0/16", "10.1.255.3", true);
        check("10.1.0.0/16", "10.2.0.1", false);
        check("10.1.2.3", "10.1.2.3", true);
        check("10.1.2.3", "10.1.2.4", false);
        check("0.0.0.0/0", "8.8.8.8", true);
        check("0.0.0.0/0", "fd00::1", false);
        check("::/0", "fd00::1", true);
        check("fd00::/8", "fdff::1", true);
        check("fd00::/8", "fe80::1", false);
        check("10.1.0.0/16", "::ffff:10.1.2.3", true);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.1.0.0/33", "10.1/16", "head", "fd00::/129", "10.1.0.0/-1", "10.1.0.0/"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
