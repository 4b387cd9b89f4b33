//! How fast a client of registries gets an image from the coordinator, next to the same file from nginx: curl over TLS 1.3 on
//! loopback, the file in the page cache, which is where the server is the limit and not the disk.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use sifleet_coordinator::oci::digest::Algorithm;

use super::nginx::Nginx;
use super::process;
use super::report::{Figure, Table, number};
use crate::head::Head;
use crate::programs;
use crate::sif::SifBuilder;

/// A usual image's size.
const PAYLOAD: u32 = 1_500_000_000;
/// The image's type as a layer.
const LAYER: &str = "application/vnd.sylabs.sif.layer.v1.sif";
/// A manifest's type.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What one server did in all rounds.
#[derive(Default)]
struct Served {
    /// Bytes a second.
    speed: Figure,
    /// Seconds of a processor for a GB, the server's only.
    cost: Figure,
}

/// Measures.
///
/// # Errors
/// When an image cannot be pushed or fetched.
pub fn measure(plan: &super::Plan) -> anyhow::Result<Vec<Table>> {
    let folder = programs::workspace().join("target").join("clusters").join("blob");
    let head = Head::start(&folder)?;
    let (blob, length) = push(&head, &folder)?;
    let image = head.library("bench_v1.sif");
    std::io::copy(&mut File::open(&image)?, &mut std::io::sink())?;
    let nginx = Nginx::files(&folder, &folder.join("library"));
    let (mut ours, mut theirs) = (Served::default(), Served::default());
    for _ in 0..plan.rounds {
        ours.fetch(head.curl().args(["--tlsv1.3", &blob]), &[head.pid()], length)?;
        if let Ok(nginx) = &nginx {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--tlsv1.3", "--cacert"]).arg(folder.join("tls.pem"));
            let url = format!("https://localhost:{}/bench_v1.sif", nginx.port());
            theirs.fetch(curl.arg(url), &process::children(nginx.pid())?, length)?;
        }
    }
    let missing = nginx.as_ref().err().map(|error| format!("{error:#}"));
    drop(nginx);
    fs::remove_file(image)?;
    Ok(vec![table(length, &ours, &theirs, missing)])
}

fn table(length: u64, ours: &Served, theirs: &Served, missing: Option<String>) -> Table {
    let title =
        format!("An image of {} GB from the registry, over TLS 1.3 on loopback", number(length as f64 / 1e9));
    let mut table = Table::new(title, &["", "MB/s", "of nginx", "processor of the server, a GB"]);
    let mut row = |name: &str, served: &Served| {
        let share =
            if theirs.speed.is_empty() { String::new() } else { served.speed.over(&theirs.speed).show("") };
        table.row([name.to_owned(), served.speed.show(""), share, served.cost.show(" s")]);
    };
    row("sifleet", ours);
    if !theirs.speed.is_empty() {
        row("nginx", theirs);
    }
    table.note("curl writes to /dev/null and shares the machine's cores with the server.");
    if let Some(missing) = missing {
        table.note(missing);
    }
    table
}

impl Served {
    /// Has a client fetch the image, and adds how fast that went and what it cost the server.
    fn fetch(&mut self, client: &mut Command, server: &[u32], length: u64) -> anyhow::Result<()> {
        let used = || -> anyhow::Result<f64> {
            server.iter().map(|pid| Ok(process::all_time(&pid.to_string())?.as_secs_f64())).sum()
        };
        let (before, begun) = (used()?, Instant::now());
        let output = client.args(["--fail", "-o", "/dev/null", "-w", "%{size_download}"]).output()?;
        let took = begun.elapsed().as_secs_f64();
        let got = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && got == length.to_string(), "{client:?}: {got} bytes, {said}");
        self.speed.add(length as f64 / took / 1e6);
        self.cost.add((used()? - before) / (length as f64 / 1e9));
        Ok(())
    }
}

/// Pushes an image as clients do; returns the address of its bytes and how many there are.
fn push(head: &Head, folder: &Path) -> anyhow::Result<(String, u64)> {
    let file = folder.join("image.sif");
    SifBuilder::new().payload_bytes(PAYLOAD, 5).write(&file)?;
    let length = fs::metadata(&file)?.len();
    let summed = Command::new("sha256sum").arg(&file).output()?;
    let hex = String::from_utf8(summed.stdout)?;
    let digest = format!("sha256:{}", hex.split(' ').next().context("sha256sum said nothing")?);
    let base = format!("https://{}/v2/bench", head.host());
    let ask = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = head.curl().args(["--fail", "-w", "%header{location}"]).args(arguments).output()?;
        ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let begin = format!("{base}/blobs/uploads/");
    let place = ask(&["-X", "POST", &begin])?;
    let url = format!("https://{}{place}?digest={digest}", head.host());
    ask(&["-T", &file.display().to_string(), &url])?;
    fs::remove_file(&file)?;
    let config = Algorithm::Sha256.of(b"{}");
    ask(&["-X", "POST", "--data-binary", "{}", &format!("{begin}?digest={config}")])?;
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"{config}"}},"layers":[{{"mediaType":"{LAYER}","size":{length},"digest":"{digest}"}}]}}"#
    );
    let kind = format!("Content-Type: {MANIFEST}");
    ask(&["-X", "PUT", "-H", &kind, "--data-binary", &manifest, &format!("{base}/manifests/v1")])?;
    Ok((format!("{base}/blobs/{digest}"), length))
}
