//! The walk that the inventory is compared with: recursive, slow and simple.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use sifleet_common::inventory::{Content, Inventory, RootId};

/// What is below a root: by escaped path, `blake3:…` of an image or the code of what is none, and for a file its
/// length and when it was modified.
pub(crate) fn walk(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    visit(root, "", is_closed(root), &mut found);
    found
}

/// Lists what walk and inventory say differently, at most 20.
pub(crate) fn differences(root: &Path, inventory: &Inventory) -> Vec<String> {
    let expected = walk(root);
    let known: BTreeMap<String, String> = inventory
        .replicas_of(RootId(0))
        .map(|(key, replica)| {
            let said = match &replica.content {
                Content::Image(image) => image.digest.to_string(),
                Content::Unusable(what) => what.code.as_str().to_owned(),
                Content::Pending(pending) => format!("{pending:?}"),
            };
            (key.name.to_string(), describe(said, replica.size, replica.modified.0))
        })
        .collect();
    let lost = expected.iter().filter(|(name, what)| known.get(*name) != Some(what));
    let lost = lost.map(|(name, what)| format!("{name}: is {what}, known as {:?}", known.get(name)));
    let extra = known.iter().filter(|(name, _)| !expected.contains_key(*name));
    lost.chain(extra.map(|(name, what)| format!("{name}: known as {what}, is not there"))).take(20).collect()
}

fn visit(directory: &Path, above: &str, private: bool, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let raw = entry.file_name();
        if raw.as_bytes().starts_with(b".")
            || raw.as_bytes().starts_with(b"tmp-copy-")
            || raw.as_bytes().ends_with(b".sif.json")
        {
            continue;
        }
        let shown = show(raw.as_bytes());
        let name = if above.is_empty() { shown.clone() } else { format!("{above}/{shown}") };
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        let mode = metadata.permissions().mode();
        if metadata.is_dir() && !entry.path().join(".singularity.d").exists() {
            visit(&entry.path(), &name, private || is_closed(&entry.path()), found);
            continue;
        }
        let kind = metadata.file_type();
        let what = if name.contains("\\x") {
            "bad_name".to_owned()
        } else if metadata.is_dir() {
            "sandbox".to_owned()
        } else if kind.is_symlink() {
            "symlink".to_owned()
        } else if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            "special_file".to_owned()
        } else if private || mode & 0o004 == 0 {
            "private".to_owned()
        } else {
            bytes(&entry.path(), metadata.len())
        };
        let modified = metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000;
        found.insert(name, describe(what, metadata.len(), modified));
    }
}

/// Of what is no file, or may be none, length and time say nothing.
fn describe(what: String, size: u64, modified: i64) -> String {
    match what.as_str() {
        "sandbox" | "symlink" | "special_file" | "bad_name" => what,
        _ => format!("{what}, {size} bytes of {modified}"),
    }
}

/// Tells whether some job's user may not pass through a directory.
fn is_closed(directory: &Path) -> bool {
    fs::metadata(directory).unwrap().permissions().mode() & 0o001 == 0
}

fn bytes(path: &Path, len: u64) -> String {
    if len > 64 * 1024 * 1024 {
        return "sparse".to_owned();
    }
    let bytes = fs::read(path).unwrap();
    if bytes.len() >= 104 && bytes.starts_with(b"hsqs") {
        format!("blake3:{}", blake3::hash(&bytes).to_hex())
    } else if bytes.starts_with(b"hsqs") {
        if bytes.len() >= 96 { "truncated".to_owned() } else { "malformed".to_owned() }
    } else {
        "not_an_image".to_owned()
    }
}

/// Escapes like the inventory: what is no text, no visible character, or a backslash.
fn show(raw: &[u8]) -> String {
    match std::str::from_utf8(raw) {
        Ok(text) if !text.chars().any(|c| c.is_control() || c == '\\' || c == '\u{202e}') => text.to_owned(),
        Ok(_) | Err(_) => {
            let text = String::from_utf8_lossy(raw);
            let mut shown = String::new();
            let mut rest = raw;
            while let Some((byte, others)) = rest.split_first() {
                let plain = byte.is_ascii_graphic() && *byte != b'\\' || *byte == b' ';
                if plain {
                    shown.push(char::from(*byte))
                } else {
                    shown.push_str(&format!("\\x{byte:02x}"))
                }
                rest = others;
            }
            assert!(!text.is_empty());
            shown
        }
    }
}
