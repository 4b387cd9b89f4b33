//! Who gets in, who does not, and what becomes of those who were in.

#![cfg(test)]

use sifleet_common::inventory::RootState;

use super::super::testing::stored::restored;
use super::super::testing::{Site, image, root};
use super::super::{Event, Limits};
use super::*;

const TTL_MS: i64 = 600_000;

fn hash(text: &str) -> InviteHash {
    InviteHash(blake3::hash(text.as_bytes()))
}

fn invite(id: u64, node: &str) -> Invite {
    Invite {
        id: InviteNo(id),
        hash: hash("secret"),
        node: node.parse().unwrap(),
        from: Vec::new(),
        created: UnixMillis(0),
        expires: UnixMillis(TTL_MS),
        used: None,
    }
}

fn claim(id: u64) -> Claim {
    Claim { invite: InviteNo(id), hash: hash("secret"), from: [10, 1, 0, 1].into(), name: None }
}

impl Site {
    fn identify(&mut self, command: IdentityCommand) -> Result<IdentityAnswer, IdentityError> {
        let (answer, effects) = self.state.identify(command, self.now);
        self.stored.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Store(op) => Some(op.clone()),
            Effect::Send(..) | Effect::Close(..) | Effect::Announce(_) => None,
        }));
        self.effects.extend(effects);
        answer
    }

    fn invite(&mut self, invites: Vec<Invite>) {
        self.identify(IdentityCommand::Invite { invites }).unwrap();
    }

    fn enrol(&mut self, claim: Claim) -> Result<(NodeName, Epoch), IdentityError> {
        let answer = self.identify(IdentityCommand::Enrol(claim))?;
        let IdentityAnswer::Enrolled(node, epoch, steps) = answer else { panic!("{answer:?}") };
        assert_eq!(steps.len(), 2, "the token and the standing have to be on disk");
        Ok((node, epoch))
    }

    fn revoke(&mut self, node: &str) {
        self.identify(IdentityCommand::Revoke { nodes: vec![node.parse().unwrap()] }).unwrap();
    }

    fn closed_as_revoked(&self, session: SessionId) -> bool {
        self.effects.iter().any(
            |effect| matches!(effect, Effect::Close(closed, CloseCode::Revoked, _) if *closed == session),
        )
    }
}

fn enrolled(node: &str, epoch: u32) -> Result<(NodeName, Epoch), IdentityError> {
    Ok((node.parse().unwrap(), Epoch(epoch)))
}

#[test]
fn a_token_lets_its_node_in_once() {
    let mut site = Site::new();
    site.invite(vec![invite(1, "viz001"), invite(2, "viz002")]);
    assert_eq!(site.enrol(claim(1)), enrolled("viz001", 1));
    let again = site.enrol(claim(1));
    assert!(matches!(again, Err(IdentityError::Used { .. })), "{again:?}");
    assert_eq!(site.enrol(claim(2)), enrolled("viz002", 1));
}

#[test]
fn a_token_that_was_used_stays_used_after_a_restart() {
    let mut site = Site::new();
    site.invite(vec![invite(1, "viz001")]);
    assert_eq!(site.enrol(claim(1)), enrolled("viz001", 1));
    let mut after = Site::with(Limits::default(), restored(&site.stored));
    let again = after.enrol(claim(1));
    assert!(matches!(again, Err(IdentityError::Used { .. })), "{again:?}");
    after.invite(vec![invite(2, "viz001")]);
    assert_eq!(after.enrol(claim(2)), enrolled("viz001", 2), "the epoch is known still");
}

#[test]
fn what_is_written_anew_as_a_whole_is_all_there_is() {
    let mut site = Site::new();
    site.invite(vec![invite(1, "viz001"), invite(2, "viz002")]);
    assert_eq!(site.enrol(claim(1)), enrolled("viz001", 1));
    let mut after = Site::with(Limits::default(), restored(&site.state.whole_identities()));
    assert!(matches!(after.enrol(claim(1)), Err(IdentityError::Used { .. })));
    assert_eq!(after.enrol(claim(2)), enrolled("viz002", 1));
}

#[test]
fn a_wrong_secret_is_told_nothing_of_the_token() {
    let mut site = Site::new();
    site.invite(vec![invite(1, "viz001")]);
    let guess = Claim { hash: hash("guess"), ..claim(1) };
    assert_eq!(site.enrol(guess), site.enrol(claim(9)), "as if there were none");
    assert_eq!(site.enrol(claim(1)), enrolled("viz001", 1), "and it is not used up");
}

#[test]
fn a_late_token_is_refused_and_says_so() {
    let mut site = Site::new();
    site.invite(vec![invite(1, "viz001")]);
    site.now.wall = UnixMillis(TTL_MS);
    let late = site.enrol(claim(1));
    assert!(matches!(late, Err(IdentityError::Expired { .. })), "{late:?}");
    site.now.wall = UnixMillis(TTL_MS + REMEMBERED_MS + 1);
    site.invite(vec![invite(2, "viz001")]);
    assert_eq!(site.enrol(claim(1)), Err(IdentityError::NoToken), "and is forgotten in the end");
    assert_eq!(restored(&site.stored).invites.len(), 1);
}

#[test]
fn a_token_of_another_node_or_network_is_refused_and_not_used_up() {
    let mut site = Site::new();
    let here = Invite { from: vec!["10.1.0.0/16".parse().unwrap()], ..invite(1, "viz001") };
    site.invite(vec![here]);
    let other = Claim { name: Some("viz002".parse().unwrap()), ..claim(1) };
    assert!(matches!(site.enrol(other), Err(IdentityError::OtherName { .. })));
    let elsewhere = Claim { from: [10, 2, 0, 1].into(), ..claim(1) };
    assert!(matches!(site.enrol(elsewhere), Err(IdentityError::OtherNetwork { .. })));
    let right = Claim { name: Some("viz001".parse().unwrap()), ..claim(1) };
    assert_eq!(site.enrol(right), enrolled("viz001", 1));
}

