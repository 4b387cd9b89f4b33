//! `sifleet export`: the library's images as a tree of files that any web server can serve.
//!
//! Reads what the coordinator's registry lists, has `export` decide what lies where, and does it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};

use anyhow::bail;
use ring::digest::{Context, SHA256, SHA512};
use serde_json::Value;
use sifleet_common::api::images::ImageDetail;

use crate::args::ExportArgs;
use crate::client::{Answer, Client, ClientError, DownloadError, Target};
use crate::export::disk::{Directory, DiskError, part_of};
use crate::export::{Blob, Image, Kind, LeftOut, Plan, Sif, Tree, description, is_repository, is_tag, read};
use crate::outcome::{Outcome, Wrong};
use crate::output::{Exported, Screen};

/// Names asked for at once: as many as registries usually give.
const PAGE: &str = "1000";
/// Most pages of a list: whatever the size of a page, this ends.
const MAX_PAGES: usize = 10_000;

/// What the registry has.
#[derive(Default)]
struct Found {
    images: Vec<Image>,
    left_out: Vec<LeftOut>,
    /// Artifacts that are no SIF.
    others: usize,
}

/// Reads, decides, writes and tells what was done.
pub(super) fn run(client: &Client, screen: &mut Screen, args: &ExportArgs) -> anyhow::Result<Outcome> {
    let base = match args.base_url.as_deref().or_else(|| client.address()) {
        Some(base) => base.to_owned(),
        None => bail!(Wrong::new(
            "nobody else reaches the images over this machine's socket",
            "say with --base-url where they are for those who read the tree"
        )),
    };
    let mut found = find(client)?;
    let to = args.to.display().to_string();
    let Some(directory) = Directory::open(&args.to)? else {
        let what = format!("another export is writing to {to}");
        bail!(Wrong::new(what, "wait until it has ended").ending(Outcome::No));
    };
    let earlier = directory.earlier()?;
    let lay_out =
        |images: &[Image]| Tree::new(images.to_vec(), &base, args.blobs, |name| directory.readme(name));
    let mut tree = lay_out(&found.images);
    let mut plan = Plan::new(&tree, &earlier, |path| directory.look(&tree, path));
    check(&tree, &plan, &earlier, args)?;
    let mut known = announce(&directory, &tree, &plan, &earlier)?;
    let unread = fetch_all(client, &directory, &tree, &plan)?;
    if !unread.is_empty() {
        plan.fetch.retain(|path| !unread.contains_key(path));
        let fetched = std::mem::take(&mut plan.fetch);
        found.give_up(unread)?;
        tree = lay_out(&found.images);
        plan = Plan::new(&tree, &known, |path| directory.look(&tree, path));
        plan.have_fetched(fetched);
        known = announce(&directory, &tree, &plan, &known)?;
    }
    plan.remove = act(&directory, &tree, &plan, &known)?;
    tree.left_out.extend(found.left_out);
    let outcome = if tree.left_out.is_empty() { Outcome::Yes } else { Outcome::Partial };
    let value = Exported::new(to, base, &tree, plan, found.others);
    let text = serde_json::to_string(&value)?;
    screen.show(&Answer { value, text })?;
    Ok(outcome)
}

/// Refuses what somebody would regret.
fn check(tree: &Tree, plan: &Plan, earlier: &BTreeSet<String>, args: &ExportArgs) -> anyhow::Result<()> {
    if let Some(path) = plan.in_the_way.first() {
        let more = plan.in_the_way.len().saturating_sub(1);
        let more = if more == 0 { String::new() } else { format!(" and {more} more files") };
        bail!(Wrong::new(
            format!("no export wrote {}{more}, and they would be replaced", args.to.join(path).display()),
            "choose another directory, or remove what lies there"
        ));
    }
    if tree.images == 0 && !earlier.is_empty() && !args.allow_empty {
        bail!(Wrong::new(
            format!("the library has no image, and {} has some", args.to.display()),
            "see whether the library is there (sifleet node ls); --allow-empty removes them all"
        ));
    }
    Ok(())
}

/// Remembers what is to come before it is there; returns all that is known then.
fn announce(
    directory: &Directory,
    tree: &Tree,
    plan: &Plan,
    earlier: &BTreeSet<String>,
) -> Result<BTreeSet<String>, DiskError> {
    let unfinished = plan.fetch.iter().chain(&plan.write).map(|path| part_of(path));
    let known: BTreeSet<String> =
        tree.paths().into_iter().chain(unfinished).chain(earlier.iter().cloned()).collect();
    if known != *earlier {
        directory.remember(&known)?;
    }
    Ok(known)
}

/// Fetches the images. One that cannot be read holds up no other: says why, by its path.
fn fetch_all(
    client: &Client,
    directory: &Directory,
    tree: &Tree,
    plan: &Plan,
) -> anyhow::Result<BTreeMap<String, anyhow::Error>> {
    let mut unread = BTreeMap::new();
    for path in &plan.fetch {
        let Some(blob) = tree.blobs.get(path) else { continue };
        match directory.fill(path, |file| fetch(client, blob, file)) {
            Ok(()) => {}
            Err(error) if is_of_the_image(&error) => drop(unread.insert(path.clone(), error)),
            Err(error) => return Err(error),
        }
    }
    Ok(unread)
}

/// Tells whether another image may go well where this one did not: the disk is in order, and somebody answers who may be asked.
fn is_of_the_image(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<DownloadError>() {
        Some(DownloadError::Refused(
            ClientError::Refused { status, .. } | ClientError::Stranger { status, .. },
        )) => !matches!(status, 401 | 403 | 429 | 502..=504),
        Some(DownloadError::Refused(_) | DownloadError::Written { .. }) => false,
        Some(DownloadError::Broken { .. }) => true,
        None => error.downcast_ref::<Wrong>().is_some(),
    }
}

