//! `sifleet token create`, `sifleet token ls` and `sifleet token revoke`.

use anyhow::ensure;
use sifleet_common::api::enrolments::{EnrolmentBody, EnrolmentList, EnrolmentRequest, EnrolmentsCreated};
use sifleet_common::api::tokens::{TokenBody, TokenCreated, TokenList, TokenRequest};
use sifleet_common::nodeset::NodeSet;

use crate::args::{Making, TokenVerb};
use crate::client::{Client, Target};
use crate::outcome::Outcome;
use crate::output::Screen;

/// Makes, lists or revokes, and prints.
pub(super) fn run(client: &Client, screen: &mut Screen, verb: TokenVerb) -> anyhow::Result<Outcome> {
    let (tokens, enrolments) = (Target::v1("tokens"), Target::v1("enrolments"));
    match verb {
        TokenVerb::Create(Making { nodes: Some(nodes), from, ttl, .. }) => {
            let ttl_s = ttl.map(|ttl| ttl.as_secs());
            let request = EnrolmentRequest { nodes: nodes.to_string(), ttl_s, from };
            let made = client.send::<EnrolmentsCreated>(&enrolments, &request, None)?;
            check(&made.value, &nodes)?;
            screen.show(&made)?;
        }
        TokenVerb::Create(Making { role, name, ttl, .. }) => {
            let ttl_s = ttl.map(|ttl| ttl.as_secs());
            let request = TokenRequest { role, name: name.unwrap_or_default(), ttl_s };
            screen.show(&client.send::<TokenCreated>(&tokens, &request, None)?)?;
        }
        TokenVerb::Ls { nodes: true } => screen.show(&client.get::<EnrolmentList>(&enrolments)?)?,
        TokenVerb::Ls { nodes: false } => screen.show(&client.get::<TokenList>(&tokens)?)?,
        TokenVerb::Revoke { id } if id.starts_with("t-") => {
            screen.show(&client.delete::<TokenBody>(&tokens.segment(&id))?)?;
        }
        TokenVerb::Revoke { id } => {
            screen.show(&client.delete::<EnrolmentBody>(&enrolments.segment(&id))?)?;
        }
    }
    Ok(Outcome::Yes)
}

/// Looks whether what is shown can be handed to a shell of root on a node, as the manual tells people to: it is for the nodes
/// that were named, and nothing of it is more than a word.
fn check(made: &EnrolmentsCreated, nodes: &NodeSet) -> anyhow::Result<()> {
    let is_word = |text: &str| {
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'[');
        first && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:_-[]".contains(&byte))
    };
    ensure!(
        is_word(&made.coordinator) && is_word(&made.ca_pin),
        "the coordinator calls itself {:?} and its authority {:?}, which no node can use: nothing is shown",
        made.coordinator,
        made.ca_pin
    );
    let names: Vec<String> = nodes.clone().into_names().into_iter().map(|name| name.to_string()).collect();
    let named: Vec<&str> = made.tokens.iter().map(|token| token.token.node.as_str()).collect();
    ensure!(
        made.tokens.len() == names.len() && names.iter().all(|name| named.contains(&name.as_str())),
        "the coordinator answered with tokens for other nodes than {nodes}: nothing is shown"
    );
    ensure!(
        made.tokens.iter().all(|token| is_word(&token.secret)),
        "the coordinator answered with tokens that are none: nothing is shown"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use sifleet_common::api::enrolments::EnrolmentCreated;

    use super::*;

    fn made(nodes: &[&str], secret: &str, coordinator: &str, pin: &str) -> EnrolmentsCreated {
        let token = |node: &&str| EnrolmentCreated {
            token: EnrolmentBody {
                id: "0123456789abcdef".to_owned(),
                node: (*node).to_owned(),
                state: "waiting".to_owned(),
                created: String::new(),
                expires: String::new(),
                from: vec![],
                used: None,
                used_from: None,
            },
            secret: secret.to_owned(),
        };
        let (coordinator, ca_pin) = (coordinator.to_owned(), pin.to_owned());
        EnrolmentsCreated { tokens: nodes.iter().map(token).collect(), coordinator, ca_pin }
    }

    #[test]
    fn nothing_that_a_shell_would_run_is_shown() {
        let nodes: NodeSet = "viz[001-002]".parse().unwrap();
        let (two, secret, pin) = (["viz001", "viz002"], "sifleet_enrol_ab", "sha256:8d3f");
        for coordinator in ["head01:7441", "[fd00::1]:7441", "10.0.0.1:7441"] {
            check(&made(&two, secret, coordinator, pin), &nodes).unwrap();
        }
        for evil in ["x; reboot", "$(reboot)", "x'`reboot`'", "x\nreboot", "x reboot", "-reboot", ""] {
            assert!(check(&made(&two, secret, evil, pin), &nodes).is_err(), "{evil}");
            assert!(check(&made(&two, evil, "head01:7441", pin), &nodes).is_err(), "{evil}");
            assert!(check(&made(&two, secret, "head01:7441", evil), &nodes).is_err(), "{evil}");
            assert!(check(&made(&["viz001", evil], secret, "head01:7441", pin), &nodes).is_err(), "{evil}");
        }
        for others in [&["viz001"][..], &["viz001", "viz002", "viz003"], &["viz001", "viz001"], &[]] {
            assert!(check(&made(others, secret, "head01:7441", pin), &nodes).is_err(), "{others:?}");
        }
    }
}
