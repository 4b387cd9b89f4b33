//! The catalogue of registries: any text as an address, as an image's name and manifest, as a challenge; any JSON as a question
//! and as a change.
//!
//! Whatever is asked is answered or refused within its steps; what is written down can be written down again as it is; no address in
//! disguise gets past.

use std::net::IpAddr;

use serde_json::{Map, Value};
use sifleet_common::time::UnixMillis;
use sifleet_coordinator::registries::address::{Origin, Rules};
use sifleet_coordinator::registries::query::Query;
use sifleet_coordinator::registries::record;
use sifleet_coordinator::registries::reference::{Reference, manifest};
use sifleet_coordinator::store::registry::RegistryRecord;

/// Reads the bytes as everything the catalogue reads.
///
/// # Panics
/// When a promise is broken.
pub fn run(data: &[u8]) {
    if let Err(reason) = manifest(data) {
        assert!(!reason.is_empty());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    address(text);
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference), "{text:?}");
    }
    if let Ok(Value::Object(object)) = serde_json::from_str(text) {
        question(&object);
        change(&object);
    }
}

/// An address is read into one form, and says the same when that is read again.
fn address(text: &str) {
    let Ok(origin) = text.parse::<Origin>() else { return };
    let written = origin.to_string();
    assert_eq!(written.parse(), Ok(origin.clone()), "{text:?}");
    let host = written.split("://").nth(1).unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.split(']').next()).unwrap_or(host);
    if let Ok(address) = host.parse::<IpAddr>()
        && let IpAddr::V6(v6) = address
        && v6.to_ipv4().is_some()
    {
        assert!(Rules::default().judge(address).is_err(), "{text:?} leads to {address}");
    }
}

fn question(filter: &Map<String, Value>) {
    match Query::read(filter) {
        Ok(query) => match query.pick([&record()]) {
            Ok(picked) => assert!(picked.len() <= 1),
            Err(error) => assert!(!error.to_string().is_empty()),
        },
        Err(error) => assert!(!error.to_string().is_empty() && error.to_string().len() < 4_096),
    }
}

fn change(changes: &Map<String, Value>) {
    let Ok(changed) = record::set(&record(), changes, UnixMillis(2)) else { return };
    assert_eq!(changed.id, "one", "the id is for good");
    // What was taken is taken again as it is.
    let all = ["name", "tags", "public_url", "image_prefix", "metadata", "config", "storage_info"];
    let fields = record::Field::all().map(|field| (field.name().to_owned(), field.of(&changed)));
    let same: Map<String, Value> = fields.filter(|(name, _)| all.contains(&name.as_str())).collect();
    assert_eq!(record::set(&changed, &same, UnixMillis(2)), Ok(changed));
}

fn record() -> RegistryRecord {
    let object = |text: &str| match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    };
    RegistryRecord {
        id: "one".to_owned(),
        name: "internal".to_owned(),
        metadata: object(
            r#"{"owner":"mlops","mirrors":[{"host":"a","prio":1},{"host":"b","prio":5}],"text":"aaaaaaaaaaaaaaaab"}"#,
        ),
        tags: vec!["ai".to_owned(), "internal".to_owned()],
        public_url: "https://r.example:5000".to_owned(),
        image_prefix: "r.example:5000/team".to_owned(),
        config: object(r#"{"auth_required":true,"max_layer_size_mb":500}"#),
        storage_info: object(r#"{"storage_type":"s3","storage_size":-1}"#),
        credentials: None,
        created: UnixMillis(1),
        changed: UnixMillis(1),
    }
}
