//! Which nodes belong to which partition, asked of a file and of Slurm.
//!
//! Owns when a source is asked, and what of its answer is believed. A source that does not answer is reported with
//! the reason; that its last list is kept, and called stale, is the state's business. Partitions that agents
//! declare for themselves come with their sessions.

pub mod file;
pub mod slurm;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use sifleet_common::name::{NameError, NodeName, PartitionName};
use sifleet_common::nodeset::{NodeSet, NodeSetError};
use sifleet_common::task::Tasks;
use sifleet_common::time::Monotonic;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::state::Event;
use crate::state::run::Handle;

/// The nodes of each partition; a partition may have none.
pub type Members = BTreeMap<PartitionName, BTreeSet<NodeName>>;

/// Most memberships in one list: 10,000 nodes in 100 partitions each.
pub const MAX_MEMBERSHIPS: usize = 1_000_000;
/// Most partitions in one list; clusters have tens.
pub const MAX_PARTITIONS: usize = 10_000;
/// Longest answer read, in bytes, of a file or of `sinfo`: a million names of 16 bytes.
pub const MAX_ANSWER: u64 = 16 * 1024 * 1024;
/// How often a source that answers the same is reported all the same, so that its age is known.
const CONFIRM: Duration = Duration::from_secs(60);
/// Longest reason that is passed on, in bytes: an error with its causes and the end of what `sinfo` said.
const MAX_REASON: usize = 1_024;

/// Says why an entry of a list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not a name of a partition.
    #[error("not the name of a partition")]
    Partition {
        /// What is wrong with it.
        source: NameError,
    },
    /// Not a node set.
    #[error("the nodes of partition {partition} cannot be read")]
    Nodes {
        /// Which partition.
        partition: PartitionName,
        /// What is wrong with it.
        source: NodeSetError,
    },
    /// More than anybody has.
    #[error("at most {MAX_PARTITIONS} partitions with {MAX_MEMBERSHIPS} nodes in all are read")]
    TooMany,
}

/// What a source said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The nodes of each partition.
    pub members: Members,
    /// The nodes on which jobs run, if the source knows of jobs.
    pub busy: Option<BTreeSet<NodeName>>,
}

/// Collects a list, entry by entry, within the limits.
#[derive(Debug, Default)]
struct Draft {
    members: Members,
    /// Nodes that were named as busy.
    busy: BTreeSet<NodeName>,
    memberships: usize,
}

impl Draft {
    /// Adds nodes to a partition; none at all make it known as empty.
    fn add(&mut self, partition: &str, nodes: &str, busy: bool) -> Result<(), EntryError> {
        let partition: PartitionName =
            partition.parse().map_err(|source| EntryError::Partition { source })?;
        let nodes = match nodes {
            "" => NodeSet::default(),
            written => match written.parse() {
                Ok(nodes) => nodes,
                Err(source) => return Err(EntryError::Nodes { partition, source }),
            },
        };
        self.memberships += nodes.len();
        if busy {
            self.busy.extend(nodes.names().iter().cloned());
        }
        self.members.entry(partition).or_default().extend(nodes.into_names());
        let fits = self.memberships <= MAX_MEMBERSHIPS && self.members.len() <= MAX_PARTITIONS;
        if fits { Ok(()) } else { Err(EntryError::TooMany) }
    }
}

/// Something that knows partitions.
#[derive(Debug)]
pub enum Source {
    /// A file that an admin writes.
    File(file::PartitionFile),
    /// Slurm's controller.
    Slurm(slurm::Sinfo),
}

impl Source {
    /// Returns the name under which its lists are kept.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Slurm(_) => "slurm",
        }
    }

    /// Asks; nothing if what was said last cannot have changed.
    async fn ask(&mut self) -> Option<Result<Heard, String>> {
        match self {
            Self::File(file) => {
                let heard = |members| Heard { members, busy: None };
                file.read().await.map(|read| read.map(heard).map_err(|error| reason(&error)))
            }
            Self::Slurm(sinfo) => Some(sinfo.ask().await.map_err(|error| reason(&error))),
        }
    }

    /// How long to wait before asking again.
    const fn pause(&self) -> Duration {
        match self {
            Self::File(_) => file::POLL,
            Self::Slurm(sinfo) => sinfo.interval,
        }
    }
}

/// Starts asking the sources, at once and then on their timers. A change of `reload` makes all be asked at once.
pub fn spawn(sources: Vec<Source>, handle: &Handle, reload: &watch::Receiver<()>, tasks: &Tasks) {
    for source in sources {
        let (handle, reload, stop) = (handle.clone(), reload.clone(), tasks.token());
        tasks.spawn("partitions", async move {
            stop.run_until_cancelled(follow(source, handle, reload)).await;
        });
    }
}

