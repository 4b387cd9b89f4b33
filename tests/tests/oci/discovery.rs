//! `end-12`: who refers to a manifest.

use serde_json::{Value, json};
use sifleet_coordinator::oci::digest::Algorithm;

use crate::client::{IMAGE, INDEX, Lab, artifact};

#[test]
fn end_12_referrers_are_listed_by_their_subject_and_filtered_by_their_kind() {
    let lab = Lab::start("oci_referrers");
    let (subject_bytes, subject) = lab.push_artifact("a", "v1", "subject");
    let config = lab.push_blob("a", b"{}");
    let about = |kind: &str, of: &str| -> Value {
        let mut manifest = artifact(&config, (&config, 2));
        manifest["artifactType"] = json!(kind);
        manifest["subject"] = json!({"mediaType": IMAGE, "size": subject_bytes.len(), "digest": of});
        manifest
    };
    let push = |manifest: &Value, kind: &str| {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let digest = Algorithm::Sha256.of(&bytes).to_string();
        let put = lab.put_manifest(&format!("/v2/a/manifests/{digest}"), kind, manifest).is(201);
        (digest, put.header("oci-subject").to_owned(), bytes.len())
    };
    let list = |of: &str, query: &str| lab.get(&format!("/v2/a/referrers/{of}{query}")).is(200);
    let empty = list(&subject.to_string(), "");
    assert_eq!(empty.header("content-type"), INDEX);
    assert_eq!(empty.json(), json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}));
    let (signature, said, length) = push(&about("a/signature", &subject.to_string()), IMAGE);
    assert_eq!(said, subject.to_string());
    let (parts, _, _) = push(&about("a/parts", &subject.to_string()), IMAGE);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "artifactType": "a/index",
        "subject": {"mediaType": IMAGE, "size": 1, "digest": subject.to_string()}});
    let (index, _, _) = push(&index, INDEX);
    let found = list(&subject.to_string(), "").json();
    let mut digests: Vec<_> = found["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["digest"].as_str().unwrap().to_owned())
        .collect();
    let mut expected = vec![signature.clone(), parts, index];
    digests.sort();
    expected.sort();
    assert_eq!(digests, expected);
    let filtered = list(&subject.to_string(), "?artifactType=a/signature");
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    let only = json!([{"mediaType": IMAGE, "size": length, "digest": signature, "artifactType": "a/signature",
        "annotations": {"org.example.note": "a"}}]);
    assert_eq!(filtered.json()["manifests"], only);
    // A subject need not be here, nor be of the same algorithm.
    let absent = Algorithm::Sha512.of(b"absent").to_string();
    let (of_absent, said, _) = push(&about("a/early", &absent), IMAGE);
    assert_eq!(said, absent);
    assert_eq!(list(&absent, "").json()["manifests"][0]["digest"], of_absent);
    lab.delete(&format!("/v2/a/manifests/{of_absent}")).is(202);
    assert_eq!(list(&absent, "").json()["manifests"], json!([]));
}
