//! Applies steps within one transaction. Knows the SQL of nodes, roots, replicas and names heard of.
//!
//! A node's position is written once per transaction, after the last of its changes, and never in another
//! transaction than those.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Result, ToSql, Transaction, params};
use sifleet_common::inventory::{Change, ReplicaKey, Root, RootId};
use sifleet_common::name::{ImageName, NodeName};

use super::{
    audit, identities, limits, members, metadata, oci, pushes, registries, removals, row, templates, tokens,
};
use crate::store::{NodeFacts, Op, Position};

/// Names remembered after their last replica; each is a few dozen bytes.
const MAX_HEARD_OF: i64 = 100_000;

/// One batch of steps on its way into a transaction.
pub(super) struct Batch<'a> {
    transaction: &'a Transaction<'a>,
    /// Where the nodes that moved stand after the batch.
    positions: BTreeMap<NodeName, (i64, Position)>,
    /// Nodes with a step that never reached the disk: what is there stays as it was until the whole is replaced.
    lost: &'a BTreeSet<NodeName>,
    /// Those of them that were replaced in this batch.
    pub(super) found: BTreeSet<NodeName>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(transaction: &'a Transaction<'a>, lost: &'a BTreeSet<NodeName>) -> Self {
        Self { transaction, positions: BTreeMap::new(), lost, found: BTreeSet::new() }
    }

    pub(super) fn apply(&mut self, op: &Op, budget: &mut metadata::Budget) -> Result<()> {
        match op {
            Op::PutNode { node, facts } => self.put_node(node, facts),
            Op::Advance { node, .. } if self.is_lost(node) => Ok(()),
            Op::Advance { node, position, changes } => self.advance(node, *position, changes, false),
            Op::Replace { node, position, changes } => {
                self.advance(node, *position, changes, true)?;
                if self.lost.contains(node) {
                    self.found.insert(node.clone());
                }
                Ok(())
            }
            Op::PutMetadata { digest, metadata, sidecar } => {
                metadata::put(self.transaction, budget, (*digest, metadata, sidecar.as_deref()))
            }
            Op::PutMembers { source, at, members } => members::put(self.transaction, source, *at, members),
            Op::HeardOf { name } => self.heard_of(name),
            Op::PutPush { record, nodes } => pushes::put(self.transaction, record, nodes),
            Op::JoinPush { push, node } => pushes::join(self.transaction, *push, node),
            Op::ChangePush { record } => pushes::change(self.transaction, record),
            Op::PutOutcomes { push, nodes } => pushes::put_outcomes(self.transaction, *push, nodes),
            Op::ForgetPushes { pushes } => pushes::forget(self.transaction, pushes),
            Op::ForgetMap { image } => pushes::forget_map(self.transaction, *image),
            Op::PutMap { image, map } => pushes::put_map(self.transaction, *image, *map),
            Op::PutRemoval { record, nodes } => removals::put(self.transaction, record, nodes),
            Op::ChangeRemoval { record } => removals::change(self.transaction, record),
            Op::PutRemoved { removal, nodes } => removals::put_parts(self.transaction, *removal, nodes),
            Op::ForgetRemovals { removals } => removals::forget(self.transaction, removals),
            Op::PutLimits { set } => limits::put(self.transaction, set),
            Op::MarkBusy { nodes, busy } => limits::mark(self.transaction, nodes, *busy),
            Op::PutStanding { node, standing } => identities::put_standing(self.transaction, node, *standing),
            Op::PutInvites { invites } => identities::put_invites(self.transaction, invites),
            Op::ReplaceInvites { invites } => identities::replace_invites(self.transaction, invites),
            Op::ForgetInvites { invites } => identities::forget_invites(self.transaction, invites),
            Op::PutRegistry { record } => registries::put(self.transaction, record),
            Op::ForgetRegistry { id } => registries::forget(self.transaction, id),
            Op::PutToken { record } => tokens::put(self.transaction, record),
            Op::TouchTokens { used } => tokens::touch(self.transaction, used),
            Op::ForgetTokens { tokens } => tokens::forget(self.transaction, tokens),
            Op::PutTemplate { record } => templates::put(self.transaction, record),
            Op::ForgetTemplate { id } => templates::forget(self.transaction, id),
            Op::PutAudit { record } => audit::put(self.transaction, record),
            Op::PruneAudit { before, keep } => audit::prune(self.transaction, *before, *keep),
            Op::Oci(step) => oci::apply(self.transaction, step),
        }
    }

    /// Writes the positions: the last step before the commit.
    pub(super) fn finish(&mut self) -> Result<()> {
        let sql = "UPDATE node SET stream = ?2, generation = ?3, digest = ?4 WHERE id = ?1";
        let mut update = self.transaction.prepare_cached(sql)?;
        for (id, at) in self.positions.values() {
            let (stream, generation) = (at.stream.0.cast_signed(), at.generation.0.cast_signed());
            update.execute(params![id, stream, generation, at.digest.as_bytes()])?;
        }
        Ok(())
    }

    fn is_lost(&self, node: &NodeName) -> bool {
        self.lost.contains(node) && !self.found.contains(node)
    }

    fn put_node(&self, node: &NodeName, facts: &NodeFacts) -> Result<()> {
        let sql = "INSERT INTO node (name, build, arch, partitions, last_seen) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (name) DO UPDATE SET build = ?2, arch = ?3, partitions = ?4, last_seen = ?5";
        let partitions = serde_json::json!(facts.partitions).to_string();
        self.transaction.prepare_cached(sql)?.execute(params![
            node.as_str(),
            facts.build,
            facts.arch.as_str(),
            partitions,
            facts.last_seen.0
        ])?;
        Ok(())
    }

    /// Finds the row of a node. A node always introduces itself first, but a position without a node would be
    /// lost in silence, so one is made.
    fn node(&self, node: &NodeName) -> Result<i64> {
        let find = || {
            let mut find = self.transaction.prepare_cached("SELECT id FROM node WHERE name = ?1")?;
            find.query_row([node.as_str()], |row| row.get(0))
        };
        match find() {
            Err(rusqlite::Error::QueryReturnedNoRows) => {
                let sql = "INSERT INTO node (name, build, arch, partitions, last_seen)
                     VALUES (?1, '', 'unknown', '[]', 0)";
                self.transaction.prepare_cached(sql)?.insert([node.as_str()])
            }
            found => found,
        }
    }

    fn advance(&mut self, node: &NodeName, at: Position, changes: &[Change], whole: bool) -> Result<()> {
        let id = match self.positions.get(node) {
            Some((id, _)) => *id,
            None => self.node(node)?,
        };
        if whole {
            self.clear(id)?;
        }
        for change in changes {
            self.change(id, change)?;
        }
        self.positions.insert(node.clone(), (id, at));
        Ok(())
    }

    fn clear(&self, node: i64) -> Result<()> {
        self.transaction.prepare_cached("DELETE FROM replica WHERE node = ?1")?.execute([node])?;
        self.transaction.prepare_cached("DELETE FROM root WHERE node = ?1")?.execute([node])?;
        Ok(())
    }

    fn change(&self, node: i64, change: &Change) -> Result<()> {
        match change {
            Change::Root(id, root) => self.put_root(node, *id, root),
            Change::Put(key, replica) => {
                let sql =
                    "INSERT OR REPLACE INTO replica (size, modified, state, detail, digest, format, arch,
                         mutable, node, root, name)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
                let mut put = self.transaction.prepare_cached(sql)?;
                let key: [&dyn ToSql; 3] = [&node, &key.root.0, &key.name.as_str()];
                row::with_replica(replica, |columns| {
                    for (index, value) in columns.into_iter().chain(key).enumerate() {
                        put.raw_bind_parameter(index + 1, value)?;
                    }
                    put.raw_execute()
                })?;
                Ok(())
            }
            Change::Remove(key) => self.remove(node, key),
        }
    }

    fn put_root(&self, node: i64, id: RootId, root: &Root) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO root (node, root, path, library, state, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let (state, reason) = row::root_state(&root.state);
        let mut put = self.transaction.prepare_cached(sql)?;
        put.execute(params![node, id.0, root.path, root.kind as u8, state, reason])?;
        Ok(())
    }

    fn remove(&self, node: i64, key: &ReplicaKey) -> Result<()> {
        let sql = "DELETE FROM replica WHERE node = ?1 AND root = ?2 AND name = ?3";
        self.transaction.prepare_cached(sql)?.execute(params![node, key.root.0, key.name.as_str()])?;
        Ok(())
    }

    fn heard_of(&self, name: &ImageName) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO heard_of (name) VALUES (?1)";
        if self.transaction.prepare_cached(sql)?.execute([name.as_str()])? == 1 {
            let sql = "DELETE FROM heard_of WHERE id <= (SELECT max(id) FROM heard_of) - ?1";
            self.transaction.prepare_cached(sql)?.execute([MAX_HEARD_OF])?;
        }
        Ok(())
    }
}
