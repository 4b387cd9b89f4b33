//! A UDP socket that tells how much passes, so that whoever reads it may rest.
//!
//! Outside facts: quinn 0.11 `AsyncUdpSocket`; tokio 1 forgets that a socket can be read when a read finds nothing.

use std::fmt;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::time::{Sleep, sleep};

use super::rest::Rests;

/// A wait for room in the kernel's buffer, which empties at the rate of the link.
const PAUSE: Duration = Duration::from_millis(1);

/// A socket that counts.
pub(super) struct Counted {
    socket: tokio::net::UdpSocket,
    state: UdpSocketState,
    rests: Arc<Rests>,
    /// The kernel had no room for the last packets.
    full: AtomicBool,
}

impl Counted {
    /// Takes a bound socket over. Must be called within a tokio runtime.
    pub(super) fn new(socket: UdpSocket, rests: Arc<Rests>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        rests.hold(SockRef::from(&socket).recv_buffer_size()?);
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Self { socket, state, rests, full: AtomicBool::new(false) })
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Counted {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, pause: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send((&self.socket).into(), transmit);
        match &sent {
            Ok(()) => self.rests.passed(transmit.contents.len()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.full.store(true, Ordering::Relaxed),
            Err(_other) => {}
        }
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        found: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let most = buffers.len().min(found.len()).min(BATCH_SIZE);
        loop {
            ready!(self.socket.poll_recv_ready(context))?;
            let mut came = None;
            let read = self.socket.try_io(Interest::READABLE, || {
                let count = self.state.recv((&self.socket).into(), buffers, found)?;
                came = Some(count);
                // Fewer than could be: there is no more, and to be told so would take another system call.
                if count < most { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (came, read) {
                (Some(count), _) => {
                    self.rests.passed(found.iter().take(count).map(|one| one.len).sum());
                    return Poll::Ready(Ok(count));
                }
                (None, Err(error)) if error.kind() != ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, Ok(()) | Err(_)) => {}
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

/// Waits a moment when the kernel had no room.
///
/// quinn asks before every batch, not only after one that found no room: whoever waited here without need would send one
/// batch in a millisecond.
#[derive(Debug)]
struct Writable {
    socket: Arc<Counted>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pause.is_none() && self.socket.full.swap(false, Ordering::Relaxed) {
            self.pause = Some(Box::pin(sleep(PAUSE)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Makes a socket, and one that sends to it.
    fn pair() -> (Counted, UdpSocket) {
        let socket = Counted::new(UdpSocket::bind("127.0.0.1:0").unwrap(), Arc::default()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(socket.local_addr().unwrap()).unwrap();
        (socket, sender)
    }

    /// Reads once, into this many buffers; returns how many packets came.
    async fn read(socket: &Counted, buffers: usize) -> usize {
        let mut bytes = vec![0; buffers * 2_048];
        let mut buffers: Vec<IoSliceMut<'_>> = bytes.chunks_mut(2_048).map(IoSliceMut::new).collect();
        let mut found = vec![RecvMeta::default(); buffers.len()];
        let read = poll_fn(|context| socket.poll_recv(context, &mut buffers, &mut found));
        let count = tokio::time::timeout(Duration::from_secs(10), read).await.expect("nothing came").unwrap();
        found.iter().take(count).map(|one| one.len.div_ceil(one.stride.max(1))).sum()
    }

    #[tokio::test]
    async fn packets_are_read_and_those_after_them_are_heard_of() {
        let (socket, sender) = pair();
        for round in 1..=10 {
            for _ in 0..round {
                sender.send(b"packet").unwrap();
            }
            let mut came = 0;
            while came < round {
                came += read(&socket, 32).await;
            }
            assert_eq!(came, round);
        }
    }

    #[tokio::test]
    async fn what_comes_and_what_goes_is_counted() {
        let (socket, sender) = pair();
        for _ in 0..3 {
            sender.send(b"packet").unwrap();
        }
        let mut came = 0;
        while came < 3 {
            came += read(&socket, 32).await;
        }
        let destination = sender.local_addr().unwrap();
        let transmit =
            Transmit { destination, ecn: None, contents: b"answer", segment_size: None, src_ip: None };
        socket.try_send(&transmit).unwrap();
        let (passed, room) = socket.rests.told();
        assert_eq!(passed, 4 * 6);
        assert!(room > 2_048, "{room}");
    }

    #[tokio::test]
    async fn packets_for_which_there_was_no_buffer_are_read_next() {
        let (socket, sender) = pair();
        for _ in 0..6 {
            sender.send(b"packet").unwrap();
        }
        for _ in 0..3 {
            assert_eq!(read(&socket, 2).await, 2);
        }
        let nothing = tokio::time::timeout(Duration::from_millis(20), read(&socket, 2)).await;
        assert!(nothing.is_err());
        sender.send(b"packet").unwrap();
        assert_eq!(read(&socket, 2).await, 1);
    }

    #[tokio::test]
    async fn sending_waits_only_after_the_kernel_had_no_room() {
        let socket = Arc::new(pair().0);
        let mut poller = Arc::clone(&socket).create_io_poller();
        let mut context = Context::from_waker(std::task::Waker::noop());
        // quinn asks before each of its batches.
        assert!(poller.as_mut().poll_writable(&mut context).is_ready());
        socket.full.store(true, Ordering::Relaxed);
        assert!(poller.as_mut().poll_writable(&mut context).is_pending());
        poll_fn(|context| poller.as_mut().poll_writable(context)).await.unwrap();
        assert!(poller.as_mut().poll_writable(&mut context).is_ready());
    }
}
