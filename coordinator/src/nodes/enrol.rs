//! Nodes that come for a certificate: one question and one answer on a connection, few at a time.
//!
//! Anybody who reaches the port can get here without a certificate, so places, bytes and time are few, and who shows
//! tokens that are none is turned away for a while.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{Connection, VarInt};
use sifleet_common::time::Monotonic;
use sifleet_common::wire::code::CloseCode;
use sifleet_common::wire::enrol::{Answer, Ask, Certificates, Enrolment, MAX_REASON, MAX_TOKEN};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::issuer::{Issuer, requested_key};
use super::token::{EnrolSecret, NotAToken};
use crate::state::identities::{Claim, IdentityAnswer, IdentityCommand, IdentityError};
use crate::state::run::Handle;
use crate::store::Store;
use sifleet_common::tls::connected_identity;

/// Enrolments at a time.
const PLACES: usize = 32;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a node may take over its question: it holds one of few places meanwhile.
const ASK: Duration = Duration::from_secs(2);
/// How long the answer may take to arrive.
const LINGER: Duration = Duration::from_secs(2);
/// Wrong tokens from one address after which it has to wait.
const WRONG: u32 = 5;
/// How long it has to wait.
const PAUSE: Duration = Duration::from_secs(60);
/// Addresses whose wrong tokens are counted; beyond them the oldest are forgotten.
const COUNTED: usize = 4_096;

/// Serves enrolments; clones share it.
#[derive(Clone)]
pub struct Enrolling {
    issuer: Issuer,
    store: Store,
    /// How long a certificate may have run out that is renewed.
    grace: Duration,
    places: Arc<Semaphore>,
    wrong: Arc<Mutex<Guesses>>,
}

impl Enrolling {
    /// Joins what it needs.
    #[must_use]
    pub fn new(issuer: Issuer, store: Store, grace: Duration) -> Self {
        let (places, wrong) = (Arc::new(Semaphore::new(PLACES)), Arc::default());
        Self { issuer, store, grace, places, wrong }
    }

    /// Returns what issues certificates.
    #[must_use]
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Serves one connection.
    pub(super) async fn serve(self, connection: Connection, handle: Handle) {
        let Ok(place) = self.places.try_acquire() else {
            connection.close(VarInt::from_u32(CloseCode::Busy.number()), b"too many enrolments at a time");
            return;
        };
        let served = tokio::time::timeout(PATIENCE, self.answer(&connection, &handle)).await;
        if served.is_err() {
            debug!(peer = %connection.remote_address(), "an enrolment took too long");
        }
        drop(place);
        // The node closes when it has the answer; one that does not is closed on.
        drop(tokio::time::timeout(LINGER, connection.closed()).await);
        connection.close(VarInt::from_u32(CloseCode::Stopping.number()), b"");
    }

    async fn answer(&self, connection: &Connection, handle: &Handle) {
        let peer = connection.remote_address().ip().to_canonical();
        let asked = tokio::time::timeout(ASK, async {
            let (send, receive) = connection.accept_bi().await.ok()?;
            Some((send, FrameReader::new(receive).next::<Ask>().await))
        });
        let (mut send, ask) = match asked.await {
            Ok(Some((send, Ok(Some(ask))))) => (send, ask),
            Ok(Some((_, Ok(None))) | None) | Err(_) => return,
            Ok(Some((_, Err(error)))) => {
                warn!(%peer, error = &error as &dyn Error, "an enrolment was not understood");
                connection.close(VarInt::from_u32(CloseCode::Protocol.number()), b"not understood");
                return;
            }
        };
        let granted = match ask {
            Ask::Enrol(enrolment) => self.enrol(peer, enrolment, handle).await,
            Ask::Renew => self.renew(connection, handle),
        };
        let answer = match granted {
            Ok(certificates) => {
                info!(%peer, node = %certificates.node, "a certificate was issued");
                Answer::Granted(certificates)
            }
            Err(reason) => {
                warn!(%peer, error = reason, "no certificate was issued");
                Answer::Refused { reason: cut(reason) }
            }
        };
        if let Err(error) = write_frame(&mut send, &answer).await {
            debug!(%peer, error = &error as &dyn Error, "the answer to an enrolment did not arrive");
        }
        drop(send.finish());
    }

