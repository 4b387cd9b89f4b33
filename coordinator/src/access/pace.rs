//! How often somebody may ask: so many in a time, and some more at once.
//!
//! The generic cell rate algorithm (ITU-T I.371) in one atomic number a caller: the time at which he would have used up
//! what he may, had he asked evenly. Checking takes no lock. Strangers share a table of fixed size, so that no flood of
//! addresses takes memory; two of them may fall onto one place, which costs them half their rate.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sifleet_common::time::Monotonic;

use super::Peer;

/// Places for strangers: 32 KiB.
const PLACES: usize = 4_096;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds from one to the next.
    step: u64,
    /// Nanoseconds of what may come at once.
    burst: u64,
}

impl Rate {
    /// So many in a time, and `burst` at once.
    #[must_use]
    pub const fn new(times: u32, within: Duration, burst: u32) -> Self {
        let times = if times == 0 { 1 } else { times };
        let step = within.as_secs() * 1_000_000_000 + within.subsec_nanos() as u64;
        let step = step / times as u64;
        let burst = if burst == 0 { 1 } else { burst };
        Self { step, burst: step * burst as u64 }
    }

    /// So many a second, and `burst` at once.
    #[must_use]
    pub const fn a_second(times: u32, burst: u32) -> Self {
        Self::new(times, Duration::from_secs(1), burst)
    }
}

/// How far one caller is.
#[derive(Debug, Default)]
pub struct Pace(AtomicU64);

impl Pace {
    /// Counts one request.
    ///
    /// # Errors
    /// How long to wait, if it comes too soon; it is not counted then.
    pub fn admit(&self, rate: &Rate, now: Monotonic) -> Result<(), Duration> {
        let now = u64::try_from(now.0.as_nanos()).unwrap_or(u64::MAX);
        let mut used = self.0.load(Ordering::Relaxed);
        loop {
            let next = used.max(now).saturating_add(rate.step);
            let ahead = next.saturating_sub(now);
            if ahead > rate.burst {
                return Err(Duration::from_nanos(ahead - rate.burst));
            }
            match self.0.compare_exchange_weak(used, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(others) => used = others,
            }
        }
    }
}

/// How far strangers are, by address.
#[derive(Debug)]
pub struct Paces {
    places: Vec<Pace>,
    /// Whoever came over no connection.
    rest: Pace,
    /// Nobody knows which addresses fall onto one place.
    hasher: RandomState,
}

impl Paces {
    /// Makes a table in which everybody is at the beginning.
    #[must_use]
    pub fn new() -> Self {
        let places = (0..PLACES).map(|_| Pace::default()).collect();
        Self { places, rest: Pace::default(), hasher: RandomState::new() }
    }

    /// Finds whoever is at the other end.
    #[must_use]
    pub fn of(&self, peer: Option<&Peer>) -> &Pace {
        match peer {
            Some(Peer::Net(address)) => self.of_address(*address),
            Some(Peer::Local(user)) => self.of_user(user.uid),
            None => &self.rest,
        }
    }

    /// Finds an address; of IPv6 its network, for one machine has as many addresses there as it likes.
    fn of_address(&self, address: IpAddr) -> &Pace {
        match address.to_canonical() {
            IpAddr::V4(address) => self.at(self.hasher.hash_one(address.octets())),
            IpAddr::V6(address) => self.at(self.hasher.hash_one(address.to_bits() >> 64)),
        }
    }

    /// Finds a user of this machine.
    fn of_user(&self, uid: u32) -> &Pace {
        self.at(self.hasher.hash_one(("user", uid)))
    }

    fn at(&self, hash: u64) -> &Pace {
        let place = usize::try_from(hash % PLACES as u64).unwrap_or_default();
        self.places.get(place).unwrap_or(&self.rest)
    }
}

impl Default for Paces {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    #[test]
    fn so_many_come_at_once_and_then_one_at_a_time() {
        let (rate, pace) = (Rate::a_second(10, 3), Pace::default());
        for _ in 0..3 {
            assert_eq!(pace.admit(&rate, at(1_000)), Ok(()));
        }
        assert_eq!(pace.admit(&rate, at(1_000)), Err(Duration::from_millis(100)));
        assert_eq!(pace.admit(&rate, at(1_099)), Err(Duration::from_millis(1)));
        assert_eq!(pace.admit(&rate, at(1_100)), Ok(()));
        assert!(pace.admit(&rate, at(1_100)).is_err(), "what was refused earlier is not owed");
        for _ in 0..3 {
            assert_eq!(pace.admit(&rate, at(9_000)), Ok(()));
        }
        assert!(pace.admit(&rate, at(9_000)).is_err(), "what was not used is not saved beyond the burst");
    }

    #[test]
    fn one_stranger_does_not_use_up_what_another_may() {
        let (rate, paces) = (Rate::a_second(1, 1), Paces::new());
        let of = |text: &str| paces.of_address(text.parse().unwrap()).admit(&rate, at(0)).is_ok();
        assert!(of("192.0.2.1") && !of("192.0.2.1") && !of("::ffff:192.0.2.1"));
        // Of many others at most a few share the place.
        let free = (1..=200).filter(|n| of(&format!("198.51.100.{n}"))).count();
        assert!(free > 180, "{free}");
    }

    #[test]
    fn a_network_of_ipv6_is_one_stranger() {
        let paces = Paces::new();
        let of = |text: &str| std::ptr::from_ref(paces.of_address(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
    }
}
