//! The real clients of registries (apptainer, oras, skopeo from Debian sid, and curl) against the coordinator, over TLS with
//! tokens: push, pull, list, copy, tag, delete, and what is broken off goes on. End-points one by one are in `oci.rs`.

#![cfg(test)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use sifleet_coordinator::oci::digest::{Algorithm, Hasher};
use sifleet_tests::apptainer::{Apptainer, said};
use sifleet_tests::head::Head;
use sifleet_tests::programs::{find, missing};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

const LONG: Duration = Duration::from_secs(60);

/// Clients in Debian sid, with a folder that both sides see.
struct Clients {
    lab: Apptainer,
    folder: PathBuf,
    registry: Head,
}

impl Clients {
    fn start(test: &str, folder: &str) -> Option<Self> {
        let lab = match Apptainer::find() {
            Ok(lab) => lab,
            Err(reason) => {
                assert!(missing(test, &reason));
                return None;
            }
        };
        let folder = lab.folder(folder);
        let registry = Head::start(&folder).unwrap();
        Some(Self { lab, folder, registry })
    }

    /// Runs a client; the variables say whom it trusts and who it is.
    fn run(&self, command: &[&str]) -> Output {
        let at = self.folder.display();
        let variables = [
            format!("SSL_CERT_FILE={at}/web.pem"),
            format!("APPTAINER_CACHEDIR={at}/cache"),
            format!("APPTAINER_TMPDIR={at}"),
            format!("TMPDIR={at}"),
            "APPTAINER_DOCKER_USERNAME=me".to_owned(),
            format!("APPTAINER_DOCKER_PASSWORD={}", self.registry.token()),
            format!("HOME={at}"),
            format!("REGISTRY_AUTH_FILE={at}/auth.json"),
        ];
        let variables = variables.iter().map(String::as_str);
        let words: Vec<&str> = variables.chain(command.iter().copied()).collect();
        self.lab.run_in(&self.folder, &words)
    }

    /// Runs a client that is to succeed, and returns what it printed.
    #[track_caller]
    fn ok(&self, command: &[&str]) -> String {
        let output = self.run(command);
        let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        assert!(output.status.success(), "{command:?}: {}\n{}", said(&output), log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn image(&self, name: &str, length: u32, seed: u64) -> PathBuf {
        let path = self.folder.join(name);
        SifBuilder::new().payload_bytes(length, seed).write(&path).unwrap();
        path
    }

    fn log_in(&self) {
        let host = self.registry.host();
        self.ok(&["oras", "login", &host, "--username", "me", "--password", self.registry.token()]);
        self.ok(&["skopeo", "login", &host, "--username", "me", "--password", self.registry.token()]);
    }
}

fn sha256(path: &Path) -> String {
    let (mut file, mut hasher) = (fs::File::open(path).unwrap(), Hasher::new(Algorithm::Sha256));
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).unwrap() {
            0 => return hasher.finish().to_string(),
            read => hasher.update(&piece[..read]),
        }
    }
}

#[test]
fn apptainer_pushes_and_pulls_and_is_refused_without_a_token() {
    let test = "apptainer_pushes_and_pulls_and_is_refused_without_a_token";
    let Some(lab) = Clients::start(test, "oci-apptainer") else { return };
    let image = lab.image("openfoam.sif", 3_000_000, 1);
    let name = format!("oras://{}/compute/openfoam", lab.registry.host());
    lab.ok(&["apptainer", "push", "openfoam.sif", &format!("{name}:v2312")]);
    assert_eq!(sha256(&lab.registry.library("compute/openfoam_v2312.sif")), sha256(&image));
    lab.ok(&["apptainer", "pull", "pulled.sif", &format!("{name}:v2312")]);
    assert_eq!(sha256(&lab.folder.join("pulled.sif")), sha256(&image));
    lab.ok(&["apptainer", "push", "openfoam.sif", &name]);
    assert!(lab.registry.library("compute/openfoam.sif").exists(), "no tag means latest");
    lab.ok(&["apptainer", "cache", "clean", "--force"]);
    lab.ok(&["apptainer", "pull", "latest.sif", &name]);
    assert_eq!(sha256(&lab.folder.join("latest.sif")), sha256(&image));
    let stranger = lab.run(&["APPTAINER_DOCKER_PASSWORD=wrong", "apptainer", "pull", "none.sif", &name]);
    assert!(!stranger.status.success() && !lab.folder.join("none.sif").exists(), "{}", said(&stranger));
}

