//! Has a wish begun once, however often it has to be asked for; and asks people whether they mean it.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::{Answer, Client, ClientError, Target};
use crate::output::Screen;
use crate::waiting::pause;

/// How often a request is sent again that nobody answered.
const ATTEMPTS: u32 = 3;

/// Begins it; the same key each time sees to it that it is one.
pub(super) fn begin<T: DeserializeOwned>(
    client: &Client,
    target: &Target,
    request: &impl Serialize,
) -> Result<Answer<T>, ClientError> {
    let key = key();
    let mut attempt = 1;
    loop {
        match client.send(target, request, Some(&key)) {
            Err(error) if error.may_pass() && attempt < ATTEMPTS => {
                pause(Duration::from_secs(1) * attempt);
                attempt += 1;
            }
            answer => return answer,
        }
    }
}

/// Tells whether there is somebody to ask.
pub(super) fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a yes.
pub(super) fn agreed(screen: &mut Screen, question: &str) -> io::Result<bool> {
    screen.say(&format!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Names a wish as nobody else names another.
fn key() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let host = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&now.as_nanos().to_le_bytes()).update(&std::process::id().to_le_bytes()).update(&host);
    hasher.finalize().to_hex().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_wishes_have_two_keys() {
        assert_eq!(key().len(), 32);
        assert_ne!(key(), key());
    }
}
