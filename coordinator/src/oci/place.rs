//! Which partitions get an image that was pushed.

use sifleet_common::name::PartitionName;

use super::name::Repository;

/// Images of some repositories go to a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placing {
    /// Which repositories: a name, or what it begins with and a star.
    pub repositories: String,
    /// Where to.
    pub partition: PartitionName,
}

impl Placing {
    /// Tells whether a repository is meant.
    #[must_use]
    pub fn covers(&self, repository: &Repository) -> bool {
        match self.repositories.strip_suffix('*') {
            Some(start) => repository.as_str().starts_with(start),
            None => repository.as_str() == self.repositories,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_all_that_follows() {
        let check = |pattern: &str, repository: &str, covered: bool| {
            let placing = Placing { repositories: pattern.to_owned(), partition: "viz".parse().unwrap() };
            assert_eq!(placing.covers(&repository.parse().unwrap()), covered, "{pattern} {repository}");
        };
        check("viz/*", "viz/vnc", true);
        check("viz/*", "viz", false);
        check("viz", "viz", true);
        check("viz", "viz/vnc", false);
        check("*", "a/b", true);
    }
}
