//! What casync needs for the next version of an image: what its store gives out, and what crosses a node's link for it.
//!
//! The store holds the chunks of both versions, compressed; a node that has the old one as its seed gets the index and the
//! chunks that it lacks over HTTP from nginx. Both have no encryption.
//! Outside facts: casync(1); its protocol helper casync-http asks for one chunk at a time over one connection.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::swarm::HEAD;
use crate::lan::{Lan, Link};
use crate::wait::until;

/// A node of the network.
const NODE: &str = "n001";
/// Where nginx listens.
const PORT: u16 = 8_080;
/// Bytes of a chunk on the average: casync's own default, and ours.
const CHUNK: u32 = 65_536;

/// Bytes for one node.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// The new chunks, as compressed in the store, and the index.
    pub stored: f64,
    /// All that the node received behind its link, with the headers of every packet.
    pub wire: f64,
}

/// Has a node that has the old image get the new one behind a link of so many bits a second.
///
/// # Errors
/// When a program is missing or fails, or what the node got is not the new image.
pub fn download(folder: &Path, old: &Path, new: &Path, rate: u64) -> anyhow::Result<Bytes> {
    let folder = folder.join("casync");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let store = Store { folder };
    let (before, _) = store.make(old)?;
    let (after, index) = store.make(new)?;
    let wire = store.extract(old, new, rate)?;
    fs::remove_dir_all(&store.folder)?;
    Ok(Bytes { stored: (after - before + index) as f64, wire: wire as f64 })
}

struct Store {
    folder: PathBuf,
}

impl Store {
    fn chunks(&self) -> PathBuf {
        self.folder.join("default.castr")
    }

    fn index(&self) -> PathBuf {
        self.folder.join("image.caibx")
    }

    /// Cuts an image; returns the bytes of all chunks and those of the index.
    fn make(&self, image: &Path) -> anyhow::Result<(u64, u64)> {
        let mut casync = Command::new("casync");
        casync.arg("make").arg(format!("--store={}", self.chunks().display()));
        casync.arg(format!("--chunk-size={CHUNK}")).arg(self.index()).arg(image).stdout(Stdio::null());
        let status = casync.status().context("casync is missing: apt install casync")?;
        ensure!(status.success(), "casync make failed");
        let mut bytes = 0;
        for folder in fs::read_dir(self.chunks())? {
            for chunk in fs::read_dir(folder?.path())? {
                bytes += chunk?.metadata()?.len();
            }
        }
        Ok((bytes, fs::metadata(self.index())?.len()))
    }

    /// Returns the bytes that a node received.
    fn extract(&self, old: &Path, new: &Path, rate: u64) -> anyhow::Result<u64> {
        let mut lan = Lan::new()?;
        let link = Link { rate: Some(rate), mtu: 1_500, loss: 0 };
        let (head, _) = (lan.add(HEAD, link)?, lan.add(NODE, link)?);
        let _server = self.serve(&lan, &head)?;
        let got = self.folder.join("got.sif");
        let before = lan.passed(NODE)?.1.bytes;
        let mut casync = lan.command(NODE, "casync".into());
        casync.arg("extract").arg(format!("--store=http://{head}:{PORT}/default.castr"));
        casync.arg(format!("--seed={}", old.display())).arg(format!("http://{head}:{PORT}/image.caibx"));
        let ended = casync.arg(&got).stdin(Stdio::null()).output()?;
        ensure!(ended.status.success(), "casync extract: {}", String::from_utf8_lossy(&ended.stderr));
        let received = lan.passed(NODE)?.1.bytes - before;
        ensure!(hash(&got)? == hash(new)?, "casync made another image");
        Ok(received)
    }

    fn serve(&self, lan: &Lan, head: &str) -> anyhow::Result<Server> {
        let here = self.folder.display();
        let settings = format!(
            "user root;\ndaemon off;\nmaster_process off;\npid {here}/pid;\nerror_log stderr crit;\nevents {{}}\nhttp {{\n  access_log off;\n  \
             keepalive_requests 1000000;\n  server {{ listen {head}:{PORT}; root {here}; }}\n}}\n"
        );
        let path = self.folder.join("nginx.conf");
        fs::write(&path, settings)?;
        let mut nginx = lan.command(HEAD, super::nginx::program()?);
        let server = Server(nginx.arg("-c").arg(path).stdin(Stdio::null()).spawn().context("start nginx")?);
        until("nginx answers", Duration::from_secs(10), || {
            let url = format!("http://{head}:{PORT}/image.caibx");
            let answer =
                lan.command(HEAD, "curl".into()).args(["-fsSI", &url]).stdin(Stdio::null()).output()?;
            ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
            anyhow::Ok(())
        })?;
        Ok(server)
    }
}

/// A program that is ended when this is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

fn hash(file: &Path) -> anyhow::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(file)?)?;
    Ok(hasher.finalize())
}
