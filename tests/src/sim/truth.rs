//! What a simulated disk held at every moment, and what an answer may claim about it.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use sifleet_common::availability::Require;
use sifleet_common::digest::Digest;
use sifleet_common::image::{Arch, Format};
use sifleet_common::inventory::{Change, Content, Image, Replica, ReplicaKey, Root, RootId, RootState};
use sifleet_common::name::NodeName;
use sifleet_common::nodeset::NodeSet;
use sifleet_common::time::{Now, UnixMillis};
use sifleet_coordinator::view::{QueryError, View};

use super::PARTITION;

const IMAGES: [&str; 3] = ["a.sif", "b.sif", "c.sif"];
const ROOT: RootId = RootId(0);

/// A disk at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
struct Moment {
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
        let files = IMAGES.into_iter().filter(|_| rng.random()).map(|name| (name, 1)).collect();
        Self { history: vec![(0, Moment { readable: true, files })] }
    }

    fn latest(&self) -> &Moment {
        let newest = self.history.len() - 1;
        &self.history[newest].1
    }

    /// Changes something and returns what an agent sees of it.
    pub fn change(&mut self, rng: &mut StdRng, millis: u64) -> Vec<Change> {
        let mut moment = self.latest().clone();
        let name = IMAGES[rng.random_range(0..IMAGES.len())];
        match rng.random_range(0..10) {
            0 => moment.readable = !moment.readable,
            1..5 => {
                moment.files.remove(name);
            }
            _ => {
                moment.files.insert(name, rng.random_range(1..4));
            }
        }
        let changes = if moment.readable != self.latest().readable {
            everything(&moment)
        } else {
            match moment.files.get(name) {
                // Nobody sees the files of a root that cannot be read.
                _ if !moment.readable => Vec::new(),
                Some(bytes) => vec![Change::Put(key(name), replica(*bytes))],
                None => vec![Change::Remove(key(name))],
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
                Answer::Ready(digest) => {
                    moment.readable
                        && moment.files.get(image).is_some_and(|bytes| digest_of(*bytes) == *digest)
                }
                Answer::Missing => moment.readable && !moment.files.contains_key(image),
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
            let expected = match moment.files.get(image) {
                _ if !moment.readable => Answer::Unknown,
                Some(bytes) => Answer::Ready(digest_of(*bytes)),
                None => Answer::Missing,
            };
            if answered != expected {
                return Err(format!(
                    "{node} is answered {answered:?} for {image}, the disk says {expected:?}"
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

fn everything(moment: &Moment) -> Vec<Change> {
    let state = if moment.readable {
        RootState::Watched
    } else {
        RootState::Unknown { reason: "it cannot be read".into() }
    };
    let root = Change::Root(ROOT, Root { path: "/opt/apptainers".into(), library: false, state });
    let mut changes = vec![root];
    if moment.readable {
        changes.extend(IMAGES.into_iter().map(|name| match moment.files.get(name) {
            Some(bytes) => Change::Put(key(name), replica(*bytes)),
            None => Change::Remove(key(name)),
        }));
    }
    changes
}

fn key(name: &str) -> ReplicaKey {
    ReplicaKey { root: ROOT, name: crate::known(name) }
}

fn digest_of(bytes: u8) -> Digest {
    Digest::from_bytes([bytes; 32])
}

fn replica(bytes: u8) -> Replica {
    let image =
        Image { digest: digest_of(bytes), format: Format::Sif, arch: Arch::default(), mutable: false };
    Replica { size: 1, modified: UnixMillis(0), content: Content::Image(image) }
}
