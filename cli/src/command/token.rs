//! `sifleet token create`, `sifleet token ls` and `sifleet token revoke`.

use sifleet_common::api::enrolments::{EnrolmentBody, EnrolmentList, EnrolmentRequest, EnrolmentsCreated};
use sifleet_common::api::tokens::{TokenBody, TokenCreated, TokenList, TokenRequest};

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
            screen.show(&client.send::<EnrolmentsCreated>(&enrolments, &request, None)?)?;
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
