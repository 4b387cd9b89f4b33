//! From what somebody wrote to the wish that is meant, and what it would do.
//!
//! Which bytes are meant: the digest that was written, else what the library holds under the name, else what all current
//! replicas agree on. Nodes get the image under the name that they and their partition know it by.

use std::collections::BTreeMap;
use std::time::Duration;

use roaring::RoaringBitmap;
use sifleet_common::api::availability::PathNodes;
use sifleet_common::api::pushes::{PushPlan, PushReason, PushRequest, PushTarget};
use sifleet_common::digest::Digest;
use sifleet_common::image::Arch;
use sifleet_common::inventory::RootState;
use sifleet_common::name::{ImageName, MAX_IMAGE_NAME, PartitionName};
use sifleet_common::nodeset::NodeSet;
use sifleet_common::push::FailCode;
use sifleet_common::time::Now;

use crate::library::check_name;
use crate::state::index::NodeId;
use crate::state::pushes::wish::{MAX_PATIENCE, PATIENCE, PRIORITY, PushError, Wish, check_rate};
use crate::store::limits::lower;
use crate::store::push::Completion;
use crate::view::availability::count;
use crate::view::meant::MeantError;
use crate::view::resolve::{Expected, unheard_of};
use crate::view::{NodeInfo, QueryError, View, shorten};

/// Most digests that an error offers.
const MAX_CANDIDATES: usize = 10;

impl View {
    /// Understands what somebody wants.
    ///
    /// # Errors
    /// [`PushError`] for the first thing that cannot be meant.
    pub fn wish(&self, request: &PushRequest, now: Now) -> Result<Wish, PushError> {
        let live = self.live_at(now);
        let (members, partition) = self.members_of(&request.to)?;
        check_upload(request)?;
        let named = (request.image.as_deref(), request.digest.as_deref());
        let found = self.meant(named, partition.as_ref(), &live).and_then(|(image, digest)| {
            let none = || MeantError::NoHolder { image: format!("{image}@{digest}") };
            let size = self.digests.get(&digest).ok_or_else(none)?.size;
            Ok((image, digest, size))
        });
        let (image, digest, size) = match found {
            Err(error) => self.to_be_uploaded(request, partition.as_ref()).ok_or(error)?,
            Ok(found) => found,
        };
        let mut nodes = members;
        if matches!(request.to, PushTarget::MissingOn(_)) {
            nodes -= &self.ready_with(&image, digest, request.root.as_deref()) & &*live;
        }
        let completion = request.completion.as_deref().map(str::parse::<Completion>);
        Ok(Wish {
            from: self.holder_named(request, &image, digest)?,
            root: root(request.root.as_deref())?,
            completion: completion
                .transpose()
                .map_err(|error| MeantError::bad(error.to_string()))?
                .unwrap_or_default(),
            patience: patience(request.deadline_s)?,
            rate: check_rate(request.rate)?,
            priority: request.priority.unwrap_or(PRIORITY),
            key: None,
            image,
            digest,
            size,
            nodes,
        })
    }

    /// Takes a dry run's word for an image that is going into the library first: its name on the nodes, digest and size.
    fn to_be_uploaded(
        &self,
        request: &PushRequest,
        partition: Option<&PartitionName>,
    ) -> Option<(ImageName, Digest, u64)> {
        let size = request.upload.filter(|_| request.dry_run)?;
        let name: ImageName = request.image.as_deref()?.parse().ok()?;
        let digest = request.digest.as_deref()?.parse().ok()?;
        Some((self.will_mean_on(partition, &name), digest, size))
    }

