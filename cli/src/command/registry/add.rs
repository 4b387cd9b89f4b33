//! `sifleet registry add`.

use serde_json::{Map, Value};
use sifleet_common::api::registries::{RegistryBody, RegistryRequest};

use super::{all, credentials, sign_in};
use crate::args::Adding;
use crate::client::Client;
use crate::outcome::{Outcome, Wrong};
use crate::output::Screen;

/// Writes a registry down and shows it.
pub(super) fn run(client: &Client, screen: &mut Screen, adding: Adding) -> anyhow::Result<Outcome> {
    let credentials = credentials(&adding.credentials)?;
    let mut request = RegistryRequest {
        id: adding.id,
        name: adding.name,
        public_url: adding.public_url,
        image_prefix: adding.image_prefix.unwrap_or_default(),
        tags: adding.tags,
        metadata: Map::new(),
        config: Map::new(),
        storage_info: Map::new(),
    };
    for (path, value) in adding.set {
        put(&mut request, &path, value)?;
    }
    let mut answer = client.send::<RegistryBody>(&all(), &request, None)?;
    if let Some(credentials) = credentials {
        answer = sign_in(client, &answer.value.id, &credentials)?;
    }
    screen.show(&answer)?;
    Ok(Outcome::Yes)
}

/// Puts a value below one of the objects.
fn put(request: &mut RegistryRequest, path: &str, value: Value) -> Result<(), Wrong> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let mut object = match first {
        "metadata" => &mut request.metadata,
        "config" => &mut request.config,
        "storage_info" => &mut request.storage_info,
        _ => return Err(wrong(path)),
    };
    let mut parts: Vec<&str> = rest.split('.').collect();
    let last = parts.pop().filter(|last| !last.is_empty()).ok_or_else(|| wrong(path))?;
    for part in parts {
        let below = object.entry(part.to_owned()).or_insert_with(|| Value::Object(Map::new()));
        object = below.as_object_mut().ok_or_else(|| wrong(path))?;
    }
    object.insert(last.to_owned(), value);
    Ok(())
}

fn wrong(path: &str) -> Wrong {
    let hint = "write --set metadata.owner=mlops, or a path below config or storage_info";
    Wrong::new(format!("{path} cannot be set"), hint)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_put_below_the_objects_that_take_them() {
        let mut request: RegistryRequest =
            serde_json::from_value(json!({"name": "a", "public_url": "b"})).unwrap();
        put(&mut request, "metadata.site.rack", json!(7)).unwrap();
        put(&mut request, "metadata.site.room", json!("x")).unwrap();
        assert_eq!(Value::from(request.metadata.clone()), json!({"site": {"rack": 7, "room": "x"}}));
        for path in ["name", "metadata", "metadata.", "metadata.site.rack.x", "tags.0"] {
            assert!(put(&mut request, path, json!(1)).is_err(), "{path}");
        }
    }
}
