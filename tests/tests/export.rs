//! `sifleet export` against a real coordinator; the tree is served by nginx and read with curl and jq, as the article about
//! static registries does it.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use sifleet_common::role::Role;
use sifleet_tests::cluster::{Cluster, LIMIT, Plan, ended_with};
use sifleet_tests::programs::{find, missing};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

/// A description that would be markup if anybody took it for that.
const SAID: &str = "Solves <b>flows</b> & more";

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn image(seed: u64) -> Vec<u8> {
    SifBuilder::new().label("org.opencontainers.image.description", SAID).payload_bytes(300_000, seed).bytes()
}

/// A cluster whose library has an image that lay there by itself, and one that was pushed under a tag.
fn cluster(name: &'static str) -> Cluster {
    let mut cluster = Cluster::lay_out(Plan {
        name,
        partitions: BTreeMap::from([("head", "head")]),
        nodes: vec!["head"],
        library: Some("head"),
        lease: Duration::from_secs(60),
    })
    .unwrap();
    cluster.start_all().unwrap();
    fs::create_dir_all(cluster.library().join("viz")).unwrap();
    fs::write(cluster.library().join("viz/vnc_gnome.sif"), image(1)).unwrap();
    cluster.wait_for_nodes("viz/vnc_gnome", "head", &[("ready", "head")]).unwrap();
    push(&cluster, "compute/openfoam", "v2312", &image(2));
    cluster.wait_for_nodes("compute/openfoam_v2312", "head", &[("ready", "head")]).unwrap();
    cluster
}

/// Pushes an image as clients of registries do.
fn push(cluster: &Cluster, repository: &str, tag: &str, bytes: &[u8]) {
    let blob = |bytes: &[u8]| {
        let place =
            format!("{}/v2/{repository}/blobs/uploads/?digest=sha256:{}", cluster.url(), sha256(bytes));
        let request = ureq::post(place).header("authorization", cluster.bearer());
        request.header("content-type", "application/octet-stream").send(bytes).unwrap();
    };
    blob(bytes);
    blob(b"{}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.sylabs.sif.config.v1+json",
            "size": 2,
            "digest": format!("sha256:{}", sha256(b"{}")),
        },
        "layers": [{
            "mediaType": "application/vnd.sylabs.sif.layer.v1.sif",
            "size": bytes.len(),
            "digest": format!("sha256:{}", sha256(bytes)),
        }],
    });
    let place = format!("{}/v2/{repository}/manifests/{tag}", cluster.url());
    let request = ureq::put(place).header("authorization", cluster.bearer());
    request
        .header("content-type", manifest["mediaType"].as_str().unwrap())
        .send(manifest.to_string())
        .unwrap();
}

/// nginx, serving one directory; ends with the test.
struct Nginx {
    child: Child,
    url: String,
}

