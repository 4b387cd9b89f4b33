//! The token that says who asks: where it is read from, and to whom it is sent.
//!
//! Never from an argument, which every user of the machine sees in the list of processes; never from a file that others
//! may read; never to another machine in the clear.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ureq::http::{HeaderValue, Uri};

use super::ClientError;

/// Holds a token itself.
const VARIABLE: &str = "SIFLEET_TOKEN";
/// Longest token that is read, in bytes; ours have about 80.
const MAX_TOKEN: u64 = 1_024;
/// What nobody but the owner of a file may have of it.
const OTHERS: u32 = 0o077;

/// Reads the token: out of a file, else out of the environment. Without either, none.
pub(super) fn read(file: Option<&Path>) -> Result<Option<HeaderValue>, ClientError> {
    let text = match file {
        Some(path) => Some(of_file(path)?),
        None => std::env::var(VARIABLE).ok().filter(|text| !text.trim().is_empty()),
    };
    text.map(|text| bearer(&text)).transpose()
}

fn of_file(path: &Path) -> Result<String, ClientError> {
    let unread = |source| ClientError::TokenFile { path: path.to_owned(), source };
    let file = File::open(path).map_err(unread)?;
    let metadata = file.metadata().map_err(unread)?;
    if metadata.mode() & OTHERS != 0 {
        return Err(ClientError::OpenTokenFile { path: path.to_owned(), mode: metadata.mode() & 0o777 });
    }
    let mut text = String::new();
    file.take(MAX_TOKEN).read_to_string(&mut text).map_err(unread)?;
    Ok(text)
}

fn bearer(text: &str) -> Result<HeaderValue, ClientError> {
    let text = text.trim();
    let is_one = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let value =
        Some(text).filter(|_| is_one).and_then(|text| HeaderValue::try_from(format!("Bearer {text}")).ok());
    let mut value = value.ok_or(ClientError::NoToken)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Tells whether what is sent to an address in the clear stays on this machine.
pub(crate) fn stays_here(url: &str) -> bool {
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_sent_a_token_in_the_clear() {
        for url in [
            "http://127.0.0.1:7440",
            "http://localhost",
            "http://LOCALHOST:1/",
            "http://[::1]:7440",
            "http://127.9.9.9",
        ] {
            assert!(stays_here(url), "{url}");
        }
        for url in [
            "http://head01:7440",
            "http://10.0.0.1",
            "http://[::2]",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.1@evil.example",
            "http://",
            "nonsense",
        ] {
            assert!(!stays_here(url), "{url}");
        }
    }

    #[test]
    fn a_token_is_one_word_and_is_not_shown() {
        let token = bearer(" sifleet_1_00\n").unwrap();
        assert_eq!(token.as_bytes(), b"Bearer sifleet_1_00");
        assert!(!format!("{token:?}").contains("sifleet_"));
        for bad in ["", " ", "two words", "a\nb", "\u{e9}"] {
            assert!(bearer(bad).is_err(), "{bad:?}");
        }
    }
}
