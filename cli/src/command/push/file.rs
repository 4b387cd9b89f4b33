//! A file of this machine on its way into the library: read for its digest, sent from where the library has it.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use sifleet_common::api::library::{Upload, UploadRequest, UploadState};
use sifleet_common::digest::Digest;
use sifleet_common::image;
use sifleet_common::name::ImageName;

use crate::client::{Client, ClientError, Target};
use crate::live::{Live, Step};
use crate::outcome::{Outcome, Wrong};
use crate::output::{Bytes, Screen};
use crate::waiting::pause;

/// Bytes read at once.
const READ: usize = 1 << 20;
/// Bytes of one request; the coordinator takes eight times as many.
const PIECE: u64 = 8 << 20;
/// Attempts in a row that bring nothing forward. With the pauses between them they last a minute: longer than the
/// coordinator needs to start again, or to notice that the connection before is gone.
const FAILURES: u32 = 10;
/// Bytes a second at which the coordinator reads an upload back at least.
const VERIFIED: u64 = 20_000_000;

/// A file that was not read so far.
pub(in crate::command) struct Found {
    path: PathBuf,
    name: ImageName,
}

/// A file whose digest is known.
pub(in crate::command) struct Local {
    /// Its name in the library.
    pub(in crate::command) name: ImageName,
    /// Its digest.
    pub(in crate::command) digest: Digest,
    /// Its length in bytes.
    pub(in crate::command) size: u64,
    path: PathBuf,
    file: File,
}

/// Tells whether the image is a file of this machine: it contains a slash or ends in `.sif`, and is there.
pub(in crate::command) fn find(
    image: &str,
    library_name: Option<&ImageName>,
) -> Result<Option<Found>, Wrong> {
    let path = Path::new(image);
    let is_path = image.contains('/');
    if (is_path || image.ends_with(".sif")) && path.is_file() {
        let name = match library_name {
            Some(name) => name.clone(),
            None => named_after(path)?,
        };
        return Ok(Some(Found { path: path.to_owned(), name }));
    }
    let wrong = |what: String, hint: &str| Err(Wrong::new(what, hint));
    let is_meant = ["/", "./", "../"].iter().any(|start| image.starts_with(start));
    if (is_meant || image.ends_with('/') || library_name.is_some()) && path.is_dir() {
        return wrong(format!("{image} is a directory"), "name a file in it: one image is pushed at once");
    }
    if is_meant {
        let hint = "name a file of this machine, or an image as `sifleet image ls` does";
        return wrong(format!("{} is no file of this machine", image), hint);
    }
    if library_name.is_some() {
        let hint =
            "--as names a file of this machine in the library; leave it out for an image that nodes hold";
        return wrong(format!("{} is no file of this machine", image), hint);
    }
    Ok(None)
}

fn named_after(path: &Path) -> Result<ImageName, Wrong> {
    let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    own.parse().map_err(|error| {
        let what = format!("{} cannot keep its name in the library: {error}", path.display());
        Wrong::new(what, "give it another one with --as NAME.sif")
    })
}

impl Found {
    /// Reads the file for its digest.
    pub(in crate::command) fn read(self, live: &mut Live, screen: &mut Screen) -> anyhow::Result<Local> {
        let Self { path, name } = self;
        let mut file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if let Err(error) = image::runnable(&file) {
            let hint =
                "push a SIF, a squashfs or an ext3 file system; build the image again if it is damaged";
            let what = format!("{} is no image that can be run: {error}", path.display());
            return Err(Wrong::new(what, hint).ending(Outcome::Unverified).into());
        }
        let total = file.metadata()?.len();
        let (mut hasher, mut piece, mut pace) = (blake3::Hasher::new(), vec![0; READ], Pace::new(0, total));
        loop {
            let read = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
            };
            hasher.update(piece.get(..read).unwrap_or_default());
            pace.done = pace.done.saturating_add(u64::try_from(read).unwrap_or(0));
            live.step(screen, Step::Hashing, pace.bytes())?;
        }
        let (digest, size) = (Digest::from(hasher.finalize()), pace.done);
        live.clear();
        Ok(Local { name, digest, size, path, file })
    }
}

