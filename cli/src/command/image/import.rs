//! `sifleet image import`: out of a registry by the coordinator, or a file of this machine by this program.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use serde_json::json;
use sifleet_common::api::imports::{ImportBody, ImportRequest, ImportState};
use sifleet_common::api::library::Upload;
use sifleet_common::name::ImageName;

use crate::args::Importing;
use crate::client::{Answer, Client, ClientError, Target};
use crate::command::push::file::{self, Local};
use crate::live::{Live, Step};
use crate::outcome::{Outcome, Wrong};
use crate::output::{Bytes, Screen};
use crate::waiting::pause;

/// How often it is asked how the import stands.
const POLL: Duration = Duration::from_millis(500);
/// How long nobody may answer: far longer than a coordinator needs to start again.
const PATIENCE: Duration = Duration::from_secs(300);
/// The program that builds images.
const APPTAINER: &str = "apptainer";

/// Brings an image into the library.
pub(super) fn run(client: &Client, screen: &mut Screen, wish: &Importing) -> anyhow::Result<Outcome> {
    let mut live = Live::new(wish.progress);
    let source = wish.source.as_str();
    if source.starts_with("oras://") {
        return of_registry(client, screen, &mut live, wish);
    }
    if let Some(archive) = source.strip_prefix("docker-archive:") {
        return of_archive(client, screen, &mut live, (Path::new(archive), wish.name.as_ref()));
    }
    if let Some((scheme, _)) = source.split_once("://") {
        let hint = "write oras://HOST/REPOSITORY:TAG, docker-archive:FILE, or name a file";
        return Err(Wrong::new(format!("images are not imported by {scheme}://"), hint).into());
    }
    let nothing = || {
        let hint = "name a file of this machine, oras://HOST/REPOSITORY:TAG or docker-archive:FILE";
        Wrong::new(format!("{source} is no file of this machine"), hint)
    };
    let path = if source.contains('/') { source.to_owned() } else { format!("./{source}") };
    if !Path::new(&path).exists() {
        return Err(nothing().into());
    }
    let Some(found) = file::find(&path, wish.name.as_ref())? else { return Err(nothing().into()) };
    let local = found.read(&mut live, screen)?;
    send(client, screen, &mut live, &local)
}

/// Sends a file and says what the library holds then.
fn send(client: &Client, screen: &mut Screen, live: &mut Live, local: &Local) -> anyhow::Result<Outcome> {
    let state = local.upload(client, live, screen)?;
    let value = Upload {
        state,
        id: None,
        offset: local.size,
        name: local.name.to_string(),
        size: local.size,
        digest: local.digest.to_string(),
    };
    let text = serde_json::to_string(&value)?;
    if !live.is_json() {
        screen.show(&Answer { value, text })?;
    }
    Ok(Outcome::Yes)
}

/// Has the coordinator fetch an image, and watches.
fn of_registry(
    client: &Client,
    screen: &mut Screen,
    live: &mut Live,
    wish: &Importing,
) -> anyhow::Result<Outcome> {
    let name = wish.name.as_ref().map(ToString::to_string);
    let request = ImportRequest { source: wish.source.clone(), name };
    let mut import = client.send::<ImportBody>(&Target::v1("imports"), &request, None)?;
    live.event(screen, "begun", "import", &import.text)?;
    let own = Target::v1("imports").segment(&import.value.id);
    let (begun, mut from) = (Instant::now(), None);
    while !import.value.state.has_ended() {
        let body = &import.value;
        if let (ImportState::Fetching, Some(total)) = (body.state, body.size) {
            let from = *from.get_or_insert(body.done);
            let milliseconds = begun.elapsed().as_millis().max(1);
            let rate = u128::from(body.done.saturating_sub(from)) * 1_000 / milliseconds;
            let rate = u64::try_from(rate).unwrap_or(u64::MAX);
            live.step(screen, Step::Importing, Bytes { done: body.done, total, rate })?;
        }
        pause(POLL);
        import = ask(client, &own)?;
    }
    live.clear();
    live.event(screen, "ended", "import", &import.text)?;
    if !live.is_json() {
        screen.show(&import)?;
    }
    Ok(outcome(&import.value))
}

