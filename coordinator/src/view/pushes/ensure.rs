//! The push that would turn a verdict into a yes: as many nodes as are lacking, those that are there first.

use roaring::RoaringBitmap;
use sifleet_common::api::pushes::{PushRequest, PushTarget};
use sifleet_common::availability::Satisfied;
use sifleet_common::time::Now;

use crate::state::pushes::{PushError, Wish};
use crate::view::View;
use crate::view::verdict::{Finding, Question, needed};
use crate::words::Reason;

impl View {
    /// Works out what is to be pushed so that a verdict becomes a yes; nothing where a push would be of no use: it is a yes
    /// already, the signature is at fault, nodes are named that are none of the partition's, or there are fewer than are required.
    ///
    /// # Errors
    /// [`PushError`] when nobody knows which bytes are meant, or has them.
    pub fn wish_to_ensure(
        &self,
        question: &Question<'_>,
        finding: &Finding,
        now: Now,
    ) -> Result<Option<Wish>, PushError> {
        let is_held = finding.found.as_ref().is_some_and(|found| found.satisfied == Satisfied::Yes);
        if is_held || finding.reason == Reason::NodeElsewhere {
            return Ok(None);
        }
        let request = PushRequest {
            digest: question.digest.map(|digest| digest.to_string()),
            ..PushRequest::new(question.image, PushTarget::Partition(question.partition.to_owned()))
        };
        let mut wish = self.wish(&request, now)?;
        if let Some(nodes) = question.nodes {
            wish.nodes &= self.members_of(&PushTarget::Nodes(nodes.to_string()))?.0;
        }
        let ready = finding.found.as_ref().map(|found| found.nodes.ready.as_str());
        let ready = self.folded(ready.unwrap_or_default())?;
        let lacking = &wish.nodes - &ready;
        let counts = finding.found.as_ref().map(|found| found.counts).unwrap_or_default();
        let all = u32::try_from(wish.nodes.len()).unwrap_or(u32::MAX);
        let needed = if finding.found.is_some() { needed(question.require, counts) } else { all };
        if needed > all {
            return Ok(None);
        }
        let most = needed.saturating_sub(u32::try_from(ready.len()).unwrap_or(u32::MAX));
        let refused = self.refused(&wish, &lacking);
        let refused = refused.values().fold(RoaringBitmap::new(), |all, (nodes, _)| all | nodes);
        let live = self.live_at(now);
        let fit = &lacking - &refused;
        let (there, away) = (&fit & &*live, &fit - &*live);
        let in_order =
            |nodes: RoaringBitmap| self.table.natural().into_iter().filter(move |id| nodes.contains(*id));
        let chosen = in_order(there).chain(in_order(away)).take(usize::try_from(most).unwrap_or(usize::MAX));
        wish.nodes = chosen.collect();
        Ok(Some(wish).filter(|wish| !wish.nodes.is_empty()))
    }

    /// Reads a node set of an answer of ours.
    fn folded(&self, nodes: &str) -> Result<RoaringBitmap, PushError> {
        if nodes.is_empty() {
            return Ok(RoaringBitmap::new());
        }
        Ok(self.members_of(&PushTarget::Nodes(nodes.to_owned()))?.0)
    }
}

#[cfg(test)]
mod tests {
    use sifleet_common::inventory::RootState;

    use super::*;
    use crate::state::testing::{Site, image, root};

    #[test]
    fn nodes_of_other_partitions_begin_no_push_to_those_that_are_named_beside_them() {
        let mut site = Site::new();
        site.partition("p", "n[1-2]");
        site.agent("n1", vec![root(RootState::Watched), image("a.sif", 1)]);
        site.agent("n2", vec![root(RootState::Watched)]);
        site.agent("other", vec![root(RootState::Watched)]);
        let (view, now) = (site.view(), site.now);
        let wished = |nodes: &str| {
            let nodes = nodes.parse().unwrap();
            let question = Question {
                image: "a",
                partition: "p",
                nodes: Some(&nodes),
                require: "all".parse().unwrap(),
                digest: None,
                signer: None,
            };
            let finding = view.verdict(&question, now);
            let wish = view.wish_to_ensure(&question, &finding, now).unwrap();
            wish.map(|wish| view.fold(&wish.nodes))
        };
        assert_eq!(wished("n[1-2]"), Some("n2".to_owned()));
        assert_eq!(wished("n2,other"), None);
        assert_eq!(wished("n1,other"), None);
    }
}
