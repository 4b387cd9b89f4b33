//! Names: any bytes as a path below a root, and any text as what a user asks for.
//!
//! Escaping loses nothing, and every question has an answer or a reason, whatever it says.

use std::sync::OnceLock;

use sifleet_common::availability::Require;
use sifleet_common::name::{ImageName, MAX_COMPONENT};
use sifleet_common::time::Now;
use sifleet_coordinator::view::View;
use sifleet_coordinator::view::images::ImagesFilter;

use crate::control::Site;

/// Escapes the bytes, and asks for them.
///
/// # Panics
/// When a promise is broken.
pub fn run(data: &[u8]) {
    check_escape(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\n');
    let (image, partition) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("p"));
    let more = parts.next().map(str::to_owned);
    let (view, now) = view();
    for partition in [partition, "p"] {
        for require in [Require::All, Require::Any, Require::AtLeast(3)] {
            match view.availability(image, partition, require, *now) {
                Ok(answer) => {
                    let counts = answer.counts;
                    assert_eq!(
                        counts.ready + counts.outdated + counts.missing + counts.unknown,
                        4,
                        "{image:?}"
                    );
                }
                Err(error) => assert!(error.to_string().len() < 16_384),
            }
        }
    }
    if let Ok(detail) = view.image(image, *now) {
        assert!(!detail.summary.name.is_empty());
    }
    let filter =
        ImagesFilter { partition: Some(partition.to_owned()), q: more.clone(), cursor: None, limit: 2 };
    let pages = [filter, ImagesFilter { cursor: Some(image.to_owned()), q: more, ..ImagesFilter::default() }];
    for filter in pages {
        if let Ok(list) = view.images(&filter, *now) {
            assert!(list.images.len() <= filter.limit.max(1));
        }
    }
    drop((view.node(image, *now), view.partition(partition, *now)));
}

fn check_escape(path: &[u8]) {
    let Ok((name, escaped)) = ImageName::escape(path) else { return };
    let shown = name.as_str();
    assert!(!shown.chars().any(char::is_control), "{shown:?} would move a cursor");
    assert_eq!(unescape(shown), path, "{shown:?} stands for other bytes");
    if !escaped && path.split(|byte| *byte == b'/').all(|part| part.len() <= MAX_COMPONENT) {
        assert_eq!(shown.parse::<ImageName>().ok(), Some(name.clone()), "{shown:?} cannot be typed");
    }
}

fn unescape(shown: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(shown.len());
    let mut rest = shown.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        let code = behind
            .strip_prefix(b"x")
            .and_then(|hex| hex.split_first_chunk::<2>())
            .filter(|_| *first == b'\\');
        match code.and_then(|(hex, behind)| {
            Some((u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?, behind))
        }) {
            Some((byte, behind)) => {
                bytes.push(byte);
                rest = behind;
            }
            None => bytes.push(*first),
        }
    }
    bytes
}

/// Four nodes in the partition `p`, three of them current, with images of one name in two places and drift.
fn view() -> &'static (View, Now) {
    static VIEW: OnceLock<(View, Now)> = OnceLock::new();
    VIEW.get_or_init(|| {
        let mut site = Site::new();
        site.honest(0, &["vnc_desktop.sif", "compute/openfoam_v2312.sif", "x/a.sif"], 1);
        site.honest(1, &["vnc_desktop.sif", "viz/openfoam_v2312.sif", "y/a.sif"], 1);
        site.honest(2, &["vnc_desktop.sif"], 2);
        site.partition(0b1111);
        (site.view(), site.now())
    })
}
