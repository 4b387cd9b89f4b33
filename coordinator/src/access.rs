//! Who asks over HTTP, and what he may: bearers of tokens, users of this machine, and everybody else.
//!
//! Owns what is known of callers and how often each may ask; which request needs which role is said where routes are
//! mounted, in [`crate::http`]. What a request is checked against is read without a lock and never waits for the store.

pub mod audit;
pub mod pace;
pub mod secret;
pub mod tokens;
pub mod users;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sifleet_common::role::Role;
use sifleet_common::time::{Now, UnixMillis};
use tokio_util::sync::CancellationToken;

use crate::store::Store;
use crate::store::audit::Actor;
use crate::store::token::TokenRecord;
use audit::Audit;
use pace::{Paces, Rate};
use tokens::{Token, Tokens, Unfit};
use users::{User, Users};

/// How often what is kept is written and tidied.
const TIDY: Duration = Duration::from_secs(60);
/// Tokens that somebody may guess from one address: 20 at once, then one in three seconds. No guess ever hits 256
/// random bits; this bounds what guessing costs us, and what it writes into the audit.
const GUESSES: Rate = Rate::new(1, Duration::from_secs(3), 20);

/// What may be configured of callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What those may who do not say who they are; nothing but what is public if none. Never more than a viewer.
    pub anonymous: Option<Role>,
    /// What users of this machine may.
    pub users: Users,
    /// How often each known caller may ask.
    pub known: Rate,
    /// How often each address may ask of which nobody says who he is.
    pub unknown: Rate,
    /// What is kept of the audit.
    pub audit: audit::Keep,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            anonymous: None,
            users: Users::default(),
            known: Rate::a_second(100_000, 100_000),
            unknown: Rate::a_second(1_000, 2_000),
            audit: audit::Keep::default(),
        }
    }
}

/// At which end of which connection a request came in.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Over the network, loopback included.
    Net(IpAddr),
    /// Over the socket of this machine.
    Local(Arc<User>),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(address) => address.to_canonical().fmt(f),
            Self::Local(_) => f.write_str("socket"),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub enum Who {
    /// The bearer of a token.
    Token(Arc<Token>),
    /// A user of this machine.
    User(Arc<User>),
    /// Nobody knows.
    Anonymous,
}

/// Who asks, what he may, and from where.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub who: Who,
    /// What he may, besides what is public.
    pub role: Option<Role>,
    /// From where; unknown to requests that came over no connection.
    pub from: Option<Peer>,
}

impl Caller {
    /// Names the caller for the audit.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match &self.who {
            Who::Token(token) => Actor::Token { no: token.no().0, name: token.name().to_owned() },
            Who::User(user) => Actor::User { uid: user.uid, name: user.name.clone() },
            Who::Anonymous => Actor::Anonymous,
        }
    }
}

/// Says why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The token is not good.
    Unfit(Unfit),
    /// Too often.
    TooOften {
        /// After how long it may be tried again.
        wait: Duration,
    },
}

/// Everything that is known of callers; shared by all routes.
#[derive(Debug)]
pub struct Access {
    options: Options,
    tokens: Tokens,
    audit: Audit,
    asked: Paces,
    guessed: Paces,
}

impl Access {
    /// Takes in the tokens that are kept.
    #[must_use]
    pub fn new(options: Options, store: &Store, tokens: Vec<TokenRecord>) -> Self {
        let audit = Audit::new(store.clone(), options.audit);
        let tokens = Tokens::new(store.clone(), tokens);
        Self { options, tokens, audit, asked: Paces::new(), guessed: Paces::new() }
    }

    /// Borrows the tokens.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Borrows the audit.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Tells who asks: the bearer of `bearer` if anything is borne, else the user at the other end.
    ///
    /// # Errors
    /// [`Refused`]; a token that is not good is not taken for none.
    pub fn identify(&self, bearer: Option<&str>, from: Option<Peer>, now: Now) -> Result<Caller, Refused> {
        let too_often = |wait| Refused::TooOften { wait };
        let Some(bearer) = bearer else {
            let caller = self.without_token(from);
            let rate =
                if let Who::User(_) = caller.who { &self.options.known } else { &self.options.unknown };
            self.asked.of(caller.from.as_ref()).admit(rate, now.mono).map_err(too_often)?;
            return Ok(caller);
        };
        match self.tokens.find(bearer, now.wall) {
            Ok(token) => {
                token.pace().admit(&self.options.known, now.mono).map_err(too_often)?;
                let role = Some(token.role());
                Ok(Caller { who: Who::Token(token), role, from })
            }
            Err(unfit) => {
                // Who knows a secret that was good has guessed nothing.
                let (paces, rate) = match unfit {
                    Unfit::Unknown => (&self.guessed, &GUESSES),
                    Unfit::Expired | Unfit::Revoked => (&self.asked, &self.options.unknown),
                };
                paces.of(from.as_ref()).admit(rate, now.mono).map_err(too_often)?;
                Err(Refused::Unfit(unfit))
            }
        }
    }

    /// Tells whether a caller who was let in would be let in still.
    #[must_use]
    pub fn still_knows(&self, caller: &Caller, now: UnixMillis) -> bool {
        match &caller.who {
            Who::Token(token) => self.tokens.is_good(token.no(), now),
            Who::User(_) | Who::Anonymous => true,
        }
    }

    /// Tells who asks without a token.
    #[must_use]
    pub fn without_token(&self, from: Option<Peer>) -> Caller {
        let anonymous = self.options.anonymous;
        match &from {
            Some(Peer::Local(user)) => {
                Caller { who: Who::User(Arc::clone(user)), role: user.role.max(anonymous), from }
            }
            Some(Peer::Net(_)) | None => Caller { who: Who::Anonymous, role: anonymous, from },
        }
    }

    /// Tells who a user of this machine is, and what he may. Blocks for as long as the system takes to find him.
    #[must_use]
    pub fn user(&self, uid: u32) -> User {
        self.options.users.look(uid)
    }

    /// Writes what was noted and forgets what is old, until it is told to stop, and then once more.
    pub async fn keep_until(self: Arc<Self>, clock: sifleet_common::clock::Clock, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TIDY);
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                _ = ticks.tick() => false,
            };
            let now = clock.now().wall;
            self.tokens.tidy(now);
            self.audit.tidy(now);
            if stopping {
                return;
            }
        }
    }
}
