//! From what people write to the image they mean.
//!
//! `vnc_desktop`, `vnc_desktop.sif`, `compute/openfoam_v2312.sif`, `name@blake3:…`, `blake3:…` or a digest
//! prefix of at least 12 digits. What is ambiguous is an error that lists what it may mean.

use sifleet_common::digest::{Digest, MIN_PREFIX};
use sifleet_common::name::{ImageName, PartitionName};

use super::{QueryError, View, near, shorten};

/// Longest reference anybody has reason to write.
const MAX_REFERENCE: usize = 4_096 + 80;
/// Most candidates an error lists.
const MAX_CANDIDATES: usize = 10;

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
}

impl View {
    /// Finds the image that a reference means.
    pub(crate) fn resolve(&self, reference: &str) -> Result<Target, QueryError> {
        if reference.is_empty() || reference.len() > MAX_REFERENCE {
            let why = format!("it must have 1 to {MAX_REFERENCE} bytes");
            return Err(QueryError::BadReference { reference: shorten(reference), why });
        }
        if let Some(hex) = reference.strip_prefix("blake3:") {
            return self.resolve_digest(reference, hex);
        }
        let (name, digest) = match reference.split_once("@blake3:") {
            Some((name, hex)) => (name, Some(self.digest_of(reference, hex)?)),
            None => (reference, None),
        };
        match self.resolve_name(reference, name)? {
            Some(found) => Ok(Target {
                shown: found.to_string(),
                names: vec![found],
                digest,
                by_digest: false,
                heard_of: true,
            }),
            None if digest.is_none() && is_prefix(name) => self.resolve_digest(reference, name),
            None => Ok(Target {
                shown: shorten(name),
                names: Vec::new(),
                digest,
                by_digest: false,
                heard_of: false,
            }),
        }
    }

    /// Turns a reference nobody ever heard of into the error that says so.
    pub(crate) fn unheard_of(&self, reference: &str) -> QueryError {
        let stems = self.stems.keys().map(AsRef::as_ref);
        let stem = reference.rsplit('/').next().unwrap_or(reference);
        let mut candidates = Vec::new();
        for stem in near(stem.strip_suffix(".sif").unwrap_or(stem), stems) {
            if let Some(names) = self.stems.get(stem.as_str()) {
                candidates.extend(names.iter().take(MAX_CANDIDATES).map(ToString::to_string));
            }
        }
        candidates.truncate(MAX_CANDIDATES);
        QueryError::UnknownImage { reference: shorten(reference), candidates }
    }

    fn resolve_name(&self, reference: &str, name: &str) -> Result<Option<ImageName>, QueryError> {
        let with_suffix = format!("{name}.sif");
        for exact in [with_suffix.as_str(), name] {
            if let Some((found, _)) = self.names.get_key_value(exact) {
                return Ok(Some(found.clone()));
            }
        }
        if let Err(error) = name.parse::<ImageName>() {
            return Err(QueryError::BadReference { reference: shorten(reference), why: error.to_string() });
        }
        let stem = name.strip_suffix(".sif").unwrap_or(name);
        let Some(names) = self.stems.get(stem) else { return Ok(None) };
        let fitting: Vec<&ImageName> =
            names.iter().filter(|found| !name.ends_with(".sif") || found.file_name() == name).collect();
        match fitting.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some((*only).clone())),
            several => Err(QueryError::Ambiguous {
                reference: shorten(reference),
                candidates: several.iter().take(MAX_CANDIDATES).map(ToString::to_string).collect(),
            }),
        }
    }

    fn resolve_digest(&self, reference: &str, hex: &str) -> Result<Target, QueryError> {
        let digest = self.digest_of(reference, hex)?;
        let names = self.digests.get(&digest).map(|entry| entry.names.iter().cloned().collect());
        Ok(Target {
            shown: digest.to_string(),
            heard_of: names.is_some(),
            names: names.unwrap_or_default(),
            digest: Some(digest),
            by_digest: true,
        })
    }

    /// Completes a digest prefix; a whole digest need not be known.
    fn digest_of(&self, reference: &str, hex: &str) -> Result<Digest, QueryError> {
        let hex = hex.to_ascii_lowercase();
        if let Ok(whole) = format!("blake3:{hex}").parse() {
            return Ok(whole);
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
            [] => Err(self.unheard_of(reference)),
            [only] => Ok(*only),
            several => Err(QueryError::Ambiguous {
                reference: shorten(reference),
                candidates: several.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// Tells which bytes the library expects under a name on a partition, if it names exactly one.
    ///
    /// The library's folders are partitions and `shared` (`viz/vnc_desktop.sif`), so both are looked into
    /// before the name itself.
    pub(crate) fn expected(&self, name: &ImageName, partition: Option<&PartitionName>) -> Option<Digest> {
        self.library_names(name, partition).into_iter().find_map(|name| {
            let entry = self.names.get(name.as_str())?;
            let mut held = entry.ready.keys().filter(|place| place.library).map(|place| place.digest);
            let first = held.next()?;
            held.all(|other| other == first).then_some(first)
        })
    }

    pub(super) fn library_names(&self, name: &ImageName, partition: Option<&PartitionName>) -> Vec<String> {
        let within = |folder: &str| format!("{folder}/{name}");
        let mut names: Vec<String> =
            partition.map(|partition| within(partition.as_str())).into_iter().collect();
        names.extend([within("shared"), name.to_string()]);
        names
    }
}

fn is_prefix(text: &str) -> bool {
    (MIN_PREFIX..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
