//! Who may be which node: tokens, enrolments, revocations.
//!
//! A node's name has an [`Epoch`]; each enrolment and each revocation begins a new one. A certificate counts if its epoch
//! is not older than the newest that is known, so that what was lost with a database is learnt again from certificates.
//! Secrets never come here, only their hashes: a token is found by its number, and its hash compared in constant time.

// The words for addresses only: no sockets.
use core::net::IpAddr;
use std::collections::BTreeMap;

use imbl::OrdMap;
use sifleet_common::api::events::EventKind;
use sifleet_common::epoch::Epoch;
use sifleet_common::inventory::{Generation, Inventory};
use sifleet_common::name::NodeName;
use sifleet_common::time::{Now, UnixMillis};
use sifleet_common::wire::code::CloseCode;
use sifleet_common::wire::control::{StreamId, ToAgent};

use super::index::NodeId;
use super::{Caller, Effect, SessionId, State};
use crate::store::Op;
use crate::store::identity::{Invite, InviteHash, InviteNo, Network, Standing};

/// Most tokens that are kept, used ones included.
pub const MAX_INVITES: usize = 50_000;
/// How long a token is remembered after it has expired, so that people can be told why it does not work.
const REMEMBERED_MS: i64 = 7 * 86_400_000;

/// What somebody asks about identities.
#[derive(Clone, Debug)]
pub enum IdentityCommand {
    /// Keeps tokens for nodes; numbers that exist already are refused.
    Invite {
        /// The tokens.
        invites: Vec<Invite>,
    },
    /// A node showed a token.
    Enrol(Claim),
    /// Nodes are not to be let in any longer.
    Revoke {
        /// Which ones.
        nodes: Vec<NodeName>,
    },
    /// Tokens are not to be used any longer.
    Withdraw {
        /// Which one.
        invite: InviteNo,
    },
}

/// A node's claim to be one.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Which token it showed.
    pub invite: InviteNo,
    /// Hash of what it showed.
    pub hash: InviteHash,
    /// From where.
    pub from: IpAddr,
    /// What it believes to be called.
    pub name: Option<NodeName>,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityAnswer {
    /// It is done.
    Done,
    /// The token is not good any longer, for good once these steps are on disk.
    Withdrawn(Vec<Op>),
    /// The node may have a certificate of this epoch, once these steps are on disk.
    Enrolled(NodeName, Epoch, Vec<Op>),
    /// These were revoked.
    Revoked {
        /// All of them.
        nodes: Vec<NodeName>,
        /// Those of them that nobody was heard of by.
        unheard_of: Vec<NodeName>,
        /// What is to be on disk before anybody is told.
        steps: Vec<Op>,
    },
}

/// Says why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nobody made it, or the secret is another one: which of the two is not said.
    #[error("the coordinator knows no such token; make one with `sifleet token create --nodes NODE`")]
    NoToken,
    /// It is too late.
    #[error(
        "the token for {node} expired at {at}; make another one with `sifleet token create --nodes {node}`"
    )]
    Expired {
        /// For whom it was.
        node: NodeName,
        /// When it expired.
        at: UnixMillis,
    },
    /// It was used.
    #[error(
        "the token for {node} was used at {at} from {from}; a token serves once. If that was not this node, run `sifleet node revoke {node}`"
    )]
    Used {
        /// For whom it was.
        node: NodeName,
        /// When.
        at: UnixMillis,
        /// From where.
        from: IpAddr,
    },
    /// Another node's.
    #[error("the token is for {node}, and this node calls itself {name}; it was not used up")]
    OtherName {
        /// For whom it is.
        node: NodeName,
        /// Who showed it.
        name: NodeName,
    },
    /// From elsewhere.
    #[error("the token for {node} is not valid from {from}; it was not used up")]
    OtherNetwork {
        /// For whom it is.
        node: NodeName,
        /// Where it was shown.
        from: IpAddr,
    },
    /// Too many tokens.
    #[error(
        "the coordinator keeps {MAX_INVITES} tokens, its limit; those that expired are forgotten after a week"
    )]
    TooMany,
    /// The number is taken.
    #[error("a token of this number exists")]
    Twice,
}

/// Tokens and standings.
#[derive(Debug, Default)]
pub(super) struct Identities {
    standings: OrdMap<NodeName, Standing>,
    invites: BTreeMap<InviteNo, Invite>,
}

impl Identities {
    pub(super) fn restore(standings: Vec<(NodeName, Standing)>, invites: Vec<Invite>) -> Self {
        let invites = invites.into_iter().map(|invite| (invite.id, invite)).collect();
        Self { standings: standings.into_iter().collect(), invites }
    }

