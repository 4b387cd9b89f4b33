//! The networks that this machine is in, and which addresses are its own, found where no privilege and no netlink is needed: the
//! unit of the coordinator allows neither.
//!
//! Lists of networks leave out addresses that have none around them, such as those that move between machines. So the kernel is asked
//! too from where it would send to an address: to an own one, from that itself.
//! Outside facts: proc(5), /proc/net/route (hexadecimal, in the byte order of the machine) and /proc/net/if_inet6; the kernel's
//! net/ipv6/route.c on ipv6_route; ip(7): connecting a datagram socket sends nothing.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use rustix::io::Errno;

use crate::store::identity::Network;

/// Most that is read of each list, in bytes: thousands of routes.
const MAX_LIST: u64 = 1024 * 1024;

/// Any port: nothing is sent there.
const DISCARD: u16 = 9;
/// A route of IPv6 that leads over somebody else, and one that leads nowhere.
const ELSEWHERE: u32 = 0x0002 | 0x0200;

/// Lists the networks, and those of some addresses that are this machine's. Where that cannot be told, every network counts as one of
/// them: then only what the settings name is asked.
pub(super) fn networks(asked: &[IpAddr]) -> Vec<Network> {
    let Ok(mut networks) = listed() else {
        return vec![
            Network::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            Network::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        ];
    };
    let own = asked.iter().filter(|address| is_own(**address));
    networks.extend(own.map(|address| Network::new(*address, u32::MAX)));
    networks
}

fn listed() -> io::Result<Vec<Network>> {
    let read = |path: &str| {
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(MAX_LIST).read_to_string(&mut text)).map(|_len| text)
    };
    // A kernel without IPv6 has no such lists.
    let read_v6 = |path| match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text,
    };
    let (routes, addresses) = (read("/proc/self/net/route")?, read_v6("/proc/self/net/if_inet6")?);
    let near = read_v6("/proc/self/net/ipv6_route")?;
    Ok(routes_v4(&routes).chain(addresses_v6(&addresses)).chain(routes_v6(&near)).collect())
}

/// Tells whether an address is this machine's, whatever table or interface it stands in.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    match UdpSocket::bind((any, 0)) {
        Ok(socket) => {
            let sender = socket.connect((address, DISCARD)).and_then(|()| socket.local_addr());
            // Where nothing can be sent to, nobody is reached.
            sender.is_ok_and(|sender| sender.ip() == address)
        }
        // A machine without IPv6 has no such address; otherwise it cannot be told.
        Err(error) => Errno::from_io_error(&error) != Some(Errno::AFNOSUPPORT),
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

/// Picks the networks that are reached without a gateway; all tables are listed.
fn routes_v6(list: &str) -> impl Iterator<Item = Network> + '_ {
    list.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [network, bits, _, _, gateway, _, _, _, flags, _] = *fields else { return None };
        let address = |text: &str| {
            let text = Some(text).filter(|text| text.len() == 32)?;
            u128::from_str_radix(text, 16).ok().map(Ipv6Addr::from_bits)
        };
        let bits = u32::from_str_radix(bits, 16).ok().filter(|bits| *bits > 0)?;
        let leads_away = u32::from_str_radix(flags, 16).ok()? & ELSEWHERE != 0;
        let near = !leads_away && address(gateway)?.is_unspecified();
        near.then_some(Network::new(address(network)?.into(), bits))
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
    fn networks_of_ipv6_that_are_near_are_told_from_those_behind_a_gateway() {
        let none = "0".repeat(32);
        let line = |network: &str, bits: &str, gateway: &str, flags: &str| {
            format!(
                "{network:0<32} {bits} {none} 00 {gateway:0<32} 00000100 00000001 00000000 {flags}     eth0\n"
            )
        };
        let routes = [
            line("20010db800010002", "40", "0", "00000001"),
            line("20010db800010003", "80", "0", "80200001"),
            line("20010db8000f", "30", "fe8000000000000000000000000000aa", "00000003"),
            line("20010db8", "20", "0", "00200200"),
            line("0", "00", "0", "00000001"),
            "nonsense\n".to_owned(),
        ];
        let networks: Vec<_> = routes_v6(&routes.concat()).map(|network| network.to_string()).collect();
        assert_eq!(networks, ["2001:db8:1:2::/64", "2001:db8:1:3::/128"]);
    }

    #[test]
    fn this_machine_is_in_no_network_of_everybody_and_knows_its_own_addresses() {
        let own: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap()];
        let [with, without] = [networks(&own), networks(&["192.0.2.1".parse().unwrap()])];
        assert!(with.iter().all(|network| network.bits() > 0), "{with:?}");
        assert!(with.contains(&Network::new(own[0], 32)) && !without.contains(&Network::new(own[0], 32)));
        assert_eq!(with.len(), without.len() + 1, "no address of a book is ours");
    }
}
