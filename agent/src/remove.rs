//! Takes an image off this node, if nobody uses it.
//!
//! Owns the last look: the file is a regular one below the root, reached through no link, still the image that is meant,
//! and nobody on this node has it open, mapped, mounted or running. In every doubt nothing is touched. One removal after
//! the other, each once however often it is ordered ([`known`]); the inventory notices like any other change. A sidecar
//! `NAME.sif.json` is the admin's and stays.
//! Outside facts: fcntl(2) "Leases": a write lease is granted only while no other open file description refers to the
//! inode; whoever opens it meanwhile waits. unlink(2): a name is gone for good once its directory was synced.

mod known;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, fstat, fsync, unlinkat};
use rustix::io::Errno;
use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::Content;
use sifleet_common::removal::RemovalCode;
use sifleet_common::telemetry::{Chain, catalog};
use sifleet_common::time::Monotonic;
use sifleet_common::wire::assignment::{Removal, RemovalOutcome, Removed, Report};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::describe::{Candidate, sidecar_name};
use crate::fetch::run::Resources;
use crate::fetch::status::cut;
use crate::hash::{Hashing, read};
use crate::scan::{Facts, Kind, Parent, Print, Tree, is_remote};
use crate::sys::{self, Users};
use crate::transfer::say;
use known::{Heard, Known};

/// Removals that wait; the coordinator says one again that found no room.
const QUEUE: usize = 64;
/// How often it is tried while this agent itself reads the file: it stops giving it, and a turn on its way ends.
const TRIES: u32 = 20;
/// Between two tries.
const BETWEEN: Duration = Duration::from_millis(500);

/// Says why an image stays; nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum Kept {
    /// It is gone, or another image by now.
    #[error("{path} {what}")]
    Absent {
        /// The file.
        path: String,
        /// What is there instead.
        what: &'static str,
    },
    /// Somebody uses it.
    #[error("{path} is open, mapped, mounted or running")]
    Busy {
        /// The file.
        path: String,
    },
    /// This agent itself reads it.
    #[error(
        "{path} is being read by the agent itself, which gives it to other nodes or takes chunks from it"
    )]
    Ours {
        /// The file.
        path: String,
    },
    /// Nobody can say whether somebody uses it.
    #[error("cannot tell whether anybody uses {path}: {why}")]
    CannotTell {
        /// The file.
        path: String,
        /// Why not.
        why: &'static str,
        /// What the system said, if it was asked.
        #[source]
        source: Option<io::Error>,
    },
    /// The root is not one that images are removed from.
    #[error("root {root} is not one of this node's, or is its library")]
    NoRoot {
        /// Its number.
        root: u8,
    },
    /// It took so long that the order may not count any longer.
    #[error(
        "{path} could not be removed in time: it waited for others, or reading it took too long; ask again"
    )]
    Late {
        /// The file.
        path: String,
    },
    /// The system refused a step.
    #[error("cannot {step} {path}")]
    Disk {
        /// What was being done.
        step: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Kept {
    fn outcome(&self) -> RemovalOutcome {
        let code = match self {
            Self::Absent { .. } => return RemovalOutcome::Absent,
            Self::Busy { .. } | Self::Ours { .. } => return RemovalOutcome::Busy,
            Self::CannotTell { .. } => RemovalCode::CannotTell,
            Self::NoRoot { .. } => RemovalCode::NoRoot,
            Self::Late { .. } => RemovalCode::Silent,
            Self::Disk { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::ROFS) => RemovalCode::ReadOnly,
                Some(Errno::ACCESS | Errno::PERM) => RemovalCode::Permission,
                _ => RemovalCode::Io,
            },
        };
        RemovalOutcome::Failed(code)
    }
}

/// Takes removals, for the one task that does them.
#[derive(Clone, Debug)]
pub struct Removals {
    queue: mpsc::Sender<(Removal, Monotonic)>,
    known: Arc<Mutex<Known>>,
    reports: mpsc::Sender<Report>,
    clock: Clock,
}

impl Removals {
    /// Makes the queue, and what does the removals that are put into it.
    pub fn new(
        resources: Arc<Resources>,
        reports: mpsc::Sender<Report>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let removals =
            Self { queue, known: Arc::default(), reports: reports.clone(), clock: resources.clock };
        let known = Arc::clone(&removals.known);
        let work = async move {
            while let Some((removal, until)) = waiting.recv().await {
                let removed = one(&resources, removal, until).await;
                lock(&known).answer(&removed);
                say(&reports, Report::Removed(removed));
            }
        };
        (removals, work)
    }

