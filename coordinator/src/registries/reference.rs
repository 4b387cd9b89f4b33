//! Which image of which registry is meant, and what its manifest says. Pure.
//!
//! Outside facts: OCI image specification 1.1 (manifest, index), OCI distribution specification 1.1 (names, tags); what apptainer and
//! oras push: one layer of the type of SIF, whatever the config is.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use sifleet_common::chunk::MAX_IMAGE;
use sifleet_common::name::ImageName;

use crate::library::Sha256;

/// Longest reference, in bytes.
const MAX_REFERENCE: usize = 2_048;
/// Longest repository, in bytes: what OCI suggests for names with the host.
const MAX_REPOSITORY: usize = 255;
/// Longest tag, in bytes.
const MAX_TAG: usize = 128;
/// Largest manifest, in bytes: what registries have to take.
pub const MAX_MANIFEST: usize = 4 * 1024 * 1024;
/// What we can read, in the order in which we would like to.
pub const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// What a layer is called that is a SIF; the second is how old versions misspelt it.
const SIF: [&str; 2] = ["application/vnd.sylabs.sif.layer.v1.sif", "appliciation/vnd.sylabs.sif.layer.tar"];

/// Names an image of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Host, and port if it is not the usual one.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// Which of its images.
    pub which: Which,
}

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// What the tag stands for.
    Tag(String),
    /// The manifest with this SHA-256.
    Digest(Sha256),
}

/// Says why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: write oras://HOST/REPOSITORY:TAG or oras://HOST/REPOSITORY@sha256:DIGEST")]
pub struct BadReference(&'static str);

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if matches!(self.which, Which::Tag(_)) { ':' } else { '@' };
        write!(f, "oras://{}/{}{mark}{}", self.host, self.repository, self.which)
    }
}

impl FromStr for Reference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        let wrong = |what| Err(BadReference(what));
        let Some(rest) = text.strip_prefix("oras://").filter(|_| text.len() <= MAX_REFERENCE) else {
            return wrong("that is no image of a registry");
        };
        let Some((host, rest)) = rest.split_once('/') else { return wrong("the repository is missing") };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            return wrong("that is no host");
        }
        let (repository, which) = match rest.split_once('@') {
            Some((repository, digest)) => match digest.parse() {
                Ok(digest) => (without_tag(repository), Which::Digest(digest)),
                Err(_no_digest) => return wrong("that is no sha256 digest"),
            },
            None => {
                let (repository, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
                if !is_tag(tag) {
                    return wrong("that is no tag");
                }
                (repository, Which::Tag(tag.to_owned()))
            }
        };
        if !is_repository(repository) {
            return wrong("that is no repository");
        }
        Ok(Self { host: host.to_ascii_lowercase(), repository: repository.to_owned(), which })
    }
}

/// Where a digest is said, a tag besides says nothing.
fn without_tag(repository: &str) -> &str {
    repository.split(':').next().unwrap_or_default()
}

fn is_tag(tag: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let rest = |byte: u8| first(byte) || b".-".contains(&byte);
    tag.len() <= MAX_TAG && tag.bytes().next().is_some_and(first) && tag.bytes().all(rest)
}

fn is_repository(text: &str) -> bool {
    let part = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().all(|byte| plain(byte) || b"._-".contains(&byte))
            && part.bytes().next().is_some_and(plain)
            && part.bytes().last().is_some_and(plain)
    };
    text.len() <= MAX_REPOSITORY && text.split('/').all(part)
}

impl Reference {
    /// Says how the image is called in the library if nobody says: `team/openfoam:v2312` is `team/openfoam_v2312.sif`, the tag `latest`
    /// is left out.
    ///
    /// # Errors
    /// Where a digest alone says too little.
    pub fn library_name(&self) -> Result<ImageName, BadReference> {
        let name = match &self.which {
            Which::Tag(tag) if tag == "latest" => format!("{}.sif", self.repository),
            Which::Tag(tag) => format!("{}_{tag}.sif", self.repository),
            Which::Digest(digest) => {
                format!("{}_{}.sif", self.repository, digest.hex().get(..12).unwrap_or_default())
            }
        };
        name.parse().map_err(|_too_long| BadReference("that makes no name for the library"))
    }
}

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// The image's bytes.
    Layer {
        /// Their SHA-256.
        digest: Sha256,
        /// How many there are.
        size: u64,
    },
    /// Another manifest has to be asked for.
    Other(Sha256),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
}

