//! What packages hold beside the programs: manual pages, completions, notices of others whose code is linked.
//!
//! Everything is made from the programs and from what cargo knows of them, so that none of it can grow stale.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::{PACKAGES, cargo, run, source};

/// What licence texts are called, by their beginning.
const NOTICES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];
/// Where a dependency without a text of its own names its licence.
const BY_NAME: &str = "Its package holds no text of its licence, which is";

/// Fills the folder `share` below `staged`.
pub(super) fn make(staged: &Path, epoch: u64) -> anyhow::Result<()> {
    let metadata = cargo().args(["metadata", "--format-version", "1", "--locked"]).output()?;
    let metadata: Value = serde_json::from_slice(&metadata.stdout).context("cargo metadata")?;
    for (name, _) in PACKAGES {
        let share = staged.join("share").join(name);
        fs::create_dir_all(&share)?;
        let man = share.join("man");
        run(Command::new(staged.join(name)).args(["man", "--dir"]).arg(&man))?;
        for page in fs::read_dir(&man)? {
            compress(&page?.path())?;
        }
        if let Some(daemon) = name.strip_prefix("sifleet-") {
            fs::write(share.join(format!("{daemon}.toml")), settings(daemon)?)?;
        }
        changelog(name, &share, epoch)?;
        let texts = share.join("THIRD-PARTY");
        fs::write(&texts, notices(name, &metadata)?)?;
        compress(&texts)?;
    }
    let completions = staged.join("share/sifleet/completions");
    fs::create_dir_all(&completions)?;
    for (shell, file) in [("bash", "sifleet"), ("zsh", "_sifleet"), ("fish", "sifleet.fish")] {
        let script = run(Command::new(staged.join("sifleet")).args(["completions", shell]))?;
        fs::write(completions.join(file), script)?;
    }
    Ok(())
}

/// Makes the settings file of a daemon: every setting as the manual shows it, waiting to be wanted.
///
/// A test holds what the manual calls defaults against those of the code.
///
/// # Errors
/// When the manual does not show them.
pub fn settings(daemon: &str) -> anyhow::Result<String> {
    let manual = fs::read_to_string(source("docs/operations.md"))?;
    let first = format!("# /etc/sifleet/{daemon}.toml");
    let mut blocks = manual.split("```toml\n").skip(1).filter_map(|block| block.split("\n```").next());
    let block = blocks.find(|block| block.starts_with(&first)).context("the manual shows no settings")?;
    let mut text = format!(
        "{first}: what is commented out is the default, or an example where it says so.\n\
         # Settings of a site fit better into a file of their own, {daemon}.toml.d/site.toml: it is read after this one.\n\
         # The manual is /usr/share/doc/sifleet-{daemon}/operations.md.\n\n"
    );
    for line in block.lines().skip(1) {
        let is_table = line.starts_with('[') && !line.starts_with("[[");
        text.push_str(if line.is_empty() || line.starts_with('#') || is_table { "" } else { "#" });
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

/// The name and the time of day of the compression stay out, so that the same text gives the same bytes.
fn compress(file: &Path) -> anyhow::Result<()> {
    run(Command::new("gzip").args(["-9", "-n", "-f"]).arg(file)).map(drop)
}

/// Debian wants a changelog of the package in its own form.
fn changelog(name: &str, share: &Path, epoch: u64) -> anyhow::Result<()> {
    let date = run(Command::new("date").args(["-u", "-R", "-d", &format!("@{epoch}")]).env("LC_ALL", "C"))?;
    let manifest = fs::read_to_string(source("agent/Cargo.toml"))?;
    let maintainer = manifest.lines().find_map(|line| line.strip_prefix("maintainer = "));
    let maintainer = maintainer.context("no maintainer in agent/Cargo.toml")?.trim_matches('"');
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "{name} ({version}) unstable; urgency=medium\n\n  * CHANGELOG.md beside this file says what changed.\n\n -- {maintainer}  {date}"
    );
    let file = share.join("changelog");
    fs::write(&file, text)?;
    compress(&file)
}

/// Collects the notices of everything that is linked into a program; each text once.
fn notices(name: &str, metadata: &Value) -> anyhow::Result<String> {
    let tree = ["tree", "--locked", "-e", "normal", "--prefix", "none", "--format", "{p}", "-p", name];
    let listed = run(cargo().args(tree))?;
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().context("cargo metadata names no packages")? {
        let (dependency, version) = (text(package, "name"), text(package, "version"));
        let is_linked = listed.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(dependency)
                && words.next().and_then(|word| word.strip_prefix('v')) == Some(version)
        });
        // Ours have no source from which they were fetched.
        if !is_linked || package["source"].is_null() {
            continue;
        }
        let folder =
            Path::new(text(package, "manifest_path")).parent().context("a manifest without a folder")?;
        let mut found = found(folder)?;
        if found.is_empty() {
            found.push(format!("{BY_NAME} {}.\n", text(package, "license")));
        }
        for notice in found {
            texts.entry(notice).or_default().insert(format!("{dependency} {version}"));
        }
    }
    let mut all = format!("Code of others that is linked into {name}, and the notices that came with it.\n");
    for (notice, dependencies) in texts {
        let names: Vec<String> = dependencies.into_iter().collect();
        all.push_str(&format!("\n{}\n\n== {}\n\n{}\n", "=".repeat(100), names.join(", "), notice.trim()));
    }
    Ok(all)
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

fn found(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut files: Vec<_> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let is_notice = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
        path.is_file() && NOTICES.iter().any(|notice| name.starts_with(notice))
    };
    let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    files.iter().filter(|path| is_notice(path)).map(|path| Ok(read(path)?)).collect()
}
