//! The baseline of every web server: nginx with a static answer of 200 bytes.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::programs;
use crate::wait::until;

/// Bytes of the answer's body.
pub const ANSWER: usize = 200;

/// Finds nginx.
///
/// # Errors
/// When it is not installed.
pub fn program() -> anyhow::Result<PathBuf> {
    let sbin = Path::new("/usr/sbin/nginx");
    let found = programs::find("nginx").or_else(|| sbin.is_file().then(|| sbin.to_owned()));
    found.context("nginx is missing: apt install nginx-light")
}

/// A running nginx; ended when dropped.
#[derive(Debug)]
pub struct Nginx {
    process: Child,
    port: u16,
}

impl Nginx {
    /// Starts nginx with a worker for each core, nothing logged and connections kept.
    ///
    /// # Errors
    /// When it is not installed, or does not answer.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = program()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = folder.join("nginx");
        fs::create_dir_all(&folder)?;
        let here = folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("  {kind}_temp_path {here}/{kind};\n"))
            .concat();
        let body = "x".repeat(ANSWER);
        let settings = format!(
            "daemon off;\nworker_processes auto;\npid {here}/pid;\nerror_log stderr crit;\n\
             events {{ worker_connections 1024; }}\nhttp {{\n{temporary}  access_log off;\n  \
             keepalive_requests 100000000;\n  server {{\n    listen 127.0.0.1:{port};\n    \
             location / {{ default_type application/json; return 200 \"{body}\"; }}\n  }}\n}}\n"
        );
        let path = folder.join("nginx.conf");
        fs::write(&path, settings)?;
        let process = Command::new(program)
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .spawn()
            .context("start nginx")?;
        let nginx = Self { process, port };
        until("nginx answers", Duration::from_secs(10), || ureq::get(nginx.url()).call())?;
        Ok(nginx)
    }

    /// Returns where it answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the process number of its master, whose children are the workers.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master takes its workers along only if it is asked to.
        drop(kill_process(Pid::from_child(&self.process), Signal::TERM).map(|()| self.process.wait()));
    }
}