#[test]
fn oras_pushes_pulls_lists_copies_tags_attaches_and_deletes() {
    let test = "oras_pushes_pulls_lists_copies_tags_attaches_and_deletes";
    let Some(lab) = Clients::start(test, "oci-oras") else { return };
    lab.log_in();
    let image = lab.image("vnc.sif", 2_000_000, 2);
    let (host, layer) = (lab.registry.host(), "vnc.sif:application/vnd.sylabs.sif.layer.v1.sif");
    let name = format!("{host}/viz/vnc");
    lab.ok(&["oras", "push", &format!("{name}:v1"), layer]);
    assert_eq!(sha256(&lab.registry.library("viz/vnc_v1.sif")), sha256(&image));
    lab.ok(&["oras", "tag", &format!("{name}:v1"), "stable"]);
    assert_eq!(lab.ok(&["oras", "repo", "tags", &name]), "stable\nv1\n");
    assert_eq!(lab.ok(&["oras", "repo", "ls", &host]), "viz/vnc\n");
    lab.ok(&["oras", "cp", &format!("{name}:v1"), &format!("{host}/copy/vnc:v9")]);
    assert_eq!(sha256(&lab.registry.library("copy/vnc_v9.sif")), sha256(&image));
    fs::create_dir(lab.folder.join("out")).unwrap();
    lab.ok(&["oras", "pull", &format!("{name}:stable"), "-o", "out"]);
    assert_eq!(sha256(&lab.folder.join("out/vnc.sif")), sha256(&image));
    fs::write(lab.folder.join("parts.json"), "{\"parts\": []}").unwrap();
    let attach = ["oras", "attach", &format!("{name}:v1"), "--artifact-type", "a/parts", "parts.json"];
    lab.ok(&attach);
    assert!(lab.ok(&["oras", "discover", &format!("{name}:v1")]).contains("a/parts"));
    lab.ok(&["oras", "manifest", "delete", "--force", &format!("{name}:stable")]);
    let gone = lab.run(&["oras", "manifest", "fetch", &format!("{name}:v1")]);
    assert!(!gone.status.success(), "oras deletes by digest, and so all tags: {}", said(&gone));
    assert!(!lab.registry.library("viz/vnc_v1.sif").exists());
    assert!(lab.registry.library("copy/vnc_v9.sif").exists(), "other repositories keep theirs");
}

#[test]
fn skopeo_copies_lists_deletes_and_goes_on_where_it_was_cut_off() {
    let test = "skopeo_copies_lists_deletes_and_goes_on_where_it_was_cut_off";
    let Some(lab) = Clients::start(test, "oci-skopeo") else { return };
    lab.log_in();
    let image = lab.image("big.sif", 30_000_000, 3);
    let host = lab.registry.host();
    let name = format!("{host}/big");
    lab.ok(&["oras", "push", &format!("{name}:v1"), "big.sif:application/vnd.sylabs.sif.layer.v1.sif"]);
    lab.ok(&["skopeo", "copy", &format!("docker://{name}:v1"), &format!("docker://{host}/other:v2")]);
    assert_eq!(sha256(&lab.registry.library("other_v2.sif")), sha256(&image));
    assert!(lab.ok(&["skopeo", "list-tags", &format!("docker://{name}")]).contains("\"v1\""));
    let cutting = Cutting::start(lab.registry.port(), 12_000_000);
    let through = format!("127.0.0.1:{}", cutting.port);
    let credentials = format!("me:{}", lab.registry.token());
    lab.ok(&[
        "skopeo",
        "copy",
        "--src-creds",
        &credentials,
        &format!("docker://{through}/big:v1"),
        "oci:out:v1",
    ]);
    let blob = lab.folder.join("out/blobs/sha256").join(sha256(&image).replace("sha256:", ""));
    assert_eq!(sha256(&blob), sha256(&image));
    let moved = cutting.moved.load(Ordering::Relaxed);
    assert!(moved < 40_000_000, "{moved} bytes were moved: it began anew");
    lab.ok(&["skopeo", "delete", &format!("docker://{host}/other:v2")]);
    assert!(!lab.registry.library("other_v2.sif").exists());
}

/// Passes connections on, and cuts one off: the first that has moved too many bytes to the client.
struct Cutting {
    port: u16,
    moved: Arc<AtomicU64>,
}

impl Cutting {
    fn start(to: u16, after: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let moved = Arc::new(AtomicU64::new(0));
        let (total, uncut) = (Arc::clone(&moved), Arc::new(AtomicBool::new(true)));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { return };
                let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || drop(pass(&up, &server, |_| false)));
                let (total, uncut) = (Arc::clone(&total), Arc::clone(&uncut));
                let cuts = move |(more, own): (u64, u64)| {
                    total.fetch_add(more, Ordering::Relaxed);
                    own > after && uncut.swap(false, Ordering::Relaxed)
                };
                thread::spawn(move || drop(pass(&down, &client, cuts)));
            }
        });
        Self { port, moved }
    }
}

