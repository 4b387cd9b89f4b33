//! From what people write to the image they mean.
//!
//! `vnc_desktop`, `vnc_desktop.sif`, `compute/openfoam_v2312.sif`, `name@blake3:…`, `blake3:…` or a digest
//! prefix of at least 12 digits. Names with a whole image go before others. What lies in the library's folder of a
//! partition (`viz/vnc_desktop.sif`) stands for the name that the partition's nodes are to hold it under. What is
//! ambiguous is an error that lists what it may mean.

use roaring::RoaringBitmap;
use sifleet_common::digest::{Digest, MIN_PREFIX};
use sifleet_common::name::{ImageName, PartitionName};

use super::{QueryError, View, near, shorten};
use crate::state::index::Standing;

/// Longest reference anybody has reason to write.
const MAX_REFERENCE: usize = 4_096 + 80;
/// Most candidates an error lists.
const MAX_CANDIDATES: usize = 10;

/// The library's folder for all partitions.
pub(super) const SHARED: &str = "shared";

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As answers call it: a name, or a digest.
    pub(crate) shown: String,
    /// Names to look under; several only for a digest.
    pub(crate) names: Vec<ImageName>,
    /// The bytes that were asked for, if any.
    pub(crate) digest: Option<Digest>,
    /// Whether the question names bytes and no name.
    pub(crate) by_digest: bool,
    /// Whether any node ever reported such an image.
    pub(crate) heard_of: bool,
    /// Whether the bytes that were asked for are none that anybody ever reported.
    pub(crate) unheard_bytes: bool,
}

impl Target {
    /// Means whatever lies under one name.
    pub(super) fn named(name: &ImageName) -> Self {
        Self {
            shown: name.to_string(),
            names: vec![name.clone()],
            digest: None,
            by_digest: false,
            heard_of: true,
            unheard_bytes: false,
        }
    }
}

/// Which bytes count under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Any: nobody says.
    Any,
    /// These.
    Bytes(Digest),
    /// The library says, but not at present; these were the last it was heard to hold.
    Unsure(Option<Digest>),
    /// Bytes that nobody ever reported.
    Unheard,
}

impl Expected {
    /// Returns the bytes that count, as far as they are known.
    pub(crate) const fn digest(self) -> Option<Digest> {
        match self {
            Self::Bytes(digest) => Some(digest),
            Self::Unsure(last) => last,
            Self::Any | Self::Unheard => None,
        }
    }

    /// Tells whether bytes are among those that count.
    pub(crate) fn allows(self, digest: Digest) -> bool {
        match self {
            Self::Any => true,
            Self::Bytes(_) | Self::Unsure(_) | Self::Unheard => self.digest() == Some(digest),
        }
    }
}

/// What a digest, whole or its beginning, means.
enum Bytes {
    Known(Digest),
    /// The beginning of no digest that anybody reported.
    Unheard,
}

impl View {
    /// Finds the image that a reference means, to people who ask about one partition or about none.
    pub(crate) fn resolve(
        &self,
        reference: &str,
        partition: Option<&PartitionName>,
    ) -> Result<Target, QueryError> {
        if reference.is_empty() || reference.len() > MAX_REFERENCE {
            let why = format!("it must have 1 to {MAX_REFERENCE} bytes");
            return Err(QueryError::BadReference { reference: shorten(reference), why });
        }
        if let Some(hex) = reference.strip_prefix("blake3:") {
            return self.resolve_digest(reference, hex);
        }
        let (name, bytes) = match reference.split_once("@blake3:") {
            Some((name, hex)) => (name, Some(self.digest_of(reference, hex)?)),
            None => (reference, None),
        };
        let found = self.resolve_name(reference, name, partition)?;
        if found.is_none() && bytes.is_none() && is_prefix(name) {
            return self.resolve_digest(reference, name);
        }
        let unheard_bytes = matches!(bytes, Some(Bytes::Unheard));
        let shown = match &found {
            _ if unheard_bytes => reference.to_owned(),
            Some(found) => found.to_string(),
            None => shorten(name),
        };
        Ok(Target {
            shown,
            heard_of: found.is_some() && !unheard_bytes,
            names: found.into_iter().collect(),
            digest: match bytes {
                Some(Bytes::Known(digest)) => Some(digest),
                Some(Bytes::Unheard) | None => None,
            },
            by_digest: false,
            unheard_bytes,
        })
    }

