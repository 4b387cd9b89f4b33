//! Would a job that needs this image run on that partition? Yes, no, or not known, with the reason.
//!
//! Availability says where an image stands; this says what that means for a template, an image or a remote desktop, in
//! one code. Never yes by a guess: whatever is not known makes the answer unknown. Sentences are in [`crate::words`].

use std::cmp::Reverse;

use roaring::RoaringBitmap;
use sifleet_common::api::availability::Availability;
use sifleet_common::api::pushes::PushTarget;
use sifleet_common::availability::{Counts, NodeAnswer, Require, Satisfied};
use sifleet_common::digest::Digest;
use sifleet_common::nodeset::{NodeSet, fold};
use sifleet_common::policy::{Fingerprint, Policy};
use sifleet_common::push::FailCode;
use sifleet_common::time::Now;

use super::availability::{MAX_GROUPS, by_digest};
use super::{QueryError, View, shorten};
use crate::words::{Facts, Reason};

/// What a verdict is asked about.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The image, as people write it.
    pub image: &'a str,
    /// The partition.
    pub partition: &'a str,
    /// Only these of its nodes.
    pub nodes: Option<&'a NodeSet>,
    /// How many nodes must be ready.
    pub require: Require,
    /// Which bytes.
    pub digest: Option<Digest>,
    /// Who must have signed it.
    pub signer: Option<Fingerprint>,
}

/// A verdict, before it is put into words.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Yes, no, or not known.
    pub satisfied: Satisfied,
    /// Why.
    pub reason: Reason,
    /// What stands in the sentences about it.
    pub facts: Facts,
    /// Where the image stands; absent if there was nothing to look for.
    pub found: Option<Availability>,
    /// Bytes of which somebody should find out who signed them: some of them, if there are many.
    pub unverified: Vec<Digest>,
}

impl View {
    /// Answers a question.
    #[must_use]
    pub fn verdict(&self, question: &Question<'_>, now: Now) -> Finding {
        let among = match question.nodes.map(|nodes| self.among(question, nodes)).transpose() {
            Ok(among) => among,
            Err(finding) => return *finding,
        };
        let image = match self.with_digest(question) {
            Ok(image) => image,
            Err(finding) => return *finding,
        };
        let asked =
            self.availability_among(&image, (question.partition, among.as_ref()), question.require, now);
        match asked {
            Ok(found) => self.judge((question, &image, among.as_ref()), found, now),
            Err(error) => refused(question, self.suggest(error)),
        }
    }

    /// Finds the nodes that are named; each has to be one of the partition's.
    fn among(&self, question: &Question<'_>, nodes: &NodeSet) -> Result<RoaringBitmap, Box<Finding>> {
        let Ok(partition) = self.partition_info(question.partition) else { return Ok(RoaringBitmap::new()) };
        let (known, unheard_of) = self.told_apart(nodes.names().to_vec());
        if !unheard_of.is_empty() {
            let names = fold(unheard_of.iter().map(|name| name.as_str()));
            return Err(Box::new(about(question, Satisfied::Unknown, Reason::UnknownNode, names)));
        }
        let known = PushTarget::Nodes(fold(known.iter().map(|name| name.as_str())));
        let named = self.members_of(&known).map(|(named, _)| named).unwrap_or_default();
        let elsewhere = &named - &partition.members;
        if elsewhere.is_empty() {
            return Ok(named);
        }
        let names = self.fold(&elsewhere);
        Err(Box::new(about(question, Satisfied::No, Reason::NodeElsewhere, names)))
    }

    /// Joins the image and the bytes that are asked for into one reference.
    fn with_digest(&self, question: &Question<'_>) -> Result<String, Box<Finding>> {
        let Some(digest) = question.digest else { return Ok(question.image.to_owned()) };
        if !question.image.contains("blake3:") {
            return Ok(format!("{}@{digest}", question.image));
        }
        let named = self.resolve(question.image, None).ok().and_then(|target| target.digest);
        if named == Some(digest) {
            return Ok(question.image.to_owned());
        }
        let mut finding = about(question, Satisfied::No, Reason::BadImage, String::new());
        finding.facts.what = format!("the digest asked for is {digest}");
        Err(Box::new(finding))
    }

