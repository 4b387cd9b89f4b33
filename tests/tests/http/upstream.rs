//! An external registry that says what it is told to say: plain or over TLS, on loopback, for as long as its site lives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use sifleet_common::task::Tasks;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What is answered to one request.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Only so many bytes of the body are sent, then the connection ends.
    pub(crate) cut: Option<usize>,
}

impl Reply {
    pub(crate) fn new(status: u16, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { status, headers, body: body.into(), cut: None }
    }
}

/// A request: its first line, and its headers by their small names.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Asked {
    /// Returns where the bytes begin that are asked for.
    pub(crate) fn offset(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

type Answer = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// The registry.
pub(crate) struct Upstream {
    port: u16,
    scheme: &'static str,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Upstream {
    /// Answers until the tasks end.
    pub(crate) async fn start(
        tasks: &Tasks,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer): (_, Answer) = (Arc::clone(&asked), Arc::new(answer));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let connections = tasks.clone();
        tasks.spawn("upstream", async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (tls, log, answer) = (tls.clone(), Arc::clone(&log), Arc::clone(&answer));
                connections.spawn("upstream connection", async move {
                    match tls {
                        None => serve(stream, &log, &answer).await,
                        Some(tls) => {
                            let accepted = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await;
                            if let Ok(stream) = accepted {
                                serve(stream, &log, &answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, scheme, asked }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.host())
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Everything that was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often something was asked for.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.line.contains(part)).count()
    }
}

/// Reads one request and answers it; somebody who hangs up is part of the tests.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, log: &Mutex<Vec<Asked>>, answer: &Answer) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let asked = Asked { line, headers };
    log.lock().unwrap().push(asked.clone());
    let Reply { status, headers, body, cut } = answer(&asked);
    let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let sent = &body[..cut.unwrap_or(body.len()).min(body.len())];
    if stream.write_all(head.as_bytes()).await.is_ok() && stream.write_all(sent).await.is_ok() {
        drop(stream.shutdown().await);
    }
}

/// Makes a certificate for 127.0.0.1, and a file with it for those who trust it.
pub(crate) fn certificate(folder: &Path) -> (Arc<ServerConfig>, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let path = folder.join("registry-ca.pem");
    std::fs::write(&path, made.cert.pem()).unwrap();
    (Arc::new(config), path)
}
