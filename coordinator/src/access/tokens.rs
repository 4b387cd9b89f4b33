//! The tokens: found by whoever asks without waiting, changed one after the other, and only once the store has them.
//!
//! A token that is revoked is turned away from that moment on, even if the store then fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sifleet_common::role::Role;
use sifleet_common::time::UnixMillis;
use tokio::sync::Mutex;
use tracing::warn;

use super::pace::Pace;
use super::secret::Secret;
use crate::store::token::{TokenNo, TokenRecord};
use crate::store::{Op, Store, StoreError};

/// Most tokens that are good at once.
const MAX_GOOD: usize = 1_000;
/// Most characters of a name.
const MAX_NAME: usize = 64;
/// How long a token is good at least.
const SHORTEST: Duration = Duration::from_secs(60);
/// How long a token is good at most: one that nobody renews for a year is one that nobody knows of any more.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// How long a token is good if nobody says.
const USUAL: Duration = Duration::from_secs(90 * 86_400);
/// How long one that is not good any longer is kept, in milliseconds: a month, like pushes.
const KEPT: i64 = 30 * 86_400_000;
/// Most that are kept though they are not good: making and revoking tokens takes no more memory than this.
const MAX_ENDED: usize = 1_000;
/// How exactly the last use is noted, in milliseconds.
const COARSE: i64 = 60_000;

/// Says why a token lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is none of ours.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

/// Says why a token is not made, or not revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be meant so.
    #[error("{detail}")]
    Bad {
        /// What, and why.
        detail: String,
    },
    /// There are enough.
    #[error("{MAX_GOOD} tokens are good, and that is the limit")]
    TooMany,
    /// There is none of this number.
    #[error("there is no token {id:?}")]
    Unknown {
        /// As written, cut.
        id: String,
    },
    /// It is not on disk.
    #[error("{what}, for the database cannot be written")]
    NotStored {
        /// What that means.
        what: &'static str,
        /// Why.
        source: Box<StoreError>,
    },
}

/// What a token is to be.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What it is for.
    pub name: String,
    /// With which role its bearer acts.
    pub role: Role,
    /// For how long it is good.
    pub ttl: Option<Duration>,
}

impl Wish {
    fn check(&self) -> Result<Duration, TokenError> {
        let length = self.name.chars().count();
        if !(1..=MAX_NAME).contains(&length) || self.name.chars().any(char::is_control) {
            let detail =
                format!("the name of a token has 1 to {MAX_NAME} characters, none of them a control one");
            return Err(TokenError::Bad { detail });
        }
        let ttl = self.ttl.unwrap_or(USUAL);
        if (SHORTEST..=LONGEST).contains(&ttl) {
            return Ok(ttl);
        }
        let detail = format!("a token is good for {} to {} seconds", SHORTEST.as_secs(), LONGEST.as_secs());
        Err(TokenError::Bad { detail })
    }
}

/// One token.
#[derive(Debug)]
pub struct Token {
    record: TokenRecord,
    /// Milliseconds since 1970; 0 for never.
    last_used: AtomicI64,
    /// What the store has of it.
    stored: AtomicI64,
    pace: Pace,
}

impl Token {
    fn new(record: TokenRecord) -> Self {
        let used = record.last_used.map_or(0, |at| at.0);
        Self { record, last_used: used.into(), stored: used.into(), pace: Pace::default() }
    }

    /// Returns its number.
    #[must_use]
    pub fn no(&self) -> TokenNo {
        self.record.no
    }

    /// Returns what it is for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Returns with which role its bearer acts.
    #[must_use]
    pub fn role(&self) -> Role {
        self.record.role
    }

    /// Returns how far its bearer is.
    #[must_use]
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Returns what is known of it.
    #[must_use]
    pub fn record(&self) -> TokenRecord {
        let used = Some(self.last_used.load(Ordering::Relaxed)).filter(|at| *at != 0);
        TokenRecord { last_used: used.map(UnixMillis), ..self.record.clone() }
    }
}

type Table = BTreeMap<TokenNo, Arc<Token>>;

/// All tokens.
#[derive(Debug)]
pub struct Tokens {
    table: ArcSwap<Table>,
    /// The number of the next one; held by whoever changes something.
    next: Mutex<u64>,
    store: Store,
}

impl Tokens {
    pub(super) fn new(store: Store, records: Vec<TokenRecord>) -> Self {
        let table: Table =
            records.into_iter().map(|record| (record.no, Arc::new(Token::new(record)))).collect();
        let next = table.last_key_value().map_or(1, |(no, _)| no.0.saturating_add(1));
        Self { table: ArcSwap::from_pointee(table), next: Mutex::new(next), store }
    }

