//! A coordinator that says what it is told to say: one thread, one answer a connection, over http or https.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What to answer to one request line such as `GET /v1/drift`.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(body: &str) -> Self {
        Self { status: 200, kind: "application/json", body: body.to_owned() }
    }

    pub(crate) fn problem(status: u16, body: &str) -> Self {
        Self { status, kind: "application/problem+json", body: body.to_owned() }
    }

    pub(crate) fn events(body: &str) -> Self {
        Self { status: 200, kind: "text/event-stream", body: body.to_owned() }
    }
}

type Routes = Box<dyn Fn(&str, &[u8]) -> Reply + Send>;

/// A request line and its body.
type Asked = (String, Vec<u8>);

/// Runs until it is dropped.
pub(crate) struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    /// Answers over http.
    pub(crate) fn http(routes: impl Fn(&str) -> Reply + Send + 'static) -> Self {
        Self::start(None, Box::new(move |asked, _| routes(asked)))
    }

    /// Answers over http, with an eye on what is sent.
    pub(crate) fn http_with_body(routes: impl Fn(&str, &[u8]) -> Reply + Send + 'static) -> Self {
        Self::start(None, Box::new(routes))
    }

    /// Answers over https.
    pub(crate) fn https(tls: rustls::ServerConfig, routes: impl Fn(&str) -> Reply + Send + 'static) -> Self {
        Self::start(Some(Arc::new(tls)), Box::new(move |asked, _| routes(asked)))
    }

    fn start(tls: Option<Arc<rustls::ServerConfig>>, routes: Routes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stopped) = (asked.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                match &tls {
                    None => serve(stream, &log, &routes),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config.clone()).unwrap();
                        serve(rustls::StreamOwned::new(session, stream), &log, &routes);
                    }
                }
            }
        });
        Self { address, asked, stop, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was asked, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(asked, _)| asked.clone()).collect()
    }

    /// The bodies of all requests that brought text in one, in order.
    pub(crate) fn bodies(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let texts = asked.iter().filter_map(|(_, body)| String::from_utf8(body.clone()).ok());
        texts.filter(|text| !text.is_empty()).collect()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The listener waits for somebody: this is somebody.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A client that hangs up in the middle is part of the tests, so errors of the stream end the answer only.
fn serve(mut stream: impl Read + Write, log: &Mutex<Vec<Asked>>, routes: &Routes) {
    let mut head = String::new();
    let mut reader = BufReader::new(&mut stream);
    loop {
        match reader.read_line(&mut head) {
            Ok(0) | Err(_) => return,
            Ok(_) if head.ends_with("\r\n\r\n") => break,
            Ok(_) => {}
        }
    }
    let asked = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let Some(sent) = body(&head, &mut reader) else { return };
    log.lock().unwrap().push((asked.clone(), sent.clone()));
    let Reply { status, kind, body } = routes(&asked, &sent);
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nx-request-id: req-header\r\nconnection: close\r\n\r\n"
    );
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    match sent.and_then(|()| stream.flush()) {
        Ok(()) => {}
        Err(error) => assert!(
            matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::InvalidData
            ),
            "{error}"
        ),
    }
}

/// Reads the body of a request, if it says how long it is; none where it breaks off.
fn body(head: &str, reader: &mut impl Read) -> Option<Vec<u8>> {
    let lower = head.to_ascii_lowercase();
    let len = lower.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; len.unwrap_or(0)];
    reader.read_exact(&mut body).is_ok().then_some(body)
}
