//! The baseline of every administrator: scp from an sshd of our own, with keys that are thrown away.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::programs;
use crate::wait::until;

/// How long it may take to come up.
const UP: Duration = Duration::from_secs(10);

/// A running sshd that lets its own user in; ended when dropped.
#[derive(Debug)]
pub struct Sshd {
    process: Child,
    port: u16,
    folder: PathBuf,
}

impl Sshd {
    /// Starts it on the loopback.
    ///
    /// # Errors
    /// When it is not installed, or does not listen.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = Path::new("/usr/sbin/sshd");
        ensure!(program.is_file(), "sshd is missing: apt install openssh-server");
        let folder = folder.join("sshd");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        for name in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(name));
            ensure!(keygen.status().context("ssh-keygen")?.success(), "ssh-keygen made no {name} key");
        }
        if rustix::process::geteuid().is_root() {
            // Where Debian's sshd locks itself in; its unit makes it.
            fs::create_dir_all("/run/sshd")?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let here = folder.display();
        let settings = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {here}/host\nAuthorizedKeysFile {here}/user.pub\nPidFile none\n\
             StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
        );
        fs::write(folder.join("sshd_config"), settings)?;
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
        let log = fs::File::create(folder.join("log"))?;
        let process = command.stdin(Stdio::null()).stderr(log).spawn().context("start sshd")?;
        let sshd = Self { process, port, folder };
        until("sshd listens", UP, || TcpStream::connect(("127.0.0.1", port)))?;
        Ok(sshd)
    }

    /// Returns a command that fetches a file by scp.
    #[must_use]
    pub fn fetch(&self, cipher: &str, from: &Path, to: &Path) -> Command {
        let mut scp = programs::find("scp").map_or_else(|| Command::new("scp"), Command::new);
        scp.args(["-q", "-c", cipher, "-P", &self.port.to_string(), "-i"]).arg(self.folder.join("user"));
        for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"] {
            scp.args(["-o", option]);
        }
        scp.args(["-F", "none"]).arg(format!("127.0.0.1:{}", from.display())).arg(to);
        scp
    }

    /// Returns the process number of the one that listens; those that serve are its children.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // It ends by itself only if somebody else ended it.
        drop(self.process.kill().and_then(|()| self.process.wait()));
    }
}