    /// Finds names close to a reference that nobody ever heard of.
    pub(super) fn near_images(&self, reference: &str) -> Vec<String> {
        let stems = self.stems.keys().map(AsRef::as_ref);
        let stem = reference.rsplit('/').next().unwrap_or(reference);
        let mut candidates = Vec::new();
        for stem in near(stem.strip_suffix(".sif").unwrap_or(stem), stems) {
            if let Some(names) = self.stems.get(stem.as_str()) {
                candidates.extend(names.iter().take(MAX_CANDIDATES).map(ToString::to_string));
            }
        }
        candidates.truncate(MAX_CANDIDATES);
        candidates
    }

    fn resolve_name(
        &self,
        reference: &str,
        name: &str,
        partition: Option<&PartitionName>,
    ) -> Result<Option<ImageName>, QueryError> {
        let with_suffix = format!("{name}.sif");
        let exact: Vec<&ImageName> = [with_suffix.as_str(), name]
            .iter()
            .filter_map(|exact| self.names.get_key_value(*exact).map(|(found, _)| found))
            .collect();
        // Nearly every question ends here.
        if let Some(found) = exact.iter().find(|found| self.standing(found) == Some(Standing::Image)) {
            return Ok(Some(self.meant_on(partition, found)));
        }
        if let Err(error) = name.parse::<ImageName>() {
            return Err(QueryError::BadReference { reference: shorten(reference), why: error.to_string() });
        }
        let stem = name.strip_suffix(".sif").unwrap_or(name);
        let fitting: Vec<&ImageName> = self
            .stems
            .get(stem)
            .into_iter()
            .flat_map(|names| names.iter())
            .filter(|found| !name.ends_with(".sif") || found.file_name() == name)
            .collect();
        // Whatever lies around under a like name must not decide what an image's name means.
        for standing in [Standing::Image, Standing::Open, Standing::Nothing] {
            let stands = |found: &&&ImageName| self.standing(found) == Some(standing);
            if let Some(found) = exact.iter().find(stands) {
                return Ok(Some(self.meant_on(partition, found)));
            }
            let several = self.closest(partition, fitting.iter().copied().filter(|found| stands(&found)));
            match several.as_slice() {
                [] => {}
                [only] => return Ok(Some(only.clone())),
                several => {
                    let candidates = several.iter().take(MAX_CANDIDATES).map(ToString::to_string).collect();
                    return Err(QueryError::Ambiguous { reference: shorten(reference), candidates });
                }
            }
        }
        Ok(None)
    }

