//! Which addresses of the outside may be asked, and how one is written. Pure: names are resolved elsewhere, once.
//!
//! A registry's address is written by people, and whoever may write it would otherwise have the coordinator knock at doors that
//! only it can reach: its own, those of the cluster, those of a cloud's metadata service. So whatever is not an
//! ordinary address of the Internet is refused, unless `registries.allow` names its network.
//! Outside facts: WHATWG URL (how hosts are read), RFC 6890 and the IANA special-purpose registries of 2026.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use url::{Host, Url};

use crate::store::identity::Network;

/// Longest address that is read, in bytes.
const MAX_URL: usize = 2_048;

/// Where somebody answers: a scheme, a host and a port, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    secure: bool,
    host: Host<String>,
    port: u16,
}

/// Says why a text is no address of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrigin {
    /// It is no URL.
    #[error("it cannot be read: write https://registry.example or https://registry.example:5000")]
    Unreadable,
    /// It is longer than any.
    #[error("it has more than {MAX_URL} bytes")]
    TooLong,
    /// Another protocol.
    #[error("only https and http are spoken")]
    Scheme,
    /// It holds a user or a password.
    #[error("it holds a user name: credentials are set apart, so that nobody reads them here")]
    User,
    /// It holds more than an origin.
    #[error("it holds a path, a query or a fragment: write scheme, host and port alone")]
    Path,
}

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let (origin, url) = Self::of_url(text)?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if bare { Ok(origin) } else { Err(BadOrigin::Path) }
    }
}

impl Origin {
    /// Reads a whole URL: whom to ask, and for what.
    ///
    /// # Errors
    /// [`BadOrigin`].
    pub fn of_url(text: &str) -> Result<(Self, Url), BadOrigin> {
        if text.len() > MAX_URL {
            return Err(BadOrigin::TooLong);
        }
        // The URL standard drops line ends and takes \ for /; where people read one host and programs another, nobody is right.
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(BadOrigin::Unreadable);
        }
        let url = Url::parse(text).map_err(|_no_detail| BadOrigin::Unreadable)?;
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(BadOrigin::Scheme),
        };
        let authority = text.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
        let authority = authority.filter(|text| !text.is_empty()).ok_or(BadOrigin::Unreadable)?;
        if !url.username().is_empty() || url.password().is_some() || authority.contains('@') {
            return Err(BadOrigin::User);
        }
        let host = url.host().map(|host| host.to_owned()).ok_or(BadOrigin::Unreadable)?;
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(BadOrigin::Unreadable)?;
        Ok((Self { secure, host, port }, url))
    }

    /// Tells whether it is spoken to over TLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns the host.
    #[must_use]
    pub const fn host(&self) -> &Host<String> {
        &self.host
    }

    /// Returns the port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns host and port as the header `Host` and names of images have them.
    #[must_use]
    pub fn authority(&self) -> String {
        let usual = if self.secure { 443 } else { 80 };
        if self.port == usual { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

/// Which addresses may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Networks that may be asked though they are not of the Internet.
    pub allow: Vec<Network>,
    /// Networks that this machine is in.
    pub own: Vec<Network>,
}

/// Says why an address is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not asked, for it is {why}; an administrator may name its network in registries.allow")]
pub struct Refused {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub why: &'static str,
}

impl Rules {
    /// Looks at all addresses of a name: one that may not be asked is reason enough to ask none.
    ///
    /// # Errors
    /// [`Refused`] for the first.
    pub fn judge_all(&self, addresses: &[IpAddr]) -> Result<(), Refused> {
        addresses.iter().try_for_each(|address| self.judge(*address))
    }

    /// Looks at one address.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn judge(&self, address: IpAddr) -> Result<(), Refused> {
        let refuse = |why| Err(Refused { address, why });
        if let Some(why) = never(address) {
            return refuse(why);
        }
        if self.allow.iter().any(|network| network.holds(address)) {
            return Ok(());
        }
        let special = match address {
            IpAddr::V4(address) => special_v4(address),
            IpAddr::V6(address) => special_v6(address),
        };
        match special {
            Some(why) => refuse(why),
            None if self.own.iter().any(|network| network.holds(address)) => {
                refuse("in a network of this machine")
            }
            None => Ok(()),
        }
    }
}

/// What no setting opens: addresses that are nobody's, everybody's, or another one in disguise.
fn never(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) if address.octets()[0] == 0 => Some("an address of this network"),
        IpAddr::V4(address) if address.is_multicast() || address.is_broadcast() => Some("an address of many"),
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => {
            let [first, second, third, ..] = address.segments();
            match (first, second) {
                (0, 0) if address != Ipv6Addr::LOCALHOST => {
                    Some("unspecified, or an IPv4 address written as IPv6")
                }
                (0xff00..=0xffff, _) => Some("an address of many"),
                (0x0064, 0xff9b) if third <= 1 => Some("an IPv4 address written as IPv6 (NAT64)"),
                (0x2002, _) => Some("an IPv4 address written as IPv6 (6to4)"),
                (0x2001, 0) => Some("an IPv4 address written as IPv6 (Teredo)"),
                _ => None,
            }
        }
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (127, ..) => Some("this machine (loopback)"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("private"),
        (169, 254, _) => Some("link-local, where clouds keep their metadata"),
        (100, 64..=127, _) => Some("shared behind a carrier's translation"),
        (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18..=19, _)
        | (198, 51, 100)
        | (203, 0, 113)
        | (240..=255, ..) => Some("reserved"),
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [first, second, ..] = address.segments();
    match (first, second) {
        _ if address == Ipv6Addr::LOCALHOST => Some("this machine (loopback)"),
        (0xfc00..=0xfdff, _) => Some("private"),
        (0xfe80..=0xfebf, _) => Some("link-local"),
        // 2001::/23 are protocols' addresses, 2001:db8::/32 and 3fff::/20 are for books.
        (0x2001, 0..=0x1ff | 0xdb8) | (0x3fff, 0..=0xfff) => Some("reserved"),
        (0x2000..=0x3fff, _) => None,
        _ => Some("reserved"),
    }
}

#[cfg(test)]
mod tests;
