//! Connections that are slow, large, too many or ended by a stop.

use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::*;

/// Far longer than anything here should take.
const LONG: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    tasks: Tasks,
    connections: Gauge,
}

fn start(limits: Limits, router: Router, tls: Option<Tls>) -> Running {
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), tls, limits).unwrap();
    let (tasks, connections, address) = (Tasks::new(), Gauge::default(), server.address());
    tasks.spawn("http", server.serve(router, connections.clone(), tasks.clone()));
    Running { address, tasks, connections }
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

fn short() -> Limits {
    Limits { head_timeout: Duration::from_millis(200), ..Limits::default() }
}

/// Sends bytes and returns everything that comes back until the server closes.
async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    rest(&mut socket).await
}

async fn rest(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let read = socket.read_to_end(&mut answer);
    // A reset after the answer is an end as well.
    drop(tokio::time::timeout(LONG, read).await.expect("the server should close the connection"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads one answer, whose body is a single word.
async fn one(socket: &mut TcpStream) -> String {
    let mut answer = String::new();
    while !answer.ends_with("refused") {
        let mut bytes = [0; 1_024];
        let read = tokio::time::timeout(LONG, socket.read(&mut bytes)).await.expect("an answer").unwrap();
        assert!(read > 0, "the server closed the connection after {answer:?}");
        answer += std::str::from_utf8(&bytes[..read]).unwrap();
    }
    answer
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    let server = start(short(), hello(), None);
    assert_eq!(talk(server.address, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await, "");
    assert_eq!(talk(server.address, b"").await, "");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    // Small enough to be read at once: what is left unread would make the kernel reset the connection.
    let server = start(Limits { max_head: 4 * 1024, ..Limits::default() }, hello(), None);
    for lines in [format!("X-Large: {}\r\n", "x".repeat(5 * 1024)), "A: b\r\n".repeat(100)] {
        let answer =
            talk(server.address, format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_refused() {
    let server = start(Limits::default(), hello(), None);
    for head in [
        "GET / HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/3\r\n\r\n",
    ] {
        let answer = talk(server.address, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer:?}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = start(Limits { max_connections: 1, ..short() }, hello(), None);
    let first = TcpStream::connect(server.address).await.unwrap();
    // The first sends nothing, so its place becomes free when its head is late.
    let answer = talk(server.address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(server.connections.get() <= 1);
    drop(first);
}

#[tokio::test]
async fn a_thousand_slow_sockets_keep_no_good_client_out() {
    let wanted = 2_400;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.current.max(limit.maximum.or(Some(wanted)).map(|most| most.min(wanted))),
        ..limit
    };
    if rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_err() {
        return;
    }
    let server = start(Limits { head_timeout: LONG, ..Limits::default() }, hello(), None);
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        slow.push(socket);
    }
    while server.connections.get() < 1_000 {
        tokio::task::yield_now().await;
    }
    let answer = talk(server.address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
    drop(slow);
}

#[tokio::test]
async fn requests_in_progress_end_before_the_server_does() {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, wait) = (Arc::clone(&arrived), Arc::clone(&go));
    let slow = move || async move {
        told.notify_one();
        wait.notified().await;
        "done"
    };
    let limits = Limits { grace: 2 * LONG, head_timeout: 2 * LONG, ..Limits::default() };
    let server = start(limits, Router::new().route("/", post(slow)), None);
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    arrived.notified().await;
    let (left, answer) = tokio::join!(server.tasks.shutdown(LONG), async {
        server.tasks.token().cancelled().await;
        go.notify_one();
        rest(&mut socket).await
    });
    assert!(answer.ends_with("done"), "{answer}");
    assert_eq!(left, sifleet_common::task::Running::new());
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody should listen");
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_keep_the_server() {
    let limits = Limits { grace: Duration::from_millis(100), ..Limits::default() };
    let server = start(limits, Router::new().route("/", get(std::future::pending::<()>)), None);
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    while server.connections.get() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.tasks.shutdown(LONG).await, sifleet_common::task::Running::new());
    assert_eq!(rest(&mut socket).await, "");
}

/// Answers without a look at the body, and tells when it has.
fn careless() -> (Router, Arc<Notify>) {
    let arrived = Arc::new(Notify::new());
    let told = Arc::clone(&arrived);
    let refuse = move || async move {
        told.notify_one();
        "refused"
    };
    (Router::new().route("/", post(refuse)), arrived)
}

#[tokio::test]
async fn a_connection_goes_on_after_an_answer_that_did_not_need_the_body() {
    let (router, arrived) = careless();
    let server = start(Limits::default(), router, None);
    for length in ["content-length: 4\r\n\r\n", "transfer-encoding: chunked\r\n\r\n4\r\n"] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        for _ in 0..3 {
            let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{length}");
            socket.write_all(head.as_bytes()).await.unwrap();
            arrived.notified().await;
            let end = if length.starts_with('t') { "body\r\n0\r\n\r\n" } else { "body" };
            socket.write_all(end.as_bytes()).await.unwrap();
            let answer = one(&mut socket).await;
            assert!(answer.ends_with("refused") && !answer.contains("connection: close"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_client_whose_body_is_not_read_is_told_that_the_connection_closes() {
    let server = start(Limits::default(), careless().0, None);
    for rest in [
        // Too long, never sent, and not yet asked for.
        "content-length: 1000000\r\n\r\nbody",
        "content-length: 5\r\n\r\nbody",
        "content-length: 4\r\nexpect: 100-continue\r\n\r\n",
    ] {
        let answer = talk(server.address, format!("POST / HTTP/1.1\r\nHost: x\r\n{rest}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn the_network_is_served_only_with_tls() {
    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
        let refused = Server::bind(open.parse().unwrap(), None, Limits::default()).unwrap_err();
        assert!(matches!(refused, BindError::PlainOutsideLoopback { .. }), "{open}");
    }
    Server::bind("[::ffff:127.0.0.1]:0".parse().unwrap(), None, Limits::default()).unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = Server::bind("127.0.0.1:0".parse().unwrap(), None, Limits::default()).unwrap();
    let refused = Server::bind(first.address(), None, Limits::default()).unwrap_err();
    assert!(refused.to_string().contains(&first.address().to_string()), "{refused}");
}

#[tokio::test]
async fn tls_is_spoken_with_the_given_certificate_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one.test", "two.test"].map(|name| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (certificate, key) =
            (folder.path().join(format!("{name}.crt")), folder.path().join(format!("{name}.key")));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key, made.cert.der().clone())
    });
    assert!(matches!(tls::read(&one.0, &two.1).unwrap_err(), tls::TlsError::Pair { .. }));
    assert!(matches!(
        tls::read(&one.1, &one.1).unwrap_err(),
        tls::TlsError::Pair { .. } | tls::TlsError::Pem { .. }
    ));

    let certificate = Tls::new(arc_swap::ArcSwap::from_pointee(tls::read(&one.0, &one.1).unwrap()));
    let server = start(short(), hello(), Some(Arc::clone(&certificate)));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(one.2).unwrap();
    roots.add(two.2).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ));
    let ask = async |name: &'static str| {
        let socket = TcpStream::connect(server.address).await.unwrap();
        let mut socket = connector.connect(name.try_into().unwrap(), socket).await?;
        socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        Ok::<_, io::Error>(rest(&mut socket).await)
    };
    assert!(ask("one.test").await.unwrap().ends_with("hello"));
    assert!(ask("two.test").await.is_err());
    certificate.store(Arc::new(tls::read(&two.0, &two.1).unwrap()));
    assert!(ask("two.test").await.unwrap().ends_with("hello"));
    assert_eq!(talk(server.address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.find("hello"), None);
}