    /// Finds the token whose secret this is, and notes that it was used.
    ///
    /// # Errors
    /// [`Unfit`]. Whether there is such a token is told only to who knows its secret.
    pub fn find(&self, text: &str, now: UnixMillis) -> Result<Arc<Token>, Unfit> {
        let secret = Secret::read(text).ok_or(Unfit::Unknown)?;
        let table = self.table.load();
        // The number is no secret; what follows it is compared in a time that tells nothing.
        let token = table.get(&secret.no).filter(|token| token.record.hash == secret.hash());
        let token = token.ok_or(Unfit::Unknown)?;
        if token.record.revoked.is_some() {
            return Err(Unfit::Revoked);
        }
        if token.record.expires <= now {
            return Err(Unfit::Expired);
        }
        if now.0.abs_diff(token.last_used.load(Ordering::Relaxed)) >= COARSE.unsigned_abs() {
            token.last_used.store(now.0, Ordering::Relaxed);
        }
        Ok(Arc::clone(token))
    }

    /// Tells whether a token that was good still is.
    #[must_use]
    pub fn is_good(&self, no: TokenNo, now: UnixMillis) -> bool {
        self.table.load().get(&no).is_some_and(|token| token.record.ended(now).is_none())
    }

    /// Lists all that are kept, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Token>> {
        self.table.load().values().rev().cloned().collect()
    }

    /// Makes a token. It is on disk when its secret is returned, which nobody learns again.
    ///
    /// # Errors
    /// [`TokenError`]; nothing was made.
    pub async fn create(&self, wish: Wish, now: UnixMillis) -> Result<(Arc<Token>, Secret), TokenError> {
        let ttl = wish.check()?;
        let mut next = self.next.lock().await;
        let good = self.table.load().values().filter(|token| token.record.ended(now).is_none()).count();
        if good >= MAX_GOOD {
            return Err(TokenError::TooMany);
        }
        let secret = Secret::make(TokenNo(*next));
        let lasts = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let record = TokenRecord {
            no: secret.no,
            name: wish.name,
            role: wish.role,
            hash: secret.hash(),
            created: now,
            expires: UnixMillis(now.0.saturating_add(lasts)),
            last_used: None,
            revoked: None,
        };
        let what = "the token is not made";
        self.commit(record.clone())
            .await
            .map_err(|source| TokenError::NotStored { what, source: source.into() })?;
        *next = next.saturating_add(1);
        let token = Arc::new(Token::new(record));
        self.change(|table| drop(table.insert(token.no(), Arc::clone(&token))));
        Ok((token, secret))
    }

    /// Revokes a token: whoever bears it is turned away from here on. One that was revoked before stays as it is.
    ///
    /// # Errors
    /// [`TokenError::Unknown`]; [`TokenError::NotStored`]: it is revoked, but only until the coordinator starts again.
    pub async fn revoke(&self, no: TokenNo, now: UnixMillis) -> Result<Arc<Token>, TokenError> {
        let _changing = self.next.lock().await;
        let known = self.table.load().get(&no).cloned();
        let known = known.ok_or_else(|| TokenError::Unknown { id: no.to_string() })?;
        let mut record = known.record();
        record.revoked = record.revoked.or(Some(now));
        let revoked = Arc::new(Token::new(record.clone()));
        self.change(|table| drop(table.insert(no, Arc::clone(&revoked))));
        let what = "the token is revoked only until the coordinator starts again";
        self.commit(record).await.map_err(|source| TokenError::NotStored { what, source: source.into() })?;
        Ok(revoked)
    }

    async fn commit(&self, record: TokenRecord) -> Result<(), StoreError> {
        self.store.commit(vec![Op::PutToken { record: Box::new(record) }]).await
    }

    fn change(&self, change: impl Fn(&mut Table)) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            change(&mut table);
            table
        });
    }

    /// Writes when tokens were used, and forgets those that were not good for so long that nobody asks for them.
    pub(super) fn tidy(&self, now: UnixMillis) {
        let Ok(_changing) = self.next.try_lock() else { return };
        let mut ended: Vec<_> = Vec::new();
        let mut used = Vec::new();
        let table = self.table.load();
        // The newest stays, so that no number is given twice.
        let newest = table.last_key_value().map(|(no, _)| *no);
        for (no, token) in table.iter() {
            if let Some(end) = token.record.ended(now).filter(|_| Some(*no) != newest) {
                ended.push((end, *no));
            }
            let at = token.last_used.load(Ordering::Relaxed);
            if token.stored.swap(at, Ordering::Relaxed) != at {
                used.push((*no, UnixMillis(at)));
            }
        }
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(MAX_ENDED);
        let old =
            |(place, (end, _)): &(usize, (UnixMillis, TokenNo))| *place < surplus || end.0 < now.0 - KEPT;
        let forgotten: Vec<_> = ended.into_iter().enumerate().filter(old).map(|(_, (_, no))| no).collect();
        if !forgotten.is_empty() {
            self.change(|table| forgotten.iter().for_each(|no| drop(table.remove(no))));
        }
        let ops = [
            (!used.is_empty()).then_some(Op::TouchTokens { used }),
            (!forgotten.is_empty()).then_some(Op::ForgetTokens { tokens: forgotten }),
        ];
        let ops: Vec<Op> = ops.into_iter().flatten().collect();
        if !ops.is_empty()
            && let Err(error) = self.store.try_submit(ops)
        {
            warn!(%error, "the last use of tokens is not written");
        }
    }
}

#[cfg(test)]
mod tests;
