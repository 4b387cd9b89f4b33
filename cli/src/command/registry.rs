//! `sifleet registry`: one file a verb, and here how a password is read.

mod add;
mod check;
mod ls;
mod rm;
mod set;
mod show;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use sifleet_common::api::registries::{CredentialsRequest, RegistryBody};

use crate::args::{RegistryCredentials, RegistryVerb};
use crate::client::{Answer, Client, Target};
use crate::outcome::{Outcome, Wrong};
use crate::output::Screen;

/// Longest password that is read, in bytes; the coordinator takes as many.
const MAX_PASSWORD: u64 = 4_096;

/// Does what the command line asks for.
pub(super) fn run(client: &Client, screen: &mut Screen, verb: RegistryVerb) -> anyhow::Result<Outcome> {
    match verb {
        RegistryVerb::Add(adding) => add::run(client, screen, *adding),
        RegistryVerb::Ls { query } => ls::run(client, screen, query),
        RegistryVerb::Show { registry } => show::run(client, screen, &registry),
        RegistryVerb::Set(setting) => set::run(client, screen, *setting),
        RegistryVerb::Rm { registry } => rm::run(client, screen, &registry),
        RegistryVerb::Check { registry } => check::run(client, screen, &registry),
    }
}

fn all() -> Target {
    Target::v1("registries")
}

fn one(registry: &str) -> Target {
    all().segment(registry)
}

/// Reads with what to sign in, if that is said; nothing is sent before it was read.
fn credentials(said: &RegistryCredentials) -> anyhow::Result<Option<CredentialsRequest>> {
    let (Some(username), Some(file)) = (&said.username, &said.password_file) else { return Ok(None) };
    let password = password(file)?;
    Ok(Some(CredentialsRequest { username: username.clone(), password, realm: said.realm.clone() }))
}

/// Sets credentials.
fn sign_in(
    client: &Client,
    registry: &str,
    request: &CredentialsRequest,
) -> anyhow::Result<Answer<RegistryBody>> {
    Ok(client.put(&one(registry).segment("credentials"), request)?)
}

fn password(path: &Path) -> anyhow::Result<String> {
    let unread = || format!("cannot read {}", path.display());
    let text = if path == Path::new("-") {
        read(io::stdin().lock()).with_context(unread)?
    } else {
        let file = File::open(path).with_context(unread)?;
        let mode = file.metadata().with_context(unread)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            let what = format!("others can read the password in {} (mode {mode:04o})", path.display());
            return Err(Wrong::new(what, format!("run chmod 600 {}", path.display())).into());
        }
        read(file).with_context(unread)?
    };
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        let hint = "the file holds the password alone, on one line";
        return Err(Wrong::new(format!("{} holds no password", path.display()), hint).into());
    }
    Ok(text.to_owned())
}

fn read(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(MAX_PASSWORD).read_to_string(&mut text)?;
    Ok(text)
}