    /// Tells what a wish would do.
    #[must_use]
    pub fn plan(&self, wish: &Wish, now: Now) -> PushPlan {
        let live = self.live_at(now);
        let ready = &wish.nodes & &self.ready_with(&wish.image, wish.digest, wish.root.as_deref()) & &*live;
        let deferred = &wish.nodes - &*live;
        let refused = self.refused(wish, &((&wish.nodes & &*live) - &ready));
        let lost: RoaringBitmap = refused.iter().flat_map(|(_, (nodes, _))| nodes.iter()).collect();
        let nodes = &wish.nodes - &ready - &lost;
        let sources = match wish.from {
            Some(NodeId(from)) => [from].into_iter().collect(),
            None => self.givers_of(&wish.digest) & &*live,
        };
        let reasons = refused.into_iter().map(|(code, (nodes, message))| PushReason {
            code: code.name().to_owned(),
            count: count(&nodes),
            nodes: self.fold(&nodes),
            message,
            hint: code.hint().to_owned(),
        });
        PushPlan {
            image: wish.image.to_string(),
            digest: wish.digest.to_string(),
            size: wish.size,
            nodes: self.fold(&nodes),
            count: count(&nodes),
            ready: self.fold(&ready),
            deferred: self.fold(&deferred),
            refused: reasons.collect(),
            sources: self.fold(&sources),
            replaces: self.fold(&(&self.others_as(wish) & &nodes)),
            roots: self.roots_of(wish, &nodes),
            upload: None,
            bytes: wish.size.saturating_mul(nodes.len()),
            seconds: self.least_time(wish, nodes.len()),
        }
    }

    /// Tells how many seconds a push takes at least at the rates that are set; none if there are none.
    fn least_time(&self, wish: &Wish, nodes: u64) -> Option<u64> {
        let set = &self.limits.set;
        let each = lower(wish.rate, set.node.down).map(|rate| wish.size.div_ceil(rate.max(1)));
        let all = set.total.map(|total| wish.size.saturating_mul(nodes).div_ceil(total.max(1)));
        each.max(all)
    }

    /// Lists the nodes that are meant.
    pub(in crate::view) fn members_of(
        &self,
        to: &PushTarget,
    ) -> Result<(RoaringBitmap, Option<PartitionName>), MeantError> {
        match to {
            PushTarget::Partition(name) | PushTarget::MissingOn(name) => {
                let partition = self.partition_info(name)?;
                Ok((partition.members.clone(), Some(partition.name.clone())))
            }
            PushTarget::Nodes(text) => {
                let wanted: NodeSet = text.parse()?;
                let numbers: BTreeMap<&str, u32> =
                    self.nodes.iter().zip(0..).map(|(node, id)| (node.name.as_str(), id)).collect();
                let unknown =
                    |name: &str| QueryError::UnknownNode { name: shorten(name), candidates: Vec::new() };
                let number = |name: &str| numbers.get(name).copied().ok_or_else(|| unknown(name));
                let nodes: Result<RoaringBitmap, QueryError> =
                    wanted.names().iter().map(|name| number(name.as_str())).collect();
                Ok((nodes?, None))
            }
        }
    }

    /// Finds the image that is meant: under which name, and which bytes.
    pub(in crate::view) fn meant(
        &self,
        (image, digest): (Option<&str>, Option<&str>),
        partition: Option<&PartitionName>,
        live: &RoaringBitmap,
    ) -> Result<(ImageName, Digest), MeantError> {
        let digest = digest.map(str::parse::<Digest>);
        let digest = digest.transpose().map_err(|error| MeantError::bad(format!("digest: {error}")))?;
        let written = match (image, digest) {
            (Some(image), _) => image.to_owned(),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => return Err(MeantError::bad("name the image, or its digest")),
        };
        let target = self.resolve(&written, partition)?;
        if !target.heard_of {
            return Err(self.suggest(unheard_of(&written)).into());
        }
        let names: Vec<ImageName> = if target.by_digest {
            // The library's names stand for those that nodes know the image by.
            let mut names: Vec<ImageName> =
                target.names.iter().map(|name| self.meant_on(partition, name)).collect();
            names.sort();
            names.dedup();
            names
        } else {
            target.names.clone()
        };
        let name = match names.as_slice() {
            [name] => name.clone(),
            several => {
                let candidates = several.iter().take(MAX_CANDIDATES).map(|name| format!("{name}@{written}"));
                let candidates = candidates.collect();
                return Err(QueryError::Ambiguous { reference: shorten(&written), candidates }.into());
            }
        };
        match (target.digest, digest) {
            (Some(one), Some(other)) if one != other => {
                Err(MeantError::bad("image and digest name different bytes"))
            }
            (Some(digest), _) | (None, Some(digest)) => Ok((name, digest)),
            (None, None) => self.agreed(&name, partition, live).map(|digest| (name, digest)),
        }
    }

