//! `[oci]`: the library as a registry, for apptainer, oras, skopeo and other clients.

use serde::Deserialize;
use sifleet_common::name::PartitionName;
use sifleet_common::units::{Period, Size};

use crate::oci::{Options, Placing};

/// Most rules about what goes where.
const MAX_PLACES: usize = 1_000;

/// The library as a registry. It is one wherever `library.dir` is set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, try_from = "Raw")]
pub struct Oci {
    /// Whether everybody who reaches the coordinator may pull.
    pub anonymous_pull: bool,
    /// Most bytes of a blob that is no SIF image.
    pub max_blob: Size,
    /// Most bytes of blobs and uploads together, besides the library's images.
    pub quota: Size,
    /// For how long a blob is kept that no manifest names.
    pub keep_unreferenced: Period,
    /// How long a client waits for an image that is on nodes only.
    pub fetch_timeout: Period,
    /// Which partitions get what is pushed.
    pub place: Vec<Place>,
}

/// Images of some repositories go to a partition once they were pushed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Which repositories: a name, or what it begins with and a star.
    pub repositories: String,
    /// Where to.
    pub partition: PartitionName,
}

impl Default for Oci {
    fn default() -> Self {
        Self {
            anonymous_pull: false,
            max_blob: Size::mebibytes(1_024),
            quota: Size::mebibytes(100 * 1_024),
            keep_unreferenced: Period::seconds(86_400),
            fetch_timeout: Period::seconds(600),
            place: Vec::new(),
        }
    }
}

impl Oci {
    /// Returns how the registry is to be.
    pub(super) fn options(&self) -> Options {
        let place = |place: &Place| Placing {
            repositories: place.repositories.clone(),
            partition: place.partition.clone(),
        };
        Options {
            anonymous_pull: self.anonymous_pull,
            max_blob: self.max_blob.get(),
            quota: self.quota.get(),
            keep_unreferenced: self.keep_unreferenced.get(),
            fetch_timeout: self.fetch_timeout.get(),
            place: self.place.iter().map(place).collect(),
            ..Options::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    anonymous_pull: Option<bool>,
    max_blob: Option<Size>,
    quota: Option<Size>,
    keep_unreferenced: Option<Period>,
    fetch_timeout: Option<Period>,
    #[serde(default)]
    place: Vec<Place>,
}

impl TryFrom<Raw> for Oci {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let default = Self::default();
        if raw.place.len() > MAX_PLACES {
            return Err(format!("there are more than {MAX_PLACES} oci.place"));
        }
        let odd = |place: &&Place| {
            let name = place.repositories.strip_suffix('*').unwrap_or(&place.repositories);
            name.contains('*') || place.repositories.is_empty()
        };
        if let Some(place) = raw.place.iter().find(odd) {
            return Err(format!(
                "oci.place names the repositories {:?}: write a name, or how it begins and a star",
                place.repositories
            ));
        }
        Ok(Self {
            anonymous_pull: raw.anonymous_pull.unwrap_or(default.anonymous_pull),
            max_blob: raw.max_blob.unwrap_or(default.max_blob),
            quota: raw.quota.unwrap_or(default.quota),
            keep_unreferenced: raw.keep_unreferenced.unwrap_or(default.keep_unreferenced),
            fetch_timeout: raw.fetch_timeout.unwrap_or(default.fetch_timeout),
            place: raw.place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_the_registry_has_it() {
        let said: Oci = toml::from_str("").unwrap();
        assert_eq!(said, Oci::default());
        assert_eq!(said.options(), Options::default());
    }

    #[test]
    fn a_star_stands_at_the_end_alone() {
        let read = |pattern: &str| {
            let text = format!("place = [{{ repositories = {pattern:?}, partition = \"viz\" }}]");
            toml::from_str::<Oci>(&text).map(|oci| oci.options().place.len())
        };
        assert_eq!(read("viz/*").unwrap(), 1);
        assert_eq!(read("*").unwrap(), 1);
        for odd in ["", "*/viz", "a*b*"] {
            assert!(read(odd).is_err(), "{odd}");
        }
    }
}
