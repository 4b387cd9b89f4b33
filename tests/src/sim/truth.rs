//! What a simulated disk held at every moment, and what an answer may claim about it.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use sifleet_common::availability::Require;
use sifleet_common::digest::Digest;
use sifleet_common::image::{Arch, Format};
use sifleet_common::inventory::{
    Change, Content, Image, Pending, Replica, ReplicaKey, Root, RootId, RootKind, RootState,
};
use sifleet_common::name::NodeName;
use sifleet_common::nodeset::NodeSet;
use sifleet_common::time::{Now, UnixMillis};
use sifleet_coordinator::view::{QueryError, View};

use super::PARTITION;

const IMAGES: [&str; 3] = ["a.sif", "b.sif", "c.sif"];
/// Paths of the roots of every disk.
const ROOTS: [&str; 2] = ["/opt/apptainers", "/scratch/apptainer"];
/// Bytes of a file that is being written.
const PENDING: u8 = 0;

/// A disk at one moment: its roots.
type Moment = [Below; ROOTS.len()];

/// What is below one root.
#[derive(Clone, Debug, PartialEq)]
struct Below {
    /// Whether the root can be read.
    readable: bool,
    /// Which bytes lie under which name.
    files: BTreeMap<&'static str, u8>,
}

/// A disk through time.
#[derive(Debug)]
pub struct Truth {
    /// Since when, in milliseconds, the disk has been like this.
    history: Vec<(u64, Moment)>,
}

impl Truth {
    /// Makes a disk with some files.
    pub fn new(rng: &mut StdRng) -> Self {
        let mut below = || {
            let files = IMAGES.into_iter().filter(|_| rng.random()).map(|name| (name, 1)).collect();
            Below { readable: true, files }
        };
        Self { history: vec![(0, [below(), below()])] }
    }

    fn latest(&self) -> &Moment {
        let newest = self.history.len() - 1;
        &self.history[newest].1
    }

    /// Changes something and returns what an agent sees of it.
    pub fn change(&mut self, rng: &mut StdRng, millis: u64) -> Vec<Change> {
        let mut moment = self.latest().clone();
        let (name, at) = (IMAGES[rng.random_range(0..IMAGES.len())], rng.random_range(0..ROOTS.len()));
        let below = &mut moment[at];
        match rng.random_range(0..10) {
            0 => below.readable = !below.readable,
            1..5 => {
                below.files.remove(name);
            }
            _ => {
                below.files.insert(name, rng.random_range(PENDING..4));
            }
        }
        let changes = if below.readable != self.latest()[at].readable {
            all_below(at, below)
        } else {
            match below.files.get(name) {
                // Nobody sees the files of a root that cannot be read.
                _ if !below.readable => Vec::new(),
                Some(bytes) => vec![Change::Put(key(at, name), replica(*bytes))],
                None => vec![Change::Remove(key(at, name))],
            }
        };
        self.history.push((millis, moment));
        changes
    }

    /// Returns what an agent finds on its first scan.
    #[must_use]
    pub fn everything(&self) -> Vec<Change> {
        everything(self.latest())
    }

    /// Checks that no answer contradicts every moment of the last lease.
    ///
    /// # Errors
    /// The first answer that does.
    pub fn allows(
        &self,
        answers: &Answers,
        node: &NodeName,
        now: Now,
        lease: Duration,
    ) -> Result<(), String> {
        for (image, answer) in answers.of(node) {
            let held = self.during(now, lease).any(|moment| match &answer {
                Answer::Ready(digest) => whole(moment, image).any(|bytes| digest_of(bytes) == *digest),
                Answer::Missing => {
                    moment.iter().all(|below| below.readable && !below.files.contains_key(image))
                }
                Answer::Unknown => true,
            });
            if !held {
                let disk: Vec<_> = self.history.iter().rev().take(6).collect();
                return Err(format!(
                    "{node} is answered {answer:?} for {image} at {:?}, which was not so within {lease:?}; \
                     the disk: {disk:?}",
                    now.mono
                ));
            }
        }
        Ok(())
    }

    /// Checks that the answers are what the disk holds.
    ///
    /// # Errors
    /// The first answer that is not.
    pub fn exactly(&self, answers: &Answers, node: &NodeName) -> Result<(), String> {
        let moment = self.latest();
        for (image, answered) in answers.of(node) {
            let open = moment.iter().any(|below| !below.readable || below.files.get(image) == Some(&PENDING));
            let right = match &answered {
                Answer::Ready(digest) => whole(moment, image).any(|bytes| digest_of(bytes) == *digest),
                Answer::Unknown => open && whole(moment, image).next().is_none(),
                Answer::Missing => !open && moment.iter().all(|below| !below.files.contains_key(image)),
            };
            if !right {
                return Err(format!(
                    "{node} is answered {answered:?} for {image}, the disk holds {moment:?}"
                ));
            }
        }
        Ok(())
    }

