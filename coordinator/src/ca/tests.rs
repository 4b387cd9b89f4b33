//! Certificates by what they let somebody do: real handshakes, right and wrong.

use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use sifleet_common::tls::{COORDINATOR_NAME, connected_identity, load_authorities, node_identity};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::testing::{Cluster, certify_for, client, handshake, server};
use super::*;

const DAY_S: i64 = 86_400;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_node_and_the_coordinator_know_each_other() {
    let cluster = Cluster::new();
    let seen =
        handshake(client(&cluster.node("viz001")), server(&cluster.coordinator), COORDINATOR_NAME).unwrap();
    assert_eq!(node_identity(&seen).unwrap().node.as_str(), "viz001");
}

#[test]
fn nodes_can_serve_each_other_under_their_own_names_only() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("viz001"), cluster.node("viz_2"));
    let seen = handshake(client(&b), server(&a), "viz001.node.sifleet.internal").unwrap();
    assert_eq!(node_identity(&seen).unwrap().node.as_str(), "viz_2");
    assert!(handshake(client(&a), server(&b), "viz001.node.sifleet.internal").is_err());
}

#[test]
fn a_node_cannot_pass_for_the_coordinator() {
    let cluster = Cluster::new();
    for imposter in ["viz001", "coordinator"] {
        let refused =
            handshake(client(&cluster.node("viz002")), server(&cluster.node(imposter)), COORDINATOR_NAME);
        assert!(matches!(refused, Err(rustls::Error::InvalidCertificate(_))), "{refused:?}");
    }
}

#[test]
fn the_coordinator_cannot_pass_for_a_node() {
    let cluster = Cluster::new();
    let refused = handshake(client(&cluster.coordinator), server(&cluster.coordinator), COORDINATOR_NAME);
    assert!(matches!(refused, Err(rustls::Error::InvalidCertificate(_))), "{refused:?}");
    let chain = Identity::load(&cluster.coordinator.certificate, &cluster.coordinator.key).unwrap();
    assert!(node_identity(&chain.chain()[0]).is_err());
}

#[test]
fn certificates_of_another_authority_are_refused_by_both_sides() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let (node, stranger) = (ours.node("viz001"), theirs.node("viz001"));
    let mut mixed = stranger.clone();
    mixed.authority.clone_from(&node.authority);
    let intruder = handshake(client(&mixed), server(&ours.coordinator), COORDINATOR_NAME);
    assert!(matches!(intruder, Err(rustls::Error::InvalidCertificate(_))), "{intruder:?}");
    let lured = handshake(client(&node), server(&theirs.coordinator), COORDINATOR_NAME);
    assert!(matches!(lured, Err(rustls::Error::InvalidCertificate(_))), "{lured:?}");
}

#[test]
fn an_expired_certificate_is_refused() {
    let cluster = Cluster::new();
    let node = cluster.node("viz001");
    certify_for(&cluster, &node, -DAY_S, -3_600);
    let refused = handshake(client(&node), server(&cluster.coordinator), COORDINATOR_NAME);
    assert!(
        matches!(
            refused,
            Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::Expired | rustls::CertificateError::ExpiredContext { .. }
            ))
        ),
        "{refused:?}"
    );
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let cluster = Cluster::new();
    let anonymous = ClientConfig::builder_with_provider(sifleet_common::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(load_authorities(&cluster.coordinator.authority).unwrap())
        .with_no_client_auth();
    assert!(handshake(anonymous, server(&cluster.coordinator), COORDINATOR_NAME).is_err());
}

#[test]
fn a_node_speaks_to_the_coordinator_over_quic() {
    let cluster = Cluster::new();
    let node = cluster.node("viz001");
    let run = async {
        let config = sifleet_common::quic::server(server(&cluster.coordinator)).unwrap();
        let listening =
            sifleet_common::quic::listen(config, "127.0.0.1:0".parse().unwrap(), &[0; 32]).unwrap();
        let address = listening.local_addr().unwrap();
        let config = sifleet_common::quic::client(client(&node)).unwrap();
        let dialling = sifleet_common::quic::dialler(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let agent = async {
            let connection = dialling.connect(address, COORDINATOR_NAME).unwrap().await.unwrap();
            let (mut send, receive) = connection.open_bi().await.unwrap();
            write_frame(&mut send, &"hello").await.unwrap();
            let answer = FrameReader::new(receive).next::<String>().await.unwrap();
            connection.close(0_u32.into(), b"");
            answer
        };
        let coordinator = async {
            let connection = listening.accept().await.unwrap().await.unwrap();
            let name = connected_identity(&connection).unwrap().node;
            let (mut send, receive) = connection.accept_bi().await.unwrap();
            let said = FrameReader::new(receive).next::<String>().await.unwrap().unwrap();
            write_frame(&mut send, &format!("{said} {name}")).await.unwrap();
            connection.closed().await;
        };
        tokio::join!(agent, coordinator).0
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), run).await });
    assert_eq!(answer.unwrap().as_deref(), Some("hello viz001"));
}