impl Nginx {
    fn serve(folder: &Path, directory: &Path) -> Option<Self> {
        let (Some(nginx), Some(_), Some(_)) = (find("nginx"), find("curl"), find("jq")) else {
            assert!(missing("export", "nginx, curl or jq is missing (apt-get install nginx-light curl jq)"));
            return None;
        };
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (own, served) = (folder.join("nginx"), directory.display());
        fs::create_dir_all(&own).unwrap();
        let own = own.display();
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {own}/{kind};"))
            .collect();
        let settings = format!(
            "{user} daemon off; worker_processes 1; pid {own}/pid; error_log {own}/errors;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; {temporary} server {{ listen {address}; root {served}; }} }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, settings).unwrap();
        let child = Command::new(nginx)
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(folder)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://{address}");
        until("nginx serves", LIMIT, || match ureq::get(&format!("{url}/")).call() {
            // There is nothing to serve yet.
            Ok(_) | Err(ureq::Error::StatusCode(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .unwrap();
        Some(Self { child, url })
    }

    /// Runs a line of shell in which `$HERE` is the address.
    fn shell(&self, line: &str) -> String {
        let output = Command::new("sh").args(["-euc", line]).env("HERE", &self.url).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker goes with it when it is asked, and would not if it were killed.
        let pid = rustix::process::Pid::from_child(&self.child);
        if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_err() {
            drop(self.child.kill());
        }
        drop(self.child.wait());
    }
}

/// Every file and folder, and what a write would change of it.
fn footprint(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    found
}

fn export(cluster: &Cluster, to: &Path, more: &[&str]) -> Output {
    let to = to.to_str().unwrap();
    let mut command = cluster.command(&[&["export", "--to", to, "-o", "json"], more].concat()).unwrap();
    command.env("SIFLEET_TOKEN_FILE", cluster.callers().file(Role::Viewer));
    command.output().unwrap()
}

fn report(output: &Output) -> Value {
    ended_with(output, 0).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_exported_tree_is_served_by_nginx_and_pulled_with_curl_and_jq_and_an_unchanged_library_writes_nothing() {
    let cluster = cluster("export");
    let to = cluster.folder().join("www");
    fs::create_dir_all(to.join("viz/vnc_gnome")).unwrap();
    fs::write(to.join("viz/vnc_gnome/README.md"), "Our desktop, by hand.\n").unwrap();
    let Some(nginx) = Nginx::serve(cluster.folder(), &to) else { return };
    let options = ["--base-url", &*nginx.url, "--blobs"];
    let first = report(&export(&cluster, &to, &options));
    assert_eq!((&first["images"], &first["repositories"]), (&json!(2), &json!(2)), "{first}");
    assert_eq!(first["fetched"].as_array().unwrap().len(), 2);

    for (name, tag, bytes) in [("compute/openfoam", "v2312", image(2)), ("viz/vnc_gnome", "latest", image(1))]
    {
        let tags = nginx.shell(&format!("curl -sf $HERE/{name}/tags/ | jq -r '.tags[]'"));
        assert_eq!(tags, format!("{tag}\n"));
        let line = format!(
            "curl -sf \"$(curl -sf $HERE/{name}/manifests/{tag}/ | jq -r '.layers[0].urls[0]')\" | sha256sum"
        );
        assert_eq!(nginx.shell(&line), format!("{}  -\n", sha256(&bytes)));
        let manifest = nginx.shell(&format!("curl -sf $HERE/{name}/manifests/{tag}/"));
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(
            (&manifest["schemaVersion"], &manifest["layers"][0]["size"]),
            (&json!(2), &json!(bytes.len()))
        );
    }
    let page = nginx.shell("curl -sf $HERE/");
    assert!(
        page.contains("Solves &lt;b&gt;flows&lt;/b&gt; &amp; more") && page.contains("by hand."),
        "{page}"
    );

    let before = footprint(&to);
    let second = report(&export(&cluster, &to, &options));
    assert_eq!(
        (&second["written"], &second["fetched"], &second["removed"]),
        (&json!([]), &json!([]), &json!([]))
    );
    assert_eq!(footprint(&to), before);

    fs::remove_file(cluster.library().join("viz/vnc_gnome.sif")).unwrap();
    cluster.wait_for_nodes("viz/vnc_gnome", "head", &[("missing", "head")]).unwrap();
    let third = report(&export(&cluster, &to, &options));
    assert_eq!((&third["images"], third["removed"].as_array().unwrap().len()), (&json!(1), 3), "{third}");
    assert_eq!(fs::read_to_string(to.join("viz/vnc_gnome/README.md")).unwrap(), "Our desktop, by hand.\n");
    assert!(!to.join("viz/vnc_gnome/tags").exists());
    assert!(!nginx.shell("curl -sf $HERE/").contains("vnc_gnome"));
}

#[test]
fn an_export_without_images_points_to_the_coordinator_and_harms_nothing_that_it_did_not_write() {
    let cluster = cluster("export-plain");
    let to = cluster.folder().join("www");
    report(&export(&cluster, &to, &[]));
    let manifest = fs::read(to.join("compute/openfoam/manifests/v2312/index.html")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let url = manifest["layers"][0]["urls"][0].as_str().unwrap();
    assert_eq!(url, format!("{}/v2/compute/openfoam/blobs/sha256:{}", cluster.url(), sha256(&image(2))));
    let mut pulled =
        ureq::get(url).header("authorization", cluster.callers().bearer(Role::Viewer)).call().unwrap();
    assert_eq!(pulled.body_mut().read_to_vec().unwrap(), image(2));
    assert!(!to.join("v2").exists());

    let other = cluster.folder().join("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("index.html"), "somebody's page").unwrap();
    let refused = export(&cluster, &other, &[]);
    ended_with(&refused, 2).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no export wrote"));
    assert_eq!(footprint(&other).len(), 1);

    let socket = format!("unix:{}", cluster.folder().join("http.sock").display());
    let refused = export(&cluster, &to, &["--url", &socket]);
    ended_with(&refused, 2).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--base-url"));

    for name in ["viz/vnc_gnome.sif", "compute/openfoam_v2312.sif"] {
        fs::remove_file(cluster.library().join(name)).unwrap();
        cluster.wait_for_nodes(name, "head", &[("missing", "head")]).unwrap();
    }
    let before = footprint(&to);
    ended_with(&export(&cluster, &to, &[]), 2).unwrap();
    assert_eq!(footprint(&to), before, "an empty library empties no tree");
    report(&export(&cluster, &to, &["--allow-empty"]));
    assert!(!to.join("compute").exists() && to.join("index.html").exists());
}
