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
        Self { rank, keys }
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

    /// Lists nodes in natural order, by position.
    fn positions(&self, nodes: &RoaringBitmap) -> Vec<usize> {
        let rank = |id: u32| self.rank.get(usize::try_from(id).ok()?).map(|rank| *rank as usize);
        let mut positions: Vec<usize> = nodes.iter().filter_map(rank).collect();
        if !positions.is_sorted() {
            positions.sort_unstable();
        }
        positions
    }

    /// Folds a set of nodes into text.
    #[must_use]
    pub fn fold(&self, nodes: &RoaringBitmap) -> String {
        nodeset::fold_sorted(self.positions(nodes).into_iter().filter_map(|at| self.keys.get(at)))
    }

    /// Lists all node numbers in natural order.
    #[must_use]
    pub fn natural(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..u32::try_from(self.rank.len()).unwrap_or(u32::MAX)).collect();
        order.sort_unstable_by_key(|id| self.rank.get(*id as usize).copied());
        order
    }
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
}