    /// Returns what is known of a name.
    pub(super) fn standing(&self, node: &NodeName) -> Standing {
        self.standings.get(node).copied().unwrap_or_default()
    }

    /// Returns all standings; cheap.
    pub(super) fn standings(&self) -> OrdMap<NodeName, Standing> {
        self.standings.clone()
    }

    /// Lists the tokens, oldest number first.
    pub(super) fn invites(&self) -> impl Iterator<Item = &Invite> {
        self.invites.values()
    }

    /// Decides whether a claim is good, without using the token up.
    fn judge(&self, claim: &Claim, now: UnixMillis) -> Result<NodeName, IdentityError> {
        let known = self.invites.get(&claim.invite).filter(|invite| invite.hash == claim.hash);
        let invite = known.ok_or(IdentityError::NoToken)?;
        let node = invite.node.clone();
        if let Some((at, from)) = invite.used {
            return Err(IdentityError::Used { node, at, from });
        }
        if now >= invite.expires {
            return Err(IdentityError::Expired { node, at: invite.expires });
        }
        if let Some(name) = claim.name.as_ref().filter(|name| **name != node) {
            return Err(IdentityError::OtherName { node, name: name.clone() });
        }
        if !invite.from.is_empty() && !invite.from.iter().any(|network: &Network| network.holds(claim.from)) {
            return Err(IdentityError::OtherNetwork { node, from: claim.from });
        }
        Ok(node)
    }
}

impl State {
    /// Carries a command out.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing has changed.
    pub fn identify(
        &mut self,
        command: IdentityCommand,
        now: Now,
    ) -> (Result<IdentityAnswer, IdentityError>, Vec<Effect>) {
        let answer = match command {
            IdentityCommand::Invite { invites } => {
                self.forget_old_invites(now.wall);
                self.invite(invites)
            }
            IdentityCommand::Enrol(claim) => self.enrol(&claim, now),
            IdentityCommand::Revoke { nodes } => Ok(self.revoke(nodes, now)),
            IdentityCommand::Withdraw { invite } => self.withdraw(invite),
        };
        (answer, std::mem::take(&mut self.effects))
    }

    /// Decides whether somebody who shows a certificate of this epoch is still that node; ends the session if not.
    pub(super) fn lets_in(&mut self, session: SessionId, caller: &Caller, now: Now) -> bool {
        let Caller { node, epoch, .. } = caller;
        let known = self.identities.standing(node);
        let plausible = epoch.is_plausible(now.wall);
        if *epoch > known.epoch && plausible {
            // Only our authority makes such certificates: what is known was lost.
            self.put_standing(node, Standing { epoch: *epoch, ..known });
        }
        let admitted = *epoch >= known.epoch && (plausible || *epoch == known.epoch);
        if !admitted {
            let why = "the certificate was revoked, or the name enrolled anew: enrol this node again with a new token";
            self.effects.push(Effect::Close(session, CloseCode::Revoked, why.to_owned()));
        }
        admitted
    }

    /// Tells every agent that it should ask for its certificate anew.
    pub(super) fn renew_all(&mut self) {
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        self.effects.extend(sessions.into_iter().map(|session| Effect::Send(session, ToAgent::RenewNow)));
    }

    /// Returns the steps that make all of it durable, whatever was written before.
    #[must_use]
    pub fn whole_identities(&self) -> Vec<Op> {
        let standings = self.identities.standings.iter();
        let standings =
            standings.map(|(node, standing)| Op::PutStanding { node: node.clone(), standing: *standing });
        let invites = self.identities.invites.values().cloned();
        // Of those that were forgotten meanwhile none may come back.
        standings.chain([Op::ReplaceInvites { invites: invites.collect() }]).collect()
    }

    fn invite(&mut self, invites: Vec<Invite>) -> Result<IdentityAnswer, IdentityError> {
        if self.identities.invites.len().saturating_add(invites.len()) > MAX_INVITES {
            return Err(IdentityError::TooMany);
        }
        if invites.iter().any(|invite| self.identities.invites.contains_key(&invite.id)) {
            return Err(IdentityError::Twice);
        }
        for invite in &invites {
            self.identities.invites.insert(invite.id, invite.clone());
        }
        self.effects.push(Effect::Store(Op::PutInvites { invites }));
        self.shown.identities_changed();
        Ok(IdentityAnswer::Done)
    }

