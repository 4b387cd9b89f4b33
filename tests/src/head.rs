//! A coordinator alone: a library that nobody watches, HTTP over TLS on loopback, and a token for each role.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use sifleet_common::role::Role;

use crate::callers::Callers;
use crate::programs;
use crate::wait::until;

/// How long it may take to come up on a loaded machine.
const UP: Duration = Duration::from_secs(60);

/// A running coordinator; ended when dropped.
#[derive(Debug)]
pub struct Head {
    folder: PathBuf,
    port: u16,
    token: String,
    process: Child,
}

impl Head {
    /// Starts it with everything below `folder`, which is made anew; clients trust `web.pem` there.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder.join("library"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        fs::write(folder.join("web.pem"), made.cert.pem())?;
        fs::write(folder.join("web.key"), made.signing_key.serialize_pem())?;
        let at = folder.display();
        let settings = format!(
            "state_dir = \"{at}/state\"\n[control]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n\
             tls = {{ certificate = \"{at}/web.pem\", key = \"{at}/web.key\" }}\n[library]\ndir = \"{at}/library\"\n\
             [log]\noutput = \"stderr\"\n"
        );
        let file = folder.join("coordinator.toml");
        fs::write(&file, settings)?;
        let program = programs::own("sifleet-coordinator")?;
        let made = Command::new(&program).arg("--config").arg(&file).args(["ca", "init"]).output()?;
        ensure!(made.status.success(), "ca init: {}", String::from_utf8_lossy(&made.stderr));
        let callers = Callers::new(folder)?;
        callers.introduce(&folder.join("state"))?;
        let token = callers.bearer(Role::Operator).replace("Bearer ", "");
        let log = fs::File::create(folder.join("log"))?;
        let mut command = Command::new(&program);
        command.arg("--config").arg(&file).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().context("start the coordinator")?;
        let head = Self { folder: folder.to_owned(), port, token, process };
        until("the coordinator listens", UP, || TcpStream::connect(("127.0.0.1", port)).map(drop))?;
        Ok(head)
    }

    /// Returns its host and port: oras speaks plain HTTP with whatever is called localhost.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the secret of an operator.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Returns where an image of the library lies.
    #[must_use]
    pub fn library(&self, name: &str) -> PathBuf {
        self.folder.join("library").join(name)
    }

    /// Returns the process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Makes a curl that trusts it and asks as an operator.
    #[must_use]
    pub fn curl(&self) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--cacert"]).arg(self.folder.join("web.pem"));
        curl.args(["--user", &format!("me:{}", self.token)]);
        curl
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed; either way it is gone afterwards.
        drop(self.process.kill().and_then(|()| self.process.wait()));
    }
}