/// Has the directory be the tree. What went is forgotten after; returns that.
fn act(
    directory: &Directory,
    tree: &Tree,
    plan: &Plan,
    known: &BTreeSet<String>,
) -> Result<Vec<String>, DiskError> {
    for path in &plan.write {
        if let Some(bytes) = tree.files.get(path) {
            directory.write(path, bytes)?;
        }
    }
    let mut removed = Vec::new();
    for path in &plan.remove {
        removed.extend(directory.remove(path)?.then(|| path.clone()));
    }
    let wanted = tree.paths();
    if *known != wanted {
        directory.remember(&wanted)?;
    }
    Ok(removed)
}

/// Lists all images, with what is said of them.
fn find(client: &Client) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for repository in list(client, "_catalog", "repositories")? {
        if !is_repository(&repository) {
            found.left_out(&repository, "", "its name could not be a path");
            continue;
        }
        for tag in list(client, &format!("{repository}/tags/list"), "tags")? {
            if !is_tag(&tag) {
                found.left_out(&repository, &tag, "its tag could not be a path");
                continue;
            }
            let text = match client.manifest(&Target::v2(&format!("{repository}/manifests/{tag}"))) {
                // It went since it was listed.
                Err(ClientError::Refused { status: 404, .. }) => continue,
                text => text?,
            };
            match read(&text) {
                Kind::Sif(sif) => {
                    let description = describe(client, &repository, &tag, &sif)?;
                    found.images.push(Image { repository: repository.clone(), tag, sif: *sif, description });
                }
                Kind::Other => found.others += 1,
                Kind::Unsafe => found.left_out(&repository, &tag, "its digest could not be a path"),
            }
        }
    }
    Ok(found)
}

impl Found {
    fn left_out(&mut self, repository: &str, tag: &str, reason: &str) {
        let [repository, tag, reason] = [repository, tag, reason].map(str::to_owned);
        self.left_out.push(LeftOut { repository, tag, reason });
    }

    /// Leaves out images whose bytes did not come; fails where none is left, for that is no tree but an outage.
    fn give_up(&mut self, unread: BTreeMap<String, anyhow::Error>) -> anyhow::Result<()> {
        let (gone, kept) = std::mem::take(&mut self.images)
            .into_iter()
            .partition::<Vec<_>, _>(|image| unread.contains_key(&image.place()));
        self.images = kept;
        for image in gone {
            let why = unread.get(&image.place()).map(|error| format!("{error:#}")).unwrap_or_default();
            self.left_out(&image.repository, &image.tag, &format!("it could not be fetched: {why}"));
        }
        match unread.into_values().next() {
            Some(error) if self.images.is_empty() => Err(error),
            Some(_) | None => Ok(()),
        }
    }
}

/// Reads a list of names to its end.
fn list(client: &Client, path: &str, field: &str) -> anyhow::Result<Vec<String>> {
    let (mut all, mut last) = (Vec::new(), None::<String>);
    for _ in 0..MAX_PAGES {
        let target = Target::v2(path).query("n", PAGE).query_if("last", last.as_deref());
        let answer = match client.get::<Value>(&target) {
            Err(ClientError::Refused { status: 404, .. }) if path != "_catalog" => return Ok(all),
            answer => answer?.value,
        };
        let names = answer.get(field).and_then(Value::as_array).into_iter().flatten();
        let page: Vec<String> = names.filter_map(Value::as_str).map(str::to_owned).collect();
        match page.last() {
            None => return Ok(all),
            end if end == last.as_ref() => return Ok(all),
            end => last = end.cloned(),
        }
        all.extend(page);
    }
    bail!("the list {path} has no end: its pages refer to each other")
}

/// Asks what is said of the file that a repository and a tag mean.
fn describe(client: &Client, repository: &str, tag: &str, sif: &Sif) -> Result<Option<String>, ClientError> {
    if let Some(text) = sif.description() {
        return Ok(Some(text.to_owned()));
    }
    let mut names = vec![format!("{repository}_{tag}.sif")];
    names.extend((tag == "latest").then(|| format!("{repository}.sif")));
    for name in names {
        match client.get::<ImageDetail>(&Target::v1("images").segment(&name)) {
            Ok(answer) => return Ok(description(&answer.value)),
            // Not under this name, or under several: there is nothing to tell.
            Err(ClientError::Refused { status: 400..500, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Fetches an image and sees that it is the one.
fn fetch(client: &Client, blob: &Blob, file: &mut File) -> anyhow::Result<()> {
    let target = Target::v2(&format!("{}/blobs", blob.repository)).segment(&blob.digest);
    let sha512 = blob.digest.starts_with("sha512:");
    let mut sink = Hashing { file, context: Context::new(if sha512 { &SHA512 } else { &SHA256 }) };
    let bytes = client.download(&target, blob.size.saturating_add(1), &mut sink)?;
    let hex: String = sink.context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if bytes != blob.size || !blob.digest.ends_with(&format!(":{hex}")) {
        let what = format!("what {} gave as {} is something else", blob.repository, blob.digest);
        bail!(
            Wrong::new(what, "export again; if that happens again, look at the library's disk")
                .ending(Outcome::Unverified)
        );
    }
    Ok(())
}

/// Writes and hashes in one go.
struct Hashing<'a> {
    file: &'a mut File,
    context: Context,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.context.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
