//! Packets are as large as the network takes, in a network that takes jumbo frames and in one that does not.
//!
//! Real agents in namespaces; what is taken on a loopback tells nothing of this.

#![cfg(test)]

use std::process::Command;

use sifleet_tests::bench::swarm::{Swarm, World};
use sifleet_tests::programs::{find, missing};

/// What is left of the largest packet on the average, with acknowledgements and whatever else is small counted in.
const SHARE: f64 = 0.75;

/// Tells whether the test has to be skipped.
fn skipped(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return missing(test, "only root may make networks");
    }
    if let Some(program) = ["ip", "tc", "curl", "setpriv"].into_iter().find(|name| find(name).is_none()) {
        return missing(test, &format!("{program} is missing"));
    }
    // A container's root may be forbidden it; no package would help.
    let space = |verb| Command::new("ip").args(["netns", verb, "sf-probe"]).status();
    let made = space("add").is_ok_and(|status| status.success());
    let allowed = made && space("del").is_ok_and(|status| status.success());
    if !allowed {
        println!("skipped {test}: this machine forbids its root to make networks");
    }
    !allowed
}

#[test]
fn packets_are_as_large_as_the_network_takes() {
    if skipped("packets_are_as_large_as_the_network_takes") {
        return;
    }
    // Of 9,000 only 6,500 are used: ten packets of more are more than the kernel takes at once.
    for (mtu, largest) in [(1_500, 1_500), (9_000, 6_500)] {
        let world = World { nodes: 1, size: 32 << 20, rate: 400_000_000, mtu, ..World::default() };
        let outcome = Swarm::start(world).unwrap().measure().unwrap();
        println!("{mtu} bytes: packets of {:.0}", outcome.packet);
        let expected = SHARE * f64::from(largest);
        assert!(outcome.packet > expected, "with {mtu} bytes to a frame, packets have {:.0}", outcome.packet);
    }
}
