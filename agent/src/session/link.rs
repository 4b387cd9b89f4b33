//! One connection to one coordinator, from the dial to the end.

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, VarInt};
use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::image::ImageMetadata;
use sifleet_common::inventory::Change;
use sifleet_common::quic;
use sifleet_common::time::Now;
use sifleet_common::tls::COORDINATOR_NAME;
use sifleet_common::wire::CONTROL_ALPN;
use sifleet_common::wire::assignment::Order;
use sifleet_common::wire::code::CloseCode;
use sifleet_common::wire::control::{Described, MAX_SIDECAR, ToAgent, ToCoordinator};
use sifleet_common::wire::enrol::MAX_REASON;
use sifleet_common::wire::frame::{FrameReader, write_frame};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{debug, info, warn};

use super::asked::Asked;
use super::looks::Looks;
use super::report::{Output, Reporter};
use super::vigil::Vigil;
use super::{Command, Parts, SessionError, TURN};
use crate::credentials::Credentials;

/// Heartbeats before the coordinator has said how often it wants them.
const UNTIL_WELCOME: Duration = Duration::from_secs(10);
/// Heartbeats are not sent more often, whatever the coordinator asks for.
const SHORTEST_BEAT: Duration = Duration::from_millis(100);
/// How long a dial may take: several repeats of a lost first packet, and short enough to try again soon.
pub(crate) const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// How often the coordinator is told what the clock says, unless it is set.
const HOUR: Duration = Duration::from_secs(3600);
/// A clock that moved by more than this beside the time that passed was set, in milliseconds.
const SET_MS: i64 = 10_000;
/// Descriptions read at once; more are asked for again later.
const DESCRIPTIONS: usize = 8;

type Description = (Digest, Option<(ImageMetadata, Option<String>)>);

/// Talks to one coordinator until the agent stops (`Ok`) or the connection ends.
pub(super) async fn talk(
    coordinator: &str,
    credentials: &Credentials,
    reporter: &mut Reporter,
    parts: &mut Parts,
) -> Result<(), SessionError> {
    let exchanged = credentials.exchanged();
    let config =
        credentials.live().client_config(CONTROL_ALPN).map_err(|source| SessionError::Tls { source })?;
    let config = quic::client(config).map_err(|source| SessionError::Socket { source })?;
    let address = resolve(coordinator).await?;
    let (endpoint, connection) = tokio::select! {
        () = parts.stop.cancelled() => return Ok(()),
        dialled = dial(address, &config) => dialled?,
    };
    info!(peer = %address, "connected to the coordinator");
    let ended = converse((&connection, address), (reporter, credentials, exchanged), parts).await;
    reporter.lost();
    let refused = connection.close_reason().and_then(|reason| refusal(address, reason));
    connection.close(VarInt::from_u32(CloseCode::Stopping.number()), b"the agent ends the session");
    drop(connection);
    // The close needs a moment to leave; nothing depends on its arrival.
    if tokio::time::timeout(TURN, endpoint.wait_idle()).await.is_err() {
        debug!(peer = %address, "the coordinator did not confirm the end");
    }
    match ended {
        Err(SessionError::Stopped) => Ok(()),
        Err(error) => Err(refused.unwrap_or(error)),
        Ok(()) => Ok(()),
    }
}

/// Finds what the coordinator said when it ended the connection.
fn refusal(address: SocketAddr, reason: ConnectionError) -> Option<SessionError> {
    let ConnectionError::ApplicationClosed(closed) = reason else { return None };
    let reason = shown(&String::from_utf8_lossy(&closed.reason));
    Some(SessionError::Refused { address, code: closed.error_code.into_inner(), reason })
}

/// Cuts what the coordinator gave as its reason to what is shown of it.
pub(crate) fn shown(reason: &str) -> String {
    let mut text: String = reason.chars().filter(|letter| !letter.is_control()).collect();
    text.truncate(text.floor_char_boundary(MAX_REASON));
    text
}

pub(crate) async fn resolve(coordinator: &str) -> Result<SocketAddr, SessionError> {
    let failed = |source| SessionError::Resolve { coordinator: coordinator.to_owned(), source };
    let found = tokio::time::timeout(DIAL_LIMIT, tokio::net::lookup_host(coordinator)).await;
    let mut addresses = match found {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(source)) => return Err(failed(Some(source))),
        Err(_elapsed) => return Err(failed(None)),
    };
    addresses.next().ok_or_else(|| failed(None))
}

pub(crate) async fn dial(
    address: SocketAddr,
    config: &ClientConfig,
) -> Result<(Endpoint, Connection), SessionError> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = quic::dialler(config.clone(), local).map_err(|source| SessionError::Socket { source })?;
    let connecting = endpoint
        .connect(address, COORDINATOR_NAME)
        .map_err(|source| SessionError::Dial { address, source })?;
    match tokio::time::timeout(DIAL_LIMIT, connecting).await {
        Ok(Ok(connection)) => Ok((endpoint, connection)),
        Ok(Err(source)) => Err(SessionError::Connection { address, source }),
        Err(_elapsed) => Err(SessionError::Silent { address }),
    }
}

