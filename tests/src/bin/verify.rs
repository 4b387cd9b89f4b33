//! `cargo verify`: every check and test of the project, in the order in which they fail fastest.
//!
//! As root on Debian it installs the system packages that tests need; elsewhere it names them and the tests that
//! need them are skipped with a reason. `--long` adds seeds, fuzzing and soaks.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::process::geteuid;
use sifleet_tests::packaging;
use sifleet_tests::programs::{find, forget_package, workspace};

/// Debian packages, and a program that tells whether each is there.
const PACKAGES: [(&str, &str); 14] = [
    ("debootstrap", "debootstrap"),
    ("squashfs-tools", "mksquashfs"),
    ("e2fsprogs", "mkfs.ext3"),
    ("systemd", "systemd-analyze"),
    ("g++", "g++"),
    ("strace", "strace"),
    ("iproute2", "tc"),
    ("curl", "curl"),
    ("binutils", "strip"),
    ("dpkg-dev", "dpkg-shlibdeps"),
    ("virtualenv", "virtualenv"),
    ("faketime", "faketime"),
    ("nginx-light", "nginx"),
    ("jq", "jq"),
];

/// Seconds each fuzz target runs.
const FUZZ_SECONDS: &str = "20";
const FUZZ_SECONDS_LONG: &str = "300";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let long = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--long"] => true,
        _ => bail!("usage: cargo verify [--long]"),
    };
    let start = Instant::now();
    packages()?;
    let run = Run { long };
    run.cargo("formatting", &["fmt", "--all", "--check"])?;
    run.cargo("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    run.cargo("documentation", &["doc", "--workspace", "--no-deps", "--document-private-items"])?;
    run.cargo("programs", &["build", "--workspace", "--bins"])?;
    run.cargo("tests", &["test", "--workspace"])?;
    let seconds = if long { FUZZ_SECONDS_LONG } else { FUZZ_SECONDS };
    if find("g++").is_some() {
        run.command("fuzzing", "fuzz/run.sh", &[seconds])?;
    } else {
        say("skipped fuzzing: libFuzzer needs a C++ compiler, g++");
    }
    run.dependencies()?;
    say(&format!("verified in {} s", start.elapsed().as_secs()));
    Ok(())
}

struct Run {
    long: bool,
}

impl Run {
    fn cargo(&self, what: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_unset| "cargo".into());
        self.command(what, &cargo, arguments)
    }

    fn command(&self, what: &str, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        say(&format!("== {what}"));
        let start = Instant::now();
        let mut command = Command::new(program);
        command.current_dir(workspace()).args(arguments).env("RUSTDOCFLAGS", "-D warnings");
        forget_package(&mut command);
        if self.long {
            command.env("SIFLEET_LONG", "1");
        }
        let status = command.status().with_context(|| format!("run {program}"))?;
        if !status.success() {
            bail!("{what}: {program} {} ended with {status}", arguments.join(" "));
        }
        say(&format!("== {what}: well, {} s", start.elapsed().as_secs()));
        Ok(())
    }

    /// Checks what is depended on.
    fn dependencies(&self) -> anyhow::Result<()> {
        let Some(deny) = deny()? else {
            say(
                "skipped licences, sources and advisories: cargo-deny is missing (cargo install --locked cargo-deny)",
            );
            return Ok(());
        };
        let deny = deny.to_string_lossy();
        // Looks at the manifests of all that is locked, other systems' as well, which nothing else may have fetched.
        self.command("licences and sources", &deny, &["check", "bans", "licenses", "sources"])?;
        match advisories()? {
            Some(config) => {
                let config = config.to_string_lossy();
                self.command("advisories", &deny, &["--offline", "--config", &config, "check", "advisories"])
            }
            None => {
                say(&format!("skipped advisories: there is no snapshot of them, {SNAPSHOT}"));
                Ok(())
            }
        }
    }
}

/// Advisories as they were on one day, so that a check says the same tomorrow: an archive of the RustSec database.
const SNAPSHOT: &str = "../shared/advisory-db.tar.gz";
/// Where cargo-deny looks for the database of its default address.
const DATABASE: &str = "advisory-db-3157b0e258782691";

/// Finds cargo-deny, in PATH or where it was installed before; where everything must run, installs it.
fn deny() -> anyhow::Result<Option<PathBuf>> {
    let found = find("cargo-deny").or(packaging::installed("cargo-deny")?);
    match found {
        None if std::env::var_os("CI").is_some() => packaging::tool("cargo-deny").map(Some),
        found => Ok(found),
    }
}

/// Lays the snapshot out as cargo-deny wants it, and returns settings that name it; `None` if there is none.
fn advisories() -> anyhow::Result<Option<PathBuf>> {
    let snapshot =
        std::env::var_os("SIFLEET_ADVISORIES").map_or_else(|| workspace().join(SNAPSHOT), PathBuf::from);
    if !snapshot.is_file() {
        return Ok(None);
    }
    let folder = packaging::target()?.join("advisories");
    let database = folder.join(DATABASE);
    if database.exists() {
        std::fs::remove_dir_all(&database)?;
    }
    std::fs::create_dir_all(&database)?;
    packaging::run(Command::new("tar").arg("-xzf").arg(&snapshot).arg("-C").arg(&database))?;
    // It has to be a clone of which it can be told when it was made.
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(&database).args(["-c", "user.name=verify", "-c", "user.email=verify@localhost"]);
        packaging::run(git.args(arguments)).map(drop)
    };
    git(&["init", "--quiet"])?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message", "snapshot"])?;
    std::fs::write(database.join(".git/FETCH_HEAD"), "")?;
    let settings = std::fs::read_to_string(workspace().join("deny.toml"))?;
    let named = format!("[advisories]\ndb-path = {:?}", folder.display().to_string());
    let config = folder.join("deny.toml");
    std::fs::write(&config, settings.replacen("[advisories]", &named, 1))?;
    Ok(Some(config))
}

/// Sees to the system packages.
fn packages() -> anyhow::Result<()> {
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|(_, program)| find(program).is_none()).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !geteuid().is_root() || find("apt-get").is_none() {
        say(&format!("some tests will be skipped; they need: {}", missing.join(" ")));
        return Ok(());
    }
    say(&format!("== installing {}", missing.join(" ")));
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(["-qq", "-o", "Dpkg::Use-Pty=0"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        apt.status().context("run apt-get")
    };
    apt(&["update"])?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(missing.iter());
    if !apt(&install)?.success() {
        bail!("apt-get could not install {}", missing.join(" "));
    }
    Ok(())
}

fn say(text: &str) {
    anstream::println!("{text}");
}
