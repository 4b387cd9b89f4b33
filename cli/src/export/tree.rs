//! What lies where: the files of the tree by their paths, and the images by theirs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::manifest::{Sif, json};
use super::page::{self, Entry, Version};

/// A repository's own page, written by people: read, never written.
pub(crate) const README: &str = "README.md";
/// Below which folder images lie, and where an address says they are: as the registry itself has it.
const BLOBS: &str = "v2";
/// Longest name of a repository in bytes, as clients count.
const MAX_REPOSITORY: usize = 255;
/// Longest tag in bytes, as the distribution specification says.
const MAX_TAG: usize = 128;

/// One image under one tag.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Such as `compute/openfoam`.
    pub(crate) repository: String,
    /// Such as `v2312`.
    pub(crate) tag: String,
    /// What its manifest says.
    pub(crate) sif: Sif,
    /// What somebody says of it.
    pub(crate) description: Option<String>,
}

impl Image {
    /// Returns where its bytes lie in the tree.
    pub(crate) fn place(&self) -> String {
        format!("{BLOBS}/{}/blobs/{}", self.repository, self.sif.layer.digest)
    }
}

/// An image that is not in the tree, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LeftOut {
    /// Its repository.
    pub(crate) repository: String,
    /// Its tag.
    pub(crate) tag: String,
    /// In words.
    pub(crate) reason: String,
}

/// The bytes of an image that are to lie in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    /// The repository it is read from.
    pub(crate) repository: String,
    /// Which bytes.
    pub(crate) digest: String,
    /// How many.
    pub(crate) size: u64,
}

/// The whole tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// Small files by their path.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Images by their path, if they are to lie in the tree.
    pub(crate) blobs: BTreeMap<String, Blob>,
    /// What is not in it.
    pub(crate) left_out: Vec<LeftOut>,
    /// How many repositories it has.
    pub(crate) repositories: usize,
    /// How many images by name and tag.
    pub(crate) images: usize,
}

/// The body of `NAME/tags/`.
#[derive(Serialize)]
struct Tags<'a> {
    name: &'a str,
    tags: Vec<&'a str>,
}

impl Tree {
    /// Lays images out; their addresses begin with `base`. `readme` gives what people wrote of a repository.
    pub(crate) fn new(
        images: Vec<Image>,
        base: &str,
        with_blobs: bool,
        readme: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let mut tree = Self::default();
        let mut repositories: BTreeMap<String, BTreeMap<String, Image>> = BTreeMap::new();
        for image in images {
            repositories.entry(image.repository.clone()).or_default().insert(image.tag.clone(), image);
        }
        let mut entries = Vec::new();
        for (name, tags) in &repositories {
            let list = format!("{name}/tags/index.html");
            if tree.files.contains_key(&list) {
                tree.left_out.extend(tags.keys().map(|tag| LeftOut {
                    repository: name.clone(),
                    tag: tag.clone(),
                    reason: format!("its list of tags would lie at {list}, where a manifest lies"),
                }));
                continue;
            }
            let versions: Vec<_> = tags.values().map(|image| tree.place(image, base, with_blobs)).collect();
            tree.files.insert(list, json(&Tags { name, tags: tags.keys().map(String::as_str).collect() }));
            tree.repositories += 1;
            tree.images += versions.len();
            entries.push(Entry { name, text: readme(name).or_else(|| said(tags)), versions });
        }
        tree.files.insert("index.html".to_owned(), page::render(&entries).into_bytes());
        tree
    }

    fn place<'a>(&mut self, image: &'a Image, base: &str, with_blobs: bool) -> Version<'a> {
        let (name, layer) = (&image.repository, &image.sif.layer);
        let path = image.place();
        let url = format!("{base}/{path}");
        let manifest = format!("{name}/manifests/{}/", image.tag);
        self.files.insert(format!("{manifest}index.html"), image.sif.published(url.clone()));
        if with_blobs {
            let blob = Blob { repository: name.clone(), digest: layer.digest.clone(), size: layer.size };
            self.blobs.insert(path, blob);
        }
        Version { tag: &image.tag, size: layer.size, digest: &layer.digest, url, manifest }
    }

    /// Lists every path.
    pub(crate) fn paths(&self) -> BTreeSet<String> {
        self.files.keys().chain(self.blobs.keys()).cloned().collect()
    }
}

/// Finds what is said of a repository's images: of the tag `latest`, else of the last one of which anything is.
fn said(tags: &BTreeMap<String, Image>) -> Option<String> {
    let latest = tags.get("latest").into_iter().chain(tags.values().rev());
    latest.filter_map(|image| image.description.clone()).find(|text| !text.trim().is_empty())
}

