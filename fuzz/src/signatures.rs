//! Signatures and keys: any bytes as an image whose signatures are verified, and as files of a keyring.
//!
//! Nobody here has the private half of the key, so nothing counts as signed; and whatever is found fits into a line.

use sifleet_common::keyring::{KeyMaterial, Keyring};
use sifleet_common::policy::Verdict;
use sifleet_common::sif::verify::verify;
use sifleet_common::time::UnixMillis;

const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA4LypVa0tjUB5eUQeeGjllrBG7gWCIOSymuMc6fg8GB4=\n-----END PUBLIC KEY-----\n";

/// Verifies the bytes as an image, and reads them as keys.
///
/// # Panics
/// When a promise is broken.
pub fn run(data: &[u8]) {
    let mut material = KeyMaterial { legacy: true, ..KeyMaterial::default() };
    assert!(material.add_file("a.pem", KEY.as_bytes()).is_ok(), "a key is not read");
    let Ok(keyring) = Keyring::new(&material) else { panic!("a key is not understood") };
    match verify(&data, &keyring, UnixMillis(1_800_000_000_000)) {
        Ok(Verdict::Signed { by }) => panic!("a signature of {by:?} came out of nowhere"),
        Ok(verdict) => assert!(verdict.to_string().len() < 512, "a verdict of more than a line: {verdict}"),
        Err(error) => panic!("bytes in memory cannot be read: {error}"),
    }
    for name in ["a.asc", "a.gpg", "a.pem"] {
        let mut material = KeyMaterial::default();
        match material.add_file(name, data) {
            Ok(()) => drop(Keyring::new(&material)),
            Err(error) => assert!(error.to_string().len() < 1_024, "a reason of more than a screen: {error}"),
        }
    }
}
