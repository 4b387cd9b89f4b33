//! Nodes that move images, without a coordinator: real transfers, real inventories on real disks, in one process.
//! Whoever holds the [`Mover`]s gives the orders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sifleet_agent::credentials::Credentials;
use sifleet_agent::hash::Hashing;
use sifleet_agent::inventory;
use sifleet_agent::memory::Memory;
use sifleet_agent::settings::Settings;
use sifleet_agent::transfer::{Ends, Transfers};
use sifleet_common::capability::{Capability, Signer};
use sifleet_common::chunk::MapDigest;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::{Change, Content, RootId};
use sifleet_common::name::NodeName;
use sifleet_common::policy::Policy;
use sifleet_common::push::Phase;
use sifleet_common::task::Tasks;
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::assignment::{
    Assignment, AssignmentId, Order, Peer, Progress, Removal, Removed, Report, Verified,
};
use sifleet_coordinator::ca;
use tokio::sync::mpsc;

/// How long anything may take that should take a moment; loaded machines are slow.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Orders and reports that wait.
const QUEUE: usize = 256;

/// One node.
pub struct Mover {
    /// Its name.
    pub node: String,
    /// Its root.
    pub root: PathBuf,
    /// Where others fetch from it.
    pub peer: Peer,
    /// What it is told to do.
    pub orders: mpsc::Sender<Order>,
    reports: mpsc::Receiver<Report>,
    changes: mpsc::Receiver<Vec<Change>>,
    tasks: Tasks,
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

/// Makes an authority below a folder, for [`Mover::start`].
///
/// # Errors
/// When it cannot be written.
pub fn authority(folder: &Path) -> anyhow::Result<()> {
    ca::init(&folder.join("ca"), &[]).map(drop).context("authority")
}

impl Mover {
    /// Starts a node; its root and state are below `folder`, where [`authority`] made an authority.
    ///
    /// # Errors
    /// When a certificate, a socket or a thread cannot be had.
    pub fn start(folder: &Path, node: &str) -> anyhow::Result<Self> {
        Self::start_with(folder, node, |_as_they_are| ())
    }

    /// Starts a node with other settings.
    ///
    /// # Errors
    /// As [`Mover::start`].
    pub fn start_with(folder: &Path, node: &str, set: impl FnOnce(&mut Settings)) -> anyhow::Result<Self> {
        let name = node.parse()?;
        let paths = ca::issue_node(&folder.join("ca"), &name, Duration::from_secs(86_400))?;
        let (root, state) = (folder.join(node).join("root"), folder.join(node).join("state"));
        std::fs::create_dir_all(&root)?;
        let mut settings = Settings { state_dir: state, ..Settings::default() };
        settings.roots.truncate(1);
        if let Some(first) = settings.roots.first_mut() {
            first.path.clone_from(&root);
        }
        settings.transfer.listen = ([127, 0, 0, 1], 0).into();
        settings.transfer.keep_free = "1MiB".parse()?;
        settings.tls.authority = folder.join("ca/ca.pem");
        settings.tls.certificate = paths.certificate;
        settings.tls.key = paths.key;
        set(&mut settings);
        let credentials = Credentials::open(&settings.tls)?;
        let transfers = Transfers::open(settings.transfer().context("no transfers")?, credentials.live())?;
        let peer = Peer { node: name, address: ([127, 0, 0, 1], transfers.port()).into() };
        let tasks = Tasks::new();
        let hashing = Arc::new(Hashing::new(Memory::volatile(1_000)?, None, u64::MAX, tasks.token()));
        let inventory::Parts { changes, commands } =
            inventory::start(settings.root_settings(), &hashing, &tasks, |_| ())?;
        let ((orders, ordered), (said, reports)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        let ends = Ends { orders: ordered, reports: said, commands };
        transfers.start(&hashing, ends, tasks.token(), || ())?;
        orders.try_send(Order::Capabilities { key: signer()?.key()? })?;
        Ok(Self { node: node.to_owned(), root, peer, orders, reports, changes, tasks })
    }

    /// Waits until the inventory shows an image under a name.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn sees(&mut self, name: &str, image: Digest) -> anyhow::Result<()> {
        let is_it = |content: &Content| matches!(content, Content::Image(found) if found.digest == image);
        self.shows(name, is_it).await
    }

    /// Waits until the inventory shows that what lies under a name is no image.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn loses(&mut self, name: &str) -> anyhow::Result<()> {
        self.shows(name, |content| matches!(content, Content::Unusable(_))).await
    }

    async fn shows(&mut self, name: &str, is_it: impl Fn(&Content) -> bool) -> anyhow::Result<()> {
        let seen = async {
            while let Some(changes) = self.changes.recv().await {
                for change in changes {
                    if let Change::Put(key, replica) = change
                        && key.name.as_str() == name
                        && is_it(&replica.content)
                    {
                        return Ok(());
                    }
                }
            }
            bail!("the inventory has ended")
        };
        tokio::time::timeout(LIMIT, seen)
            .await
            .with_context(|| format!("{name} is not seen on {}", self.node))?
    }