impl Local {
    /// Sees to it that the library holds the file, going on wherever an earlier attempt ended.
    pub(in crate::command) fn upload(
        &self,
        client: &Client,
        live: &mut Live,
        screen: &mut Screen,
    ) -> anyhow::Result<UploadState> {
        let mut luck = Luck::default();
        loop {
            let error = match self.attempt(client, live, screen, &mut luck) {
                Ok(state) => {
                    let said = match state {
                        UploadState::Present => "holds it already",
                        UploadState::Deduplicated => "had it under another name",
                        UploadState::Open | UploadState::Published => "took it in",
                    };
                    let event = json!({"event": "published", "name": self.name.as_str(), "state": state});
                    let words = format!("{}: the library {said}, as {}", self.path.display(), self.name);
                    live.remark(screen, &event, &words)?;
                    return Ok(state);
                }
                Err(error) => error,
            };
            luck.failures += 1;
            let again = error.downcast_ref::<ClientError>().is_some_and(is_worth_another_try);
            if !again || luck.failures >= FAILURES {
                live.clear();
                return Err(error);
            }
            pause(Duration::from_millis(500 << luck.failures.min(4)));
        }
    }

    fn attempt(
        &self,
        client: &Client,
        live: &mut Live,
        screen: &mut Screen,
        luck: &mut Luck,
    ) -> anyhow::Result<UploadState> {
        let uploads = Target::v1("library").segment("uploads");
        let wish =
            UploadRequest { name: self.name.to_string(), size: self.size, digest: self.digest.to_string() };
        let patience = Duration::from_secs(60 + self.size / VERIFIED);
        let mut upload = client.send_patiently::<Upload>(&uploads, &wish, patience)?.value;
        let Some(id) = upload.id.clone() else { return Ok(upload.state) };
        let own = uploads.segment(&id);
        let mut pace = Pace::new(upload.offset, self.size);
        while upload.offset < self.size {
            if upload.offset > luck.furthest {
                *luck = Luck { furthest: upload.offset, failures: 0 };
            }
            let len = PIECE.min(self.size - upload.offset);
            let mut file = &self.file;
            file.seek(SeekFrom::Start(upload.offset))?;
            pace.done = upload.offset;
            let mut told =
                Told { file: file.take(len), live: &mut *live, screen: &mut *screen, pace: &mut pace };
            upload = client.append::<Upload>(&own, upload.offset, len, &mut told)?.value;
        }
        let event = json!({"event": "verifying", "name": self.name.as_str()});
        live.remark(screen, &event, "the library verifies what it got")?;
        Ok(client.post_patiently::<Upload>(&own.segment("finish"), patience)?.value.state)
    }
}

/// How attempts went so far.
#[derive(Default)]
struct Luck {
    /// The library had so many bytes at most.
    furthest: u64,
    /// Attempts since then.
    failures: u32,
}

/// Tells whether the upload may go on: nobody answered, or the coordinator knows better where it stands.
fn is_worth_another_try(error: &ClientError) -> bool {
    let known = [
        "wrong_offset",
        "upload_busy",
        "unknown_upload",
        "slow_body",
        "too_many_uploads",
        "bad_query",
        "timed_out",
    ];
    error.may_pass() || error.code().is_some_and(|code| known.contains(&code))
}

/// Counts bytes and knows how fast they go.
struct Pace {
    done: u64,
    total: u64,
    from: u64,
    begun: Instant,
}

impl Pace {
    fn new(from: u64, total: u64) -> Self {
        Self { done: from, total, from, begun: Instant::now() }
    }

    fn bytes(&self) -> Bytes {
        let milliseconds = self.begun.elapsed().as_millis().max(1);
        let rate = u128::from(self.done.saturating_sub(self.from)) * 1_000 / milliseconds;
        Bytes { done: self.done, total: self.total, rate: u64::try_from(rate).unwrap_or(u64::MAX) }
    }
}

/// Tells of the bytes that are read out of it.
struct Told<'a> {
    file: io::Take<&'a File>,
    live: &'a mut Live,
    screen: &'a mut Screen,
    pace: &'a mut Pace,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.pace.done = self.pace.done.saturating_add(u64::try_from(read).unwrap_or(0));
        self.live.step(self.screen, Step::Uploading, self.pace.bytes())?;
        Ok(read)
    }
}