    /// Finds the bytes that a name stands for.
    fn agreed(
        &self,
        name: &ImageName,
        partition: Option<&PartitionName>,
        live: &RoaringBitmap,
    ) -> Result<Digest, MeantError> {
        if let Expected::Bytes(digest) = self.expected(name, partition, live) {
            return Ok(digest);
        }
        let mut found: Vec<Digest> = Vec::new();
        let entry = self.names.get(name);
        for (place, nodes) in entry.into_iter().flat_map(|entry| &entry.ready) {
            if !nodes.is_disjoint(live) && !found.contains(&place.digest) {
                found.push(place.digest);
            }
        }
        match found.as_slice() {
            [] => Err(MeantError::NoHolder { image: name.to_string() }),
            [only] => Ok(*only),
            several => {
                let candidates = several.iter().take(MAX_CANDIDATES).map(|digest| format!("{name}@{digest}"));
                Err(MeantError::Disagreed { image: name.clone(), candidates: candidates.collect() })
            }
        }
    }

    /// Finds the only node that the image is to be taken from.
    fn holder_named(
        &self,
        request: &PushRequest,
        image: &ImageName,
        digest: Digest,
    ) -> Result<Option<NodeId>, PushError> {
        let Some(from) = request.from.as_deref() else { return Ok(None) };
        let found = self.nodes.iter().zip(0..).find(|(node, _)| node.name.as_str() == from);
        let Some((node, id)) = found else {
            let unknown = QueryError::UnknownNode { name: shorten(from), candidates: Vec::new() };
            return Err(MeantError::from(unknown).into());
        };
        let holders = self.givers_of(&digest);
        if holders.contains(id) {
            return Ok(Some(NodeId(id)));
        }
        if request.upload.is_some() {
            let libraries = self.nodes.iter().zip(0..).filter(|(node, _)| watches_library(node));
            let libraries: RoaringBitmap = libraries.map(|(_, id)| id).collect();
            return if libraries.contains(id) {
                Ok(Some(NodeId(id)))
            } else {
                let names = self.fold(&libraries);
                let detail = format!(
                    "from: {from} does not hold {image}; a file that goes into the library first is on the library's node alone: {names}"
                );
                Err(MeantError::bad(detail).into())
            };
        }
        let names = holders.iter().filter_map(|id| self.info(id)).take(MAX_CANDIDATES);
        Err(PushError::NotThere {
            node: node.name.clone(),
            image: image.clone(),
            candidates: names.map(|node| node.name.to_string()).collect(),
        })
    }

    /// Lists the nodes that hold certain bytes where only admins put any.
    fn givers_of(&self, digest: &Digest) -> RoaringBitmap {
        let names = self.digests.get(digest).into_iter().flat_map(|entry| &entry.names);
        let ready = names.filter_map(|name| self.names.get(name)).flat_map(|entry| &entry.ready);
        let trusted = ready.filter(|(place, _)| place.digest == *digest && place.trusted);
        trusted.fold(RoaringBitmap::new(), |givers, (_, nodes)| givers | nodes)
    }

    /// Tells whether the library holds certain bytes, under whatever name.
    pub(crate) fn is_in_library(&self, digest: &Digest) -> bool {
        let names = self.digests.get(digest).into_iter().flat_map(|entry| &entry.names);
        let mut places = names.filter_map(|name| self.names.get(name)).flat_map(|entry| &entry.ready);
        places.any(|(place, nodes)| place.digest == *digest && place.library && !nodes.is_empty())
    }

    /// Lists the nodes that hold an image where a push would bring it.
    fn ready_with(&self, image: &ImageName, digest: Digest, root: Option<&str>) -> RoaringBitmap {
        let mut ready = RoaringBitmap::new();
        for (place, nodes) in self.names.get(image).into_iter().flat_map(|entry| &entry.ready) {
            let there = root.map_or(!place.library, |root| *place.root == *root);
            if place.digest == digest && there {
                ready |= nodes;
            }
        }
        ready
    }

    /// Lists the nodes that hold other bytes where a push would bring its image.
    fn others_as(&self, wish: &Wish) -> RoaringBitmap {
        let mut others = RoaringBitmap::new();
        for (place, nodes) in self.names.get(&wish.image).into_iter().flat_map(|entry| &entry.ready) {
            let there = wish.root.as_deref().map_or(!place.library, |root| *place.root == *root);
            if place.digest != wish.digest && there {
                others |= nodes;
            }
        }
        others
    }