    /// Has the chunk map of an image made.
    ///
    /// # Errors
    /// When there is none.
    pub async fn map(&mut self, image: Digest) -> anyhow::Result<MapDigest> {
        self.orders.send(Order::MakeMap { image }).await?;
        let mapped = async {
            while let Some(report) = self.reports.recv().await {
                if let Report::Mapped(mapped) = report
                    && mapped.image == image
                {
                    return mapped.map.context(mapped.detail);
                }
            }
            bail!("the transfers have ended")
        };
        tokio::time::timeout(LIMIT, mapped).await.context("no chunk map")?
    }

    /// Waits for the next report of any assignment.
    ///
    /// # Errors
    /// When there is none.
    pub async fn progress(&mut self) -> anyhow::Result<Progress> {
        let said = async {
            while let Some(report) = self.reports.recv().await {
                if let Report::Progress(progress) = report {
                    return Ok(progress);
                }
            }
            bail!("the transfers have ended")
        };
        tokio::time::timeout(LIMIT, said).await.with_context(|| format!("{} says nothing", self.node))?
    }

    /// Waits until an assignment has ended, well or not.
    ///
    /// # Errors
    /// When it does not.
    pub async fn end(&mut self, id: AssignmentId) -> anyhow::Result<Progress> {
        let mut dropped = Vec::new();
        let ended = async {
            while let Some(report) = self.reports.recv().await {
                if let Report::Progress(mut progress) = report
                    && progress.id == id
                {
                    dropped.append(&mut progress.dropped);
                    if matches!(progress.phase, Phase::Done | Phase::Failed) {
                        progress.dropped.clone_from(&dropped);
                        return Ok(progress);
                    }
                }
            }
            bail!("the transfers have ended")
        };
        tokio::time::timeout(LIMIT, ended).await.with_context(|| format!("{} does not end", self.node))?
    }

    /// Has an image removed, and waits until it is said how that ended.
    ///
    /// # Errors
    /// When nothing is said.
    pub async fn remove(&mut self, removal: Removal) -> anyhow::Result<Removed> {
        let id = removal.id;
        self.orders.send(Order::Remove(removal)).await?;
        let removed = async {
            while let Some(report) = self.reports.recv().await {
                if let Report::Removed(removed) = report
                    && removed.id == id
                {
                    return Ok(removed);
                }
            }
            bail!("the transfers have ended")
        };
        tokio::time::timeout(LIMIT, removed).await.with_context(|| format!("{} says nothing", self.node))?
    }

    /// Assigns an image.
    ///
    /// # Errors
    /// When the transfers have ended.
    pub async fn assign(&self, assignment: Assignment) -> anyhow::Result<()> {
        Ok(self.orders.send(Order::Assign(self.permitted(assignment)?)).await?)
    }

    /// Assigns an image under what a partition asks of its signatures.
    ///
    /// # Errors
    /// When the transfers have ended.
    pub async fn assign_under(&self, policy: Policy, assignment: Assignment) -> anyhow::Result<()> {
        let assignment = self.permitted(assignment)?;
        Ok(self.orders.send(Order::AssignUnder { policy, assignment }).await?)
    }

    fn permitted(&self, assignment: Assignment) -> anyhow::Result<Assignment> {
        let capability = permit(&self.peer.node, assignment.image)?;
        Ok(Assignment { capability, ..assignment })
    }

    /// Asks whose signatures an image on the node has.
    ///
    /// # Errors
    /// When nothing is said.
    pub async fn verify(&mut self, image: Digest) -> anyhow::Result<Verified> {
        self.orders.send(Order::Verify { image }).await?;
        let verified = async {
            while let Some(report) = self.reports.recv().await {
                if let Report::Verified(verified) = report
                    && verified.image == image
                {
                    return Ok(verified);
                }
            }
            bail!("the transfers have ended")
        };
        tokio::time::timeout(LIMIT, verified).await.with_context(|| format!("{} says nothing", self.node))?
    }
}

/// Permits a node to fetch an image, as the coordinator of the movers would.
///
/// # Errors
/// None that is not one of ours.
pub fn permit(node: &NodeName, image: Digest) -> anyhow::Result<Capability> {
    Ok(signer()?.permit(node, image, UnixMillis(i64::MAX)))
}

fn signer() -> anyhow::Result<Signer> {
    Ok(Signer::from_seed(&[7; 32])?)
}

/// What an assignment of an image is like, whoever it is for; nobody is permitted it yet.
#[must_use]
pub fn assignment(image: Digest, size: u64, map: MapDigest, peers: Vec<Peer>) -> Assignment {
    let name = crate::known("image.sif");
    Assignment {
        id: AssignmentId(1),
        image,
        size,
        map,
        root: RootId(0),
        name,
        peers,
        rate: None,
        priority: 100,
        capability: Capability::default(),
    }
}

/// Joins movers as the coordinator would: by its own mesh, those that have the image first.
#[must_use]
pub fn mesh(peers: &[Peer]) -> BTreeMap<String, Vec<Peer>> {
    let of = |at: usize| {
        let places = sifleet_coordinator::plan::mesh::neighbours(peers.len(), at);
        places.into_iter().filter_map(|place| peers.get(place).cloned()).collect()
    };
    peers.iter().enumerate().map(|(at, peer)| (peer.node.to_string(), of(at))).collect()
}
