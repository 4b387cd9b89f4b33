//! A UDP socket that reads packets by the dozen.
//!
//! Where packets come one at a time, as they do behind any link slower than the machine, being woken for each costs more
//! than the packet does. So this socket, once bytes flow, is not watched: it is read once a millisecond, everything that
//! came meanwhile at once, for as long as bytes come; then it is watched again. A read is never put off so long that the
//! kernel's buffer could fill up.
//! Outside facts: quinn 0.11 `AsyncUdpSocket`; epoll wakes for each packet even if nobody waits for it, so while the
//! socket is read by the clock it is not registered.

use std::fmt;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::SockRef;
use tokio::time::{Instant, Sleep, sleep};

/// Between two reads while bytes flow; the clock of the runtime makes one to two of it.
const REST: Duration = Duration::from_millis(1);
/// Without a packet for so long, the socket is watched again.
const QUIET: Duration = Duration::from_millis(20);
/// A rest is taken only if less came during the last one than this share of the kernel's buffer.
const SHARE: usize = 16;

/// A socket that reads by the dozen.
pub(super) struct Batched {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Bytes in one read after which the next one is not put off.
    much: usize,
    mode: Mutex<Mode>,
    watch: fn(&UdpSocket) -> io::Result<tokio::net::UdpSocket>,
    /// The kernel had no room for the last packets.
    full: AtomicBool,
}

/// How it is learned that packets came.
enum Mode {
    /// The kernel says so, by a second handle to the socket that lives only as long.
    Watched(tokio::net::UdpSocket),
    /// The clock says when to look.
    Clocked { rest: Option<Pin<Box<Sleep>>>, last: Instant },
}

impl Batched {
    /// Takes a bound socket over. Must be called within a tokio runtime.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        let much = SockRef::from(&socket).recv_buffer_size()? / SHARE;
        let mode = Mutex::new(Mode::Watched(watch(&socket)?));
        Ok(Self { socket, state, much, mode, watch, full: AtomicBool::new(false) })
    }
}

fn watch(socket: &UdpSocket) -> io::Result<tokio::net::UdpSocket> {
    tokio::net::UdpSocket::from_std(socket.try_clone()?)
}

impl fmt::Debug for Batched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batched").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Batched {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, rest: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send((&self.socket).into(), transmit);
        if matches!(&sent, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            self.full.store(true, Ordering::Relaxed);
        }
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        found: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // A mode is sound whatever panicked while it was held.
        let mut mode = self.mode.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &mut *mode {
                Mode::Watched(watched) => {
                    ready!(watched.poll_recv_ready(context))?;
                    *mode = Mode::Clocked { rest: None, last: Instant::now() };
                }
                Mode::Clocked { rest, last } => {
                    if let Some(resting) = rest {
                        ready!(resting.as_mut().poll(context));
                        *rest = None;
                    }
                    match self.state.recv((&self.socket).into(), buffers, found) {
                        Ok(count) => {
                            *last = Instant::now();
                            let bytes: usize = found.iter().take(count).map(|one| one.len).sum();
                            if count < found.len() && bytes < self.much {
                                *rest = Some(Box::pin(sleep(REST)));
                            }
                            return Poll::Ready(Ok(count));
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            if last.elapsed() < QUIET {
                                *rest = Some(Box::pin(sleep(REST)));
                                continue;
                            }
                            match (self.watch)(&self.socket) {
                                Ok(watched) => *mode = Mode::Watched(watched),
                                // Without a descriptor to spare, the clock does for now; an error would be the end of
                                // every connection, and of all to come.
                                Err(error) => {
                                    tracing::debug!(%error, "a quiet socket cannot be watched yet");
                                    *rest = Some(Box::pin(sleep(REST)));
                                    *last = Instant::now();
                                }
                            }
                        }
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits a moment when the kernel had no room: its buffer empties at the rate of the link.
///
/// quinn asks before every batch, not only after one that found no room: whoever waited here without need would send one
/// batch in a millisecond.
#[derive(Debug)]
struct Writable {
    socket: Arc<Batched>,
    rest: Option<Pin<Box<Sleep>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_none() && self.socket.full.swap(false, Ordering::Relaxed) {
            self.rest = Some(Box::pin(sleep(REST)));
        }
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(context));
            self.rest = None;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Reads once; returns how many packets came.
    async fn read(socket: &Batched) -> usize {
        let mut bytes = vec![0; 32 * 2_048];
        let mut buffers: Vec<IoSliceMut<'_>> = bytes.chunks_mut(2_048).map(IoSliceMut::new).collect();
        let mut found = vec![RecvMeta::default(); buffers.len()];
        let count = poll_fn(|context| socket.poll_recv(context, &mut buffers, &mut found)).await.unwrap();
        found.iter().take(count).map(|one| one.len.div_ceil(one.stride.max(1))).sum()
    }

    fn is_watched(socket: &Batched) -> bool {
        matches!(&*socket.mode.lock().unwrap(), Mode::Watched(_))
    }

    #[tokio::test]
    async fn the_first_packet_comes_at_once_and_those_after_it_together() {
        let socket = Batched::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        sender.send_to(b"first", to).unwrap();
        assert_eq!(read(&socket).await, 1);
        for _ in 0..10 {
            sender.send_to(b"more", to).unwrap();
        }
        assert_eq!(read(&socket).await, 10);
    }

    #[tokio::test]
    async fn sending_waits_only_after_the_kernel_had_no_room() {
        let socket = Arc::new(Batched::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap());
        let mut poller = Arc::clone(&socket).create_io_poller();
        let mut context = Context::from_waker(std::task::Waker::noop());
        // quinn asks before each of its batches.
        assert!(poller.as_mut().poll_writable(&mut context).is_ready());
        socket.full.store(true, Ordering::Relaxed);
        assert!(poller.as_mut().poll_writable(&mut context).is_pending());
        poll_fn(|context| poller.as_mut().poll_writable(context)).await.unwrap();
        assert!(poller.as_mut().poll_writable(&mut context).is_ready());
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_watched_is_read_by_the_clock_until_it_can() {
        let mut socket = Batched::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        socket.watch = |_| Err(io::Error::other("too many open files"));
        for _ in 0..2 {
            sender.send_to(b"packet", to).unwrap();
            assert_eq!(read(&socket).await, 1);
            assert!(tokio::time::timeout(3 * QUIET, read(&socket)).await.is_err(), "no error");
            assert!(!is_watched(&socket));
        }
        socket.watch = watch;
        assert!(tokio::time::timeout(3 * QUIET, read(&socket)).await.is_err());
        assert!(is_watched(&socket));
    }

    #[tokio::test]
    async fn a_quiet_socket_is_watched_and_not_read_by_the_clock() {
        let socket = Batched::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        sender.send_to(b"first", to).unwrap();
        read(&socket).await;
        assert!(!is_watched(&socket));
        assert!(tokio::time::timeout(3 * QUIET, read(&socket)).await.is_err());
        assert!(is_watched(&socket));
        sender.send_to(b"again", to).unwrap();
        assert_eq!(read(&socket).await, 1);
    }
}
