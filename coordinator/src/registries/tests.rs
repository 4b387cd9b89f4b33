//! The catalogue over a real store.

#![cfg(test)]

use serde_json::json;

use super::*;
use crate::store::sqlite;

const NOW: UnixMillis = UnixMillis(1);

fn request(name: &str, url: &str) -> RegistryRequest {
    serde_json::from_value(json!({"name": name, "public_url": url})).unwrap()
}

fn signing_in() -> CredentialsRequest {
    CredentialsRequest { username: "robot".to_owned(), password: "hunter2".to_owned(), realm: None }
}

#[tokio::test]
async fn what_is_written_down_outlives_a_restart_and_what_is_forgotten_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.db");
    let (store, _) = sqlite::open(&path).unwrap();
    let catalogue = Catalogue::new(store.clone());
    let kept = catalogue.add(request("kept", "https://kept.example"), NOW).await.unwrap();
    let gone = catalogue.add(request("gone", "https://gone.example"), NOW).await.unwrap();
    catalogue.sign_in("kept", Some(signing_in()), NOW).await.unwrap();
    catalogue.set(&kept.id, json!({"tags": ["a"]}).as_object().unwrap(), NOW).await.unwrap();
    catalogue.forget("gone").await.unwrap();
    assert!(matches!(catalogue.get(&gone.id), Err(RegistryError::Unknown { .. })));
    let before = catalogue.list();
    store.close().await.unwrap();
    let (store, restored) = sqlite::open(&path).unwrap();
    let catalogue = Catalogue::new(store);
    catalogue.restore(restored.registries);
    assert_eq!(catalogue.list(), before);
    let credentials = catalogue.get("kept").unwrap().credentials.clone().unwrap();
    assert_eq!(
        (credentials.password.as_str(), credentials.origin.as_str()),
        ("hunter2", "https://kept.example")
    );
}

#[tokio::test]
async fn ids_and_names_are_given_once() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::new(sqlite::open(&folder.path().join("coordinator.db")).unwrap().0);
    let mut first = request("first", "https://a.example");
    first.id = Some("one".to_owned());
    catalogue.add(first.clone(), NOW).await.unwrap();
    first.name = "second".to_owned();
    let taken = catalogue.add(first, NOW).await.unwrap_err();
    assert!(matches!(taken, RegistryError::Exists { what: "id", .. }), "{taken}");
    for name in ["first", "one"] {
        let taken = catalogue.add(request(name, "https://b.example"), NOW).await.unwrap_err();
        assert!(matches!(taken, RegistryError::Exists { what: "name", .. }), "{taken}");
    }
    let mut disguised = request("other", "https://evil.example");
    disguised.id = Some("first".to_owned());
    let taken = catalogue.add(disguised, NOW).await.unwrap_err();
    assert!(matches!(taken, RegistryError::Exists { what: "name", .. }), "{taken}");
    assert_eq!(catalogue.get("first").unwrap().public_url, "https://a.example");
    catalogue.add(request("second", "https://b.example"), NOW).await.unwrap();
    let taken =
        catalogue.set("second", json!({"name": "first"}).as_object().unwrap(), NOW).await.unwrap_err();
    assert!(matches!(taken, RegistryError::Exists { .. }), "{taken}");
    assert_eq!(catalogue.get("second").unwrap().name, "second");
}

#[tokio::test]
async fn a_host_of_an_image_leads_to_its_registry() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::new(sqlite::open(&folder.path().join("coordinator.db")).unwrap().0);
    catalogue.add(request("open", "https://r.example:5000"), NOW).await.unwrap();
    catalogue.add(request("signed in", "https://r.example:5000"), UnixMillis(2)).await.unwrap();
    let mut prefixed = request("prefixed", "https://mirror.example");
    prefixed.image_prefix = "docker.example/team".to_owned();
    catalogue.add(prefixed, NOW).await.unwrap();
    let of = |host: &str| catalogue.of_host(host).map(|record| record.name.clone());
    assert_eq!(of("r.example:5000").as_deref(), Some("open"));
    catalogue.sign_in("signed in", Some(signing_in()), NOW).await.unwrap();
    assert_eq!(of("R.example:5000").as_deref(), Some("signed in"));
    assert_eq!(of("docker.example").as_deref(), Some("prefixed"));
    assert_eq!((of("r.example"), of("")), (None, None));
}

#[tokio::test]
async fn credentials_that_could_be_seen_or_cannot_be_sent_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::new(sqlite::open(&folder.path().join("coordinator.db")).unwrap().0);
    catalogue.add(request("plain", "http://a.example"), NOW).await.unwrap();
    catalogue.add(request("safe", "https://a.example"), NOW).await.unwrap();
    let refused = catalogue.sign_in("plain", Some(signing_in()), NOW).await.unwrap_err();
    assert!(refused.to_string().contains("in the clear"), "{refused}");
    for (username, password, realm) in [
        ("", "x", None),
        ("a:b", "x", None),
        ("a\n", "x", None),
        ("a", "", None),
        ("a", "x\r\nHost: evil", None),
        ("a", "x", Some("http://hunter2.example")),
        ("a", "x", Some("hunter2")),
    ] {
        let [username, password] = [username, password].map(str::to_owned);
        let request = CredentialsRequest { username, password, realm: realm.map(str::to_owned) };
        let refused = catalogue.sign_in("safe", Some(request.clone()), NOW).await;
        let Err(RegistryError::Bad(refused)) = refused else { panic!("{request:?}: {refused:?}") };
        assert!(realm.is_none_or(|realm| !refused.0.contains(realm)), "{refused}");
    }
}
