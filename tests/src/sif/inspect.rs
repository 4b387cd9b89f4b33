//! Says what was read of an image in apptainer's own words, so that the two can be compared.
//!
//! Outside facts: apptainer 1.4 pkg/inspect/metadata.go; absent parts are absent keys.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sifleet_common::image::{App, ImageMetadata};

/// Returns what `apptainer inspect --json --all` prints for this image.
#[must_use]
pub fn as_inspect_prints(image: &ImageMetadata) -> Value {
    let apps: Map<String, Value> =
        image.apps.iter().map(|(name, app)| (name.clone(), app_value(app))).collect();
    let attributes = present([
        ("apps", Value::Object(apps)),
        ("environment", map(&image.environment)),
        ("labels", map(&image.labels)),
        ("runscript", json!(image.runscript)),
        ("startscript", json!(image.startscript)),
        ("test", json!(image.test)),
        ("helpfile", json!(image.help)),
        ("deffile", json!(image.definition)),
    ]);
    json!({"data": {"attributes": attributes}, "type": "container"})
}

fn app_value(app: &App) -> Value {
    Value::Object(present([
        ("environment", map(&app.environment)),
        ("labels", map(&app.labels)),
        ("runscript", json!(app.runscript)),
        ("test", json!(app.test)),
        ("helpfile", json!(app.help)),
    ]))
}

fn map(map: &BTreeMap<String, String>) -> Value {
    json!(map)
}

fn present<const N: usize>(parts: [(&str, Value); N]) -> Map<String, Value> {
    let there = |value: &Value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty());
    parts.into_iter().filter(|(_, value)| there(value)).map(|(key, value)| (key.to_owned(), value)).collect()
}
