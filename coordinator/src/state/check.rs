//! The border for what agents say: whether it keeps the limits that `common` names. Whoever breaks one breaks the
//! protocol; nothing of the message is taken in.

use std::collections::BTreeMap;

use sifleet_common::image::{
    ImageMetadata, MAX_ENTRIES, MAX_KEY, MAX_METADATA, MAX_NOTES, MAX_PARTITIONS, MAX_SIGNATURES, MAX_TEXT,
};
use sifleet_common::inventory::{
    Change, Content, Inventory, MAX_INVENTORY_WEIGHT, MAX_REASON, MAX_ROOTS, RootId, RootState,
};
use sifleet_common::keyring::MAX_KEYS;
use sifleet_common::policy::{MAX_KEY_NAME, Verdict};
use sifleet_common::wire::assignment::{MAX_DETAIL, MAX_SOURCES, Report};
use sifleet_common::wire::control::{Described, MAX_SIDECAR};

/// Longest path of a root, in bytes: what Linux takes.
const MAX_PATH: usize = 4_096;

/// What is wrong, in words for both logs.
type Breach = &'static str;

pub(super) fn changes(changes: &[Change]) -> Result<(), Breach> {
    changes.iter().try_for_each(change)
}

fn change(change: &Change) -> Result<(), Breach> {
    match change {
        Change::Root(id, root) => {
            number(*id)?;
            let reason = match &root.state {
                RootState::Watched => "",
                RootState::Degraded { reason }
                | RootState::Unknown { reason }
                | RootState::Partial { reason } => reason,
            };
            within(root.path.len(), MAX_PATH, "a root with a path longer than paths can be")?;
            within(reason.len(), MAX_REASON, "a reason of a root beyond its limit")
        }
        Change::Put(key, replica) => {
            number(key.root)?;
            match &replica.content {
                Content::Unusable(what) => {
                    within(what.detail.len(), MAX_REASON, "an explanation of a replica beyond its limit")
                }
                Content::Pending(_) | Content::Image(_) => Ok(()),
            }
        }
        Change::Remove(key) => number(key.root),
    }
}

fn number(root: RootId) -> Result<(), Breach> {
    within(usize::from(root.0) + 1, MAX_ROOTS, "more roots than a node can have")
}

/// Checks what is kept of one node.
pub(super) fn size(inventory: &Inventory, max_replicas: usize) -> Result<(), Breach> {
    within(inventory.len(), max_replicas, "more replicas than the coordinator keeps of one node")?;
    within(inventory.weight(), MAX_INVENTORY_WEIGHT, "more bytes than the coordinator keeps of one node")
}

/// Checks what an agent says of its assignments.
pub(super) fn report(report: &Report) -> Result<(), Breach> {
    let words = "an explanation of an assignment beyond its limit";
    match report {
        Report::Mapped(mapped) => within(mapped.detail.len(), MAX_DETAIL, words),
        Report::Verified(verified) => {
            let key = match &verified.verdict {
                Some(Verdict::UnknownKey { key, .. }) => key.len(),
                Some(Verdict::Unsigned | Verdict::Signed { .. } | Verdict::Bad { .. }) | None => 0,
            };
            within(key, MAX_KEY_NAME, "a name of a key beyond its limit")?;
            let signers = match &verified.verdict {
                Some(Verdict::Signed { by }) => by.len(),
                Some(Verdict::Unsigned | Verdict::UnknownKey { .. } | Verdict::Bad { .. }) | None => 0,
            };
            within(signers, 2 * MAX_KEYS, "more signers than a keyring has keys")?;
            within(verified.detail.len(), MAX_DETAIL, words)
        }
        Report::Removed(removed) => within(removed.detail.len(), MAX_DETAIL, words),
        Report::Progress(progress) => {
            let sources = progress.sources.len().max(progress.dropped.len());
            within(sources, MAX_SOURCES, "a report that names more nodes than an assignment has")?;
            let failure = progress.failure.as_ref().map_or(0, |(_, words)| words.len());
            within(failure, MAX_DETAIL, words)
        }
    }
}

/// Checks what an image is said to say of itself.
pub(super) fn described(described: &Described) -> Result<(), Breach> {
    let sidecar = described.sidecar.as_ref().map_or(0, String::len);
    within(sidecar, MAX_SIDECAR, "a sidecar beyond its limit")?;
    described.metadata.as_ref().map_or(Ok(()), metadata)
}

fn metadata(said: &ImageMetadata) -> Result<(), Breach> {
    let lists = "metadata with more entries than are kept";
    for (count, max) in [
        (said.partitions.len(), MAX_PARTITIONS),
        (said.signatures.len(), MAX_SIGNATURES),
        (said.notes.len(), MAX_NOTES),
        (said.apps.len(), MAX_ENTRIES),
    ] {
        within(count, max, lists)?;
    }
    let mut total = 0;
    let mut text = |text: &Option<String>| {
        let len = text.as_ref().map_or(0, String::len);
        total += len;
        within(len, MAX_TEXT, "metadata with a text beyond its limit")
    };
    for said in
        [&said.definition, &said.runscript, &said.startscript, &said.test, &said.help, &said.oci_config]
    {
        text(said)?;
    }
    for app in said.apps.values() {
        for said in [&app.runscript, &app.test, &app.help] {
            text(said)?;
        }
    }
    total += map(&said.labels)? + map(&said.environment)?;
    for (name, app) in &said.apps {
        within(name.len(), MAX_KEY, lists)?;
        total += name.len() + map(&app.labels)? + map(&app.environment)?;
    }
    within(total, MAX_METADATA, "metadata beyond its limit")
}

fn map(entries: &BTreeMap<String, String>) -> Result<usize, Breach> {
    within(entries.len(), MAX_ENTRIES, "metadata with more entries than are kept")?;
    let mut total = 0;
    for (key, value) in entries {
        within(key.len(), MAX_KEY, "metadata with a key beyond its limit")?;
        within(value.len(), MAX_TEXT, "metadata with a text beyond its limit")?;
        total += key.len() + value.len();
    }
    Ok(total)
}

fn within(is: usize, max: usize, breach: Breach) -> Result<(), Breach> {
    if is <= max { Ok(()) } else { Err(breach) }
}