    /// Groups nodes by the root below which they will have the image, most nodes first.
    fn roots_of(&self, wish: &Wish, nodes: &RoaringBitmap) -> Vec<PathNodes> {
        let mut by_path: BTreeMap<&str, RoaringBitmap> = BTreeMap::new();
        for (id, node) in nodes.iter().filter_map(|id| Some((id, self.info(id)?))) {
            if let Some(path) = root_for(wish, node) {
                by_path.entry(path).or_default().insert(id);
            }
        }
        let place = |(path, nodes): (&str, RoaringBitmap)| PathNodes {
            path: path.to_owned(),
            count: count(&nodes),
            nodes: self.fold(&nodes),
        };
        let mut roots: Vec<PathNodes> = by_path.into_iter().map(place).collect();
        roots.sort_by_key(|root| std::cmp::Reverse(root.count));
        roots
    }

    /// Finds the nodes that have no root for the image, or could not run it.
    pub(super) fn refused(
        &self,
        wish: &Wish,
        nodes: &RoaringBitmap,
    ) -> BTreeMap<FailCode, (RoaringBitmap, String)> {
        let mut refused: BTreeMap<FailCode, (RoaringBitmap, String)> = BTreeMap::new();
        let mut refuse = |code, id, words: &dyn Fn() -> String| {
            refused.entry(code).or_insert_with(|| (RoaringBitmap::new(), words())).0.insert(id)
        };
        let arch = self.digests.get(&wish.digest).map_or(Arch::Unknown, |known| known.image.arch);
        for (id, node) in nodes.iter().filter_map(|id| Some((id, self.info(id)?))) {
            if !node.facts.as_ref().is_none_or(|facts| facts.arch.runs(arch)) {
                refuse(FailCode::Unusable, id, &|| format!("the image is built for {arch}"));
            } else if root_for(wish, node).is_none() {
                refuse(FailCode::NoRoot, id, &|| match &wish.root {
                    Some(path) => format!("no such root at present: {path}"),
                    None => "no root at present but libraries".to_owned(),
                });
            }
        }
        refused
    }
}

/// Finds the root below which a node would have the image.
fn root_for<'a>(wish: &Wish, node: &'a NodeInfo) -> Option<&'a str> {
    let fits = node.inventory.roots().map(|(_, root)| root).find(|root| {
        let meant = wish.root.as_ref().map_or(!root.kind.is_library(), |path| root.path == *path);
        meant && !matches!(root.state, RootState::Unknown { .. })
    });
    fits.map(|root| &*root.path)
}

fn watches_library(node: &NodeInfo) -> bool {
    node.inventory.roots().any(|(_, root)| root.kind.is_library())
}

/// Looks whether the library would take an image of that name, as it will when the image comes.
fn check_upload(request: &PushRequest) -> Result<(), MeantError> {
    let uploaded = request.image.as_deref().filter(|_| request.upload.is_some() && request.dry_run);
    let Some(Ok(name)) = uploaded.map(str::parse) else { return Ok(()) };
    check_name(&name).map_err(|error| MeantError::bad(error.to_string()))
}

pub(in crate::view) fn root(path: Option<&str>) -> Result<Option<String>, MeantError> {
    let Some(path) = path else { return Ok(None) };
    if !path.starts_with('/') || path.len() > MAX_IMAGE_NAME {
        return Err(MeantError::bad(format!("root: {:?} is not the path of a directory", shorten(path))));
    }
    let trimmed = path.trim_end_matches('/');
    Ok(Some(if trimmed.is_empty() { "/" } else { trimmed }.to_owned()))
}

pub(in crate::view) fn patience(seconds: Option<u64>) -> Result<Duration, MeantError> {
    let patience = seconds.map_or(PATIENCE, Duration::from_secs);
    if patience.is_zero() || patience > MAX_PATIENCE {
        let most = MAX_PATIENCE.as_secs();
        return Err(MeantError::bad(format!(
            "deadline_s is {}, and must be 1 to {most}",
            patience.as_secs()
        )));
    }
    Ok(patience)
}