    fn judge(
        &self,
        (question, image, among): (&Question<'_>, &str, Option<&RoaringBitmap>),
        found: Availability,
        now: Now,
    ) -> Finding {
        let (reason, nodes) = why(question, &found);
        let mut finding = Finding {
            satisfied: found.satisfied,
            reason,
            facts: facts(question, &found, nodes),
            found: None,
            unverified: Vec::new(),
        };
        if let (Satisfied::Yes, Some(signer)) = (found.satisfied, question.signer) {
            let digests = match found.expected_digest.as_deref().and_then(|text| text.parse().ok()) {
                Some(digest) => vec![digest],
                None => self.bytes_held(image, (question.partition, among), now),
            };
            self.judge_signatures(signer, &digests, &mut finding);
        }
        finding.found = Some(found);
        finding
    }

    /// Lists all bytes that nodes hold as an image: an answer shows only some of them.
    fn bytes_held(
        &self,
        image: &str,
        (partition, among): (&str, Option<&RoaringBitmap>),
        now: Now,
    ) -> Vec<Digest> {
        let Ok(partition) = self.partition_info(partition) else { return Vec::new() };
        let Ok(target) = self.resolve(image, Some(&partition.name)) else { return Vec::new() };
        let mut nodes = &partition.members & &*self.live_at(now);
        if let Some(among) = among {
            nodes &= among;
        }
        by_digest(&self.held(&target, &nodes)).into_keys().collect()
    }

    /// Looks whether one key has signed all the bytes that are ready.
    fn judge_signatures(&self, signer: Fingerprint, digests: &[Digest], finding: &mut Finding) {
        let policy = Policy::signed_by([signer].into());
        let unverified = digests.iter().filter(|digest| !self.signed.contains_key(digest)).copied();
        finding.unverified = unverified.take(MAX_GROUPS).collect();
        let refusals = digests.iter().filter_map(|digest| policy.refuses(self.signed.get(digest)?));
        let key = signer.to_string();
        let (satisfied, reason, what) = match refusals.into_iter().next() {
            Some(refusal) if refusal.code == FailCode::NotSigned => (Satisfied::No, Reason::NotSigned, key),
            Some(refusal) if refusal.code == FailCode::SignatureBad => {
                (Satisfied::No, Reason::SignatureBad, refusal.detail)
            }
            Some(refusal) => (Satisfied::No, Reason::SignerNotTrusted, refusal.detail),
            None if finding.unverified.is_empty() && !digests.is_empty() => return,
            None => (Satisfied::Unknown, Reason::SignatureUnknown, key),
        };
        (finding.satisfied, finding.reason, finding.facts.what) = (satisfied, reason, what);
    }
}

/// Returns how many nodes must be ready.
#[must_use]
pub fn needed(require: Require, counts: Counts) -> u32 {
    match require {
        Require::All => counts.nodes(),
        Require::Any => 1,
        Require::AtLeast(nodes) => nodes,
    }
}

/// Chooses the reason that most nodes stand for, and names them.
fn why(question: &Question<'_>, found: &Availability) -> (Reason, String) {
    let decisive: &[NodeAnswer] = match found.satisfied {
        Satisfied::Yes => return (Reason::Ready, found.nodes.ready.clone()),
        Satisfied::No if found.counts.nodes() == 0 => return (Reason::EmptyPartition, String::new()),
        Satisfied::No if needed(question.require, found.counts) > found.counts.nodes() => {
            return (Reason::TooFewNodes, String::new());
        }
        Satisfied::No => &[NodeAnswer::Outdated, NodeAnswer::Missing],
        Satisfied::Unknown => &[NodeAnswer::Unknown],
    };
    let groups = found.reasons.iter().filter(|group| decisive.contains(&group.answer));
    let largest = groups.enumerate().min_by_key(|(place, group)| (Reverse(group.count), *place));
    let Some((_, group)) = largest else { return (Reason::Unknown, found.nodes.unknown.clone()) };
    let reason = match (group.answer, group.code.as_str()) {
        (NodeAnswer::Outdated, _) if names_bytes(question) => Reason::WrongDigest,
        (NodeAnswer::Outdated, _) => Reason::Outdated,
        (NodeAnswer::Missing, "absent") => Reason::Missing,
        (NodeAnswer::Missing, _) => Reason::Unusable,
        (NodeAnswer::Ready | NodeAnswer::Unknown, code) => Reason::of(code).unwrap_or(Reason::Unknown),
    };
    (reason, group.nodes.clone())
}

fn names_bytes(question: &Question<'_>) -> bool {
    question.digest.is_some() || question.image.contains("@blake3:")
}

fn facts(question: &Question<'_>, found: &Availability, nodes: String) -> Facts {
    let name = found.image.split_once("@blake3:").map_or(found.image.as_str(), |(name, _)| name);
    Facts {
        image: name.to_owned(),
        partition: found.partition.clone(),
        ready: found.counts.ready,
        count: found.counts.nodes(),
        required: needed(question.require, found.counts),
        nodes,
        what: found.expected_digest.clone().unwrap_or_default(),
    }
}

/// Makes a verdict on what could not be looked for.
fn about(question: &Question<'_>, satisfied: Satisfied, reason: Reason, nodes: String) -> Finding {
    let facts = Facts {
        image: shorten(question.image),
        partition: shorten(question.partition),
        nodes,
        ..Facts::default()
    };
    Finding { satisfied, reason, facts, found: None, unverified: Vec::new() }
}

/// Turns a question without an answer into a verdict: of what is ambiguous nothing is known, the rest runs nowhere.
fn refused(question: &Question<'_>, error: QueryError) -> Finding {
    let offer = |candidates: &[String]| match candidates {
        [] => String::new(),
        some => format!(" ({}?)", some.join(", ")),
    };
    let (satisfied, reason, what) = match error {
        QueryError::UnknownImage { candidates, .. } => {
            (Satisfied::No, Reason::UnknownImage, offer(&candidates))
        }
        QueryError::Ambiguous { candidates, .. } => {
            (Satisfied::Unknown, Reason::AmbiguousImage, candidates.join(", "))
        }
        QueryError::BadReference { why, .. } => (Satisfied::No, Reason::BadImage, why),
        QueryError::UnknownPartition { candidates, .. } => {
            (Satisfied::No, Reason::UnknownPartition, offer(&candidates))
        }
        QueryError::UnknownNode { name, .. } => (Satisfied::Unknown, Reason::UnknownNode, name),
    };
    let mut finding = about(question, satisfied, reason, String::new());
    finding.facts.what = what;
    finding
}

#[cfg(test)]
mod tests;
