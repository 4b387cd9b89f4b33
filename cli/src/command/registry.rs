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
const MAX_PASSWORD: usize = 4_096;
/// How much is read, in bytes: a password, the end of its line, and one more.
const READ: u64 = 4_099;

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
    let bytes = if path == Path::new("-") {
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
    let hint = "the file holds the password alone, on one line";
    let end = bytes.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    if end == 0 {
        return Err(Wrong::new(format!("{} holds no password", path.display()), hint).into());
    }
    if bytes.len() > MAX_PASSWORD + 2 || end > MAX_PASSWORD {
        let what = format!("{} holds more than the {MAX_PASSWORD} bytes of a password", path.display());
        return Err(Wrong::new(what, hint).into());
    }
    let text = bytes.get(..end).unwrap_or_default().to_vec();
    String::from_utf8(text)
        .map_err(|_no_text| Wrong::new(format!("{} holds no text", path.display()), hint).into())
}

/// Reads a little more than a password and the end of its line, so that what is too long is seen and not cut.
fn read(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(READ).read_to_end(&mut bytes)?;
    Ok(bytes)
}
