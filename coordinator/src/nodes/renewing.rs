//! How long a session goes on with the certificate it was opened with: it is renewed in the session, or the session ends.
//!
//! A certificate that ran out a moment ago is still renewed: clocks differ, and some are set. The wall clock decides, for
//! certificates hold by it; it is looked at often enough that one which was moved, or stood while the machine slept, is
//! noticed.

use std::error::Error;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use sifleet_common::time::{Monotonic, Now, UnixMillis};
use sifleet_common::tls::{NodeIdentity, node_identity};
use sifleet_common::wire::control::ToAgent;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use super::issuer::{IssueError, Issuer};
use super::session::SessionEnd;
use crate::state::run::{Handle, ToSession};

/// A session's certificate is renewed at most this often.
const SPACING: Duration = Duration::from_millis(500);
/// How long a session goes on after its certificate ran out: as far as clocks may differ.
const OVERDUE_MS: i64 = 300_000;
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_secs(60);
/// How long nodes have, when an authority was retired, to ask for a certificate of the one that signs.
const RETIRING: Duration = Duration::from_secs(30);

/// The certificate of one session.
pub(super) struct Renewing<'a> {
    issuer: &'a Issuer,
    shown: &'a NodeIdentity,
    /// The newest chain, as shown or as renewed.
    chain: Vec<CertificateDer<'static>>,
    /// Until when it holds.
    until: UnixMillis,
    answers: mpsc::WeakSender<ToSession>,
    last: Option<Monotonic>,
    authorities: watch::Receiver<()>,
    /// When it is looked whether the chain still leads to an authority.
    judged_at: Option<Monotonic>,
    look_at: Monotonic,
}

impl<'a> Renewing<'a> {
    /// Begins with what was shown in the handshake.
    pub(super) fn new(
        issuer: &'a Issuer,
        (shown, chain): (&'a NodeIdentity, Vec<CertificateDer<'static>>),
        answers: mpsc::WeakSender<ToSession>,
        now: Monotonic,
    ) -> Self {
        let authorities = issuer.changes();
        let (until, look_at) = (shown.not_after, now.after(LOOK));
        Self { issuer, shown, chain, until, answers, last: None, authorities, judged_at: None, look_at }
    }

    /// Waits until something about the certificate is to be looked at. Cancel safe.
    pub(super) async fn due(&mut self, handle: &Handle) {
        tokio::select! {
            () = tokio::time::sleep_until(handle.clock.instant(self.look_at).into()) => {}
            changed = self.authorities.changed() => {
                let now = handle.clock.now().mono;
                // The issuer outlives its sessions.
                if changed.is_ok() {
                    self.judged_at = Some(now.after(RETIRING));
                    self.look_at = self.look_at.min(now.after(RETIRING));
                }
            }
        }
    }

    /// Looks whether the session may go on.
    pub(super) fn look(&mut self, now: Now) -> Result<(), SessionEnd> {
        if now.mono >= self.look_at {
            self.look_at = now.mono.after(LOOK);
        }
        if self.is_overdue(now.wall) {
            return Err(SessionEnd::Expired { node: self.shown.node.clone(), at: self.until });
        }
        if self.judged_at.take_if(|at| *at <= now.mono).is_some()
            && !self.issuer.vouches(&self.chain, self.until)
        {
            return Err(SessionEnd::Retired { node: self.shown.node.clone() });
        }
        Ok(())
    }

    /// Renews the certificate: for the name, epoch and key that the session was opened with.
    pub(super) fn renew(&mut self, handle: &Handle) -> Result<(), SessionEnd> {
        let now = handle.clock.now();
        // It may be renewed on a connection of its own, if it did not run out too long ago.
        self.look(now)?;
        let node = &self.shown.node;
        if self.shown.epoch < handle.views.load().epoch(node) {
            debug!(%node, "a certificate that was revoked is not renewed");
            return Ok(());
        }
        // Signing costs: an agent that asks more often than it has reason to is not answered.
        if self.last.is_some_and(|last| now.mono.since(last) < SPACING) {
            return Ok(());
        }
        self.last = Some(now.mono);
        match self.issuer.renew(self.shown) {
            Ok(certificates) => {
                let first = certificates.chain.first().and_then(|first| node_identity(first).ok());
                let chain = certificates.chain.iter().cloned().map(CertificateDer::from).collect();
                let answer = ToSession::Message(ToAgent::Renewed(Box::new(certificates)));
                let sent = self.answers.upgrade().is_some_and(|answers| answers.try_send(answer).is_ok());
                debug!(%node, sent, "the certificate was renewed");
                // One that the agent did not get it cannot use: it asks again.
                if sent {
                    self.until = first.map_or(self.until, |issued| issued.not_after);
                    self.chain = chain;
                }
            }
            // A site that brings its own certificates: said once a day by an agent that does not know it.
            Err(IssueError::NoAuthority) => debug!(%node, "certificates are made elsewhere"),
            Err(error) => warn!(%node, error = &error as &dyn Error, "a certificate could not be renewed"),
        }
        Ok(())
    }

    fn is_overdue(&self, now: UnixMillis) -> bool {
        now.0.saturating_sub(self.until.0) > OVERDUE_MS
    }
}