    /// Keeps the names that people who ask about a partition mean before all others: those that nodes hold, else those
    /// of the library's folders for that partition, else any of the library.
    fn closest<'a>(
        &self,
        partition: Option<&PartitionName>,
        names: impl Iterator<Item = &'a ImageName>,
    ) -> Vec<ImageName> {
        let mut groups: [Vec<ImageName>; 3] = Default::default();
        let [held, own, others] = &mut groups;
        for name in names {
            let meant = self.meant_on(partition, name);
            let group = if meant != *name {
                &mut *own
            } else if partition.is_some() && self.is_only_in_library(name) {
                &mut *others
            } else {
                &mut *held
            };
            if !group.contains(&meant) {
                group.push(meant);
            }
        }
        groups.into_iter().find(|group| !group.is_empty()).unwrap_or_default()
    }

    /// Turns the library's name of an image into the one under which nodes of a partition are to hold it.
    pub(super) fn meant_on(&self, partition: Option<&PartitionName>, name: &ImageName) -> ImageName {
        let folders = partition.map(|partition| [partition.as_str(), SHARED]).into_iter().flatten();
        let within = |folder: &str| name.as_str().strip_prefix(folder)?.strip_prefix('/')?.parse().ok();
        folders.filter_map(within).find(|_| self.is_only_in_library(name)).unwrap_or_else(|| name.clone())
    }

    /// Turns the name under which an image goes into the library into the one under which nodes of a partition are to hold it.
    pub(super) fn will_mean_on(&self, partition: Option<&PartitionName>, name: &ImageName) -> ImageName {
        let folders = partition.map(|partition| [partition.as_str(), SHARED]).into_iter().flatten();
        let within = |folder: &str| name.as_str().strip_prefix(folder)?.strip_prefix('/')?.parse().ok();
        let elsewhere = self.names.contains_key(name) && !self.is_only_in_library(name);
        folders.filter_map(within).find(|_| !elsewhere).unwrap_or_else(|| name.clone())
    }

    fn is_only_in_library(&self, name: &ImageName) -> bool {
        self.names.get(name).is_some_and(|entry| entry.is_only_in_library())
    }

    fn standing(&self, name: &ImageName) -> Option<Standing> {
        self.names.get(name).map(|entry| entry.standing())
    }

    fn resolve_digest(&self, reference: &str, hex: &str) -> Result<Target, QueryError> {
        let (shown, digest) = match self.digest_of(reference, hex)? {
            Bytes::Known(digest) => (digest.to_string(), Some(digest)),
            Bytes::Unheard => (reference.to_owned(), None),
        };
        let names = digest
            .and_then(|digest| self.digests.get(&digest))
            .map(|entry| entry.names.iter().cloned().collect());
        Ok(Target {
            shown,
            heard_of: names.is_some(),
            names: names.unwrap_or_default(),
            digest,
            by_digest: true,
            unheard_bytes: digest.is_none(),
        })
    }

    /// Completes a digest prefix; a whole digest need not be known.
    fn digest_of(&self, reference: &str, hex: &str) -> Result<Bytes, QueryError> {
        let hex = hex.to_ascii_lowercase();
        if let Ok(whole) = format!("blake3:{hex}").parse() {
            return Ok(Bytes::Known(whole));
        }
        if !is_prefix(&hex) {
            let why = format!("a digest has {MIN_PREFIX} to 64 hexadecimal digits");
            return Err(QueryError::BadReference { reference: shorten(reference), why });
        }
        let least = format!("blake3:{hex:0<64}");
        let Ok(from) = least.parse::<Digest>() else {
            return Err(QueryError::BadReference {
                reference: shorten(reference),
                why: "not a digest".into(),
            });
        };
        let fitting: Vec<Digest> = self
            .digests
            .range(from..)
            .map(|(digest, _)| *digest)
            .take_while(|digest| digest.hex().starts_with(&hex))
            .take(MAX_CANDIDATES)
            .collect();
        match fitting.as_slice() {
            [] => Ok(Bytes::Unheard),
            [only] => Ok(Bytes::Known(*only)),
            several => Err(QueryError::Ambiguous {
                reference: shorten(reference),
                candidates: several.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// Tells which bytes the library expects under a name on a partition, if it names exactly one.
    ///
    /// The library's folders are partitions and `shared` (`viz/vnc_desktop.sif`), so both are looked into
    /// before the name itself. Only holders whose answers count are believed; where there is none of them, but
    /// one that would say, it is not known what the library expects.
    pub(crate) fn expected(
        &self,
        name: &ImageName,
        partition: Option<&PartitionName>,
        live: &RoaringBitmap,
    ) -> Expected {
        for name in self.library_names(name, partition) {
            let Some(entry) = self.names.get(name.as_str()) else { continue };
            let library = entry.ready.iter().filter(|(place, _)| place.library);
            let (heard, silent): (Vec<_>, Vec<_>) = library.partition(|(_, nodes)| !nodes.is_disjoint(live));
            match one(heard.iter().map(|(place, _)| place.digest)) {
                Some(digest) => return Expected::Bytes(digest),
                None if !heard.is_empty() => continue,
                None => {}
            }
            if !silent.is_empty() || !entry.library_open.is_empty() {
                let last = entry.last_known.keys().filter(|place| place.library);
                let last = last.chain(silent.iter().map(|(place, _)| *place)).map(|place| place.digest);
                return Expected::Unsure(one(last));
            }
        }
        Expected::Any
    }

    pub(super) fn library_names(&self, name: &ImageName, partition: Option<&PartitionName>) -> Vec<String> {
        let within = |folder: &str| format!("{folder}/{name}");
        let mut names: Vec<String> =
            partition.map(|partition| within(partition.as_str())).into_iter().collect();
        names.extend([within(SHARED), name.to_string()]);
        names
    }
}

/// Returns what all agree on.
fn one(mut digests: impl Iterator<Item = Digest>) -> Option<Digest> {
    let first = digests.next()?;
    digests.all(|other| other == first).then_some(first)
}

/// Makes the error for a reference nobody ever heard of.
pub(super) fn unheard_of(reference: &str) -> QueryError {
    QueryError::UnknownImage { reference: shorten(reference), candidates: Vec::new() }
}

fn is_prefix(text: &str) -> bool {
    (MIN_PREFIX..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
