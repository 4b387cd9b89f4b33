//! Who is taken for whom at the socket, and what becomes of the file.

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::access::{Options, users::Users};
use crate::store::sqlite;

/// Far longer than anything here should take.
const LONG: Duration = Duration::from_secs(20);

struct Running {
    path: PathBuf,
    tasks: Tasks,
    folder: tempfile::TempDir,
}

/// Serves a router that says who asks.
fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let (store, _) = sqlite::open(&folder.path().join("coordinator.db")).unwrap();
    let access =
        Arc::new(Access::new(Options { users: Users::default(), ..Options::default() }, &store, Vec::new()));
    let who = async |request: axum::extract::Request| match request.extensions().get::<Peer>() {
        Some(Peer::Local(user)) => format!("{} {:?}", user.uid, user.role),
        other => format!("{other:?}"),
    };
    let local = Local::bind(path.clone(), Limits::default()).unwrap();
    let tasks = Tasks::new();
    let router = Router::new().route("/", get(who));
    tasks.spawn("http socket", local.serve(router, access, Gauge::default(), tasks.clone()));
    Running { path, tasks, folder }
}

async fn ask(path: &Path) -> String {
    let asking = async {
        let mut socket = UnixStream::connect(path).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    tokio::time::timeout(LONG, asking).await.unwrap()
}

#[tokio::test]
async fn the_kernel_says_who_asks_and_anybody_may_connect() {
    let running = start();
    let own = rustix::process::geteuid().as_raw();
    let answer = ask(&running.path).await;
    assert!(answer.ends_with(&format!("{own} Some(Admin)")), "{answer}");
    let mode = fs::metadata(&running.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
    let running = start();
    let refused = Local::bind(running.path.clone(), Limits::default()).unwrap_err();
    assert!(refused.to_string().contains("another coordinator listens there"), "{refused}");
    assert_eq!(running.tasks.shutdown(LONG).await, sifleet_common::task::Running::new());
    assert!(!running.path.exists(), "the socket goes with the coordinator");

    drop(net::UnixListener::bind(&running.path).unwrap());
    assert!(running.path.exists());
    drop(Local::bind(running.path.clone(), Limits::default()).unwrap());

    let file = running.folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let refused = Local::bind(file.clone(), Limits::default()).unwrap_err();
    assert!(refused.to_string().contains("something else lies there"), "{refused}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}
