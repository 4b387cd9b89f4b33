//! The node's registry over real sockets, with a coordinator and an inventory that are functions.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sifleet_common::digest::Digest;
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::pull::{Answer, Manifest, Wanted};

use super::*;
use crate::describe::Candidate;

const LAYER: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";
const NAME: &str = "compute/openfoam_v2312.sif";

/// A node with a registry. Its coordinator knows one image, and brings it by writing the file.
struct Node {
    _folder: tempfile::TempDir,
    file: PathBuf,
    address: SocketAddr,
    brought: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn bytes() -> Vec<u8> {
    (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn manifest() -> Manifest {
    Manifest {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest: "sha256:aa".into(),
        body: b"{\"schemaVersion\":2}".to_vec(),
        layer: LAYER.into(),
        size: bytes().len() as u64,
        image: Digest::from_bytes([9; 32]),
        name: NAME.parse().unwrap(),
    }
}

/// What the coordinator answers when an image is asked for.
fn node(bring: impl Fn(&Path) -> Answer + Send + 'static) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(NAME);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    for folder in [folder.path(), file.parent().unwrap()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (questions, mut asked) = mpsc::channel::<Question>(64);
    let (commands, mut located) = mpsc::channel(64);
    let (brought, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (bringing, counting, target) = (Arc::clone(&brought), Arc::clone(&count), file.clone());
    std::thread::spawn(move || {
        while let Some(Question { wanted, reply }) = asked.blocking_recv() {
            counting.fetch_add(1, Ordering::SeqCst);
            let answer = match wanted {
                Wanted::Manifest { repository, reference } => match (repository.as_str(), reference.as_str())
                {
                    ("compute/openfoam", "v2312") => Answer::Manifest(Box::new(manifest())),
                    _ => Answer::Unknown,
                },
                Wanted::Image { .. } => {
                    bringing.fetch_add(1, Ordering::SeqCst);
                    bring(&target)
                }
            };
            drop(reply.send(answer));
        }
    });
    let (root, there) = (folder.path().to_owned(), file.clone());
    std::thread::spawn(move || {
        while let Some(command) = located.blocking_recv() {
            let Command::Locate { reply, .. } = command else { continue };
            let found = fs::metadata(&there).ok().map(|facts| Candidate {
                root: root.clone(),
                trusted: true,
                name: NAME.parse().unwrap(),
                size: facts.len(),
                modified: UnixMillis(facts.mtime() * 1_000 + facts.mtime_nsec() / 1_000_000),
            });
            drop(reply.send(found.into_iter().collect()));
        }
    });
    let (pulls, stop) = (Pulls::open(0).unwrap(), CancellationToken::new());
    let address = pulls.address;
    let ends = Ends { questions, commands, connected: Arc::new(|| true) };
    pulls.start(&Threads::default(), ends, stop.clone()).unwrap();
    Node { _folder: folder, file, address, brought, asked: count, stop }
}

fn write(file: &Path, mode: u32) -> Answer {
    let aside = file.with_extension("new");
    fs::write(&aside, bytes()).unwrap();
    fs::set_permissions(&aside, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(&aside, file).unwrap();
    Answer::Ready
}

struct Heard {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Node {
    fn get(&self, path: &str, headers: &str) -> Heard {
        self.ask("GET", path, headers)
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Heard {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
        let request = format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        let end = heard.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(heard[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        Heard {
            status,
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
            body: heard[end + 4..].to_vec(),
        }
    }

    fn pull(&self) -> Heard {
        assert_eq!(self.get("/v2/compute/openfoam/manifests/v2312", "").status, 200);
        self.get(&format!("/v2/compute/openfoam/blobs/{LAYER}"), "")
    }
}

#[test]
fn two_hundred_jobs_that_want_an_image_at_once_have_it_brought_once_and_get_its_bytes() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let node = node(move |file| {
        while !gate.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        write(file, 0o644)
    });
    let right = bytes();
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..200).map(|_| scope.spawn(|| node.pull())).collect();
        // None can have finished: the image is not here before the gate opens.
        open.store(true, Ordering::SeqCst);
        for job in jobs {
            let heard = job.join().unwrap();
            assert_eq!((heard.status, heard.body == right), (200, true));
        }
    });
    assert_eq!(node.brought.load(Ordering::SeqCst), 1);
    assert!(node.asked.load(Ordering::SeqCst) < 20, "manifests were asked for by almost everybody");
}

#[test]
fn the_nodes_own_copy_is_given_without_asking_for_it() {
    let node = node(|_| Answer::Unknown);
    write(&node.file, 0o644);
    let heard = node.pull();
    assert_eq!((heard.status, heard.body == bytes()), (200, true));
    assert_eq!(heard.headers.get("docker-content-digest").map(String::as_str), Some(LAYER));
    assert_eq!(node.brought.load(Ordering::SeqCst), 0);
}

#[test]
fn a_pull_that_was_cut_off_goes_on_where_it_was() {
    let node = node(|_| Answer::Unknown);
    write(&node.file, 0o644);
    let (whole, path) = (node.pull().body, format!("/v2/compute/openfoam/blobs/{LAYER}"));
    let rest = node.get(&path, "Range: bytes=3000000-\r\n");
    assert_eq!((rest.status, rest.body.as_slice() == &whole[3_000_000..]), (206, true));
    assert_eq!(rest.headers.get("content-range").map(String::as_str), Some("bytes 3000000-3999999/4000000"));
    let beyond = node.get(&path, "Range: bytes=4000000-\r\n");
    assert_eq!(beyond.status, 416);
    let head = node.ask("HEAD", &path, "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers.get("content-length").map(String::as_str), Some("4000000"));
}

#[test]
fn an_image_that_others_may_not_read_is_not_given_away() {
    let node = node(|_| Answer::Unknown);
    write(&node.file, 0o640);
    let heard = node.pull();
    assert_eq!(heard.status, 403);
    assert!(String::from_utf8_lossy(&heard.body).contains("permissions"), "{:?}", heard.body);
}

#[test]
fn an_image_in_a_folder_that_others_may_not_enter_is_not_given_away() {
    let node = node(|_| Answer::Unknown);
    write(&node.file, 0o644);
    assert_eq!(node.pull().status, 200);
    let folder = node.file.parent().unwrap();
    for private in [folder, folder.parent().unwrap()] {
        fs::set_permissions(private, fs::Permissions::from_mode(0o750)).unwrap();
        let heard = node.pull();
        assert_eq!(heard.status, 403);
        assert!(String::from_utf8_lossy(&heard.body).contains("folders"), "{:?}", heard.body);
        fs::set_permissions(private, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn refusals_say_why_and_tell_never_from_not_now() {
    for (code, status) in [("no_space", 503), ("not_signed", 403)] {
        let refused =
            move |_: &Path| Answer::Refused { code: code.into(), detail: "12 GB are missing".into() };
        let heard = node(refused).pull();
        assert_eq!(heard.status, status);
        assert!(String::from_utf8_lossy(&heard.body).contains("12 GB are missing"));
    }
    let node = node(|_| Answer::Unknown);
    for (path, status) in [
        ("/v2/compute/openfoam/manifests/v9", 404),
        ("/v2/compute/openfoam/blobs/sha256:77", 404),
        ("/v2/_catalog", 404),
        ("/v2/UPPER/manifests/v9", 400),
    ] {
        let heard = node.get(path, "");
        assert_eq!(heard.status, status, "{path}");
        assert!(heard.body.starts_with(b"{\"errors\":["), "{path}");
    }
    assert_eq!(node.ask("PUT", "/v2/a/manifests/b", "Content-Length: 0\r\n").status, 405);
    assert_eq!(node.get("/v2/", "Host: evil.example\r\n").status, 421, "a page in a browser");
    let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(node.get(&format!("/v2/any/blobs/{empty}"), "").body, b"{}");
}

#[tokio::test]
async fn while_the_coordinator_is_away_names_mean_what_it_said_last() {
    let (questions, mut asked) = mpsc::channel::<Question>(64);
    let (commands, _located) = mpsc::channel(64);
    let there = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&there);
    let ends = Ends { questions, commands, connected: Arc::new(move || seen.load(Ordering::SeqCst)) };
    let patience = Patience { fresh: Duration::ZERO, lost: Duration::from_millis(1), ..Patience::default() };
    let desk = Desk::new(ends, patience, &Tasks::new());
    let name = || ("compute/openfoam".to_owned(), "v2312".to_owned());
    let answering = async {
        let Question { reply, .. } = asked.recv().await.unwrap();
        drop(reply.send(Answer::Manifest(Box::new(manifest()))));
    };
    let (repository, reference) = name();
    let (told, ()) = tokio::join!(desk.manifest(repository, reference), answering);
    assert!(!told.unwrap().is_stale);
    there.store(false, Ordering::SeqCst);
    let (repository, reference) = name();
    assert!(desk.manifest(repository, reference).await.unwrap().is_stale);
    let other = desk.manifest("compute/other".into(), "latest".into()).await;
    assert!(matches!(other, Err(desk::Refusal::Unavailable(_))), "nothing was ever said of it");
}