/// Moves bytes until the end, or until `cuts` says so of those that came and of all so far.
fn pass(mut from: &TcpStream, mut to: &TcpStream, cuts: impl Fn((u64, u64)) -> bool) -> std::io::Result<()> {
    let (mut piece, mut own) = (vec![0; 64 * 1024], 0_u64);
    loop {
        let read = from.read(&mut piece).unwrap_or(0);
        own += read as u64;
        if read == 0 || cuts((read as u64, own)) {
            return to.shutdown(Shutdown::Both).and_then(|()| from.shutdown(Shutdown::Both));
        }
        to.write_all(&piece[..read])?;
    }
}

#[test]
fn two_gigabytes_go_there_and_back_and_what_is_broken_off_goes_on() {
    let test = "two_gigabytes_go_there_and_back_and_what_is_broken_off_goes_on";
    if find("curl").is_none() {
        assert!(missing(test, "curl is not installed"));
        return;
    }
    let folder = sifleet_tests::programs::workspace().join("target/lab/oci-large");
    let registry = Head::start(&folder).unwrap();
    let image = folder.join("large.sif");
    SifBuilder::new().payload_bytes(2 << 30, 4).write(&image).unwrap();
    let (digest, length) = (sha256(&image), fs::metadata(&image).unwrap().len());
    let base = format!("https://{}/v2/large", registry.host());
    send_in_two(&registry, &image, &digest);
    // Two gigabytes twice is enough for a disk.
    fs::remove_file(&image).unwrap();
    name_it(&registry, &base, &digest, length);
    assert_eq!(fs::metadata(registry.library("large_v1.sif")).unwrap().len(), length);
    let (blob, pulled) = (format!("{base}/blobs/{digest}"), folder.join("pulled.sif"));
    let to = pulled.display().to_string();
    let half = format!("0-{}", length / 2);
    ask(&registry, &["--fail", "-r", &half, "-o", &to, &blob]);
    ask(&registry, &["--fail", "-C", "-", "-o", &to, &blob]);
    assert_eq!(sha256(&pulled), digest);
    fs::remove_dir_all(&folder).unwrap();
}

/// Has curl ask, and fails unless it got an answer.
fn ask(registry: &Head, arguments: &[&str]) -> String {
    let output = registry.curl().args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Uploads an image, breaks off in the middle, and goes on where it was.
fn send_in_two(registry: &Head, image: &Path, digest: &str) {
    let length = fs::metadata(image).unwrap().len();
    let base = format!("https://{}", registry.host());
    let begun = ask(registry, &["-X", "POST", "-D", "-", &format!("{base}/v2/large/blobs/uploads/")]);
    let place = header(&begun, "location").unwrap_or_else(|| panic!("{begun}"));
    let url = format!("{base}{place}");
    // Broken off in the middle: curl gives up long before two gigabytes have gone.
    let broken = registry
        .curl()
        .args(["-X", "PATCH", "-T", &image.display().to_string(), "--max-time", "1", &url])
        .output()
        .unwrap();
    let _slow_machines_break_off_too = broken;
    // What was on its way when curl gave up still arrives: then the offset is another one, and asked for again.
    let goes_on = || {
        let standing = ask(registry, &["-D", "-", &url]);
        let last = header(&standing, "range").unwrap_or_else(|| panic!("{standing}"));
        let last: u64 = last.strip_prefix("0-").unwrap().parse().unwrap();
        let has = if last == 0 { 0 } else { last + 1 };
        assert!(has < length, "{has}: nothing was broken off");
        let (from, range) = (has.to_string(), format!("Content-Range: {has}-{}", length - 1));
        let image = image.display().to_string();
        let sent = ["--fail", "-X", "PATCH", "-H", &range, "-C", &from, "-T", &image, &url];
        let sent = registry.curl().args(sent).output().unwrap();
        if sent.status.success() { Ok(()) } else { Err(said(&sent)) }
    };
    until("the rest is taken", LONG, goes_on).unwrap();
    ask(registry, &["--fail", "-X", "PUT", &format!("{url}?digest={digest}")]);
}

/// Puts the manifest of an image that was sent, under the tag `v1`.
fn name_it(registry: &Head, base: &str, digest: &str, length: u64) {
    let config = Algorithm::Sha256.of(b"{}");
    let empty = format!("{base}/blobs/uploads/?digest={config}");
    ask(registry, &["--fail", "-X", "POST", "--data-binary", "{}", &empty]);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"{config}"}},"layers":[{{"mediaType":"application/vnd.sylabs.sif.layer.v1.sif","size":{length},"digest":"{digest}"}}]}}"#
    );
    let (kind, url) =
        ("Content-Type: application/vnd.oci.image.manifest.v1+json", format!("{base}/manifests/v1"));
    ask(registry, &["--fail", "-X", "PUT", "-H", kind, "--data-binary", &manifest, &url]);
}

/// Finds a header in what curl printed.
fn header(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines
        .into_iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
}
