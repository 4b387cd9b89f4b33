//! Natural order of the nodes, worked out once for all queries.

use roaring::RoaringBitmap;
use sifleet_common::name::NodeName;
use sifleet_common::nodeset::{self, FoldKey};

/// Where each node stands among all nodes, and how its name folds.
#[derive(Debug, Default)]
pub struct NodeTable {
    /// Position of each node, by its number.
    rank: Vec<u32>,
    /// How each node's name folds, by position.
    keys: Vec<FoldKey>,
    /// For each node, by its number, the last one up to which numbers and names both go on without a gap.
    stretch: Vec<u32>,
}

impl NodeTable {
    /// Orders nodes that are given by their numbers.
    pub fn of<'a>(names: impl Iterator<Item = &'a NodeName>) -> Self {
        let names: Vec<&str> = names.map(NodeName::as_str).collect();
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_unstable_by(|one, other| nodeset::natural_cmp(names[*one], names[*other]));
        let mut rank = vec![0; names.len()];
        let mut keys: Vec<FoldKey> = Vec::with_capacity(names.len());
        for (position, node) in order.into_iter().enumerate() {
            rank[node] = u32::try_from(position).unwrap_or(u32::MAX);
            let key = match keys.last() {
                Some(neighbour) => FoldKey::beside(names[node], neighbour),
                None => FoldKey::of(names[node]),
            };
            keys.push(key);
        }
        let stretch = stretches(&rank, &keys);
        Self { rank, keys, stretch }
    }

    /// Returns the number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rank.len()
    }

    /// Tells whether there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rank.is_empty()
    }

    /// Lists nodes as runs of positions, in natural order.
    fn runs(&self, nodes: &RoaringBitmap) -> Vec<(usize, usize)> {
        let position = |id: u32| self.rank.get(usize::try_from(id).ok()?).map(|rank| *rank as usize);
        let (mut runs, mut ranges) = (Vec::new(), nodes.iter());
        while let Some(range) = ranges.next_range() {
            let mut from = *range.start();
            // A node without a stretch came after this table was made; so did all behind it.
            while let Some(end) = usize::try_from(from).ok().and_then(|id| self.stretch.get(id)) {
                let to = (*end).min(*range.end());
                runs.extend(position(from).zip(position(to)));
                if to == *range.end() {
                    break;
                }
                from = to + 1;
            }
        }
        if !runs.is_sorted() {
            runs.sort_unstable();
        }
        runs
    }

    /// Folds a set of nodes into text.
    #[must_use]
    pub fn fold(&self, nodes: &RoaringBitmap) -> String {
        let keys = |(first, last): (usize, usize)| Some((self.keys.get(first)?, self.keys.get(last)?));
        nodeset::fold_runs(self.runs(nodes).into_iter().filter_map(keys))
    }

    /// Finds the one of these nodes that stands before the others.
    #[must_use]
    pub fn first(&self, nodes: &RoaringBitmap) -> Option<u32> {
        nodes.iter().min_by_key(|id| self.rank.get(*id as usize).copied().unwrap_or(u32::MAX))
    }

    /// Lists all node numbers in natural order.
    #[must_use]
    pub fn natural(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..u32::try_from(self.rank.len()).unwrap_or(u32::MAX)).collect();
        order.sort_unstable_by_key(|id| self.rank.get(*id as usize).copied());
        order
    }
}

/// Finds, for each node, how far numbers and names go on together.
fn stretches(rank: &[u32], keys: &[FoldKey]) -> Vec<u32> {
    let key = |id: usize| keys.get(*rank.get(id)? as usize);
    let adjoin = |id: usize| rank.get(id).zip(rank.get(id + 1)).is_some_and(|(one, next)| one + 1 == *next);
    let follows = |id: usize| key(id).zip(key(id + 1)).is_some_and(|(one, next)| one.is_followed_by(next));
    let mut stretch = vec![0; rank.len()];
    let mut end = 0;
    for id in (0..rank.len()).rev() {
        if !(adjoin(id) && follows(id)) {
            end = u32::try_from(id).unwrap_or(u32::MAX);
        }
        stretch[id] = end;
    }
    stretch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_fold_in_natural_order_whatever_order_they_came_in() {
        let names: Vec<NodeName> =
            ["n10", "viz2", "n9", "viz1", "login"].iter().map(|name| name.parse().unwrap()).collect();
        let table = NodeTable::of(names.iter());
        assert_eq!(table.fold(&(0..5).collect()), nodeset::fold(names.iter().map(NodeName::as_str)));
        assert_eq!(table.fold(&[0, 2].into_iter().collect()), "n[9-10]");
        assert_eq!(table.natural(), [4, 2, 0, 3, 1]);
    }

    #[test]
    fn any_set_of_nodes_in_any_order_folds_as_its_names_do() {
        let plain = (0..130).map(|n| format!("n{n}"));
        let padded = (0..130).map(|n| format!("rack1n{n:03}"));
        let narrow = (7..120).map(|n| format!("p{n:02}"));
        let mut names: Vec<NodeName> = plain
            .chain(padded)
            .chain(narrow)
            .chain(["login".to_owned(), "n05".to_owned(), "n1-ib".to_owned()])
            .map(|name| name.parse().unwrap())
            .collect();
        let mut random = 1_u64;
        let mut next = move |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        for round in 0..200 {
            // First nearly sorted, with long stretches, then more and more shuffled.
            for _ in 0..round / 4 {
                let (one, other) = (next(names.len()), next(names.len()));
                names.swap(one, other);
            }
            let table = NodeTable::of(names.iter());
            let gaps = 1 + next(names.len());
            let chosen: Vec<usize> = (0..names.len()).filter(|_| next(gaps) > 0).collect();
            let nodes: RoaringBitmap = chosen.iter().map(|id| u32::try_from(*id).unwrap()).collect();
            let expected = nodeset::fold(chosen.iter().map(|id| names[*id].as_str()));
            assert_eq!(table.fold(&nodes), expected);
        }
    }

    #[test]
    fn nodes_that_came_later_than_the_table_are_left_out() {
        let names: Vec<NodeName> = ["n1", "n2"].iter().map(|name| name.parse().unwrap()).collect();
        let table = NodeTable::of(names.iter());
        assert_eq!(table.fold(&(0..9).collect()), "n[1-2]");
        assert_eq!(table.fold(&(5..9).collect()), "");
    }
}