    fn during(&self, now: Now, lease: Duration) -> impl Iterator<Item = &Moment> {
        let from = u64::try_from(now.mono.0.saturating_sub(lease).as_millis()).unwrap_or(u64::MAX);
        let ends = self.history.iter().skip(1).map(|(since, _)| *since).chain([u64::MAX]);
        self.history.iter().zip(ends).filter(move |(_, end)| *end >= from).map(|((_, moment), _)| moment)
    }
}

/// What is answered for one image on one node.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Ready(Digest),
    Missing,
    Unknown,
}

/// What a view answers for every image on every node.
#[derive(Debug, Default)]
pub struct Answers(BTreeMap<(&'static str, NodeName), Answer>);

impl Answers {
    /// Asks a view everything.
    ///
    /// # Errors
    /// An answer that contradicts itself.
    pub fn of_view(view: &View, now: Now) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for image in IMAGES {
            let body = match view.availability(image, PARTITION, Require::All, now) {
                Ok(body) => body,
                // All nodes are current and none ever reported it: nothing is claimed that could be false.
                Err(QueryError::UnknownImage { .. } | QueryError::UnknownPartition { .. }) => continue,
                Err(error) => return Err(error.to_string()),
            };
            let digests: Vec<(NodeSet, Digest)> = body
                .digests
                .iter()
                .filter_map(|group| Some((set(&group.nodes), group.digest.parse().ok()?)))
                .collect();
            let mut give = |nodes: &str, answer: &dyn Fn(&str) -> Option<Answer>| {
                for node in set(nodes).into_names() {
                    let answer = answer(node.as_str()).ok_or("ready without a digest")?;
                    if all.insert((image, node.clone()), answer).is_some() {
                        return Err(format!("{node} has two answers for {image}: {:?}", body.nodes));
                    }
                }
                Ok(())
            };
            give(&body.nodes.ready, &|node| {
                digests
                    .iter()
                    .find(|(nodes, _)| nodes.contains(node))
                    .map(|(_, digest)| Answer::Ready(*digest))
            })?;
            give(&body.nodes.missing, &|_| Some(Answer::Missing))?;
            give(&body.nodes.unknown, &|_| Some(Answer::Unknown))?;
        }
        Ok(Self(all))
    }

    fn of<'a>(&'a self, node: &NodeName) -> impl Iterator<Item = (&'static str, Answer)> + 'a {
        let node = node.clone();
        IMAGES
            .into_iter()
            .filter_map(move |image| self.0.get(&(image, node.clone())).map(|answer| (image, answer.clone())))
    }
}

fn set(folded: &str) -> NodeSet {
    folded.parse().unwrap_or_default()
}

/// Lists the bytes of the whole images of a name, below all roots that can be read.
fn whole<'a>(moment: &'a Moment, image: &'a str) -> impl Iterator<Item = u8> + 'a {
    let readable = moment.iter().filter(|below| below.readable);
    readable.filter_map(move |below| below.files.get(image).copied()).filter(|bytes| *bytes != PENDING)
}

fn everything(moment: &Moment) -> Vec<Change> {
    moment.iter().enumerate().flat_map(|(at, below)| all_below(at, below)).collect()
}

fn all_below(at: usize, below: &Below) -> Vec<Change> {
    let state = if below.readable {
        RootState::Watched
    } else {
        RootState::Unknown { reason: "it cannot be read".into() }
    };
    let mut changes =
        vec![Change::Root(root(at), Root { path: ROOTS[at].into(), kind: RootKind::Plain, state })];
    if below.readable {
        changes.extend(IMAGES.into_iter().map(|name| match below.files.get(name) {
            Some(bytes) => Change::Put(key(at, name), replica(*bytes)),
            None => Change::Remove(key(at, name)),
        }));
    }
    changes
}

fn root(at: usize) -> RootId {
    RootId(u8::try_from(at).unwrap_or(u8::MAX))
}

fn key(at: usize, name: &str) -> ReplicaKey {
    ReplicaKey { root: root(at), name: crate::known(name) }
}

fn digest_of(bytes: u8) -> Digest {
    Digest::from_bytes([bytes; 32])
}

fn replica(bytes: u8) -> Replica {
    if bytes == PENDING {
        let content = Content::Pending(Pending::BeingWritten);
        return Replica { size: 1, modified: UnixMillis(0), content };
    }
    let image =
        Image { digest: digest_of(bytes), format: Format::Sif, arch: Arch::default(), mutable: false };
    Replica { size: 1, modified: UnixMillis(0), content: Content::Image(image) }
}
