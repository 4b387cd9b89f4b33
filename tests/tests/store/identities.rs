//! Steps of identities, callers and templates, for the model.

use sifleet_common::availability::Require;
use sifleet_common::digest::Digest;
use sifleet_common::epoch::Epoch;
use sifleet_common::name::NodeName;
use sifleet_common::policy::Fingerprint;
use sifleet_common::role::Role;
use sifleet_common::time::UnixMillis;
use sifleet_coordinator::store::Op;
use sifleet_coordinator::store::identity::{Invite, InviteHash, InviteNo, Standing};
use sifleet_coordinator::store::registry::{Credentials, RegistryRecord};
use sifleet_coordinator::store::template::TemplateRecord;
use sifleet_coordinator::store::token::{TokenNo, TokenRecord};

use crate::model::{Model, name};

/// A step that is about who may be which node.
pub(crate) fn identity(what: u8, node: NodeName, a: u8, b: u8) -> Op {
    match what {
        22 => {
            let revoked = (b > 180).then_some(UnixMillis(b.into()));
            Op::PutStanding { node, standing: Standing { epoch: Epoch(a.into()), enrolled: None, revoked } }
        }
        23 => Op::ForgetInvites { invites: vec![InviteNo(u64::from(a % 5)), InviteNo(77)] },
        // The lots leave no number free for it.
        _ if b % 8 == 7 => Op::ReplaceInvites { invites: vec![invite(node, a, b)] },
        _ => Op::PutInvites { invites: vec![invite(node, a, b)] },
    }
}

fn invite(node: NodeName, a: u8, b: u8) -> Invite {
    let from = ["10.0.0.0/8", "fd00::/8"].into_iter().take(usize::from(b % 3));
    Invite {
        id: InviteNo(u64::from(a % 5)),
        hash: InviteHash(blake3::hash(&[a])),
        node,
        from: from.map(name).collect(),
        created: UnixMillis(1),
        expires: UnixMillis(b.into()),
        used: (b > 99).then(|| (UnixMillis(2), [10, 0, 0, b].into())),
    }
}

impl Model {
    pub(crate) fn caller(&mut self, op: Op) {
        if let Op::PutToken { record } = op {
            self.tokens.insert(record.no, *record);
        } else if let Op::TouchTokens { used } = op {
            for (no, at) in used {
                self.tokens.entry(no).and_modify(|token| token.last_used = Some(at));
            }
        } else if let Op::ForgetTokens { tokens } = op {
            tokens.iter().for_each(|no| drop(self.tokens.remove(no)));
        } else if let Op::PutTemplate { record } = op {
            self.templates.insert(record.id.clone(), *record);
        } else if let Op::ForgetTemplate { id } = op {
            self.templates.remove(&id);
        }
    }

    pub(crate) fn identity(&mut self, op: Op) {
        if let Op::PutStanding { node, standing } = op {
            self.standings.insert(node, standing);
        } else if let Op::PutInvites { invites } = op {
            self.invites.extend(invites.into_iter().map(|invite| (invite.id, invite)));
        } else if let Op::ReplaceInvites { invites } = op {
            self.invites = invites.into_iter().map(|invite| (invite.id, invite)).collect();
        } else if let Op::ForgetInvites { invites } = op {
            self.invites.retain(|id, _| !invites.contains(id));
        }
    }
}

/// A token, good or not.
pub(crate) fn token(a: u8, b: u8) -> TokenRecord {
    TokenRecord {
        no: TokenNo(u64::from(a % 4)),
        name: format!("for {b}"),
        role: Role::ALL[usize::from(b % 3)],
        hash: blake3::hash(&[b]),
        created: UnixMillis(a.into()),
        expires: UnixMillis(i64::MAX),
        last_used: (b > 50).then_some(UnixMillis(-1)),
        revoked: (b > 150).then_some(UnixMillis(b.into())),
    }
}

/// A template, with everything or with as little as there can be.
pub(crate) fn template(a: u8, b: u8) -> TemplateRecord {
    let full = b > 99;
    TemplateRecord {
        id: name(format!("t{}", a % 4)),
        name: full.then(|| format!("for {b}")),
        description: full.then(|| "what it is for, \u{ac00}".to_owned()),
        image: format!("image {b}.sif"),
        partition: name("viz"),
        require: if full { Require::AtLeast(b.into()) } else { Require::Any },
        digest: full.then(|| Digest::from_bytes([b; 32])),
        signer: full.then_some(Fingerprint::Pgp([b; 20])),
        changed: UnixMillis(b.into()),
    }
}

/// An external registry, with credentials or without.
pub(crate) fn registry(a: u8, b: u8) -> RegistryRecord {
    let origin = format!("https://registry-{a}.example:5443");
    let credentials = b.is_multiple_of(2).then(|| Credentials {
        username: "robot".to_owned(),
        password: format!("secret {b}"),
        origin: origin.clone(),
        realm: b.is_multiple_of(4).then(|| "https://auth.example".to_owned()),
    });
    RegistryRecord {
        id: format!("registry-{}", a % 4),
        name: format!("registry {a}"),
        metadata: [("owner".to_owned(), b.into())].into_iter().collect(),
        tags: vec!["ai".to_owned(), "internal".to_owned()],
        public_url: origin,
        image_prefix: String::new(),
        config: serde_json::Map::new(),
        storage_info: [("storage_size".to_owned(), (-1).into())].into_iter().collect(),
        credentials,
        created: UnixMillis(a.into()),
        changed: UnixMillis(b.into()),
    }
}
