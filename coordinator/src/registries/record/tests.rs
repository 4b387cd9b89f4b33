//! What may be written down of a registry, and what may not.

#![cfg(test)]

use serde_json::json;

use super::*;
use crate::store::registry::Credentials;

const NOW: UnixMillis = UnixMillis(7);

fn request(value: Value) -> Result<RegistryRecord, BadRecord> {
    make(serde_json::from_value(value).unwrap(), "made".to_owned(), NOW)
}

fn registry() -> RegistryRecord {
    let metadata = json!({"owner": "mlops", "site": {"region": "eu"}});
    request(json!({"name": "internal", "public_url": "https://r.example", "metadata": metadata})).unwrap()
}

fn changed(changes: &Value) -> Result<RegistryRecord, BadRecord> {
    set(&registry(), changes.as_object().unwrap(), NOW)
}

#[test]
fn a_record_is_written_down_in_one_form() {
    let record = request(json!({"name": "a", "public_url": "HTTPS://R.Example:443/"})).unwrap();
    assert_eq!((record.id.as_str(), record.public_url.as_str()), ("made", "https://r.example"));
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_reason() {
    for (change, reason) in [
        (json!({"id": "../x"}), "an id has"),
        (json!({"name": ""}), "a name has 1 to 64"),
        (json!({"name": "a\nb"}), "control"),
        (json!({"public_url": "ftp://r.example"}), "only https and http"),
        (json!({"public_url": "https://u:p@r.example"}), "credentials are set apart"),
        (json!({"image_prefix": "https://r.example/x"}), "without scheme"),
        (json!({"tags": vec!["t"; 65]}), "at most 64 tags"),
        (json!({"tags": [""]}), "a tag has"),
        (json!({"config": {"auth": {"password": "x"}}}), "looks like a secret"),
        (json!({"config": {"API_KEY": "x"}}), "looks like a secret"),
        (json!({"config": {"a": [{"identity-token": "x"}]}}), "looks like a secret"),
        (json!({"metadata": {"a.b": 1}}), "holds . or $"),
        (json!({"metadata": {"$a": 1}}), "holds . or $"),
        (json!({"metadata": {"a": [[[[[[[[1]]]]]]]]}}), "nested deeper"),
        (json!({"metadata": {"a": "x".repeat(MAX_RECORD)}}), "bytes of JSON"),
    ] {
        let mut whole = json!({"name": "a", "public_url": "https://r.example"});
        whole.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = request(whole).expect_err(&change.to_string());
        assert!(error.0.contains(reason), "{change}: {error}");
    }
    assert!(request(json!({"name": "a", "public_url": "https://r", "config": {"auth": true}})).is_ok());
}

#[test]
fn a_key_that_looks_like_a_secret_is_known_by_its_words_and_its_end() {
    for secret in [
        "password",
        "db_password",
        "dbPassword",
        "password_2",
        "client_secret",
        "clientSecret",
        "secret_access_key",
        "secretAccessKey",
        "aws_secret_access_key_id",
        "access_key",
        "X-Api-Key",
        "identity-token",
        "refresh_token",
        "registry_auth",
        "db_pass",
        "Authorization",
        "credentials",
    ] {
        assert!(is_secret(secret), "{secret}");
    }
    for plain in [
        "owner",
        "auth_required",
        "auth_type",
        "author",
        "bypass",
        "compass",
        "tokens_per_second",
        "token_service",
        "passive",
        "key",
        "keyspace",
        "secretary",
        "access_key_id",
    ] {
        assert!(!is_secret(plain), "{plain}");
    }
}

#[test]
fn set_changes_what_it_names_and_nothing_else() {
    let record = changed(
        &json!({"container_registry_name": "other", "metadata.site.rack": 7, "config.mirror.on": true}),
    )
    .unwrap();
    assert_eq!(record.name, "other");
    assert_eq!(Value::from(record.metadata), json!({"owner": "mlops", "site": {"region": "eu", "rack": 7}}));
    assert_eq!(Value::from(record.config), json!({"mirror": {"on": true}}));
    assert_eq!(record.public_url, "https://r.example");
    assert_eq!(Value::from(changed(&json!({"metadata": {}})).unwrap().metadata), json!({}));
}

#[test]
fn set_cannot_change_what_is_not_its_own() {
    for (change, reason) in [
        (json!({}), "nothing to change"),
        (json!({"id": "x"}), "for good"),
        (json!({"container_registry_id": "x"}), "for good"),
        (json!({"credentials": {}}), "no field"),
        (json!({"": 1}), "no field"),
        (json!({"name.first": "x"}), "no parts"),
        (json!({"name": 1}), "is text"),
        (json!({"tags": "ai"}), "list of texts"),
        (json!({"metadata": 1}), "are objects"),
        (json!({"metadata.owner.name": 1}), "no object"),
        (json!({"metadata..x": 1}), "a key has"),
        (json!({"metadata.token": "x"}), "looks like a secret"),
        (json!({"metadata.a.b.c.d.e.f.g.h.i": 1}), "too many parts"),
    ] {
        let error = changed(&change).expect_err(&change.to_string());
        assert!(error.0.contains(reason), "{change}: {error}");
    }
}

#[test]
fn credentials_do_not_move_with_a_registry_to_another_host() {
    let mut known = registry();
    known.credentials = Some(Credentials {
        username: "robot".to_owned(),
        password: "secret".to_owned(),
        origin: known.public_url.clone(),
        realm: None,
    });
    let set = |change: Value| set(&known, change.as_object().unwrap(), NOW).unwrap().credentials.is_some();
    assert!(set(json!({"name": "b"})));
    assert!(set(json!({"public_url": "https://R.example:443"})));
    for elsewhere in ["https://evil.example", "http://r.example", "https://r.example:444"] {
        assert!(!set(json!({"public_url": elsewhere})), "{elsewhere}");
    }
}
