//! Manifests: what the registry's say, and what those of the tree say.
//!
//! Outside facts: OCI image specification 1.1 (manifest, descriptor and its `urls`); the media types that apptainer writes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The layer that is a SIF.
const SIF_LAYER: &str = "application/vnd.sylabs.sif.layer.v1.sif";
/// What singularity once wrote instead, spelling included.
const OLD_SIF_LAYER: &str = "appliciation/vnd.sylabs.sif.layer.tar";
/// The only kind of manifest that the tree has.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Points at bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// What they are.
    pub(crate) media_type: String,
    /// How many.
    pub(crate) size: u64,
    /// Which: `sha256:` and 64 hexadecimal digits.
    pub(crate) digest: String,
    /// Where they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) urls: Vec<String>,
    /// What else is said of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A manifest as it is written, in the order of the specification's examples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// A manifest whose one layer is a SIF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sif {
    config: Descriptor,
    /// The image itself.
    pub(crate) layer: Descriptor,
    annotations: BTreeMap<String, String>,
}

/// What a manifest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of one SIF.
    Sif(Box<Sif>),
    /// Of something else: an index, an image of layers, an artifact.
    Other,
    /// Of a SIF, but its digest could not be part of a path.
    Unsafe,
}

/// Reads a manifest of the registry.
pub(crate) fn read(text: &str) -> Kind {
    let Ok(Manifest { schema_version: 2, config, layers, annotations, .. }) = serde_json::from_str(text)
    else {
        return Kind::Other;
    };
    match <[Descriptor; 1]>::try_from(layers) {
        Ok([layer]) if [SIF_LAYER, OLD_SIF_LAYER].contains(&&*layer.media_type) => {
            if is_digest(&layer.digest) {
                Kind::Sif(Box::new(Sif { config, layer, annotations }))
            } else {
                Kind::Unsafe
            }
        }
        Ok(_) | Err(_) => Kind::Other,
    }
}

fn is_digest(text: &str) -> bool {
    let lower_hex = |hex: &str| hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        [("sha256", 64), ("sha512", 128)].contains(&(algorithm, hex.len())) && lower_hex(hex)
    })
}

impl Sif {
    /// Writes the manifest of the tree, which says where the image is.
    pub(crate) fn published(&self, url: String) -> Vec<u8> {
        let layer = Descriptor { urls: vec![url], ..self.layer.clone() };
        json(&Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config: self.config.clone(),
            layers: vec![layer],
            annotations: self.annotations.clone(),
        })
    }

    /// Finds what somebody says of the image, in its manifest or its layer.
    pub(crate) fn description(&self) -> Option<&str> {
        let key = "org.opencontainers.image.description";
        self.annotations.get(key).or_else(|| self.layer.annotations.get(key)).map(String::as_str)
    }
}

/// Writes JSON that is harmless where a server calls it HTML, as servers call every `index.html`.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    // Plain maps, texts and numbers: nothing of it can fail.
    let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    // Outside texts JSON has none of these signs.
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").into_bytes()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What apptainer 1.4.5 pushes, but for the digest.
    pub(crate) fn manifest(digit: char) -> String {
        let digest = digit.to_string().repeat(64);
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.sylabs.sif.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}},"layers":[{{"mediaType":"{SIF_LAYER}","size":1085440,"digest":"sha256:{digest}","annotations":{{"org.opencontainers.image.title":"full.sif"}}}}]}}"#
        )
    }

    pub(crate) fn sif(digit: char) -> Sif {
        let Kind::Sif(sif) = read(&manifest(digit)) else { panic!("no SIF") };
        *sif
    }

    #[test]
    fn what_apptainer_pushed_is_published_with_its_address() {
        let text = String::from_utf8(sif('a').published("https://h/x".to_owned())).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["layers"][0]["urls"][0], "https://h/x");
        assert_eq!(value["layers"][0]["size"], 1_085_440);
        assert_eq!(value["config"]["size"], 2);
        assert!(text.starts_with("{\n  \"schemaVersion\": 2,\n  \"mediaType\""), "{text}");
    }

    #[test]
    fn only_one_layer_that_is_a_sif_makes_an_image() {
        let good = manifest('a');
        assert!(matches!(read(&good.replace(SIF_LAYER, OLD_SIF_LAYER)), Kind::Sif(_)));
        for other in [
            good.replace(SIF_LAYER, "application/octet-stream"),
            good.replace("\"layers\":[", "\"layers\":[],\"more\":["),
            good.replace("\"schemaVersion\":2", "\"schemaVersion\":1"),
            r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(),
            "no JSON".to_owned(),
        ] {
            assert_eq!(read(&other), Kind::Other, "{other}");
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        for bad in ["sha256:../../x", "md5:00", "", &digest.to_uppercase()] {
            assert_eq!(read(&good.replace(&digest, bad)), Kind::Unsafe, "{bad}");
        }
    }

    #[test]
    fn what_a_stranger_wrote_is_no_html() {
        let text = manifest('a').replace("full.sif", "<script>&");
        let Kind::Sif(sif) = read(&text) else { panic!("no SIF") };
        let written = String::from_utf8(sif.published(String::new())).unwrap();
        assert!(!written.contains(['<', '>', '&']), "{written}");
        let value: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(value["layers"][0]["annotations"]["org.opencontainers.image.title"], "<script>&");
    }
}
