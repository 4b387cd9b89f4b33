//! `cargo packages`: builds the programs as they are shipped and makes all six packages, in `target/packages`.
//!
//! The build depends on the sources, the lock file and the compiler alone: paths of this machine are mapped away, times are
//! the newest commit's. Each program carries the list of what is linked into it (cargo-auditable).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use sifleet_tests::packaging::{self, PACKAGES, Plan, cargo, run};
use sifleet_tests::programs::{find, workspace};

const USAGE: &str = "usage: cargo packages [--out DIRECTORY]";
/// Where sources seem to be, in what panics and debuggers are told.
const MAPPED: &str = "/usr/src/sifleet";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let target = packaging::target()?;
    let out = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => target.join("packages"),
        ["--out", out] => std::env::current_dir()?.join(out),
        _ => bail!(USAGE),
    };
    let start = Instant::now();
    let epoch = packaging::epoch()?;
    let programs = build(&target, epoch)?;
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    let mut made =
        packaging::make(&Plan { programs: programs.clone(), out: out.clone(), version: None, epoch })?;
    made.extend(lists(&programs, &out)?);
    let names: Vec<_> = made.iter().filter_map(|path| path.file_name()).collect();
    let sums = run(Command::new("sha256sum").current_dir(&out).args(&names))?;
    fs::write(out.join("SHA256SUMS"), &sums)?;
    anstream::println!("{sums}in {}, {} s", out.display(), start.elapsed().as_secs());
    Ok(())
}

/// Builds the programs; returns the folder that holds them.
fn build(target: &Path, epoch: u64) -> anyhow::Result<PathBuf> {
    let auditable = packaging::tool("cargo-auditable")?;
    let folder = target.join("shipped");
    // The last that fits counts: the target directory may be in the workspace, or anywhere.
    let from_to = [
        (cargo_home()?, "/usr/src/cargo".to_owned()),
        (workspace(), MAPPED.to_owned()),
        (folder.clone(), format!("{MAPPED}/target")),
    ];
    let flags: Vec<String> =
        from_to.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
    let c_flags: Vec<String> =
        from_to.iter().map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display())).collect();
    let mut build = cargo();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let bin = auditable.parent().context("a tool without a folder")?.to_owned();
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)))?;
    build.args(["auditable", "build", "--release", "--locked", "--bins"]);
    build.args(PACKAGES.iter().flat_map(|(name, _)| ["-p", name]));
    build.env("PATH", path).env("CARGO_TARGET_DIR", &folder).env("SOURCE_DATE_EPOCH", epoch.to_string());
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")).env("CFLAGS", c_flags.join(" "));
    build.env_remove("CARGO_BUILD_TARGET").env("CARGO_INCREMENTAL", "0");
    let status = build.status().context("cargo auditable build")?;
    ensure!(status.success(), "the programs cannot be built");
    let programs = folder.join("release");
    for (name, _) in PACKAGES {
        let bytes = fs::read(programs.join(name))?;
        for path in from_to.iter().map(|(from, _)| from.to_string_lossy()).filter(|path| path.len() > 4) {
            let found = bytes.windows(path.len()).any(|window| window == path.as_bytes());
            ensure!(!found, "{name} holds a path of this machine, {path}");
        }
    }
    Ok(programs)
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    let said = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let usual = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    said.or_else(usual).context("neither CARGO_HOME nor HOME is set")
}

/// Writes the list that each program carries beside the packages, for those who want to read it there.
fn lists(programs: &Path, out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    if find("python3").is_none() || find("objcopy").is_none() {
        anstream::println!("the lists of what is linked stay in the programs: python3 or objcopy is missing");
        return Ok(made);
    }
    for (name, _) in PACKAGES {
        let (packed, list) = (out.join("list"), out.join(format!("{name}.sbom.json")));
        let section = format!(".dep-v0={}", packed.display());
        run(Command::new("objcopy")
            .args(["--dump-section", &section])
            .arg(programs.join(name))
            .arg("/dev/null"))?;
        let unpack =
            "import sys, zlib; sys.stdout.write(zlib.decompress(open(sys.argv[1], 'rb').read()).decode())";
        fs::write(&list, run(Command::new("python3").args(["-c", unpack]).arg(&packed))?)?;
        fs::remove_file(&packed)?;
        made.push(list);
    }
    Ok(made)
}
