//! What an image says of itself for people: its title, version, icon, and so on, from the sidecar and from its labels.
//!
//! All of it is display text of strangers: it proves nothing, is cut, and what is not of the expected kind is left out.
//! Outside facts: annotations of the OCI image specification 1.1 (`org.opencontainers.image.*`), label-schema 1.0.

use std::collections::BTreeMap;

use serde_json::Value;
use sifleet_common::image::ImageMetadata;
use sifleet_common::time::UnixMillis;

/// Longest title, version, icon or kind, in characters.
const MAX_WORD: usize = 200;
/// Longest description, or value of a label, in characters.
const MAX_TEXT: usize = 2_000;
/// Most labels, and most apps.
const MAX_LABELS: usize = 64;

/// What an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What people call it.
    pub title: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// Which version.
    pub version: Option<String>,
    /// A character, or the name of a picture.
    pub icon: Option<String>,
    /// What it is for: `viz`, `compute`, `custom`.
    pub kind: Option<String>,
    /// Whether it is the one to offer first.
    pub default: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Names of its apps.
    pub apps: Vec<String>,
    /// When it was made.
    pub created: Option<String>,
    /// The sidecar, if it is JSON.
    pub sidecar: Option<Value>,
}

impl About {
    /// Reads what an image and the file beside it say; the file goes first.
    #[must_use]
    pub fn read(metadata: &ImageMetadata, sidecar: Option<&str>) -> Self {
        let sidecar: Option<Value> = sidecar.and_then(|text| serde_json::from_str(text).ok());
        let written = |name: &str| sidecar.as_ref().and_then(|beside| beside.get(name));
        let text = |names: &[&str], labels: &[&str], max: usize| {
            let beside = names.iter().filter_map(|name| written(name)?.as_str());
            let inside = labels.iter().filter_map(|label| metadata.labels.get(*label).map(String::as_str));
            beside.chain(inside).find(|text| !text.trim().is_empty()).map(|text| cut(text, max))
        };
        let titles = &["org.opencontainers.image.title", "org.label-schema.name"];
        let versions =
            &["org.opencontainers.image.version", "org.label-schema.version", "version", "Version"];
        let descriptions = &[
            "org.opencontainers.image.description",
            "org.label-schema.description",
            "description",
            "Description",
        ];
        Self {
            title: text(&["title", "display_name", "name"], titles, MAX_WORD),
            description: text(&["description"], descriptions, MAX_TEXT),
            version: text(&["version"], versions, MAX_WORD),
            icon: text(&["icon"], &["icon", "org.sifleet.icon"], MAX_WORD),
            kind: text(&["type"], &["org.sifleet.type"], MAX_WORD),
            default: written("default").and_then(Value::as_bool).unwrap_or(false),
            labels: metadata
                .labels
                .iter()
                .take(MAX_LABELS)
                .map(|(name, text)| (cut(name, MAX_WORD), cut(text, MAX_TEXT)))
                .collect(),
            apps: metadata.apps.keys().take(MAX_LABELS).map(|name| cut(name, MAX_WORD)).collect(),
            created: metadata.created.map(|at| UnixMillis(at.saturating_mul(1_000)).to_string()),
            sidecar,
        }
    }
}

fn cut(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

#[cfg(test)]
mod tests {
    use sifleet_common::image::Format;

    use super::*;

    fn about(labels: &[(&str, &str)], sidecar: &str) -> About {
        let mut metadata = ImageMetadata::bare(Format::Sif, 1);
        metadata.labels =
            labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        About::read(&metadata, Some(sidecar))
    }

    #[test]
    fn the_sidecar_goes_before_labels_and_labels_before_nothing() {
        let labels = [("org.opencontainers.image.title", "Inside"), ("version", "2")];
        let said = about(&labels, r#"{"name": "Beside", "icon": "🖥", "default": true, "type": "viz"}"#);
        assert_eq!((said.title.as_deref(), said.version.as_deref()), (Some("Beside"), Some("2")));
        assert_eq!(
            (said.icon.as_deref(), said.kind.as_deref(), said.default),
            (Some("🖥"), Some("viz"), true)
        );
        let said = about(&labels, "not JSON");
        assert_eq!((said.title.as_deref(), said.default, said.sidecar), (Some("Inside"), false, None));
        assert_eq!(about(&[], "{}").title, None);
    }

    #[test]
    fn what_is_of_another_kind_is_left_out_and_what_is_long_is_cut() {
        let said =
            about(&[("version", "1")], r#"{"name": 7, "version": "", "default": "yes", "icon": null}"#);
        assert_eq!((said.title, said.icon, said.default), (None, None, false));
        assert_eq!(said.version.as_deref(), Some("1"));
        let said = about(&[], &format!(r#"{{"name": "{}"}}"#, "é".repeat(9_000)));
        assert_eq!(said.title.map(|title| title.chars().count()), Some(MAX_WORD));
    }
}
