//! Manifests: what a pushed one says, and the one that a file of the library has without being pushed.
//!
//! Pure. A manifest is kept as the bytes that came, for its digest is theirs; here it is only read. Outside facts: OCI image
//! specification 1.1 (manifest, index, subject, artifactType), and the manifests that apptainer 1.4.5 writes and reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::OciDigest;
use super::error::OciError;

/// Longest manifest, in bytes: what the specification asks registries to take at least.
pub const MAX_MANIFEST: usize = 4 * 1024 * 1024;
/// Most blobs that one manifest names: each is looked for when it is pushed.
const MAX_BLOBS: usize = 4_096;

/// The media type of an OCI image manifest.
pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an OCI index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of a layer that is a SIF.
pub const SIF_LAYER: &str = "application/vnd.sylabs.sif.layer.v1.sif";
/// What singularity once wrote instead, spelling included.
const OLD_SIF_LAYER: &str = "appliciation/vnd.sylabs.sif.layer.tar";
/// The configuration of an image that is a SIF: it has none.
pub const EMPTY: &[u8] = b"{}";
const SIF_CONFIG: &str = "application/vnd.sylabs.sif.config.v1+json";
/// SHA-256 of [`EMPTY`].
const EMPTY_DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const TITLE: &str = "org.opencontainers.image.title";

/// Points at bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What they are.
    #[serde(default)]
    pub media_type: String,
    /// How many there are.
    #[serde(default)]
    pub size: u64,
    /// Which.
    pub digest: String,
    /// What kind of artifact they describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What else is said of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

/// A layer that is a SIF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SifLayer {
    /// Which bytes.
    pub digest: OciDigest,
    /// How many.
    pub size: u64,
}

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// Bytes that have to be here.
    pub blobs: Vec<OciDigest>,
    /// The SIF that it is about, if it is about one.
    pub sif: Option<SifLayer>,
    /// The manifest that it refers to.
    pub subject: Option<OciDigest>,
    /// What kind of artifact it is, as lists of referrers say.
    pub artifact_type: Option<String>,
    /// What else it says of itself.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Reads a manifest that came under a content type.
///
/// # Errors
/// [`OciError::BadManifest`] says what is wrong with it.
pub fn read(bytes: &[u8], content_type: Option<&str>) -> Result<Manifest, OciError> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| bad(&super::cut(&error.to_string())))?;
    if raw.schema_version != Some(2) {
        return Err(bad("schemaVersion is not 2"));
    }
    let said = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    let media_type = match (raw.media_type.as_deref(), said.filter(|said| !said.is_empty())) {
        (Some(inside), Some(said)) if inside != said => {
            let (inside, said) = (super::cut(inside), super::cut(said));
            return Err(bad(&format!("mediaType is {inside:?}, and the Content-Type {said:?}")));
        }
        (Some(kind), _) | (None, Some(kind)) => kind.to_owned(),
        (None, None) if raw.manifests.is_some() => INDEX.to_owned(),
        (None, None) => IMAGE.to_owned(),
    };
    let layers = raw.layers.unwrap_or_default();
    if layers.len() >= MAX_BLOBS {
        return Err(bad(&format!("it has {} layers, at most {MAX_BLOBS} are taken", layers.len())));
    }
    let needed = raw.config.iter().chain(&layers).filter(|blob| !is_elsewhere(&blob.media_type));
    let blobs = needed.map(digest_of).collect::<Result<_, _>>()?;
    // Children of an index may be pushed later, or never: a part of the platforms is an image, too.
    raw.manifests.iter().flatten().try_for_each(|child| digest_of(child).map(drop))?;
    let subject = raw.subject.as_ref().map(digest_of).transpose()?;
    let config_type = raw.config.map(|config| config.media_type).filter(|kind| !kind.is_empty());
    Ok(Manifest {
        media_type,
        blobs,
        sif: sif_of(&layers)?,
        subject,
        artifact_type: raw.artifact_type.filter(|kind| !kind.is_empty()).or(config_type),
        annotations: raw.annotations,
    })
}

fn bad(why: &str) -> OciError {
    OciError::BadManifest { why: format!("the manifest cannot be read: {why}") }
}

fn digest_of(descriptor: &Descriptor) -> Result<OciDigest, OciError> {
    descriptor.digest.parse().map_err(|error: OciError| bad(&error.to_string()))
}