    /// Has an image removed, unless an image is being fetched to its place; it is reported how that ended.
    pub fn put(&self, removal: Removal, in_the_way: bool) {
        let mut known = lock(&self.known);
        let until = match known.hear(&removal, self.clock.now().mono) {
            Heard::Begin(until) => until,
            Heard::Nothing => return,
            Heard::Answered(removed) => return say(&self.reports, Report::Removed(removed)),
        };
        let id = removal.id;
        if in_the_way {
            let detail = "an image is being fetched to this very place".to_owned();
            let removed = Removed { id, outcome: RemovalOutcome::Busy, detail };
            known.answer(&removed);
            say(&self.reports, Report::Removed(removed));
        } else if let Err(error) = self.queue.try_send((removal, until)) {
            known.leave(id);
            warn!(error = %error, "a removal found no room; the coordinator asks again");
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tries for as long as the agent itself is in the way.
async fn one(resources: &Arc<Resources>, removal: Removal, until: Monotonic) -> Removed {
    let mut tries = 1;
    let mut ended = attempt(resources, &removal, until).await;
    while matches!(ended, Err(Kept::Ours { .. })) && tries < TRIES {
        tokio::time::sleep(BETWEEN).await;
        ended = attempt(resources, &removal, until).await;
        tries += 1;
    }
    let Removal { id, name, image, .. } = removal;
    match ended {
        Ok(detail) => {
            info!(message_id = catalog::IMAGE_REMOVED, image = %name, digest = %image, "an image was removed");
            Removed { id, outcome: RemovalOutcome::Gone, detail: cut(&detail) }
        }
        Err(kept) => {
            let detail = Chain(&kept).to_string();
            info!(image = %name, digest = %image, error = detail, "an image was not removed");
            Removed { id, outcome: kept.outcome(), detail: cut(&detail) }
        }
    }
}

async fn attempt(resources: &Resources, removal: &Removal, until: Monotonic) -> Result<String, Kept> {
    let Removal { root, name, image, .. } = removal;
    let path = resources.roots.get(root).ok_or(Kept::NoRoot { root: root.0 })?;
    let path = path.join(name.as_str()).display().to_string();
    let found = resources.finder.at(*root, name.clone()).await.filter(|(digest, _)| digest == image);
    let Some((_, candidate)) = found else {
        return Err(Kept::Absent { path, what: "is not that image, as far as the inventory knows" });
    };
    let clock = resources.clock;
    let in_time = move || clock.now().mono < until;
    if !in_time() {
        return Err(Kept::Late { path });
    }
    // Its own handles must not count as somebody's.
    resources.serving.close(*image).await;
    let (hashing, image) = (Arc::clone(&resources.hashing), *image);
    let work = tokio::task::spawn_blocking(move || remove(&candidate, image, &hashing, in_time));
    work.await.unwrap_or_else(|lost| Err(Kept::Disk { step: "look at", path, source: lost.into() }))
}

/// Removes a file if it still is the image that it was, nobody uses it and the order still counts; returns what there is
/// to say about it. Blocks for the disk, and seldom reads the whole file.
///
/// # Errors
/// [`Kept`]; nothing was touched.
pub fn remove(
    candidate: &Candidate,
    image: Digest,
    hashing: &Hashing,
    in_time: impl Fn() -> bool,
) -> Result<String, Kept> {
    let path = candidate.root.join(candidate.name.as_str()).display().to_string();
    let meant = Meant { path, candidate, image };
    let tree = Tree::open(&candidate.root)
        .map_err(|error| meant.disk("open the root of", io::Error::other(error)))?;
    let (parent, last) = meant.parent(&tree)?;
    let file = meant.open(&tree)?;
    let print = meant.check(&file, hashing)?;
    if is_remote(&file) {
        return Err(meant.cannot_tell("it is on a network file system, where other nodes may use it", None));
    }
    let lease = match sys::users(&file) {
        Users::None(lease) => lease,
        Users::Some if reads_it(&file, &print) => return Err(Kept::Ours { path: meant.path }),
        Users::Some => return Err(Kept::Busy { path: meant.path }),
        Users::CannotTell(error) => {
            let why = "the kernel gives no lease on it: the agent lacks CAP_LEASE, or the file system has no leases";
            return Err(meant.cannot_tell(why, Some(error)));
        }
    };
    // From here on whoever opens it waits, and whoever wrote to it before has changed what stat says.
    let links = meant.is_unchanged(&file, &parent, last, &print)?;
    if !in_time() {
        return Err(Kept::Late { path: meant.path });
    }
    unlinkat(&parent, last, AtFlags::empty()).map_err(|errno| meant.disk("remove", errno.into()))?;
    drop(lease);
    Ok(said(&parent, last, links))
}

/// The image that is to go, and where it should be.
struct Meant<'a> {
    path: String,
    candidate: &'a Candidate,
    image: Digest,
}

impl Meant<'_> {
    fn name(&self) -> &str {
        self.candidate.name.as_str()
    }

    fn parent(&self, tree: &Tree) -> Result<(OwnedFd, &str), Kept> {
        let last = self.name().rsplit('/').next().unwrap_or_default();
        match tree.parent(self.name().as_bytes()) {
            Ok(Parent::Open(parent, _)) => Ok((parent, last)),
            Ok(Parent::Sandbox(_) | Parent::Ignored | Parent::Gone) => Err(self.absent("is not there")),
            Err(error) => Err(self.disk("open the directory of", error)),
        }
    }

    fn open(&self, tree: &Tree) -> Result<File, Kept> {
        tree.open_file(self.name().as_bytes()).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR) => self.absent("is not there"),
            Some(Errno::LOOP | Errno::XDEV) => self.absent("is behind a symbolic link"),
            // A lease of somebody else's, which an open without waiting does not break.
            Some(Errno::AGAIN) => Kept::Busy { path: self.path.clone() },
            _ => self.disk("open", error),
        })
    }

    /// Holds the file against what is known of the image. What is not remembered is read once more.
    fn check(&self, file: &File, hashing: &Hashing) -> Result<Print, Kept> {
        let stat = fstat(file).map_err(|errno| self.disk("look at", errno.into()))?;
        let Facts { kind, print, .. } = Facts::from(&stat);
        if kind != Kind::File {
            return Err(self.absent("is no regular file"));
        }
        if print.size != self.candidate.size || print.modified() != self.candidate.modified {
            return Err(self.absent("has changed since it was hashed"));
        }
        let digest = match hashing.recall(&print, true) {
            Some(Content::Image(image)) => Some(image.digest),
            Some(Content::Pending(_) | Content::Unusable(_)) => None,
            None => {
                read::digest(file, print.size, |_bytes| true).map_err(|error| self.disk("read", error))?
            }
        };
        if digest == Some(self.image) { Ok(print) } else { Err(self.absent("is another image by now")) }
    }

    /// Looks whether it is the same as before, and under its name; returns how many names it has.
    fn is_unchanged(&self, file: &File, parent: &OwnedFd, last: &str, print: &Print) -> Result<u64, Kept> {
        let stat = fstat(file).map_err(|errno| self.disk("look at", errno.into()))?;
        let there = Tree::look(parent, last.as_bytes()).map_err(|error| self.disk("look at", error))?;
        let same = |found: &Print| found == print;
        if same(&Facts::from(&stat).print) && there.is_some_and(|there| same(&there.print)) {
            // Its width differs between processors.
            return Ok(u64::try_from(i128::from(stat.st_nlink)).unwrap_or(u64::MAX));
        }
        Err(self.absent("changed a moment ago"))
    }

    fn absent(&self, what: &'static str) -> Kept {
        Kept::Absent { path: self.path.clone(), what }
    }

    fn cannot_tell(&self, why: &'static str, source: Option<io::Error>) -> Kept {
        Kept::CannotTell { path: self.path.clone(), why, source }
    }

    fn disk(&self, step: &'static str, source: io::Error) -> Kept {
        Kept::Disk { step, path: self.path.clone(), source }
    }
}