    async fn enrol(
        &self,
        peer: IpAddr,
        enrolment: Enrolment,
        handle: &Handle,
    ) -> Result<Certificates, String> {
        let secret = read_token(&enrolment.token.0);
        let view = handle.views.load();
        let now = handle.clock.now();
        let good = |secret: &EnrolSecret| view.has_good_invite(secret.id(), secret.hash(), now.wall);
        let good = secret.as_ref().is_ok_and(good);
        drop(view);
        // Others at the same address may guess: whoever has a good token need not wait for them.
        if !good && self.wrong().is_paused(peer, now.mono) {
            return Err(format!("too many wrong tokens from {peer}: wait {} s", PAUSE.as_secs()));
        }
        // Before the token is used up: a request that is none would waste it.
        requested_key(&enrolment.request).map_err(|error| chain(&error))?;
        let claimed = match secret {
            Ok(secret) => {
                let claim =
                    Claim { invite: secret.id(), hash: secret.hash(), from: peer, name: enrolment.name };
                handle.identify(IdentityCommand::Enrol(claim)).await.map_err(|error| error.to_string())?
            }
            Err(_unreadable) => Err(IdentityError::NoToken),
        };
        let (node, epoch, steps) = match claimed {
            Ok(IdentityAnswer::Enrolled(node, epoch, steps)) => (node, epoch, steps),
            Ok(IdentityAnswer::Done | IdentityAnswer::Withdrawn(_) | IdentityAnswer::Revoked { .. }) => {
                return Err("not enrolled".to_owned());
            }
            Err(error) => {
                if error == IdentityError::NoToken {
                    self.wrong().note(peer, handle.clock.now().mono);
                }
                return Err(error.to_string());
            }
        };
        // A token that is used is used: not even a crash brings it back.
        self.store.commit(steps).await.map_err(|error| chain(&error))?;
        self.issuer.enrol(&node, epoch, &enrolment.request).map_err(|error| chain(&error))
    }

    /// Renews a certificate that has run out, for whoever proved in the handshake to have its key.
    fn renew(&self, connection: &Connection, handle: &Handle) -> Result<Certificates, String> {
        let shown = connected_identity(connection).map_err(|error| chain(&error))?;
        let now = handle.clock.now().wall;
        if now.0.saturating_sub(shown.not_after.0) > i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX)
        {
            return Err(format!("the certificate ran out at {}, too long ago: enrol again", shown.not_after));
        }
        // The same rule as for sessions.
        let known = handle.views.load().epoch(&shown.node);
        if shown.epoch < known {
            return Err(format!(
                "the certificate of {} was revoked: enrol again with a new token",
                shown.node
            ));
        }
        self.issuer.renew(&shown).map_err(|error| chain(&error))
    }

    fn wrong(&self) -> std::sync::MutexGuard<'_, Guesses> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a token; one that is longer than any is none.
fn read_token(text: &str) -> Result<EnrolSecret, NotAToken> {
    if text.len() > MAX_TOKEN { Err(NotAToken) } else { text.parse() }
}

/// Counts wrong tokens by address. Pure: it is told the time.
#[derive(Debug, Default)]
struct Guesses {
    by_address: BTreeMap<IpAddr, (u32, Monotonic)>,
}

impl Guesses {
    fn is_paused(&self, from: IpAddr, now: Monotonic) -> bool {
        self.by_address.get(&from).is_some_and(|(wrong, last)| *wrong >= WRONG && now.since(*last) < PAUSE)
    }

    fn note(&mut self, from: IpAddr, now: Monotonic) {
        if self.by_address.len() >= COUNTED && !self.by_address.contains_key(&from) {
            let oldest =
                self.by_address.iter().min_by_key(|(_, (_, last))| *last).map(|(address, _)| *address);
            oldest.map(|address| self.by_address.remove(&address));
        }
        let (wrong, last) = self.by_address.entry(from).or_insert((0, now));
        if now.since(*last) >= PAUSE {
            *wrong = 0;
        }
        (*wrong, *last) = (wrong.saturating_add(1), now);
    }
}

fn chain(error: &dyn Error) -> String {
    sifleet_common::telemetry::Chain(error).to_string()
}

fn cut(mut reason: String) -> String {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn whoever_guesses_has_to_wait_and_others_have_not() {
        let (guesser, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut guesses = Guesses::default();
        for _ in 0..WRONG {
            assert!(!guesses.is_paused(guesser, at(1)));
            guesses.note(guesser, at(1));
        }
        assert!(guesses.is_paused(guesser, at(60)) && !guesses.is_paused(other, at(60)));
        assert!(!guesses.is_paused(guesser, at(61)));
        guesses.note(guesser, at(61));
        assert!(!guesses.is_paused(guesser, at(61)), "it begins anew");
    }

    #[test]
    fn what_is_longer_than_any_token_is_none() {
        let good = EnrolSecret::new(7, [1; 32]).reveal();
        assert!(read_token(&good).is_ok());
        assert_eq!(read_token(&format!("{good}{}", " ".repeat(MAX_TOKEN))), Err(NotAToken));
    }

    #[test]
    fn a_crowd_of_guessers_takes_no_more_room_than_there_is() {
        let mut guesses = Guesses::default();
        for n in 0..10_000u32 {
            guesses.note(IpAddr::from(n.to_be_bytes()), at(u64::from(n)));
        }
        assert_eq!(guesses.by_address.len(), COUNTED);
    }
}
