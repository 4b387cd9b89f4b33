//! The networks that this machine is in, read where no privilege and no netlink is needed: the unit of the coordinator allows neither.
//!
//! Outside facts: proc(5), /proc/net/route (hexadecimal, in the byte order of the machine) and /proc/net/if_inet6.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::store::identity::Network;

/// Most that is read of each list, in bytes: thousands of routes.
const MAX_LIST: u64 = 1024 * 1024;

/// Lists the networks. Where that cannot be told, every network counts as one of them: then only what the settings name is asked.
pub(super) fn networks() -> Vec<Network> {
    let read = |path: &str| {
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(MAX_LIST).read_to_string(&mut text)).map(|_len| text)
    };
    match (read("/proc/self/net/route"), read("/proc/self/net/if_inet6")) {
        (Ok(routes), Ok(addresses)) => routes_v4(&routes).chain(addresses_v6(&addresses)).collect(),
        // A kernel without IPv6 has no such list.
        (Ok(routes), Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            routes_v4(&routes).collect()
        }
        _ => {
            vec![Network::new(Ipv4Addr::UNSPECIFIED.into(), 0), Network::new(Ipv6Addr::UNSPECIFIED.into(), 0)]
        }
    }
}

/// Picks the networks that are reached without a gateway. A default route without one says nothing of what is near.
fn routes_v4(list: &str) -> impl Iterator<Item = Network> + '_ {
    list.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let mut address = || u32::from_str_radix(fields.next()?, 16).ok().map(u32::to_ne_bytes);
        let (network, gateway) = (address()?, address()?);
        let mask = line.split_whitespace().nth(7)?;
        let bits = u32::from_str_radix(mask, 16).ok()?.count_ones();
        let near = gateway == [0; 4] && bits > 0;
        near.then(|| Network::new(IpAddr::V4(network.into()), bits))
    })
}

/// Reads address and length of the network of each interface.
fn addresses_v6(list: &str) -> impl Iterator<Item = Network> + '_ {
    list.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next().filter(|text| text.len() == 32)?, 16).ok()?;
        let bits = u32::from_str_radix(fields.nth(1)?, 16).ok().filter(|bits| *bits > 0)?;
        Some(Network::new(IpAddr::V6(Ipv6Addr::from_bits(address)), bits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_the_kernel_lists_them() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\nnonsense\n";
        let networks: Vec<_> = routes_v4(routes).map(|network| network.to_string()).collect();
        assert_eq!(networks, ["10.0.0.0/16"], "on a machine of little byte order");
        let addresses = "fe80000000000000021122fffe334455 02 40 20 80     eth0\n\
            20010db8000100020000000000000005 02 40 00 80     eth0\n00 02 40\n";
        let networks: Vec<_> = addresses_v6(addresses).collect();
        assert_eq!(networks.len(), 2);
        assert!(networks[1].holds("2001:db8:1:2::77".parse().unwrap()));
        assert!(!networks[1].holds("2001:db8:1:3::77".parse().unwrap()));
    }

    #[test]
    fn this_machine_is_in_no_network_of_everybody() {
        let networks = networks();
        assert!(networks.iter().all(|network| network.bits() > 0), "{networks:?}");
    }
}