    fn enrol(&mut self, claim: &Claim, now: Now) -> Result<IdentityAnswer, IdentityError> {
        let node = self.identities.judge(claim, now.wall)?;
        let mut steps = Vec::new();
        if let Some(invite) = self.identities.invites.get_mut(&claim.invite) {
            invite.used = Some((now.wall, claim.from));
            steps.push(Op::PutInvites { invites: vec![invite.clone()] });
        }
        let epoch = self.identities.standing(&node).epoch.next(now.wall);
        let standing = Standing { epoch, enrolled: Some(now.wall), revoked: None };
        self.put_standing(&node, standing);
        steps.push(Op::PutStanding { node: node.clone(), standing });
        self.effects.extend(steps.iter().cloned().map(Effect::Store));
        self.forget_claims(&node, "the name was enrolled anew");
        let detail = format!("enrolled from {}, epoch {epoch}", claim.from);
        self.announce_node(EventKind::NodeEnrolled, node.clone(), Some(detail));
        Ok(IdentityAnswer::Enrolled(node, epoch, steps))
    }

    /// Revokes names, also those that nobody was heard of by yet: their certificates may have been stolen before.
    fn revoke(&mut self, nodes: Vec<NodeName>, now: Now) -> IdentityAnswer {
        let mut waiting: BTreeMap<NodeName, Vec<InviteNo>> = BTreeMap::new();
        for invite in self.identities.invites().filter(|invite| invite.used.is_none()) {
            waiting.entry(invite.node.clone()).or_default().push(invite.id);
        }
        let (mut unheard_of, mut void, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for node in &nodes {
            let before = self.identities.standing(node);
            if before == Standing::default() && !self.by_name.contains_key(node) {
                unheard_of.push(node.clone());
            }
            let standing = Standing { epoch: before.epoch.next(now.wall), revoked: Some(now.wall), ..before };
            self.put_standing(node, standing);
            steps.push(Op::PutStanding { node: node.clone(), standing });
            self.forget_claims(node, "its certificate was revoked");
            // A token that waits would let it in again at once.
            void.extend(waiting.remove(node).into_iter().flatten());
            self.announce_node(EventKind::NodeRevoked, node.clone(), None);
        }
        if !void.is_empty() {
            steps.push(Op::ForgetInvites { invites: void.clone() });
            self.drop_invites(void);
        }
        IdentityAnswer::Revoked { nodes, unheard_of, steps }
    }

    fn withdraw(&mut self, invite: InviteNo) -> Result<IdentityAnswer, IdentityError> {
        if !self.identities.invites.contains_key(&invite) {
            return Err(IdentityError::NoToken);
        }
        self.drop_invites(vec![invite]);
        Ok(IdentityAnswer::Withdrawn(vec![Op::ForgetInvites { invites: vec![invite] }]))
    }

    fn put_standing(&mut self, node: &NodeName, standing: Standing) {
        self.identities.standings.insert(node.clone(), standing);
        self.effects.push(Effect::Store(Op::PutStanding { node: node.clone(), standing }));
        if let Some(id) = self.by_name.get(node).copied() {
            self.shown.touch(id);
        }
        self.shown.identities_changed();
    }

    /// Ends the session of a name and forgets what it claimed: whoever comes next begins with nothing.
    fn forget_claims(&mut self, name: &NodeName, why: &str) {
        let Some(id) = self.by_name.get(name).copied() else { return };
        if let Some(session) = self.node(id).and_then(|node| node.session.as_ref()).map(|open| open.id) {
            self.effects.push(Effect::Close(session, CloseCode::Revoked, why.to_owned()));
            self.unlease(id, why);
            self.closed(session);
        }
        self.unlease(id, why);
        self.forget_inventory(id);
    }

    fn forget_inventory(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        // Where others would fetch from it.
        node.gives = None;
        if node.facts.is_none() {
            return;
        }
        let done = super::node::Staging {
            generation: Generation::default(),
            next_part: 0,
            inventory: Inventory::default(),
        };
        self.replace(id, StreamId::default(), done);
    }

    fn forget_old_invites(&mut self, now: UnixMillis) {
        let old = |invite: &&Invite| now.0.saturating_sub(invite.expires.0) > REMEMBERED_MS;
        let old: Vec<InviteNo> = self.identities.invites().filter(old).map(|invite| invite.id).collect();
        if !old.is_empty() {
            self.drop_invites(old);
        }
    }

    fn drop_invites(&mut self, invites: Vec<InviteNo>) {
        for invite in &invites {
            self.identities.invites.remove(invite);
        }
        self.effects.push(Effect::Store(Op::ForgetInvites { invites }));
        self.shown.identities_changed();
    }
}

#[cfg(test)]
mod tests;
