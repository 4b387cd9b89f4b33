//! The same image through the same kind of network by other programs: BitTorrent (aria2), a chain of netcats that hand
//! on what they write, and an rsync daemon that everybody reads from.
//!
//! Each gets a network of its own, shaped like the one that [`super::swarm`] measures in. Nothing here is sifleet.
//! Outside facts: aria2c(1), BEP 3 (metainfo, pieces by SHA-1), whose trackers may answer with a list of peers, nc(1).

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::report::number;
use super::swarm::{HEAD, IMAGE, World};
use crate::lan::{Lan, Link};
use crate::programs;
use crate::sif::SifBuilder;
use crate::wait::{pause, until};

/// Bytes of a piece: what a span of ours holds.
const PIECE: usize = 256 * 1024;
/// A port of every host.
const PORT: u16 = 6_881;
/// Where the first host tells who there is.
const TRACKER: u16 = 6_969;

/// What BitTorrent has to know.
const TORRENT: &str = "bench.torrent";

/// Another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// BitTorrent.
    Aria2,
    /// Every node writes what comes and passes it to the next.
    Chain,
    /// Every node reads from the first.
    Rsync,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aria2, Self::Chain, Self::Rsync];

    /// Returns what it is called, and the package of Debian that brings it.
    #[must_use]
    pub const fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Aria2 => ("aria2c", "aria2"),
            Self::Chain => ("nc", "netcat-openbsd"),
            Self::Rsync => ("rsync", "rsync"),
        }
    }
}

/// What runs, and is gone when this is dropped.
struct Running {
    lan: Lan,
    folder: PathBuf,
    children: Vec<Child>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Measures one program; returns a line that says how it went.
///
/// # Errors
/// When it cannot be started, or does not end within twenty times what one link takes for each node.
pub fn measure(program: Program, world: &World) -> anyhow::Result<String> {
    let folder = programs::workspace().join("target/clusters/peers");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join(HEAD))?;
    let mut lan = Lan::new()?;
    let link = Link { rate: Some(world.rate), mtu: world.mtu, loss: 0 };
    let head = lan.add(HEAD, link)?;
    let names: Vec<String> = (1..=world.nodes).map(|n| format!("n{n:03}")).collect();
    let mut addresses = Vec::new();
    for name in &names {
        addresses.push(lan.add(name, link)?);
        fs::create_dir_all(folder.join(name))?;
    }
    SifBuilder::new().payload_bytes(world.size, 7).write(folder.join(HEAD).join(IMAGE))?;
    let mut running = Running { lan, folder, children: Vec::new() };
    let (used, sent) = (of_children()?, running.lan.passed(HEAD)?.0.bytes);
    let begun = Instant::now();
    match program {
        Program::Aria2 => running.aria2(&names, &head, &addresses)?,
        Program::Chain => running.chain(&names, &addresses)?,
        Program::Rsync => running.rsync(&names, &head)?,
    }
    let link = Duration::from_secs_f64(f64::from(world.size) * 8.0 / world.rate as f64);
    let mut left = names;
    while !left.is_empty() {
        ensure!(begun.elapsed() < link * 20, "{} nodes have nothing", left.len());
        left.retain(|name| !running.has(name, world.size));
        pause(Duration::from_millis(50));
    }
    let took = begun.elapsed().as_secs_f64() / link.as_secs_f64();
    let copies = (running.lan.passed(HEAD)?.0.bytes - sent) as f64 / f64::from(world.size);
    running.end();
    let gigabytes = f64::from(world.size) * world.nodes as f64 / 1e9;
    let used = (of_children()? - used).as_secs_f64() / gigabytes;
    Ok(format!(
        "{}: last {} × S/B; first source sent {} × S; {} s of processor a GB",
        program.name().0,
        number(took),
        number(copies),
        number(used)
    ))
}

impl Running {
    fn end(&mut self) {
        for child in &mut self.children {
            // One that has ended by itself cannot be killed.
            drop(child.kill().and_then(|()| child.wait()));
        }
    }

    /// Tells whether a node has the whole image.
    fn has(&self, node: &str, size: u32) -> bool {
        let image = self.folder.join(node).join(IMAGE);
        // It writes in any order, and tells when it is complete.
        let is_torrent = self.folder.join(TORRENT).exists();
        let told = !is_torrent || self.folder.join(node).join("done").exists();
        told && fs::metadata(image).is_ok_and(|found| found.len() >= u64::from(size))
    }

    fn start(&mut self, host: &str, mut command: Command) -> anyhow::Result<()> {
        let log = File::create(self.folder.join(format!("{host}.log")))?;
        fs::create_dir_all(self.folder.join(host))?;
        command.current_dir(self.folder.join(host)).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        self.children.push(command.spawn().with_context(|| format!("start on {host}"))?);
        Ok(())
    }

