//! Starts the watching half of an agent on temporary folders and waits for its inventory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sifleet_agent::hash::Hashing;
use sifleet_agent::inventory::{self, Command, Parts};
use sifleet_agent::memory::Memory;
use sifleet_agent::watch::RootSettings;
use sifleet_common::inventory::{
    Change, Content, Inventory, Pending, Replica, ReplicaKey, RootId, RootState, UnusableCode,
};
use sifleet_common::task::Tasks;

use crate::walk;

/// Far beyond what anything here takes, so that only a lost change runs into it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An agent without its session.
pub(crate) struct Node {
    pub(crate) inventory: Inventory,
    pub(crate) hashing: Arc<Hashing>,
    /// Every change received, in order.
    pub(crate) history: Vec<Change>,
    parts: Parts,
    tasks: Tasks,
}

/// Settings under which only hints, never timers, find anything.
pub(crate) fn settings(path: &Path) -> RootSettings {
    RootSettings {
        id: RootId(0),
        path: path.to_owned(),
        library: false,
        trusted: None,
        settle: Duration::from_millis(200),
        reconcile: Duration::from_secs(86_400),
        degraded_rescan: Duration::from_millis(500),
        remote_rescan: Duration::from_secs(86_400),
        recheck: Duration::from_secs(10),
        max_watches: usize::MAX,
        max_entries: 1_000_000,
        hash_threads: 1,
    }
}

impl Node {
    /// Starts on one root with the usual settings and no memory.
    pub(crate) fn start(path: &Path) -> Self {
        Self::start_with(settings(path), Memory::volatile(100_000).unwrap())
    }

    pub(crate) fn start_with(settings: RootSettings, memory: Memory) -> Self {
        let tasks = Tasks::new();
        let hashing = Arc::new(Hashing::new(memory, None, 1 << 40, tasks.token()));
        let parts = inventory::start(vec![settings], &hashing, &tasks, |_| {}).unwrap();
        Self { inventory: Inventory::default(), hashing, history: Vec::new(), parts, tasks }
    }

    /// Receives changes until the condition holds; panics with what is known when it does not come to hold.
    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&Inventory) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.inventory) {
            if !self.receive(deadline).await {
                panic!("{what}: still not after {PATIENCE:?}: {}", self.show());
            }
        }
    }

    /// Receives changes until the inventory equals a walk; panics with the differences when it does not.
    pub(crate) async fn until_equal(&mut self, root: &Path) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_settled() || !walk::differences(root, &self.inventory).is_empty() {
            if !self.receive(deadline).await {
                let differences = walk::differences(root, &self.inventory);
                let state = self.inventory.root(RootId(0)).map(|root| &root.state);
                panic!("{} differences, root {state:?}: {differences:#?}", differences.len());
            }
        }
    }

    /// Receives what there is, and waits for it if there is nothing; false at the deadline.
    pub(crate) async fn receive(&mut self, deadline: Instant) -> bool {
        match tokio::time::timeout_at(deadline.into(), self.parts.changes.recv()).await {
            Ok(Some(batch)) => self.apply(batch),
            Ok(None) => panic!("the inventory ended"),
            Err(_) => return false,
        }
        let busy_until = Instant::now() + Duration::from_millis(100);
        while Instant::now() < busy_until {
            match tokio::time::timeout(Duration::from_millis(5), self.parts.changes.recv()).await {
                Ok(Some(batch)) => self.apply(batch),
                Ok(None) => panic!("the inventory ended"),
                Err(_) => break,
            }
        }
        true
    }

    fn apply(&mut self, batch: Vec<Change>) {
        for change in batch {
            self.history.push(change.clone());
            assert!(self.inventory.apply(change.clone()), "a change that changes nothing: {change:?}");
        }
    }

    /// Receives changes until the root is in this state.
    pub(crate) async fn until_state(&mut self, state: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.state() != Some(state) {
            assert!(self.receive(deadline).await, "never {state}: {}", self.show());
        }
    }

    pub(crate) async fn command(&self, command: Command) {
        self.parts.commands.send(command).await.unwrap();
    }

    /// Receives what is there, without waiting for more.
    pub(crate) fn receive_what_is_there(&mut self) {
        while let Ok(batch) = self.parts.changes.try_recv() {
            self.apply(batch);
        }
    }

    pub(crate) async fn stop(self) {
        drop(self.parts);
        assert!(self.tasks.shutdown(PATIENCE).await.is_empty());
    }

    /// Tells whether the root is known and no file in it pending.
    pub(crate) fn is_settled(&self) -> bool {
        let pending = |replica: &Replica| matches!(replica.content, Content::Pending(_));
        matches!(self.state(), Some("watched" | "degraded" | "partial"))
            && !self.inventory.replicas().any(|(_, replica)| pending(replica))
    }

    pub(crate) fn state(&self) -> Option<&'static str> {
        self.inventory.root(RootId(0)).map(|root| match root.state {
            RootState::Watched => "watched",
            RootState::Degraded { .. } => "degraded",
            RootState::Unknown { .. } => "unknown",
            RootState::Partial { .. } => "partial",
        })
    }

    pub(crate) fn reason(&self) -> String {
        match self.inventory.root(RootId(0)).map(|root| root.state.clone()) {
            Some(
                RootState::Degraded { reason }
                | RootState::Unknown { reason }
                | RootState::Partial { reason },
            ) => reason,
            Some(RootState::Watched) | None => String::new(),
        }
    }

    fn show(&self) -> String {
        let mut text = format!("{:?}", self.inventory.root(RootId(0)));
        for (key, replica) in self.inventory.replicas().take(50) {
            text.push_str(&format!("\n  {} {:?}", key.name, replica.content));
        }
        text
    }
}

/// Looks a replica's content up.
pub(crate) fn content<'a>(inventory: &'a Inventory, name: &str) -> Option<&'a Content> {
    let key = ReplicaKey { root: RootId(0), name: name.parse().unwrap() };
    inventory.replica(&key).map(|replica| &replica.content)
}

pub(crate) fn is_image(inventory: &Inventory, name: &str) -> bool {
    matches!(content(inventory, name), Some(Content::Image(_)))
}

/// Tells whether an entry is shown as one that the agent cannot read.
pub(crate) fn is_unreadable(inventory: &Inventory, name: &str) -> bool {
    matches!(content(inventory, name),
        Some(Content::Unusable(what)) if what.code == UnusableCode::Unreadable && what.detail.contains("cannot be looked at"))
}

pub(crate) fn is_being_written(inventory: &Inventory, name: &str) -> bool {
    matches!(content(inventory, name), Some(Content::Pending(Pending::BeingWritten)))
}

/// Makes the smallest image there is: a squashfs superblock, told apart by a number.
pub(crate) fn image(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 96];
    bytes[..4].copy_from_slice(b"hsqs");
    bytes[28] = 4;
    bytes[40..48].copy_from_slice(&104_u64.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}

pub(crate) fn write(path: impl AsRef<Path>, number: u64) {
    std::fs::write(path, image(number)).unwrap();
}

/// Makes a folder with a root in it.
pub(crate) fn root() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    (folder, root)
}