#[test]
fn private_keys_are_for_their_owner_only() {
    let cluster = Cluster::new();
    let node = cluster.node("viz001");
    for key in [&cluster.ca().join("ca.key"), &cluster.coordinator.key, &node.key] {
        assert_eq!(mode(key), 0o600, "{}", key.display());
    }
    for dir in [cluster.ca(), cluster.ca().join("nodes")] {
        assert_eq!(mode(&dir), 0o700, "{}", dir.display());
    }
}

#[test]
fn an_authority_is_made_once() {
    let cluster = Cluster::new();
    let before = std::fs::read(cluster.ca().join("ca.key")).unwrap();
    let again = init(&cluster.ca(), &[]);
    assert!(matches!(again, Err(CaError::Exists { .. })), "{again:?}");
    assert_eq!(std::fs::read(cluster.ca().join("ca.key")).unwrap(), before);
}

#[test]
fn renewal_keeps_the_key_and_changes_the_certificate() {
    let cluster = Cluster::new();
    let read = |paths: &IssuedPaths| {
        (std::fs::read(&paths.key).unwrap(), std::fs::read(&paths.certificate).unwrap())
    };
    let first = read(&cluster.node("viz001"));
    let second = read(&cluster.node("viz001"));
    assert_eq!(first.0, second.0);
    assert_ne!(first.1, second.1);
    let first = read(&cluster.coordinator);
    renew_coordinator(&cluster.ca(), &[], DEFAULT_VALIDITY).unwrap();
    let second = read(&cluster.coordinator);
    assert_eq!(first.0, second.0);
    assert_ne!(first.1, second.1);
}

#[test]
fn a_certificate_never_outlives_its_authority() {
    let cluster = Cluster::new();
    let mut authority = Authority::open(&cluster.ca()).unwrap();
    assert!(authority.expires > SystemTime::now() + DAY * 3_000);
    authority.expires = SystemTime::now() + DAY * 10;
    let key = KeyPair::generate().unwrap();
    let made = authority.certify(&"viz001".parse().unwrap(), Epoch(0), &key, DAY * 100_000).unwrap();
    let (_, parsed) = X509Certificate::from_der(made.der()).unwrap();
    let end = UNIX_EPOCH + Duration::from_secs(parsed.validity().not_after.timestamp().try_into().unwrap());
    assert!(end <= authority.expires);
    assert!(end > SystemTime::now() + DAY * 9);
    assert!(!parsed.is_ca());
}

#[test]
fn names_that_tell_roles_apart_cannot_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "viz001.node.sifleet.internal",
        "COORDINATOR.Sifleet.Internal",
        "sifleet.internal.",
        "*.example.org",
        "a b",
        "",
        "https://head/",
        "kopf-köln.example.org",
    ] {
        let refused = init(&dir.path().join("ca"), &[name.to_owned()]);
        assert!(matches!(refused, Err(CaError::Name { .. })), "{name}: {refused:?}");
    }
    assert!(!dir.path().join("ca").exists());
}

#[test]
fn a_node_whose_name_is_no_host_name_gets_no_certificate() {
    let cluster = Cluster::new();
    for name in ["a-", "a..b", "a.", &"a".repeat(64), &"a.".repeat(125)] {
        let refused = issue_node(&cluster.ca(), &name.parse().unwrap(), DEFAULT_VALIDITY);
        assert!(matches!(refused, Err(CaError::Name { .. })), "{name}: {refused:?}");
    }
}

#[test]
fn a_damaged_authority_says_what_is_wrong() {
    let check = |damage: &dyn Fn(&Path), expected: &str| {
        let cluster = Cluster::new();
        damage(&cluster.ca());
        let error = issue_node(&cluster.ca(), &"a".parse().unwrap(), DEFAULT_VALIDITY).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(&|ca| std::fs::remove_file(ca.join("ca.key")).unwrap(), "ca init");
    check(&|ca| std::fs::write(ca.join("ca.pem"), "").unwrap(), "ca init");
    let other =
        |ca: &Path| assert!(std::fs::copy(ca.join("coordinator.pem"), ca.join("ca.pem")).unwrap() > 0);
    check(&other, "belongs to another certificate");
}

#[test]
fn the_coordinator_renews_its_certificate_in_the_last_third_of_its_life() {
    let cluster = Cluster::new();
    assert!(!is_coordinator_due(&cluster.ca()));
    let names = coordinator_names(&cluster.ca()).unwrap();
    // Of three minutes and the five that lie in the past, less than a third is left.
    issue_coordinator(&cluster.ca(), &names, Duration::from_secs(120)).unwrap();
    assert!(is_coordinator_due(&cluster.ca()));
    std::fs::remove_file(cluster.ca().join("ca.key")).unwrap();
    assert!(!is_coordinator_due(&cluster.ca()), "somebody else makes it");
}
