//! Whom we ask, and whom we do not, with a real socket on loopback.

#![cfg(test)]

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn outside(allow: &[&str]) -> Outside {
    let allow = allow.iter().map(|network| network.parse().unwrap()).collect();
    Outside::new(Options { allow, ca_file: None })
}

/// Answers once with these bytes; tells what was asked.
async fn answering(bytes: &'static [u8], listener: TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut asked = vec![0; 4_096];
    let read = stream.read(&mut asked).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    String::from_utf8_lossy(&asked[..read]).into_owned()
}

async fn listener(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn an_allowed_address_is_asked_and_its_answer_read() {
    let (listener, port) = listener("127.0.0.1").await;
    let origin: Origin = format!("http://127.0.0.1:{port}").parse().unwrap();
    let server = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-is: here\r\n\r\nhi", listener);
    let outside = outside(&["127.0.0.0/8"]);
    let asking = async {
        let reply = outside.get(&origin, "/v2/", &[]).await.unwrap();
        assert_eq!(
            (reply.status.as_u16(), reply.header(&HeaderName::from_static("x-is"))),
            (200, Some("here"))
        );
        reply.whole(10).await.unwrap()
    };
    let (asked, body) = tokio::join!(server, asking);
    assert_eq!(body, b"hi");
    assert!(
        asked.starts_with("GET /v2/ HTTP/1.1\r\n") && asked.contains(&format!("127.0.0.1:{port}")),
        "{asked}"
    );
}

#[tokio::test]
async fn loopback_is_not_asked_by_any_name_unless_allowed() {
    let (listener, port) = listener("127.0.0.1").await;
    for host in ["127.0.0.1", "2130706433", "localhost", "localhost.", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let origin: Origin = format!("http://{host}:{port}").parse().unwrap();
        let refused = outside(&[]).get(&origin, "/v2/", &[]).await.err().unwrap();
        // Not every system knows the name with a dot.
        let unknown = host.ends_with('.') && matches!(refused, Trouble::NoSuchName { .. });
        assert!(unknown || matches!(refused, Trouble::Refused(_)), "{host}: {refused}");
    }
    // Nobody has knocked.
    let nobody = tokio::time::timeout(Duration::from_millis(10), listener.accept()).await;
    assert!(nobody.is_err());
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_resolved_once_and_asked_where_it_was_looked_at() {
    let (inside, port) = listener("127.0.0.1").await;
    let outer = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let answers = vec![vec!["127.0.0.2".parse().unwrap()], vec!["127.0.0.1".parse().unwrap()]];
    let answers = Arc::new(Mutex::new(answers));
    let mut outside = outside(&["127.0.0.2/32"]);
    outside.names = Names::Rebinding(Arc::clone(&answers));
    let origin: Origin = format!("http://rebind.example:{port}").parse().unwrap();
    let server = answering(b"HTTP/1.1 204 No Content\r\n\r\n", outer);
    let (asked, reply) = tokio::join!(server, outside.get(&origin, "/v2/", &[]));
    assert_eq!(reply.unwrap().address.ip(), "127.0.0.2".parse::<IpAddr>().unwrap());
    assert!(asked.contains("rebind.example"), "{asked}");
    assert_eq!(answers.lock().unwrap().len(), 1, "the name was resolved once");
    // The second time it says something else, and that is looked at as well.
    let refused = outside.get(&origin, "/v2/", &[]).await.err().unwrap();
    assert!(matches!(refused, Trouble::Refused(_)), "{refused}");
    assert!(tokio::time::timeout(Duration::from_millis(10), inside.accept()).await.is_err());
}

#[tokio::test]
async fn a_name_with_a_forbidden_address_among_others_is_not_asked() {
    let (_listener, port) = listener("127.0.0.2").await;
    let mut outside = outside(&["127.0.0.2/32"]);
    let both = vec!["127.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    outside.names = Names::Rebinding(Arc::new(Mutex::new(vec![both])));
    let origin: Origin = format!("http://two.example:{port}").parse().unwrap();
    assert!(matches!(outside.get(&origin, "/", &[]).await.err().unwrap(), Trouble::Refused(_)));
}

#[tokio::test]
async fn answers_that_are_none_or_have_no_end_are_given_up() {
    for (bytes, word) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], "not_http"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", "not_http"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n0123456789", "not_http"),
        (b"", "not_http"),
    ] {
        let (listener, port) = listener("127.0.0.1").await;
        let origin: Origin = format!("http://127.0.0.1:{port}").parse().unwrap();
        let outside = outside(&["127.0.0.0/8"]);
        let asking = async { outside.get(&origin, "/v2/", &[]).await?.whole(8).await };
        let (_, answer) = tokio::join!(answering(bytes, listener), asking);
        assert_eq!(
            answer.err().map(|trouble| trouble.word()),
            Some(word),
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
}
