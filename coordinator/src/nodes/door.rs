//! Whose first packets are not even looked at: for a moment, those from where somebody dials more often than he may.
//!
//! A handshake costs the coordinator more than anything else that a stranger can ask for, and comes before it is known who
//! asks. So a node that was turned away costs its address the next second. What is sent again after that, as QUIC
//! does by itself, is looked at. Pure: it is told the time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sifleet_common::time::Monotonic;

/// How long an address is not looked at.
const SHUT: Duration = Duration::from_secs(1);
/// Addresses that are remembered; beyond them, others are looked at.
const REMEMBERED: usize = 1_024;

/// The door that agents come in by; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Door(Arc<Mutex<BTreeMap<IpAddr, Monotonic>>>);

impl Door {
    /// Looks away from an address for a moment.
    pub fn shut(&self, address: IpAddr, now: Monotonic) {
        let mut shut = self.known();
        if shut.len() >= REMEMBERED {
            shut.retain(|_, until| *until > now);
        }
        if shut.len() < REMEMBERED {
            shut.insert(address, now.after(SHUT));
        }
    }

    /// Tells whether an address is not looked at.
    #[must_use]
    pub fn is_shut(&self, address: IpAddr, now: Monotonic) -> bool {
        self.known().get(&address).is_some_and(|until| *until > now)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Monotonic>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn an_address_is_shut_out_for_a_second_and_no_other_is() {
        let door = Door::default();
        door.shut(address(1), at(0));
        assert!(door.is_shut(address(1), at(999)) && !door.is_shut(address(2), at(0)));
        assert!(!door.is_shut(address(1), at(1_000)));
        door.shut(address(1), at(1_000));
        assert!(door.is_shut(address(1), at(1_999)));
    }

    #[test]
    fn a_crowd_takes_no_more_room_than_there_is_and_is_forgotten() {
        let door = Door::default();
        (0..5_000).for_each(|n| door.shut(address(n), at(0)));
        assert_eq!(door.known().len(), REMEMBERED);
        door.shut(address(9_999), at(1_000));
        assert!(door.is_shut(address(9_999), at(1_000)) && door.known().len() == 1);
    }
}