/// Tells whether a text is a repository's name, and so a path that stays where it should: a registry is a stranger.
pub(crate) fn is_repository(text: &str) -> bool {
    let is_sign = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= MAX_REPOSITORY
        && text.split('/').map(str::as_bytes).all(|part| {
            let stays = part.iter().copied().all(is_sign) && is_word(part.first()) && is_word(part.last());
            // A folder of this name could not be beside a file of this name.
            stays && part != b"index.html"
        })
}

/// Tells whether a text is a tag.
pub(crate) fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::sif;
    use super::*;

    fn image(repository: &str, tag: &str, digit: char, description: Option<&str>) -> Image {
        let description = description.map(str::to_owned);
        Image { repository: repository.to_owned(), tag: tag.to_owned(), sif: sif(digit), description }
    }

    fn text(tree: &Tree, path: &str) -> String {
        String::from_utf8(tree.files[path].clone()).unwrap()
    }

    #[test]
    fn the_same_images_give_the_same_bytes_in_whatever_order_they_come() {
        let images = || {
            vec![
                image("a/b", "v1", '1', None),
                image("a/b", "latest", '2', Some("two")),
                image("c", "x", '1', None),
            ]
        };
        let one = Tree::new(images(), "https://h", true, |_| None);
        let other = Tree::new(images().into_iter().rev().collect(), "https://h", true, |_| None);
        assert_eq!((&one.files, &one.blobs), (&other.files, &other.blobs));
        assert_eq!((one.repositories, one.images, one.blobs.len()), (2, 3, 3));
        let names: Vec<_> = one.files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "a/b/manifests/latest/index.html",
                "a/b/manifests/v1/index.html",
                "a/b/tags/index.html",
                "c/manifests/x/index.html",
                "c/tags/index.html",
                "index.html"
            ]
        );
        let tags = "{\n  \"name\": \"a/b\",\n  \"tags\": [\n    \"latest\",\n    \"v1\"\n  ]\n}\n";
        assert_eq!(text(&one, "a/b/tags/index.html"), tags);
    }

    #[test]
    fn an_address_is_where_the_bytes_lie() {
        let tree = Tree::new(vec![image("a/b", "v1", '1', None)], "https://h/sub", true, |_| None);
        let path = tree.blobs.keys().next().unwrap();
        assert_eq!(path, &format!("v2/a/b/blobs/sha256:{}", "1".repeat(64)));
        assert!(text(&tree, "a/b/manifests/v1/index.html").contains(&format!("\"https://h/sub/{path}\"")));
        assert!(Tree::new(vec![image("a", "b", '1', None)], "https://h", false, |_| None).blobs.is_empty());
    }

    #[test]
    fn what_people_wrote_comes_before_what_images_say() {
        let images =
            || vec![image("a", "v1", '1', Some("of v1")), image("a", "latest", '2', Some("of latest"))];
        assert!(text(&Tree::new(images(), "", false, |_| None), "index.html").contains("of latest"));
        let written = Tree::new(images(), "", false, |name| Some(format!("by hand of {name}")));
        assert!(text(&written, "index.html").contains("by hand of a"));
        assert!(!text(&written, "index.html").contains("of latest"));
    }

    #[test]
    fn repositories_that_would_share_a_file_are_told_apart() {
        let images = vec![image("a", "tags", '1', None), image("a/manifests", "x", '2', None)];
        let tree = Tree::new(images, "", false, |_| None);
        assert_eq!(tree.left_out.len(), 1);
        assert!(!tree.files.contains_key("a/manifests/manifests/x/index.html"));
        assert!(text(&tree, "a/manifests/tags/index.html").contains("schemaVersion"));
        assert_eq!(tree.repositories, 1);
    }

    #[test]
    fn names_of_a_stranger_stay_below_the_tree() {
        for good in ["a", "compute/openfoam", "a.b/c_d-e__f"] {
            assert!(is_repository(good), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            ".hidden",
            "A",
            "a b",
            "a\\b",
            "a\0",
            "-a",
            "a.",
            "a/index.html",
            &long,
        ] {
            assert!(!is_repository(bad), "{bad}");
        }
        let longest = "a".repeat(128);
        for good in ["latest", "v2312", "_x", "1.0-rc1", &longest] {
            assert!(is_tag(good), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", &long] {
            assert!(!is_tag(bad), "{bad}");
        }
    }
}
