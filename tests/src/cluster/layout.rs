//! What a cluster on loopback is before anything runs: settings and certificates, as files.

use std::fs;
use std::process::Command;

use anyhow::ensure;

use super::{COORDINATOR, Cluster};
use crate::programs;

impl Cluster {
    pub(super) fn write_settings(&self) -> anyhow::Result<()> {
        let folder = self.folder.display();
        let millis = self.plan.lease.as_millis();
        let mut partitions = String::from("[partition]\n");
        for (name, nodes) in &self.plan.partitions {
            partitions.push_str(&format!("{name} = {nodes:?}\n"));
        }
        fs::write(self.folder.join("partitions.toml"), partitions)?;
        let coordinator = format!(
            "state_dir = \"{folder}/state\"\nca_dir = \"{folder}/ca\"\n\n\
             [control]\nlisten = \"127.0.0.1:{}\"\nlease = \"{millis}ms\"\nheartbeat = \"{}ms\"\n\n\
             [http]\nlisten = \"127.0.0.1:{}\"\nsocket = \"{folder}/http.sock\"\n\n[partitions]\nfile = \"{folder}/partitions.toml\"\n",
            self.control,
            millis / 4,
            self.http
        );
        let library =
            self.plan.library.map(|_| format!("\n[library]\ndir = {:?}\n", self.library().display()));
        let coordinator = coordinator + &library.unwrap_or_default();
        fs::write(self.settings_path(COORDINATOR), coordinator)?;
        for node in &self.plan.nodes {
            fs::write(self.settings_path(node), self.agent_settings(node)?)?;
        }
        Ok(())
    }

    fn agent_settings(&self, node: &str) -> anyhow::Result<String> {
        let folder = self.folder.display();
        let mut roots = vec![(self.root(node), false)];
        roots.push((self.folder.join("nodes").join(node).join("scratch/apptainer"), false));
        if self.plan.library == Some(node) {
            roots.push((self.library(), true));
        }
        let mut text = format!(
            "coordinators = [\"127.0.0.1:{}\"]\nstate_dir = \"{folder}/nodes/{node}/state\"\n\n\
             [tls]\nauthority = \"{folder}/ca/ca.pem\"\ncertificate = \"{folder}/ca/nodes/{node}.pem\"\n\
             key = \"{folder}/ca/nodes/{node}.key\"\n\n\
             [transfer]\nlisten = \"127.0.0.1:0\"\nkeep_free = \"16MiB\"\n",
            self.control
        );
        for (path, library) in roots {
            fs::create_dir_all(&path)?;
            text.push_str(&format!("\n[[root]]\npath = {:?}\nlibrary = {library}\n", path.display()));
        }
        Ok(text)
    }

    pub(super) fn make_certificates(&self) -> anyhow::Result<()> {
        let mut program = Command::new(programs::own("sifleet-coordinator")?);
        let output =
            program.arg("--config").arg(self.settings_path(COORDINATOR)).args(["ca", "init"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "ca init: {said}");
        if self.plan.nodes.is_empty() { Ok(()) } else { self.issue(&self.plan.nodes.join(",")) }
    }
}