/// Tells whether a layer's licence keeps it out of registries: nobody pushes it.
fn is_elsewhere(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

/// Finds the one layer that is a SIF. Clients refuse an image that has another layer beside it.
fn sif_of(layers: &[Descriptor]) -> Result<Option<SifLayer>, OciError> {
    let is_sif = |layer: &&Descriptor| [SIF_LAYER, OLD_SIF_LAYER].contains(&layer.media_type.as_str());
    let Some(layer) = layers.iter().find(is_sif) else { return Ok(None) };
    if layers.len() > 1 {
        return Err(bad(&format!("it has {} layers, and a SIF image has one", layers.len())));
    }
    Ok(Some(SifLayer { digest: digest_of(layer)?, size: layer.size }))
}

/// Makes the manifest that apptainer would push for a file, byte for byte.
#[must_use]
pub fn of_file(layer: &OciDigest, size: u64, title: &str) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Image<'a> {
        schema_version: u8,
        media_type: &'a str,
        config: Config<'a>,
        layers: [Layer<'a>; 1],
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Config<'a> {
        media_type: &'a str,
        size: usize,
        digest: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Layer<'a> {
        media_type: &'a str,
        size: u64,
        digest: String,
        annotations: BTreeMap<&'a str, &'a str>,
    }
    let image = Image {
        schema_version: 2,
        media_type: IMAGE,
        config: Config { media_type: SIF_CONFIG, size: EMPTY.len(), digest: EMPTY_DIGEST },
        layers: [Layer {
            media_type: SIF_LAYER,
            size,
            digest: layer.to_string(),
            annotations: BTreeMap::from([(TITLE, title)]),
        }],
    };
    // Texts and numbers always become JSON.
    serde_json::to_vec(&image).unwrap_or_default()
}

/// Makes the answer to who refers to a manifest.
#[must_use]
pub fn index_of(referrers: Vec<Descriptor>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Index {
        schema_version: u8,
        media_type: &'static str,
        manifests: Vec<Descriptor>,
    }
    serde_json::to_vec(&Index { schema_version: 2, media_type: INDEX, manifests: referrers })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::digest::Algorithm;
    use super::*;

    /// What apptainer 1.4.5 pushed, but for the digest of the layer.
    const PUSHED: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.sylabs.sif.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[{"mediaType":"application/vnd.sylabs.sif.layer.v1.sif","size":1085440,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","annotations":{"org.opencontainers.image.title":"full.sif"}}]}"#;

    #[test]
    fn the_manifest_of_a_file_is_the_one_apptainer_pushes() {
        let layer = Algorithm::Sha256.of(b"");
        let made = of_file(&layer, 1_085_440, "full.sif");
        assert_eq!(String::from_utf8(made.clone()).unwrap(), PUSHED);
        let read = read(&made, Some(IMAGE)).unwrap();
        assert_eq!(read.sif, Some(SifLayer { digest: layer.clone(), size: 1_085_440 }));
        assert_eq!(read.blobs, [Algorithm::Sha256.of(EMPTY), layer]);
        assert_eq!(Algorithm::Sha256.of(EMPTY).to_string(), EMPTY_DIGEST);
    }

    fn with(from: &str, to: &str) -> Result<Manifest, OciError> {
        let text = PUSHED.replace(from, to);
        assert_ne!(text, PUSHED);
        read(text.as_bytes(), None)
    }

    #[test]
    fn every_layer_and_configuration_that_means_a_sif_is_taken() {
        assert!(with(SIF_LAYER, OLD_SIF_LAYER).unwrap().sif.is_some());
        assert!(with(SIF_CONFIG, "application/vnd.oci.empty.v1+json").unwrap().sif.is_some());
        assert!(with(SIF_LAYER, "application/octet-stream").unwrap().sif.is_none());
        let layer = PUSHED.find("[{").and_then(|at| PUSHED.get(at + 1..PUSHED.len() - 2)).unwrap();
        let error = with(layer, &format!("{layer},{layer}")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the manifest cannot be read: it has 2 layers, and a SIF image has one"
        );
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        assert!(with("\"schemaVersion\":2", "\"schemaVersion\":1").is_err());
        assert!(with("sha256:e3b0", "sha256:E3B0").is_err());
        assert!(read(b"[]", None).is_err());
        assert!(read(b"", None).is_err());
        assert!(read(PUSHED.as_bytes(), Some(INDEX)).is_err());
        assert!(
            read(PUSHED.as_bytes(), Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"))
                .is_ok()
        );
    }

    #[test]
    fn the_kind_of_an_artifact_is_its_own_word_or_its_configurations() {
        assert_eq!(read(PUSHED.as_bytes(), None).unwrap().artifact_type.as_deref(), Some(SIF_CONFIG));
        let named = with("\"config\"", "\"artifactType\":\"a/b\",\"config\"").unwrap();
        assert_eq!(named.artifact_type.as_deref(), Some("a/b"));
        let digest = Algorithm::Sha512.of(b"x");
        let about =
            with("\"config\"", &format!("\"subject\":{{\"digest\":\"{digest}\"}},\"config\"")).unwrap();
        assert_eq!(about.subject, Some(digest));
    }

    #[test]
    fn an_index_needs_none_of_its_children_and_no_foreign_layer_is_asked_for() {
        let child = Algorithm::Sha256.of(b"child");
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{child}"}}]}}"#);
        let index = read(index.as_bytes(), None).unwrap();
        assert_eq!((index.media_type.as_str(), index.blobs.len()), (INDEX, 0));
        let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
        assert_eq!(with(SIF_LAYER, foreign).unwrap().blobs.len(), 1);
    }
}
