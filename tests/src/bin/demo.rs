//! `cargo demo`: a whole cluster on this machine, and the bug Sifleet was born from, solved before your eyes.
//!
//! Real processes on loopback: a coordinator, the head node's agent with a library, compute001-003 and
//! viz001-002; images are pushed between them. `--once` tells the story and ends; without it the cluster stays up to be
//! played with. Every claim on the screen is checked; one that does not hold ends the demo with an error.

use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal, Read as _};
use std::process::{ExitCode, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use sifleet_common::role::Role;
use sifleet_tests::cluster::{Cluster, LIMIT, Plan, ended_with};
use sifleet_tests::programs;
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::{pause, until};

const LEASE: Duration = Duration::from_secs(6);
const NODES: [&str; 6] = ["head", "compute001", "compute002", "compute003", "viz001", "viz002"];

const USAGE: &str = "\
usage: cargo demo [--once]

Tells the story of Sifleet on a cluster of real processes on this machine; then the cluster stays up to be played with,
until Ctrl-C. With --once it ends by itself.";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let once = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--once"] => true,
        other => {
            say(USAGE);
            let asked = matches!(other, ["--help" | "-h"]);
            return Ok(if asked { ExitCode::SUCCESS } else { ExitCode::from(2) });
        }
    };
    say("Building the programs (the first time takes some minutes) ...");
    programs::own("sifleet")?;
    let mut demo = Demo { cluster: start()? };
    demo.founding_bug()?;
    demo.copy_and_delete()?;
    demo.drift()?;
    demo.lost_node()?;
    demo.push()?;
    demo.killed_while_fetching()?;
    demo.next_version()?;
    if once {
        say("\nEverything above was checked. That is the demo.");
        return Ok(ExitCode::SUCCESS);
    }
    demo.stay()?;
    Ok(ExitCode::SUCCESS)
}

fn start() -> anyhow::Result<Cluster> {
    say("Starting a coordinator and 6 agents as separate processes on loopback ...");
    let partitions = BTreeMap::from([("compute", "compute[001-003]"), ("viz", "viz[001-002]")]);
    let plan = Plan { name: "demo", partitions, nodes: NODES.to_vec(), library: Some("head"), lease: LEASE };
    let cluster = Cluster::lay_out(plan.clone())?;
    let openfoam =
        SifBuilder::new().label("org.opencontainers.image.title", "OpenFOAM").payload_bytes(8 << 20, 1);
    fs::create_dir_all(cluster.library().join("compute"))?;
    openfoam.write(cluster.library().join("compute/openfoam_v2312.sif"))?;
    for node in ["compute001", "compute002", "compute003"] {
        openfoam.write(cluster.root(node).join("openfoam_v2312.sif"))?;
    }
    let desktop =
        SifBuilder::new().label("org.opencontainers.image.title", "VNC desktop").payload_bytes(4 << 20, 2);
    desktop.write(cluster.root("viz001").join("vnc_desktop.sif"))?;
    fs::create_dir_all(cluster.library().join("viz"))?;
    fs::write(
        cluster.library().join("viz/vnc_desktop.sif.json"),
        r#"{"name": "VNC desktop", "icon": "monitor"}"#,
    )?;
    let mut cluster = cluster;
    cluster.start_all()?;
    cluster.wait_for_nodes("openfoam_v2312", "compute", &[("ready", "compute[001-003]")])?;
    Ok(cluster)
}

struct Demo {
    cluster: Cluster,
}

impl Demo {
    fn founding_bug(&self) -> anyhow::Result<()> {
        title("The bug Sifleet was born from");
        let asked = self.cluster.library().join("viz/vnc_desktop.sif");
        say("vnc_desktop.sif lies on viz001 only; the head node has just its sidecar, vnc_desktop.sif.json.");
        say(&format!(
            "What the dashboard used to do:\n  os.path.exists(\"…/library/viz/vnc_desktop.sif\") on the head node  ->  {}",
            asked.exists()
        ));
        ensure!(!asked.exists(), "the head node must not hold the image");
        say("  ... so users saw an empty list and \"Image file not found\".\nWhat it does from today on:");
        self.cluster.wait_for_nodes("vnc_desktop", "viz", &[("ready", "viz001"), ("missing", "viz002")])?;
        self.sifleet(&["available", "vnc_desktop", "-p", "viz"], 3)?;
        self.sifleet(&["available", "vnc_desktop", "-p", "viz", "--require", "any"], 0)
    }