/// The control stream of one session, and what waits to be said in it.
struct Conversation<'a> {
    address: SocketAddr,
    send: SendStream,
    reporter: &'a mut Reporter,
    credentials: Credentials,
    /// How many times they had been exchanged when this session was begun.
    exchanged: u64,
    clock: Clock,
    /// When the coordinator was last told what the clock says.
    told_time: Now,
    vigil: Vigil,
    /// Whether a message was begun and not ended, after which nothing else can be said.
    torn: bool,
    commands: mpsc::Sender<Command>,
    orders: mpsc::Sender<Order>,
    beats: Interval,
    descriptions: JoinSet<Description>,
    looks: Looks,
    asked: Asked,
}

async fn converse(
    (connection, address): (&Connection, SocketAddr),
    (reporter, credentials, exchanged): (&mut Reporter, &Credentials, u64),
    parts: &mut Parts,
) -> Result<(), SessionError> {
    let (send, receive) =
        connection.open_bi().await.map_err(|source| SessionError::Connection { address, source })?;
    let mut frames = FrameReader::new(receive);
    let descriptions = JoinSet::new();
    let (commands, orders) = (parts.commands.clone(), parts.orders.clone());
    let beats = every(UNTIL_WELCOME);
    let vigil = Vigil { beat: Arc::clone(&parts.beat), stop: parts.stop.clone() };
    let clock = Clock::start();
    let mut talk = Conversation {
        address,
        send,
        reporter,
        credentials: credentials.clone(),
        exchanged,
        clock,
        told_time: clock.now(),
        vigil,
        torn: false,
        commands,
        orders,
        beats,
        descriptions,
        looks: Looks::default(),
        asked: Asked::default(),
    };
    let ended = talk.rounds(&mut frames, parts).await;
    if matches!(ended, Err(SessionError::Stopped)) {
        talk.goodbye().await;
    }
    ended
}

