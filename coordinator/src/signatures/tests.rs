//! Keyrings and policies as admins write them.
#![cfg(test)]

use sifleet_common::name::PartitionName;

use super::*;

/// An Ed25519 key; its fingerprint is that of `openssl pkey -pubin -outform der | sha256sum`.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA4LypVa0tjUB5eUQeeGjllrBG7gWCIOSymuMc6fg8GB4=\n-----END PUBLIC KEY-----\n";
const FINGERPRINT: &str = "530b95ed1bf77f7f9eeaedb02aab8d5ba956705a982bcf8b1492124ad3dd3795";

/// Reads settings with a keyring that holds these files.
fn rules(files: &[(&str, &str)], policies: &str) -> Result<Rules, String> {
    let folder = tempfile::tempdir().unwrap();
    let keyring = folder.path().join("keyring");
    fs::create_dir(&keyring).unwrap();
    for (name, text) in files {
        fs::write(keyring.join(name), text).unwrap();
    }
    let path = folder.path().join("coordinator.toml");
    fs::write(&path, format!("signatures.keyring = {keyring:?}\n{policies}")).unwrap();
    let told = |error: &dyn std::error::Error| {
        let chain = sifleet_common::telemetry::Chain(error).to_string();
        chain.replace(folder.path().to_str().unwrap(), "")
    };
    let settings = Settings::load(Some(&path)).map_err(|error| told(&error))?.settings;
    read(&settings).map_err(|error| told(&error))
}

fn by() -> Policy {
    Policy::signed_by([FINGERPRINT.parse().unwrap()].into())
}

#[test]
fn every_policy_holds_for_its_partition_and_one_without_for_every_node() {
    let policies = format!(
        r#"
        [[signatures.policy]]
        partition = "viz"
        require = "signed-by"
        by = ["{}"]
        [[signatures.policy]]
        partition = "open"
        require = "any"
        [[signatures.policy]]
        require = "signed"
        "#,
        FINGERPRINT.to_uppercase()
    );
    let rules = rules(&[("a.pem", KEY), ("README", "hello"), (".b.pem", "hello")], &policies).unwrap();
    assert_eq!(rules.everywhere, Policy::Signed);
    assert_eq!(rules.partitions[&"viz".parse::<PartitionName>().unwrap()], by());
    assert_eq!(rules.partitions[&"open".parse::<PartitionName>().unwrap()], Policy::Any);
    assert_eq!((rules.keyring.plain.len(), rules.keyring.legacy), (1, false));
    assert!(rules.ask());
}

#[test]
fn without_a_policy_that_asks_the_keyring_need_not_be_there() {
    let settings = Settings::default();
    assert_eq!(read(&settings).unwrap(), Rules::default());
    assert!(!read(&settings).unwrap().ask());
}

#[test]
fn a_mistake_says_what_is_wrong_and_where() {
    let signed = "[[signatures.policy]]\nrequire = \"signed\"\n";
    let by = |key: &str| {
        format!("[[signatures.policy]]\npartition = \"viz\"\nrequire = \"signed-by\"\nby = [{key}]\n")
    };
    let other = format!("\"{}\"", "ab".repeat(20));
    for (files, policies, expected) in [
        (&[][..], signed.to_owned(), "/keyring holds no key"),
        (&[("a.asc", "hello")], signed.to_owned(), "a.asc holds no usable public key"),
        (&[("a.pem", KEY)], by(&other), "the policy of partition viz names the key ABAB"),
        (&[("a.pem", KEY)], by(""), "names no key"),
        (&[("a.pem", KEY)], by("\"12\""), "is not a fingerprint"),
        (&[("a.pem", KEY)], signed.replace("signed\"", "signed\"\nby = [\"12\"]"), "is not a fingerprint"),
        (&[("a.pem", KEY)], signed.replace("\"signed\"", "\"none\""), "\"none\" is not a choice"),
    ] {
        let said = rules(files, &policies).unwrap_err();
        assert!(said.contains(expected), "{policies}: {said}");
    }
    let settings = "signatures = { keyring = \"/does/not/exist\", policy = [{ require = \"signed\" }] }";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    fs::write(&path, settings).unwrap();
    let said = read(&Settings::load(Some(&path)).unwrap().settings).unwrap_err().to_string();
    assert!(said.starts_with("cannot read the keyring /does/not/exist"), "{said}");
}