    fn copy_and_delete(&self) -> anyhow::Result<()> {
        title("The answers follow the disks");
        say("$ cp viz001:/opt/apptainers/vnc_desktop.sif viz002:/opt/apptainers/");
        let (from, to) = (self.cluster.root("viz001"), self.cluster.root("viz002"));
        fs::copy(from.join("vnc_desktop.sif"), to.join("vnc_desktop.sif"))?;
        let took = self.cluster.wait_for_nodes("vnc_desktop", "viz", &[("ready", "viz[001-002]")])?;
        say(&format!("  {:.1} s later:", took.as_secs_f64()));
        self.sifleet(&["available", "vnc_desktop", "-p", "viz"], 0)?;
        say("$ rm viz001:/opt/apptainers/vnc_desktop.sif");
        fs::remove_file(from.join("vnc_desktop.sif"))?;
        let took = self.cluster.wait_for_nodes(
            "vnc_desktop",
            "viz",
            &[("ready", "viz002"), ("missing", "viz001")],
        )?;
        say(&format!("  {:.1} s later:", took.as_secs_f64()));
        self.sifleet(&["available", "vnc_desktop", "-p", "viz"], 3)
    }

    fn drift(&self) -> anyhow::Result<()> {
        title("Somebody rebuilds an image on one node by hand");
        let other =
            SifBuilder::new().label("org.opencontainers.image.title", "OpenFOAM").payload_bytes(8 << 20, 3);
        let file = self.cluster.root("compute002").join("openfoam_v2312.sif");
        let staged = file.with_file_name(".openfoam_v2312.sif.part");
        other.write(&staged)?;
        fs::rename(&staged, &file)?;
        self.cluster.wait_for_nodes("openfoam_v2312", "compute", &[("outdated", "compute002")])?;
        self.sifleet(&["drift"], 0)?;
        self.sifleet(&["available", "openfoam_v2312", "-p", "compute"], 3)
    }

    fn lost_node(&mut self) -> anyhow::Result<()> {
        title("A node dies without a word (kill -9)");
        self.cluster.kill("viz002")?;
        let took = self.cluster.wait_for_nodes("vnc_desktop", "viz", &[("unknown", "viz002")])?;
        ensure!(took <= LEASE + Duration::from_secs(2), "the lease was to end within {LEASE:?}");
        say(&format!(
            "  {:.1} s later its lease of {} s is over. Unknown is not missing, and never \"yes\":",
            took.as_secs_f64(),
            LEASE.as_secs()
        ));
        self.sifleet(&["available", "vnc_desktop", "-p", "viz", "--require", "any"], 3)?;
        let before = self.cluster.log("viz002").len();
        self.cluster.start_agent("viz002")?;
        self.cluster.wait_for_nodes("vnc_desktop", "viz", &[("ready", "viz002"), ("missing", "viz001")])?;
        let read = bytes_read(self.cluster.log("viz002").get(before..).unwrap_or_default());
        ensure!(read == 0, "the agent read {read} bytes of images it knew");
        say(&format!("It comes back, and has read {read} bytes of images, for it remembers their digests:"));
        self.sifleet(&["node", "ls"], 0)
    }

    fn push(&self) -> anyhow::Result<()> {
        title("An image goes to a partition: one command, no ssh");
        let image = self.software("paraview_v5.sif", &software(4))?;
        self.watched(&["push", &image, "-p", "viz"])?;
        self.sifleet(&["available", "paraview_v5", "-p", "viz"], 0)?;
        say("What would it take to have it on the compute nodes as well?");
        self.sifleet(&["push", "paraview_v5", "-p", "compute", "--dry-run"], 0)
    }

    fn killed_while_fetching(&mut self) -> anyhow::Result<()> {
        title("A node is killed (kill -9) while it fetches, and pulled back in");
        let image = self.software("blender_v4.sif", &software(5))?;
        let arguments = ["push", &image, "-p", "viz", "--rate", "8MB", "--progress", "json"];
        let mut command = self.cluster.command(&arguments)?;
        say(&format!("$ sifleet {}", arguments.join(" ")));
        let pushing = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("run sifleet")?;
        until("viz001 has some of the image", LIMIT, || {
            let list = self.cluster.get("/v1/pushes")?;
            let push = list["pushes"][0].clone();
            ensure!(push["image"] == "blender_v4.sif", "{push}");
            let id = push["id"].as_str().unwrap_or_default();
            let nodes = self.cluster.get(&format!("/v1/pushes/{id}/nodes"))?;
            let list = nodes["nodes"].as_array().cloned().unwrap_or_default();
            let viz001 = list.into_iter().find(|node| node["node"] == "viz001").unwrap_or_default();
            ensure!(viz001["fetched"].as_u64() > Some(4_000_000), "{viz001}");
            anyhow::Ok(())
        })?;
        self.cluster.kill("viz001")?;
        say("$ kill -9 viz001's agent, in the middle of it");
        self.cluster.wait_for_state("viz001", "offline")?;
        self.cluster.start_agent("viz001")?;
        let output = pushing.wait_with_output()?;
        ended_with(&output, 0)?;
        let list = self.cluster.get("/v1/pushes")?;
        let id = list["pushes"][0]["id"].as_str().unwrap_or_default().to_owned();
        let resumed = list["pushes"][0]["bytes"]["resumed"].as_u64().unwrap_or(0);
        say(&format!(
            "It came back, found {resumed} bytes that it had verified before, and fetched the rest:"
        ));
        ensure!(resumed >= 4_000_000, "only {resumed} bytes were found again");
        self.sifleet(&["push", "show", &id, "--nodes"], 0)
    }

