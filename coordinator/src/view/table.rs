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
    /// For each node, by its number, the last one up to which positions go on as numbers do.
    stretch: Vec<u32>,
    /// Whether the name at the next position follows the one at this: a bit for each position.
    followed: Vec<u64>,
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
        let (stretch, followed) = (stretches(&rank), followed(&keys));
        Self { rank, keys, stretch, followed }
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

    /// Folds a set of nodes into text.
    ///
    /// It looks at a bit of every node that there is, and at as many stretches as the set has in the order in which nodes were
    /// first heard of: nothing is sorted.
    #[must_use]
    pub fn fold(&self, nodes: &RoaringBitmap) -> String {
        if nodes.is_empty() {
            return String::new();
        }
        let present = self.positions(nodes);
        let word = |at: usize| present.get(at).copied().unwrap_or_default();
        let goes_on = |at: usize| word(at) & self.followed.get(at).copied().unwrap_or_default();
        let before = |at: usize| at.checked_sub(1).map_or(0, &goes_on) >> 63;
        let first = |at: usize| word(at) & !(goes_on(at) << 1 | before(at));
        let last = |at: usize| word(at) & !(goes_on(at) & (word(at) >> 1 | word(at + 1) << 63));
        let runs = set_bits(present.len(), first).zip(set_bits(present.len(), last));
        nodeset::fold_runs(
            runs.filter_map(|(first, last)| Some((self.keys.get(first)?, self.keys.get(last)?))),
        )
    }

    /// Marks the positions of nodes: a bit for each.
    fn positions(&self, nodes: &RoaringBitmap) -> Vec<u64> {
        let mut present = vec![0; self.followed.len()];
        let mut ranges = nodes.iter();
        while let Some(range) = ranges.next_range() {
            let mut from = *range.start();
            // A node without a stretch came after this table was made; so did all behind it.
            while let Some((end, first)) = self.stretch.get(from as usize).zip(self.rank.get(from as usize)) {
                let to = (*end).min(*range.end());
                mark(&mut present, *first as usize, (to - from) as usize + 1);
                if to == *range.end() {
                    break;
                }
                from = to + 1;
            }
        }
        present
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

/// Finds, for each node, how far numbers and positions go on together.
fn stretches(rank: &[u32]) -> Vec<u32> {
    let adjoin = |id: usize| rank.get(id).zip(rank.get(id + 1)).is_some_and(|(one, next)| one + 1 == *next);
    let mut stretch = vec![0; rank.len()];
    let mut end = 0;
    for id in (0..rank.len()).rev() {
        if !adjoin(id) {
            end = u32::try_from(id).unwrap_or(u32::MAX);
        }
        stretch[id] = end;
    }
    stretch
}

fn followed(keys: &[FoldKey]) -> Vec<u64> {
    let mut followed = vec![0; keys.len().div_ceil(64)];
    for (position, pair) in keys.windows(2).enumerate() {
        if let [one, next] = pair
            && one.is_followed_by(next)
        {
            mark(&mut followed, position, 1);
        }
    }
    followed
}

/// Sets so many bits from one on.
fn mark(words: &mut [u64], mut from: usize, mut count: usize) {
    while count > 0 {
        let here = count.min(64 - from % 64);
        if let Some(word) = words.get_mut(from / 64) {
            *word |= (u64::MAX >> (64 - here)) << (from % 64);
        }
        from += here;
        count -= here;
    }
}

/// Lists which bits of so many words are set.
fn set_bits(words: usize, word: impl Fn(usize) -> u64) -> impl Iterator<Item = usize> {
    (0..words).flat_map(move |at| {
        let left = |bits: u64| Some(bits).filter(|bits| *bits != 0);
        let each = std::iter::successors(left(word(at)), move |bits| left(bits & (bits - 1)));
        each.map(move |bits| at * 64 + bits.trailing_zeros() as usize)
    })
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
    fn sets_that_begin_or_end_where_a_word_of_the_table_does_fold_as_their_names_do() {
        for nodes in [63, 64, 65, 128] {
            let names: Vec<NodeName> = (0..nodes).map(|n| format!("n{n}").parse().unwrap()).collect();
            let table = NodeTable::of(names.iter());
            for first in [0, 1, 62, 63, 64, 65, 127] {
                for end in [1, 62, 63, 64, 65, 127, 128] {
                    let chosen: RoaringBitmap = (first..end.min(nodes)).collect();
                    let expected = nodeset::fold(chosen.iter().map(|id| names[id as usize].as_str()));
                    assert_eq!(table.fold(&chosen), expected, "{first} to {end} of {nodes}");
                }
            }
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