/// Reads a manifest; of an index the image for amd64, or the only one.
///
/// # Errors
/// Why the image is none that can be brought into the library.
pub fn manifest(bytes: &[u8]) -> Result<Manifest, &'static str> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|_other| "its manifest cannot be read")?;
    if raw.schema_version != 2 {
        return Err("its manifest is of another version than 2");
    }
    let digest = |own: &Descriptor| {
        own.digest.parse().map_err(|_other| "its manifest names a digest that is not sha256")
    };
    if !raw.manifests.is_empty() {
        let fits = |own: &&Descriptor| own.platform.as_ref().is_some_and(|own| own.architecture == "amd64");
        let only = || raw.manifests.first().filter(|_| raw.manifests.len() == 1);
        let found = raw.manifests.iter().find(fits).or_else(only);
        return digest(found.ok_or("its index has no image for amd64")?).map(Manifest::Other);
    }
    match raw.layers.as_slice() {
        [layer] if SIF.contains(&layer.media_type.as_str()) => {
            if layer.size == 0 || layer.size > MAX_IMAGE {
                return Err("its layer is larger than any image");
            }
            Ok(Manifest::Layer { digest: digest(layer)?, size: layer.size })
        }
        [] => Err("it has no layer"),
        [_] => Err("its layer is no SIF: build it with apptainer, or import docker-archive:FILE"),
        _ => Err("it is an OCI image of several layers and no SIF: build it with apptainer"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn references_are_read_as_apptainer_writes_them() {
        for (text, written, name) in [
            ("oras://r.example/openfoam", "oras://r.example/openfoam:latest", "openfoam.sif"),
            (
                "oras://R.example:5000/team/openfoam:v2312",
                "oras://r.example:5000/team/openfoam:v2312",
                "team/openfoam_v2312.sif",
            ),
            ("oras://[::1]:5000/a:1.0", "oras://[::1]:5000/a:1.0", "a_1.0.sif"),
        ] {
            let read: Reference = text.parse().unwrap();
            assert_eq!((read.to_string().as_str(), read.library_name().unwrap().as_str()), (written, name));
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        let read: Reference = format!("oras://r.example/a/b:tag@{DIGEST}").parse().unwrap();
        assert_eq!(read.to_string(), format!("oras://r.example/a/b@{DIGEST}"));
        assert_eq!(read.library_name().unwrap().as_str(), "a/b_44136fa355b3.sif");
    }

    #[test]
    fn what_names_no_image_is_not_read() {
        for text in [
            "",
            "docker://r.example/a",
            "oras://",
            "oras://r.example",
            "oras:///a",
            "oras://r.example/",
            "oras://u@r.example/a",
            "oras://r.example/../a",
            "oras://r.example/A",
            "oras://r.example/a:",
            "oras://r.example/a:-x",
            "oras://r.example/a//b",
            "oras://r.example/a@sha256:00",
            "oras://r.example/a@md5:00",
            "oras://r.example/a?x",
            "oras://r.example/a b",
            "oras://r.example/a:x/../../y",
            "oras://r.example/.a",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        assert!(format!("oras://r.example/{}", "a".repeat(256)).parse::<Reference>().is_err());
    }

    fn read(manifest: &Value) -> Result<Manifest, &'static str> {
        super::manifest(manifest.to_string().as_bytes())
    }

    #[test]
    fn a_manifest_of_one_sif_is_taken_and_no_other() {
        let layer = |kind: &str, size: u64| json!({"mediaType": kind, "digest": DIGEST, "size": size});
        let whole = |layers: Vec<Value>| json!({"schemaVersion": 2, "config": {}, "layers": layers});
        let expected = Manifest::Layer { digest: DIGEST.parse().unwrap(), size: 7 };
        for kind in SIF {
            assert_eq!(read(&whole(vec![layer(kind, 7)])), Ok(expected.clone()), "{kind}");
        }
        for (manifest, reason) in [
            (whole(vec![]), "no layer"),
            (whole(vec![layer("application/vnd.oci.image.layer.v1.tar+gzip", 7)]), "no SIF"),
            (whole(vec![layer(SIF[0], 7), layer(SIF[0], 7)]), "several layers"),
            (whole(vec![layer(SIF[0], 0)]), "larger than any"),
            (whole(vec![layer(SIF[0], u64::MAX)]), "larger than any"),
            (json!({"schemaVersion": 1}), "another version"),
            (json!([]), "cannot be read"),
            (whole(vec![json!({"mediaType": SIF[0], "digest": "sha512:00", "size": 7})]), "not sha256"),
        ] {
            let error = read(&manifest).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn of_an_index_the_image_for_amd64_is_taken() {
        let entry = |arch: &str, digest: &str| json!({"digest": digest, "size": 1, "platform": {"architecture": arch, "os": "linux"}});
        let other = format!("sha256:{}", "0".repeat(64));
        let index = |entries: Vec<Value>| json!({"schemaVersion": 2, "manifests": entries});
        let amd = Ok(Manifest::Other(DIGEST.parse().unwrap()));
        assert_eq!(read(&index(vec![entry("arm64", &other), entry("amd64", DIGEST)])), amd);
        assert_eq!(read(&index(vec![entry("arm64", DIGEST)])), amd);
        assert!(read(&index(vec![entry("arm64", &other), entry("riscv64", &other)])).is_err());
    }
}
