//! A network of hosts on one machine: each is a namespace behind a link of its own, shaped both ways.
//!
//! Needs root, and `ip` and `tc` of Debian's iproute2. All hosts hang on one bridge, which is in a namespace too, so
//! nothing of this is seen outside and nothing outlives the [`Lan`].
//! Outside facts: ip-netns(8), veth(4), tc(8), tc-tbf(8): a bucket must hold what arrives within one tick of the timer.

use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, ensure};

/// The namespace with the bridge.
const SWITCH: &str = "sf-switch";
/// Bytes that a shaped link lets pass at once: two batches of packets.
const BURST: u32 = 128 * 1024;
/// How long packets may wait in front of a link, as in the buffers of a switch.
const QUEUE_MS: u32 = 50;

/// A network; it is gone when this is dropped.
#[derive(Debug)]
pub struct Lan {
    hosts: Vec<String>,
}

/// What has passed a link.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// With all headers.
    pub bytes: u64,
    /// As they are on a wire.
    pub packets: u64,
}

/// One link of a host.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Bits a second, each way; no limit if absent.
    pub rate: Option<u64>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Packets of a hundred that are lost on the way to the host.
    pub loss: u32,
}

impl Lan {
    /// Makes a network without hosts.
    ///
    /// # Errors
    /// When the caller is not root, or a program is missing.
    pub fn new() -> anyhow::Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "namespaces and shaped links need root");
        let lan = Self { hosts: Vec::new() };
        // One that was killed leaves them behind.
        for old in String::from_utf8_lossy(&run("ip", &["netns", "list"])?.stdout).lines() {
            if let Some(name) = old.split(' ').next().filter(|name| name.starts_with("sf-")) {
                run("ip", &["netns", "del", name])?;
            }
        }
        run("ip", &["netns", "add", SWITCH])?;
        run("ip", &["-n", SWITCH, "link", "add", "br0", "mtu", "9000", "type", "bridge"])?;
        run("ip", &["-n", SWITCH, "link", "set", "br0", "up"])?;
        // A switch has no firewall; the kernel's would be asked about every packet, at everybody's expense.
        let firewalls =
            "for asks in /proc/sys/net/bridge/bridge-nf-call-*; do ! test -e $asks || echo 0 >$asks; done";
        run("ip", &["netns", "exec", SWITCH, "sh", "-c", firewalls])?;
        Ok(lan)
    }

    /// Adds a host; returns its address.
    ///
    /// # Errors
    /// When the network is full, or the system refuses.
    pub fn add(&mut self, host: &str, link: Link) -> anyhow::Result<String> {
        let (space, port) = (namespace(host), format!("p-{host}"));
        let number = self.hosts.len() + 1;
        ensure!(number < 255, "the network has room for 254 hosts");
        let address = format!("10.77.0.{number}");
        run("ip", &["netns", "add", &space])?;
        self.hosts.push(host.to_owned());
        let mtu = link.mtu.to_string();
        let peer = ["peer", "name", "eth0", "mtu", &mtu, "netns", &space];
        run("ip", &[&["-n", SWITCH, "link", "add", &port, "mtu", &mtu, "type", "veth"][..], &peer].concat())?;
        run("ip", &["-n", SWITCH, "link", "set", &port, "master", "br0", "up"])?;
        run("ip", &["-n", &space, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        run("ip", &["-n", &space, "link", "set", "eth0", "up"])?;
        run("ip", &["-n", &space, "link", "set", "lo", "up"])?;
        if let Some(rate) = link.rate {
            shape(&space, "eth0", rate)?;
            shape(SWITCH, &port, rate)?;
        }
        if link.loss > 0 {
            lose(&space, link.loss)?;
        }
        Ok(address)
    }

    /// Returns a command that runs a program on a host.
    #[must_use]
    pub fn command(&self, host: &str, program: PathBuf) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace(host)]);
        // A network whose owner was killed is not to be haunted by programs.
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    /// Returns what has passed a host's shaped link so far, sent and received, with the headers of every packet: the
    /// interfaces' own counters take a batch for one packet.
    ///
    /// # Errors
    /// When the counters cannot be read, or the link has no rate.
    pub fn passed(&self, host: &str) -> anyhow::Result<(Passed, Passed)> {
        Ok((passed(&namespace(host), "eth0")?, passed(SWITCH, &format!("p-{host}"))?))
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for space in self.hosts.iter().map(|host| namespace(host)).chain([SWITCH.to_owned()]) {
            // One that is gone already is what we want.
            drop(run("ip", &["netns", "del", &space]));
        }
    }
}

fn namespace(host: &str) -> String {
    format!("sf-{host}")
}

fn shape(space: &str, device: &str, rate: u64) -> anyhow::Result<()> {
    let (rate, burst, queue) = (format!("{rate}bit"), BURST.to_string(), format!("{QUEUE_MS}ms"));
    let bucket = ["root", "tbf", "rate", &rate, "burst", &burst, "latency", &queue];
    run("tc", &[&["-n", space, "qdisc", "add", "dev", device][..], &bucket].concat()).map(drop)
}

/// Returns what a shaped device has sent.
fn passed(space: &str, device: &str) -> anyhow::Result<Passed> {
    let output = run("tc", &["-n", space, "-s", "-j", "qdisc", "show", "dev", device])?;
    let queues: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let counted = |name: &str| {
        queues[0][name].as_u64().with_context(|| format!("{device} in {space} is not shaped: {queues}"))
    };
    Ok(Passed { bytes: counted("bytes")?, packets: counted("packets")? })
}

/// Drops a share of what arrives at a host.
fn lose(space: &str, percent: u32) -> anyhow::Result<()> {
    let rules = format!(
        "table netdev loss {{ chain in {{ type filter hook ingress device eth0 priority 0; \
         numgen random mod 100 < {percent} drop; }}; }}"
    );
    run("ip", &["netns", "exec", space, "nft", &rules]).map(drop)
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), said.trim());
    Ok(output)
}