/// Makes a removal durable and says what else is to be known of it.
fn said(parent: &OwnedFd, last: &str, links: u64) -> String {
    let mut said = Vec::new();
    if let Err(errno) = fsync(parent) {
        said.push(format!(
            "the directory cannot be synced ({errno}), so the file may be back after a loss of power"
        ));
    }
    if links > 1 {
        said.push(format!("the file has {} other names, so no space is freed", links - 1));
    }
    let sidecar = sidecar_name(last);
    if matches!(Tree::look(parent, sidecar.as_bytes()), Ok(Some(_))) {
        said.push(format!("{sidecar} stays: it is the admin's"));
    }
    said.join("; ")
}

/// Tells whether this process has a file open more than once, counting only what it has opened itself.
fn reads_it(file: &File, print: &Print) -> bool {
    let own = file.as_raw_fd();
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return false };
    let number = |name: &std::ffi::OsStr| name.to_str()?.parse::<i32>().ok();
    let others = open.flatten().filter(|entry| number(&entry.file_name()).is_some_and(|fd| fd != own));
    let is_it = |entry: std::fs::DirEntry| {
        // Follows the link to what is open, whatever its name is by now.
        let found = std::fs::metadata(entry.path());
        found.is_ok_and(|found| (found.dev(), found.ino()) == (print.dev, print.ino))
    };
    others.into_iter().any(is_it)
}

#[cfg(test)]
mod tests;