    fn next_version(&self) -> anyhow::Result<()> {
        title("The next version: only what is new travels");
        let mut next = software(4);
        let middle = next.len() / 2;
        for (byte, new) in next.iter_mut().zip(software(6)).skip(middle).take(600_000) {
            *byte = new;
        }
        let image = self.software("paraview_v6.sif", &next)?;
        self.watched(&["push", &image, "-p", "viz"])?;
        let list = self.cluster.get("/v1/pushes")?;
        let bytes = &list["pushes"][0]["bytes"];
        let of = |what: &str| bytes[what].as_u64().unwrap_or(0);
        let all = 2 * next.len() as u64;
        say(&format!(
            "  {} of {all} bytes came over the network; {} were on the nodes already, in paraview_v5.sif",
            of("fetched"),
            of("reused")
        ));
        ensure!(of("fetched") < all / 10 && of("reused") > all * 9 / 10, "{bytes}");
        Ok(())
    }

    /// Makes an image on the admin's machine.
    fn software(&self, name: &str, bytes: &[u8]) -> anyhow::Result<String> {
        let folder = self.cluster.folder().join("home");
        fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        fs::write(&path, bytes)?;
        Ok(path.display().to_string())
    }

    /// Runs a command that shows how it goes: with bars on a terminal, in lines elsewhere.
    fn watched(&self, arguments: &[&str]) -> anyhow::Result<()> {
        if !std::io::stdout().is_terminal() {
            return self.sifleet(arguments, 0);
        }
        say(&format!("$ sifleet {}", arguments.join(" ")));
        let status = self.cluster.command(arguments)?.status().context("run sifleet")?;
        ensure!(status.success(), "sifleet {arguments:?} ended with {status}");
        Ok(())
    }

    /// Runs the command line, shows what it says and checks how it ends.
    fn sifleet(&self, arguments: &[&str], code: i32) -> anyhow::Result<()> {
        say(&format!("$ sifleet {}", arguments.join(" ")));
        // One pipe for both, so that what is told stands in the order in which it was told.
        let (mut told, writer) = std::io::pipe()?;
        let mut command = self.cluster.command(arguments)?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut running = command.spawn().context("run sifleet")?;
        drop(command);
        let mut stderr = Vec::new();
        told.read_to_end(&mut stderr)?;
        let output = Output { status: running.wait()?, stdout: Vec::new(), stderr };
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            say(&format!("  {line}"));
        }
        say(&format!("  (exit {})", output.status.code().unwrap_or(-1)));
        ended_with(&output, code)
    }

    fn stay(self) -> anyhow::Result<()> {
        let cluster = &self.cluster;
        title("The cluster stays up; end it with Ctrl-C");
        let program = programs::own("sifleet")?;
        say(&format!("export SIFLEET_URL={}", cluster.url()));
        let file = |role| cluster.callers().file(role).display().to_string();
        say(&format!("export SIFLEET_TOKEN_FILE={}", file(Role::Admin)));
        say(&format!("alias sifleet={}", program.display()));
        say("Try:");
        say("  sifleet image ls; sifleet image show openfoam_v2312; sifleet partition show viz");
        say("  sifleet push paraview_v5 -p compute --rate 5M --detach; sifleet top   # q ends it");
        say("  sifleet push ls; sifleet push blender_v4 -p compute --dry-run");
        say("  sifleet limits set --total 50M; sifleet limits show; sifleet limits set --total none");
        say("  sifleet image rm paraview_v5 -p compute");
        say("  sifleet events &   # then change something:");
        say(&format!(
            "  cp {0}/openfoam_v2312.sif {1}/",
            cluster.root("compute001").display(),
            cluster.root("viz001").display()
        ));
        say("  sifleet token create --role viewer --name dashboard; sifleet token ls; sifleet audit");
        say(&format!(
            "  curl -H \"Authorization: Bearer $(cat {})\" '{}/v1/availability?image=openfoam_v2312&partition=viz'",
            file(Role::Viewer),
            cluster.url()
        ));
        say(&format!("  a browser at {}/docs", cluster.url()));
        until("the coordinator answers", Duration::from_secs(10), || cluster.get("/healthz"))
            .context("the cluster is gone")?;
        loop {
            pause(Duration::from_secs(3_600));
        }
    }
}

/// Returns what software looks like to whoever moves it: incompressible, and different for every seed.
fn software(seed: u64) -> Vec<u8> {
    SifBuilder::new().payload_bytes(48 << 20, seed).bytes()
}

/// Sums up what an agent says it read of files.
fn bytes_read(log: &str) -> u64 {
    log.split_whitespace().filter_map(|word| word.strip_prefix("bytes=")?.parse::<u64>().ok()).sum()
}

fn title(text: &str) {
    say(&format!("\n== {text} =="));
}

fn say(text: &str) {
    anstream::println!("{text}");
}
