//! `sifleet token create`, `sifleet token ls` and `sifleet token revoke`.

use sifleet_common::api::tokens::{TokenBody, TokenCreated, TokenList, TokenRequest};

use crate::args::{Making, TokenVerb};
use crate::client::{Client, Target};
use crate::outcome::Outcome;
use crate::output::Screen;

/// Makes, lists or revokes, and prints.
pub(super) fn run(client: &Client, screen: &mut Screen, verb: TokenVerb) -> anyhow::Result<Outcome> {
    let tokens = Target::v1("tokens");
    match verb {
        TokenVerb::Create(Making { role, name, ttl }) => {
            let request = TokenRequest { role: Some(role), name, ttl_s: Some(ttl.as_secs()) };
            screen.show(&client.send::<TokenCreated>(&tokens, &request, None)?)?;
        }
        TokenVerb::Ls => screen.show(&client.get::<TokenList>(&tokens)?)?,
        TokenVerb::Revoke { id } => screen.show(&client.delete::<TokenBody>(&tokens.segment(&id))?)?,
    }
    Ok(Outcome::Yes)
}
