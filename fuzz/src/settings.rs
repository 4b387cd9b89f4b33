//! Settings: any bytes as the settings file of either daemon, and as a list of partitions.
//!
//! A mistake is shown with its place in the file, never as a panic.

use std::io::Write as _;
use std::path::Path;

use sifleet_common::settings::{Options, Place, SettingsError, load};
use sifleet_coordinator::partitions::file;

/// Reads the bytes as three kinds of file.
///
/// # Panics
/// When a promise is broken, or when there is no room for a temporary file.
pub fn run(data: &[u8]) {
    let mut file = match tempfile::NamedTempFile::new() {
        Ok(file) => file,
        Err(error) => panic!("a temporary file is needed: {error}"),
    };
    assert!(file.write_all(data).is_ok(), "the temporary file cannot be written");
    let options = Options { path: file.path(), explicit: true, env_prefix: "SIFLEET_FUZZ_NOTHING_" };
    check(data, load::<sifleet_coordinator::settings::Settings>(&options).err());
    check(data, load::<sifleet_agent::settings::Settings>(&options).err());
    if let Err(error) = file::parse(Path::new("partitions.toml"), data.to_vec()) {
        assert!(!error.to_string().is_empty());
    }
}

fn check(data: &[u8], error: Option<SettingsError>) {
    let Some(SettingsError::Wrong { place, problem }) = error else { return };
    assert!(!problem.is_empty());
    if let Place::File { line, column, .. } = place {
        let lines = data.split(|byte| *byte == b'\n').count();
        assert!((1..=lines).contains(&line), "line {line} of {lines}: {problem}");
        assert!(column >= 1);
    }
}
