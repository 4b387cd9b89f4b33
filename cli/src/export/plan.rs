//! What is to be written and removed so that a directory is the tree. Decides only; `disk.rs` looks and acts.

use std::collections::BTreeSet;

use super::tree::Tree;

/// How a path of the tree stands on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Now {
    /// Just as it should be.
    Same,
    /// There is something else.
    Other,
    /// There is nothing.
    Absent,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Paths of images to fetch; they come first, so that no manifest names what is not there.
    pub(crate) fetch: Vec<String>,
    /// Paths of small files to write.
    pub(crate) write: Vec<String>,
    /// Paths of earlier exports that go.
    pub(crate) remove: Vec<String>,
    /// How many paths are as they should be.
    pub(crate) unchanged: usize,
    /// Paths where something lies that no export wrote.
    pub(crate) in_the_way: Vec<String>,
}

impl Plan {
    /// Compares the tree with what `earlier` exports wrote, and with what is there.
    pub(crate) fn new(tree: &Tree, earlier: &BTreeSet<String>, look: impl Fn(&str) -> Now) -> Self {
        let mut plan = Self::default();
        let wanted = tree.paths();
        for path in &wanted {
            match look(path) {
                Now::Same => plan.unchanged += 1,
                Now::Other if !earlier.contains(path) => plan.in_the_way.push(path.clone()),
                Now::Other | Now::Absent if tree.blobs.contains_key(path) => plan.fetch.push(path.clone()),
                Now::Other | Now::Absent => plan.write.push(path.clone()),
            }
        }
        // The catalogue comes last, when all that it leads to is there: `i` of index.html says nothing about that.
        plan.write
            .sort_by_key(|path| (path == "index.html", path.ends_with("/tags/index.html"), path.clone()));
        plan.remove = earlier.difference(&wanted).cloned().collect();
        plan
    }
}

impl Plan {
    /// Counts what was fetched before this was planned as that, and not as what was there already.
    pub(crate) fn have_fetched(&mut self, paths: Vec<String>) {
        self.unchanged = self.unchanged.saturating_sub(paths.len());
        self.fetch = paths;
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::sif;
    use super::super::tree::Image;
    use super::*;

    fn tree(tags: &[&str]) -> Tree {
        let image = |tag: &&str| Image {
            repository: "a".to_owned(),
            tag: (*tag).to_owned(),
            sif: sif('1'),
            description: None,
        };
        Tree::new(tags.iter().map(image).collect(), "https://h", true, |_| None)
    }

    fn earlier(tree: &Tree) -> BTreeSet<String> {
        tree.paths()
    }

    #[test]
    fn what_is_as_it_should_be_is_not_touched() {
        let tree = tree(&["v1"]);
        let plan = Plan::new(&tree, &earlier(&tree), |_| Now::Same);
        assert_eq!(plan, Plan { unchanged: 4, ..Plan::default() });
    }

    #[test]
    fn the_first_time_images_come_first_and_the_catalogue_last() {
        let plan = Plan::new(&tree(&["v1"]), &BTreeSet::new(), |_| Now::Absent);
        assert_eq!(plan.fetch.len(), 1);
        assert_eq!(plan.write, ["a/manifests/v1/index.html", "a/tags/index.html", "index.html"]);
    }

    #[test]
    fn what_is_gone_from_the_library_goes_from_the_tree_and_nothing_else_does() {
        let plan = Plan::new(&tree(&["v2"]), &earlier(&tree(&["v1", "v2"])), |_| Now::Same);
        assert_eq!(plan.remove, ["a/manifests/v1/index.html"]);
    }

    #[test]
    fn what_no_export_wrote_is_not_overwritten() {
        let of = |path: &str| if path == "index.html" { Now::Other } else { Now::Absent };
        assert_eq!(Plan::new(&tree(&["v1"]), &BTreeSet::new(), of).in_the_way, ["index.html"]);
        let known = BTreeSet::from(["index.html".to_owned()]);
        assert!(Plan::new(&tree(&["v1"]), &known, of).in_the_way.is_empty());
    }
}
