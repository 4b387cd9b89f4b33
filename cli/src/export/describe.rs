//! What is said of an image: beside it, in its labels, in its help.

use serde_json::Value;
use sifleet_common::api::images::{Described, ImageDetail};

/// Labels that describe an image, in this order.
const LABELS: [&str; 4] =
    ["org.opencontainers.image.description", "org.label-schema.description", "description", "Description"];
/// Longest description, in characters; a page of text has about 3,000.
const MAX: usize = 4_000;

/// Finds the description of an image: its sidecar's, else a label's, else its help.
pub(crate) fn description(detail: &ImageDetail) -> Option<String> {
    let in_library = detail.summary.digests.iter().find(|digest| digest.in_library);
    let meant = in_library.or_else(|| detail.summary.digests.first());
    let described = detail.metadata.iter().find(|one| meant.is_some_and(|meant| one.digest == meant.digest));
    let described = described.or_else(|| detail.metadata.first())?;
    let text = sidecar(described).or_else(|| label(described)).or_else(|| described.metadata.help.clone())?;
    let text: String = text.trim().chars().take(MAX).collect();
    Some(text).filter(|text| !text.is_empty())
}

fn sidecar(described: &Described) -> Option<String> {
    let value: Value = serde_json::from_str(described.sidecar.as_ref()?).ok()?;
    value.get("description")?.as_str().map(str::to_owned)
}

fn label(described: &Described) -> Option<String> {
    LABELS.iter().find_map(|label| described.metadata.labels.get(*label).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sifleet_common::api::images::{DigestUse, ImageSummary};
    use sifleet_common::image::{Format, ImageMetadata};

    fn described(digest: &str, sidecar: Option<&str>, label: Option<&str>, help: Option<&str>) -> Described {
        let mut metadata = ImageMetadata::bare(Format::Sif, 1);
        metadata.labels.extend(label.map(|text| (LABELS[0].to_owned(), text.to_owned())));
        metadata.help = help.map(str::to_owned);
        Described { digest: digest.to_owned(), metadata, sidecar: sidecar.map(str::to_owned) }
    }

    fn detail(in_library: &str, metadata: Vec<Described>) -> ImageDetail {
        let digest = |described: &Described| DigestUse {
            digest: described.digest.clone(),
            size: 1,
            arch: "amd64".to_owned(),
            format: "sif".to_owned(),
            mutable: false,
            in_library: described.digest == in_library,
            count: 1,
            nodes: "n1".to_owned(),
        };
        let summary = ImageSummary {
            name: "a.sif".to_owned(),
            digests: metadata.iter().map(digest).collect(),
            drift: false,
            nodes: String::new(),
            count: 1,
            last_known: String::new(),
        };
        ImageDetail { summary, paths: vec![], problems: vec![], metadata, as_of: String::new() }
    }

    #[test]
    fn what_people_wrote_beside_an_image_comes_before_what_is_in_it() {
        let side = Some(r#"{"description": " beside "}"#);
        for (sidecar, label, help, found) in [
            (side, Some("label"), Some("help"), Some("beside")),
            (Some("no JSON"), Some("label"), Some("help"), Some("label")),
            (Some(r#"{"description": 1}"#), None, Some("help"), Some("help")),
            (None, None, Some("  "), None),
            (None, None, None, None),
        ] {
            let detail = detail("x", vec![described("x", sidecar, label, help)]);
            assert_eq!(description(&detail).as_deref(), found);
        }
    }

    #[test]
    fn what_the_librarys_image_says_is_told() {
        let both = vec![described("x", None, Some("old"), None), described("y", None, Some("new"), None)];
        assert_eq!(description(&detail("y", both)).as_deref(), Some("new"));
    }
}
