//! Tokens as they are made, used, revoked and forgotten, and as they are found again after a restart.

use super::*;
use crate::store::sqlite;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn after(millis: i64) -> UnixMillis {
    UnixMillis(NOW.0 + millis)
}

fn open(folder: &tempfile::TempDir) -> Tokens {
    let (store, restored) = sqlite::open(&folder.path().join("coordinator.db")).unwrap();
    Tokens::new(store, restored.tokens)
}

fn wish(name: &str, seconds: u64) -> Wish {
    Wish { name: name.to_owned(), role: Role::Operator, ttl: Some(Duration::from_secs(seconds)) }
}

#[tokio::test]
async fn a_token_lets_its_bearer_in_until_it_expires() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(&folder);
    let (token, secret) = tokens.create(wish("dashboard", 60), NOW).await.unwrap();
    let text = secret.reveal();
    assert_eq!((token.no(), token.role(), token.name()), (TokenNo(1), Role::Operator, "dashboard"));
    assert_eq!(tokens.find(&text, after(59_999)).unwrap().no(), token.no());
    assert_eq!(tokens.find(&text, after(60_000)).unwrap_err(), Unfit::Expired);
}

#[tokio::test]
async fn another_secret_of_the_same_number_lets_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(&folder);
    let (token, _) = tokens.create(wish("dashboard", 60), NOW).await.unwrap();
    let guess = Secret::make(token.no()).reveal();
    assert_eq!(tokens.find(&guess, NOW).unwrap_err(), Unfit::Unknown);
    tokens.revoke(token.no(), NOW).await.unwrap();
    assert_eq!(
        tokens.find(&guess, NOW).unwrap_err(),
        Unfit::Unknown,
        "who guesses learns nothing of the token"
    );
}

#[tokio::test]
async fn a_token_that_was_revoked_stays_so_over_a_restart_and_no_secret_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(&folder);
    let (one, revoked) = tokens.create(wish("one", 600), NOW).await.unwrap();
    let (_, good) = tokens.create(wish("two", 600), NOW).await.unwrap();
    tokens.revoke(one.no(), after(5)).await.unwrap();
    let again = tokens.revoke(one.no(), after(9)).await.unwrap();
    assert_eq!(again.record().revoked, Some(after(5)));
    assert_eq!(tokens.find(&revoked.reveal(), after(10)).unwrap_err(), Unfit::Revoked);
    assert!(matches!(tokens.revoke(TokenNo(77), NOW).await, Err(TokenError::Unknown { .. })));
    tokens.store.clone().close().await.unwrap();
    drop(tokens);

    let bytes = std::fs::read(folder.path().join("coordinator.db")).unwrap();
    let digits = good.reveal().split_once("2_").unwrap().1.to_owned();
    assert!(!String::from_utf8_lossy(&bytes).contains(&digits));
    let tokens = open(&folder);
    assert_eq!(tokens.find(&revoked.reveal(), after(10)).unwrap_err(), Unfit::Revoked);
    assert_eq!(tokens.find(&good.reveal(), after(10)).unwrap().name(), "two");
    let (next, _) = tokens.create(wish("three", 60), NOW).await.unwrap();
    assert_eq!(next.no(), TokenNo(3));
}

#[tokio::test]
async fn the_last_use_is_kept_and_what_ended_long_ago_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(&folder);
    let (_, old) = tokens.create(wish("old", 60), NOW).await.unwrap();
    let (_, used) = tokens.create(wish("used", 31_536_000), NOW).await.unwrap();
    tokens.find(&old.reveal(), after(1)).unwrap();
    let late = after(KEPT + 120_000);
    tokens.find(&used.reveal(), late).unwrap();
    tokens.find(&used.reveal(), UnixMillis(late.0 + 1)).unwrap();
    tokens.tidy(late);
    tokens.store.clone().close().await.unwrap();
    drop(tokens);
    let found = open(&folder).list();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].name(), found[0].record().last_used), ("used", Some(late)));
}

#[tokio::test]
async fn a_token_that_cannot_be_meant_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(&folder);
    for bad in [
        wish("", 60),
        wish(&"x".repeat(65), 60),
        wish("two\nlines", 60),
        wish("\u{1b}[31m", 60),
        wish("x", 59),
        wish("x", 31_536_001),
    ] {
        assert!(matches!(tokens.create(bad, NOW).await, Err(TokenError::Bad { .. })));
    }
    assert!(tokens.list().is_empty());
}

#[tokio::test]
async fn a_token_that_is_not_on_disk_is_not_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(&folder);
    let (token, secret) = tokens.create(wish("first", 60), NOW).await.unwrap();
    tokens.store.clone().close().await.unwrap();
    let refused = tokens.create(wish("second", 60), NOW).await.unwrap_err();
    assert!(matches!(refused, TokenError::NotStored { .. }), "{refused}");
    assert_eq!(tokens.list().len(), 1);
    assert!(tokens.revoke(token.no(), NOW).await.is_err());
    assert_eq!(tokens.find(&secret.reveal(), NOW).unwrap_err(), Unfit::Revoked);
}