/// Ends only when the owner loop has ended.
async fn follow(mut source: Source, handle: Handle, mut reload: watch::Receiver<()>) {
    let mut teller = Teller::new(source.name());
    loop {
        let answer = source.ask().await;
        let (members, busy) = match answer {
            Some(Ok(heard)) => (Some(Ok(heard.members)), heard.busy),
            Some(Err(reason)) => (Some(Err(reason)), None),
            None => (None, None),
        };
        let members = teller.hear(members, handle.clock.now().mono);
        // Members first: nodes are known by them.
        for event in members.into_iter().chain(busy.map(|nodes| Event::JobsRunOn { nodes })) {
            if handle.send(event).await.is_err() {
                return;
            }
        }
        let signalled = tokio::time::timeout(source.pause(), reload.changed()).await;
        if let Ok(Err(_gone)) = signalled {
            return;
        }
        if let (Ok(Ok(())), Source::File(file)) = (signalled, &mut source) {
            file.forget();
        }
    }
}

/// Turns answers into events, and says in the log when a source begins or ceases to answer.
struct Teller {
    source: &'static str,
    last: Option<Members>,
    failure: Option<String>,
    told: Monotonic,
}

impl Teller {
    fn new(source: &'static str) -> Self {
        Self { source, last: None, failure: None, told: Monotonic::default() }
    }

    fn hear(&mut self, answer: Option<Result<Members, String>>, now: Monotonic) -> Option<Event> {
        let source = self.source;
        let fresh = now.since(self.told) < CONFIRM;
        match answer {
            Some(Ok(members)) => {
                if self.failure.take().is_some() || self.last.is_none() {
                    info!(source, partitions = members.len(), "partitions are known");
                }
                self.last = Some(members.clone());
                self.told = now;
                Some(Event::Members { source, members })
            }
            Some(Err(reason)) if fresh && self.failure.as_ref() == Some(&reason) => None,
            Some(Err(reason)) => {
                warn!(source, error = reason, "partitions cannot be read; what was last known is kept");
                self.failure = Some(reason.clone());
                self.told = now;
                Some(Event::MembersFailed { source, reason })
            }
            None if fresh || self.failure.is_some() => None,
            None => {
                self.told = now;
                self.last.clone().map(|members| Event::Members { source, members })
            }
        }
    }
}

/// Shows an error with its causes in one bounded line.
fn reason(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.truncate(text.floor_char_boundary(MAX_REASON));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_one_partition_are_joined_and_empty_ones_are_kept() {
        let mut draft = Draft::default();
        for (partition, nodes) in [("viz", "v[1-2]"), ("empty", ""), ("viz", "v2,fat01"), ("all", "v1")] {
            draft.add(partition, nodes, false).unwrap();
        }
        let shown: Vec<_> = draft
            .members
            .into_iter()
            .map(|(name, nodes)| format!("{name}={}", nodes.into_iter().collect::<NodeSet>()))
            .collect();
        assert_eq!(shown, ["all=v1", "empty=", "viz=fat01,v[1-2]"]);
    }

    #[test]
    fn a_list_cannot_exceed_the_limits() {
        let mut draft = Draft::default();
        let failed = (0..20).find_map(|n| draft.add(&format!("p{n}"), "n[1-100000]", false).err());
        assert_eq!((failed, draft.members.len()), (Some(EntryError::TooMany), 11));
        let mut draft = Draft::default();
        assert!(
            (0..=MAX_PARTITIONS).any(|n| draft.add(&format!("p{n}"), "", false) == Err(EntryError::TooMany))
        );
    }

    #[test]
    fn an_answer_that_stays_the_same_is_confirmed_once_a_minute_and_not_while_the_source_fails() {
        let at = |minutes: u32| Monotonic(CONFIRM * minutes);
        let members = Members::from([("viz".parse().unwrap(), BTreeSet::new())]);
        let mut teller = Teller::new("file");
        assert!(matches!(teller.hear(Some(Ok(members.clone())), at(1)), Some(Event::Members { .. })));
        assert!(teller.hear(None, at(1)).is_none());
        let confirmed = teller.hear(None, at(2));
        assert!(matches!(confirmed, Some(Event::Members { members: same, .. }) if same == members));
        assert!(teller.hear(None, at(2)).is_none());
        assert!(matches!(teller.hear(Some(Err("gone".into())), at(3)), Some(Event::MembersFailed { .. })));
        assert!(teller.hear(Some(Err("gone".into())), at(3)).is_none());
        assert!(matches!(teller.hear(Some(Err("broken".into())), at(3)), Some(Event::MembersFailed { .. })));
        assert!(teller.hear(None, at(9)).is_none());
    }

    #[test]
    fn a_reason_names_the_causes_and_is_bounded() {
        let source = "n[1-".parse::<NodeSet>().unwrap_err();
        let error = EntryError::Nodes { partition: "viz".parse().unwrap(), source };
        assert!(reason(&error).starts_with("the nodes of partition viz cannot be read: the brackets"));
    }
}
