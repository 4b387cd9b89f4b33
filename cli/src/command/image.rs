//! `sifleet image ls` and `sifleet image show`; `import`, and `rm` with `removals`, are in files of their own.

mod import;
mod remove;

use anyhow::bail;
use serde_json::Value;
use sifleet_common::api::images::{ImageDetail, ImageList};

use crate::args::ImageVerb;
use crate::client::{Answer, Client, Target};
use crate::outcome::Outcome;
use crate::output::Screen;

/// Most pages of a list that are asked for: whatever the size of a page, this ends.
const MAX_PAGES: usize = 10_000;

/// Asks and prints.
pub(super) fn run(client: &Client, screen: &mut Screen, verb: ImageVerb) -> anyhow::Result<Outcome> {
    match verb {
        ImageVerb::Ls { query, partition } => {
            let target = Target::v1("images")
                .query_if("q", query.as_deref())
                .query_if("partition", partition.as_ref().map(AsRef::as_ref));
            screen.show(&all_pages(client, &target)?)?;
        }
        ImageVerb::Import(wish) => return import::run(client, screen, &wish),
        ImageVerb::Rm(wish) => return remove::run(client, screen, &wish),
        ImageVerb::Removals { cancel } => return remove::list(client, screen, cancel.as_deref()),
        ImageVerb::Show { image } => {
            screen.show(&client.get::<ImageDetail>(&Target::v1("images").segment(&image))?)?;
        }
    }
    Ok(Outcome::Yes)
}

/// Reads a list to its end and joins the pages, in JSON too.
fn all_pages(client: &Client, target: &Target) -> anyhow::Result<Answer<ImageList>> {
    let mut whole = client.get::<ImageList>(target)?;
    for _ in 0..MAX_PAGES {
        let Some(cursor) = whole.value.next_cursor.take() else {
            return Ok(whole);
        };
        let page = client.get::<ImageList>(&target.clone().query("cursor", &cursor))?;
        if page.value.next_cursor.as_ref() == Some(&cursor) {
            break;
        }
        whole.text = joined(&whole.text, &page.text)?;
        whole.value.images.extend(page.value.images);
        whole.value.next_cursor = page.value.next_cursor;
        whole.value.as_of = page.value.as_of;
    }
    bail!("the list of images has no end: its pages refer to each other")
}

fn joined(whole: &str, page: &str) -> serde_json::Result<String> {
    let (whole, mut page): (Value, Value) = (serde_json::from_str(whole)?, serde_json::from_str(page)?);
    let images = |list: &Value| list.get("images").and_then(Value::as_array).cloned().unwrap_or_default();
    let both: Vec<Value> = images(&whole).into_iter().chain(images(&page)).collect();
    if let Some(list) = page.as_object_mut() {
        list.insert("images".to_owned(), Value::Array(both));
    }
    serde_json::to_string(&page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_pages_keep_what_this_version_does_not_know() {
        let whole = joined(r#"{"images":[{"a":1}],"next_cursor":"x"}"#, r#"{"images":[{"b":2}],"later":3}"#);
        assert_eq!(whole.unwrap(), r#"{"images":[{"a":1},{"b":2}],"later":3}"#);
    }
}