/// Asks how the import stands; a coordinator that starts again is waited for, though it forgets.
fn ask(client: &Client, own: &Target) -> Result<Answer<ImportBody>, ClientError> {
    let begun = Instant::now();
    loop {
        match client.get(own) {
            Err(error) if error.may_pass() && begun.elapsed() < PATIENCE => pause(POLL),
            answer => return answer,
        }
    }
}

fn outcome(import: &ImportBody) -> Outcome {
    match (import.state, import.code.as_deref()) {
        (ImportState::Done, _) => Outcome::Yes,
        (_, Some("wrong_digest" | "not_an_image" | "not_a_sif")) => Outcome::Unverified,
        (_, Some("no_space")) => Outcome::NoSpace,
        (_, Some("registry_has_none" | "unknown_registry")) => Outcome::NotFound,
        (_, Some("registry_denied")) => Outcome::Unauthorised,
        _ => Outcome::No,
    }
}

/// Has apptainer make a SIF of an archive, and sends that.
fn of_archive(
    client: &Client,
    screen: &mut Screen,
    live: &mut Live,
    (archive, name): (&Path, Option<&ImageName>),
) -> anyhow::Result<Outcome> {
    if !archive.is_file() {
        let hint = "name the file that `docker save` or `podman save` wrote";
        return Err(Wrong::new(format!("{} is no file of this machine", archive.display()), hint).into());
    }
    let name = match name {
        Some(name) => name.clone(),
        None => named_after(archive)?,
    };
    let folder = Folder::make()?;
    let built = folder.0.join("built.sif");
    let event = json!({"event": "building", "from": archive.display().to_string()});
    live.remark(screen, &event, "apptainer builds a SIF of the archive")?;
    let status = Command::new(APPTAINER)
        .arg("build")
        .arg(&built)
        .arg(format!("docker-archive:{}", archive.display()))
        // What it says is nothing that a program waits for.
        .stdout(Stdio::from(io::stderr()))
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            let what = format!("apptainer made no image of {}: it ended with {status}", archive.display());
            let hint = "what it said is above; try `apptainer build` by itself";
            return Err(Wrong::new(what, hint).ending(Outcome::No).into());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = "apptainer is not installed on this machine, and docker-archive: needs it";
            let hint = "build the SIF where apptainer is, then import that file";
            return Err(Wrong::new(what, hint).ending(Outcome::No).into());
        }
        Err(error) => return Err(error).context("cannot start apptainer"),
    }
    let Some(found) = file::find(&built.display().to_string(), Some(&name))? else {
        let what = "apptainer said that it was done, and left no image";
        return Err(Wrong::new(what, "try `apptainer build` by itself").ending(Outcome::No).into());
    };
    let local = found.read(live, screen)?;
    send(client, screen, live, &local)
}

fn named_after(archive: &Path) -> Result<ImageName, Wrong> {
    let own = archive.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = ["tar.gz", "tgz", "tar"].iter().find_map(|end| own.strip_suffix(end)?.strip_suffix('.'));
    format!("{}.sif", stem.unwrap_or(own)).parse().map_err(|error| {
        let what = format!("{} makes no name for the library: {error}", archive.display());
        Wrong::new(what, "give it one with --name NAME.sif")
    })
}

/// A folder of our own, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    /// Makes it where TMPDIR says, else below /var/tmp: /tmp is memory on many nodes, and images are large.
    fn make() -> anyhow::Result<Self> {
        let above = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let path = above.join(format!("sifleet-import-{}-{}", std::process::id(), now.as_nanos()));
        // It fails if anything of the name is there.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| {
            format!("cannot make {}: set TMPDIR to a directory with space", path.display())
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nobody can be told, and it is in a place for what is left behind.
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_gives_its_name_to_the_image() {
        for (archive, name) in [
            ("a/openfoam.tar", "openfoam.sif"),
            ("x.tar.gz", "x.sif"),
            ("x.tgz", "x.sif"),
            ("image", "image.sif"),
        ] {
            assert_eq!(named_after(Path::new(archive)).unwrap().as_str(), name, "{archive}");
        }
    }
}