#[test]
fn enrolling_a_name_anew_ends_its_session_and_forgets_what_it_claimed() {
    let mut site = Site::new();
    site.partition("viz", "viz001");
    let session = site.agent("viz001", vec![root(RootState::Watched), image("a.sif", 1)]);
    assert_eq!(site.split("a", "viz"), ["viz001", "", "", ""]);
    site.invite(vec![invite(1, "viz001")]);
    assert_eq!(site.enrol(claim(1)), enrolled("viz001", 1));
    assert!(site.closed_as_revoked(session));
    assert_eq!(site.split("a", "viz"), ["", "", "", "viz001"]);
    let old = site.hello("viz001", &[]);
    assert!(site.closed_as_revoked(old), "a replayed old certificate");
    site.epoch = Epoch(1);
    let new = site.agent("viz001", vec![root(RootState::Watched)]);
    assert!(!site.closed_as_revoked(new));
    assert_eq!(site.split("a", "viz"), ["", "", "viz001", ""]);
}

#[test]
fn a_revoked_node_is_cut_off_and_kept_out() {
    let mut site = Site::new();
    site.partition("viz", "viz001");
    let session = site.agent("viz001", vec![root(RootState::Watched), image("a.sif", 1)]);
    site.invite(vec![invite(7, "viz001")]);
    site.revoke("viz001");
    assert!(site.closed_as_revoked(session));
    assert_eq!(site.split("a", "viz"), ["", "", "", "viz001"]);
    let again = site.hello("viz001", &[]);
    assert!(site.closed_as_revoked(again));
    assert_eq!(site.enrol(claim(7)), Err(IdentityError::NoToken), "a token made before is void");
    let mut after = Site::with(Limits::default(), restored(&site.stored));
    let later = after.hello("viz001", &[]);
    assert!(after.closed_as_revoked(later), "also after a restart");
}

#[test]
fn messages_of_a_session_that_was_revoked_change_nothing() {
    let mut site = Site::new();
    site.partition("viz", "viz001");
    site.agent("viz001", vec![root(RootState::Watched)]);
    site.revoke("viz001");
    site.change("viz001", vec![image("a.sif", 1)]);
    site.beat("viz001");
    let answer = site.ask("a", "viz").unwrap();
    assert!(answer.digests.is_empty(), "nobody ever heard of it: {answer:?}");
}

#[test]
fn a_lost_database_is_mended_by_certificates_of_newer_epochs() {
    let mut site = Site::new();
    site.epoch = Epoch(3);
    let new = site.hello("viz001", &[]);
    assert!(!site.closed_as_revoked(new));
    site.epoch = Epoch(2);
    let old = site.hello("viz001", &[]);
    assert!(site.closed_as_revoked(old));
}

#[test]
fn a_name_that_nobody_was_heard_of_by_is_revoked_all_the_same() {
    let mut site = Site::new();
    site.revoke("viz001");
    let stolen = site.hello("viz001", &[]);
    assert!(site.closed_as_revoked(stolen), "made by hand, and stolen before its first use");
}

#[test]
fn an_epoch_that_cannot_have_begun_yet_is_not_believed() {
    let mut site = Site::new();
    site.epoch = Epoch(u32::MAX);
    let forged = site.hello("viz001", &[]);
    assert!(site.closed_as_revoked(forged));
    site.epoch = Epoch(0);
    let genuine = site.hello("viz001", &[]);
    assert!(!site.closed_as_revoked(genuine));
}

#[test]
fn tokens_are_bounded_and_can_be_withdrawn() {
    let mut site = Site::new();
    let many = (0..MAX_INVITES as u64).map(|id| invite(id, "viz001")).collect();
    site.invite(many);
    let more = site.identify(IdentityCommand::Invite { invites: vec![invite(u64::MAX, "viz001")] });
    assert_eq!(more, Err(IdentityError::TooMany));
    let withdrawn = site.identify(IdentityCommand::Withdraw { invite: InviteNo(1) });
    let step = Op::ForgetInvites { invites: vec![InviteNo(1)] };
    assert_eq!(withdrawn, Ok(IdentityAnswer::Withdrawn(vec![step])));
    assert_eq!(site.enrol(claim(1)), Err(IdentityError::NoToken));
    let twice = site.identify(IdentityCommand::Invite { invites: vec![invite(2, "viz001")] });
    assert_eq!(twice, Err(IdentityError::Twice));
}

#[test]
fn what_a_store_that_lost_steps_is_told_brings_no_withdrawn_token_back() {
    let mut site = Site::new();
    site.invite(vec![invite(1, "viz001"), invite(2, "viz002")]);
    let before = site.stored.clone();
    site.identify(IdentityCommand::Withdraw { invite: InviteNo(1) }).unwrap();
    // The step that forgets it was lost; all is written anew.
    let stored: Vec<Op> = before.into_iter().chain(site.state.whole_identities()).collect();
    let kept: Vec<InviteNo> = restored(&stored).invites.iter().map(|invite| invite.id).collect();
    assert_eq!(kept, [InviteNo(2)]);
}

#[test]
fn agents_are_told_when_authorities_come_and_go() {
    let mut site = Site::new();
    let session = site.hello("viz001", &[]);
    site.handle(Event::AuthoritiesChanged);
    assert!(site.effects.contains(&Effect::Send(session, ToAgent::RenewNow)));
}