impl Conversation<'_> {
    /// Says hello, then speaks and listens in turn.
    async fn rounds(
        &mut self,
        frames: &mut FrameReader<RecvStream>,
        parts: &mut Parts,
    ) -> Result<(), SessionError> {
        let hello = self.reporter.hello();
        self.say(&hello).await?;
        self.tell_time().await?;
        let (mut turns, mut hours) = (every(TURN), every(HOUR));
        loop {
            tokio::select! {
                () = parts.stop.cancelled() => return Err(SessionError::Stopped),
                _ = turns.tick() => self.look_at_clock().await?,
                _ = hours.tick() => self.tell_time().await?,
                _ = self.beats.tick() => {
                    let beat = self.reporter.heartbeat();
                    self.say(&beat).await?;
                }
                changes = parts.changes.recv() => match changes {
                    Some(changes) => self.observe(changes).await?,
                    None => return Ok(()),
                },
                Some(report) = parts.reports.recv() => {
                    self.say(&ToCoordinator::Report(Box::new(report))).await?;
                }
                Some(question) = parts.questions.recv(), if self.asked.has_room() => {
                    if let Some(pull) = self.asked.ask(question) {
                        self.say(&ToCoordinator::Pull(Box::new(pull))).await?;
                    }
                }
                message = next(frames, self.address) => self.heed(message?).await?,
                Some(ended) = self.looks.ended() => {
                    // What was found waits in the queue; it is said first.
                    while let Ok(changes) = parts.changes.try_recv() {
                        self.observe(changes).await?;
                    }
                    if let Some(request) = ended {
                        self.say(&ToCoordinator::Reconciled { request }).await?;
                    }
                    if let Some(request) = self.looks.next() {
                        self.reconcile(request);
                    }
                }
                Some(read) = self.descriptions.join_next() => match read {
                    Ok((digest, found)) => self.answer(digest, found).await?,
                    Err(error) => warn!(error = &error as &dyn Error, "an image could not be described"),
                },
            }
            parts.beat.beat(true);
        }
    }

    /// Ends the session when another certificate was found in the files; asks for one anew when it is due, by a clock that may have been set since the last look.
    async fn look_at_clock(&mut self) -> Result<(), SessionError> {
        if self.credentials.exchanged() != self.exchanged {
            return Err(SessionError::Exchanged);
        }
        let now = self.clock.now();
        if is_set(self.told_time, now) {
            self.tell_time().await?;
        }
        if self.credentials.take_due(now.wall) {
            self.say(&ToCoordinator::Renew).await?;
        }
        Ok(())
    }

    async fn observe(&mut self, changes: Vec<Change>) -> Result<(), SessionError> {
        for message in self.reporter.observe(changes) {
            self.say(&message).await?;
        }
        Ok(())
    }

    async fn tell_time(&mut self) -> Result<(), SessionError> {
        self.told_time = self.clock.now();
        self.say(&ToCoordinator::Clock { at: self.told_time.wall.0 }).await
    }

    async fn say(&mut self, message: &ToCoordinator) -> Result<(), SessionError> {
        let address = self.address;
        if self.vigil.stop.is_cancelled() {
            return Err(SessionError::Stopped);
        }
        self.torn = true;
        let written = self.vigil.over(write_frame(&mut self.send, message)).await;
        let written = written.ok_or(SessionError::Stopped)?;
        self.torn = false;
        written.map_err(|source| SessionError::Frame { address, source })
    }

    /// Takes leave, if anything can be said still, and waits a moment until it has arrived: closing at once would discard it.
    async fn goodbye(&mut self) {
        if self.torn {
            return;
        }
        let said = tokio::time::timeout(TURN, write_frame(&mut self.send, &ToCoordinator::Goodbye)).await;
        let left = matches!(said, Ok(Ok(())))
            && self.send.finish().is_ok()
            && tokio::time::timeout(TURN, self.send.stopped()).await.is_ok();
        debug!(peer = %self.address, left, "the agent took leave");
    }

    async fn heed(&mut self, message: ToAgent) -> Result<(), SessionError> {
        for output in self.reporter.receive(message) {
            match output {
                Output::Say(message) => self.say(&message).await?,
                Output::SayAll(all) => {
                    for part in all {
                        self.say(&part).await?;
                        tokio::task::yield_now().await;
                    }
                }
                Output::BeatEvery(millis) => {
                    self.beats = every(Duration::from_millis(millis.into()).max(SHORTEST_BEAT));
                }
                Output::Rescan => command(&self.commands, Command::Rescan),
                Output::Reconcile(request) => self.reconcile(request),
                Output::Describe(digest) => self.describe(digest),
                Output::Order(order) => self.order(order).await?,
                Output::Renew => self.credentials.want(),
                Output::Pulled(pulled) => self.asked.answer(*pulled),
                Output::Renewed(certificates) => {
                    if let Err(error) = self.credentials.take(&certificates) {
                        warn!(error = &error as &dyn Error, "a renewed certificate was not taken");
                    }
                }
            }
        }
        Ok(())
    }

    async fn order(&self, order: Order) -> Result<(), SessionError> {
        let taken = self.vigil.over(self.orders.send(order)).await.ok_or(SessionError::Stopped)?;
        if let Err(error) = taken {
            warn!(error = &error as &dyn Error, "the transfers have ended");
        }
        Ok(())
    }

    fn reconcile(&mut self, request: u64) {
        let commands = self.commands.clone();
        self.looks.ask(request, |reply| command(&commands, Command::Reconcile { reply }));
    }

    fn describe(&mut self, digest: Digest) {
        let (reply, answer) = oneshot::channel();
        if self.descriptions.len() < DESCRIPTIONS {
            command(&self.commands, Command::Describe { digest, reply });
        }
        // A reply that nobody will send tells the coordinator that there is none.
        self.descriptions.spawn(async move { (digest, answer.await.unwrap_or_default()) });
    }

    async fn answer(
        &mut self,
        digest: Digest,
        found: Option<(ImageMetadata, Option<String>)>,
    ) -> Result<(), SessionError> {
        let (metadata, sidecar) = match found {
            Some((metadata, sidecar)) => (Some(metadata), sidecar.filter(|text| text.len() <= MAX_SIDECAR)),
            None => (None, None),
        };
        self.say(&ToCoordinator::Described(Box::new(Described { digest, metadata, sidecar }))).await
    }
}

/// A full queue loses a command, not the session: the coordinator or the timer asks again.
fn command(commands: &mpsc::Sender<Command>, command: Command) {
    if let Err(error) = commands.try_send(command) {
        warn!(error = &error as &dyn Error, "the agent is too busy for a command of the coordinator");
    }
}

/// Tells whether somebody set the clock since `before`: it went on by more or less than the time that passed.
fn is_set(before: Now, now: Now) -> bool {
    let passed = i64::try_from(now.mono.since(before.mono).as_millis()).unwrap_or(i64::MAX);
    let went_on = now.wall.0.saturating_sub(before.wall.0);
    went_on.saturating_sub(passed).saturating_abs() > SET_MS
}

async fn next(frames: &mut FrameReader<RecvStream>, address: SocketAddr) -> Result<ToAgent, SessionError> {
    match frames.next().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(SessionError::Ended { address }),
        Err(source) => Err(SessionError::Frame { address, source }),
    }
}

pub(super) fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests;