    fn aria2(&mut self, names: &[String], head: &str, addresses: &[String]) -> anyhow::Result<()> {
        let torrent = self.folder.join(TORRENT);
        fs::write(&torrent, metainfo(&self.folder.join(HEAD).join(IMAGE), head)?)?;
        let told = self.folder.join("complete");
        fs::write(&told, "#!/bin/sh\n: >done\n")?;
        fs::set_permissions(told, fs::Permissions::from_mode(0o755))?;
        self.tracker(head, addresses)?;
        for host in std::iter::once(HEAD).chain(names.iter().map(String::as_str)) {
            let mut command = self.lan.command(host, "aria2c".into());
            command.args(["--no-conf", "--enable-dht=false", "--enable-dht6=false", "--seed-ratio=0"]);
            command.args(["--file-allocation=none", "--bt-max-peers=0"]);
            command.args(["--bt-seed-unverified=true", "--allow-overwrite=true", "--summary-interval=0"]);
            command
                .args([
                    "--quiet=true",
                    "--on-bt-download-complete=../complete",
                    &format!("--listen-port={PORT}"),
                ])
                .arg(&torrent);
            self.start(host, command)?;
        }
        Ok(())
    }

    /// Tells everybody at once who there is; who has what they tell one another.
    fn tracker(&mut self, head: &str, addresses: &[String]) -> anyhow::Result<()> {
        let peer = |address: &str| {
            format!("d2:ip{}:{address}7:peer id20:--------------------4:porti{PORT}ee", address.len())
        };
        let peers: String =
            std::iter::once(head).chain(addresses.iter().map(String::as_str)).map(peer).collect();
        let here = self.folder.display();
        let settings = format!(
            "daemon off;\nmaster_process off;\npid {here}/pid;\nerror_log stderr crit;\nevents {{}}\nhttp {{\n  access_log off;\n  \
             server {{ listen {head}:{TRACKER}; location / {{ return 200 \"d8:intervali600e5:peersl{peers}ee\"; }} }}\n}}\n"
        );
        let path = self.folder.join("tracker.conf");
        fs::write(&path, settings)?;
        let mut command = self.lan.command(HEAD, super::nginx::program()?);
        command.arg("-c").arg(path);
        self.start("tracker", command)?;
        // A client that finds nobody here comes back only after a minute.
        until("the tracker answers", Duration::from_secs(10), || {
            let url = format!("http://{head}:{TRACKER}/announce");
            let answer = self.lan.command(HEAD, "curl".into()).args(["-fsS", &url]).output()?;
            ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
            anyhow::Ok(())
        })
        .map(drop)
    }

    fn chain(&mut self, names: &[String], addresses: &[String]) -> anyhow::Result<()> {
        // From the end, so that everybody finds somebody listening.
        for (at, name) in names.iter().enumerate().rev() {
            let onward = addresses.get(at + 1).map(|next| hand_on(next)).unwrap_or_default();
            let line = if onward.is_empty() {
                format!("nc -l {PORT} > {IMAGE}")
            } else {
                format!("nc -l {PORT} | tee {IMAGE} | {onward}")
            };
            self.shell(name, &line)?;
        }
        let first = addresses.first().context("no nodes")?;
        self.shell(HEAD, &format!("{} < {IMAGE}", hand_on(first)))
    }

    fn rsync(&mut self, names: &[String], head: &str) -> anyhow::Result<()> {
        let settings = self.folder.join("rsyncd.conf");
        let here = self.folder.join(HEAD);
        fs::write(&settings, format!("use chroot = no\n[images]\npath = {}\n", here.display()))?;
        let mut daemon = self.lan.command(HEAD, "rsync".into());
        daemon.args(["--daemon", "--no-detach", &format!("--port={PORT}")]).arg("--config").arg(settings);
        self.start(HEAD, daemon)?;
        for name in names {
            let read = format!("rsync --whole-file rsync://{head}:{PORT}/images/{IMAGE} .");
            self.shell(name, &format!("until {read}; do sleep 0.1; done"))?;
        }
        Ok(())
    }

    fn shell(&mut self, host: &str, line: &str) -> anyhow::Result<()> {
        let mut command = self.lan.command(host, "sh".into());
        command.args(["-c", line]);
        self.start(host, command)
    }
}

/// Sends standard input on, as soon as somebody listens.
fn hand_on(address: &str) -> String {
    format!("(until nc -N {address} {PORT}; do sleep 0.1; done)")
}

/// Writes what BitTorrent has to know of a file.
fn metainfo(file: &Path, tracker: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(file)?;
    let hash = |piece| ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, piece);
    let pieces: Vec<u8> = bytes.chunks(PIECE).flat_map(|piece| hash(piece).as_ref().to_vec()).collect();
    let (size, name) = (bytes.len(), IMAGE.len());
    let announce = format!("http://{tracker}:{TRACKER}/announce");
    let mut text = format!(
        "d8:announce{}:{announce}4:infod6:lengthi{size}e4:name{name}:{IMAGE}12:piece lengthi{PIECE}e6:pieces{}:",
        announce.len(),
        pieces.len(),
    )
    .into_bytes();
    text.extend(pieces);
    text.extend(b"ee");
    Ok(text)
}

/// Returns the processor time of all programs that this one has started and that have ended.
fn of_children() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit_once(')').context("no name")?.1;
    let ticks = after.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok());
    // A tick is 10 ms on every architecture we build for: sysconf(3) calls it _SC_CLK_TCK.
    Ok(Duration::from_millis(10 * ticks.sum::<u64>()))
}
