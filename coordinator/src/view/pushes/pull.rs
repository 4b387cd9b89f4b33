//! From what a node's jobs pull to the wish that is meant.

use sifleet_common::api::pushes::{PushRequest, PushTarget};
use sifleet_common::time::Now;

use crate::state::pushes::wish::{PushError, Wish};
use crate::view::{QueryError, View};

impl View {
    /// Understands that the node at a place is to have an image, under the name by which its partitions know it.
    ///
    /// # Errors
    /// [`PushError`] as for any wish.
    pub(crate) fn wish_of_node(&self, place: usize, reference: &str, now: Now) -> Result<Wish, PushError> {
        let node = self.nodes.get(place).ok_or_else(|| {
            let name = String::new();
            PushError::Meant(QueryError::UnknownNode { name, candidates: Vec::new() }.into())
        })?;
        let request = PushRequest::new(reference, PushTarget::Nodes(node.name.to_string()));
        let mut wish = self.wish(&request, now)?;
        let id = u32::try_from(place).unwrap_or(u32::MAX);
        let own = self.partitions.values().filter(|partition| partition.members.contains(id));
        let mut meant = own.map(|partition| self.will_mean_on(Some(&partition.name), &wish.image));
        let name = meant.find(|name| *name != wish.image);
        wish.image = name.unwrap_or(wish.image);
        Ok(wish)
    }
}
