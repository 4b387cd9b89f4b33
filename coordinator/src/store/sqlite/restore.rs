//! Reads everything back at start, and believes only what proves itself.
//!
//! The changes of each node are applied to an empty inventory, whose digest must be the stored one. A node that
//! fails, for whatever reason, starts from nothing, on disk too: its agent is then asked for a snapshot.

use std::collections::{BTreeSet, HashSet};

use rusqlite::{Connection, Error, Result, Row, Transaction};
use sifleet_common::digest::Digest;
use sifleet_common::inventory::{
    Change, Generation, Inventory, InventoryDigest, MAX_REPLICAS, ReplicaKey, RootId,
};
use sifleet_common::name::ImageName;
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::control::StreamId;
use tracing::warn;

use super::row::{self, RowError, bad, parse, tolerate, word};
use super::{identities, limits, members, pushes, registries, removals, templates, tokens};
use crate::store::{NodeFacts, Position, Restored, RestoredNode};

pub(super) fn read(connection: &mut Connection) -> Result<Restored> {
    let transaction = connection.transaction()?;
    let mut reader = Reader { transaction: &transaction, names: HashSet::new() };
    let restored = Restored {
        nodes: reader.nodes()?,
        members: members::read_all(&transaction)?,
        described: reader.described()?,
        heard_of: reader.heard_of()?,
        pushes: pushes::read_all(&transaction)?,
        removals: removals::read_all(&transaction)?,
        maps: pushes::read_maps(&transaction)?,
        limits: limits::read(&transaction)?,
        busy: limits::read_busy(&transaction)?,
        standings: identities::read_standings(&transaction)?,
        invites: identities::read_invites(&transaction)?,
        tokens: tokens::read_all(&transaction)?,
        templates: templates::read_all(&transaction)?,
        registries: registries::read_all(&transaction)?,
    };
    transaction.commit()?;
    Ok(restored)
}

struct Reader<'a> {
    transaction: &'a Transaction<'a>,
    /// Each image name once: thousands of nodes hold images of the same name.
    names: HashSet<ImageName>,
}

impl Reader<'_> {
    fn nodes(&mut self) -> Result<Vec<RestoredNode>> {
        let sql = "SELECT id, name, build, arch, partitions, last_seen, stream, generation, digest FROM node
             ORDER BY name";
        let transaction = self.transaction;
        let mut select = transaction.prepare(sql)?;
        let mut rows = select.query(())?;
        let mut nodes = Vec::new();
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let mut node = match tolerate(node(row))? {
                Ok(node) => node,
                Err(error) => {
                    warn!(error, "a stored node is not usable and left out");
                    transaction.execute("DELETE FROM node WHERE id = ?1", [id])?;
                    continue;
                }
            };
            match tolerate(self.changes(id, node.position.digest))? {
                Ok(changes) => node.changes = changes,
                Err(error) => {
                    warn!(error, node = %node.node, "a stored inventory is not usable and left out");
                    self.clear(id)?;
                    node.position = Position::default();
                }
            }
            nodes.push(node);
        }
        Ok(nodes)
    }

    /// Reads an inventory and proves it.
    fn changes(&mut self, node: i64, digest: InventoryDigest) -> Result<Vec<Change>, RowError> {
        let mut changes = self.roots(node)?;
        self.replicas(node, &mut changes)?;
        let mut inventory = Inventory::default();
        for change in &changes {
            inventory.apply(change.clone());
        }
        if inventory.digest() == digest { Ok(changes) } else { Err(bad("digest", &format!("{digest:?}"))) }
    }

    fn roots(&self, node: i64) -> Result<Vec<Change>, RowError> {
        let sql = "SELECT root, path, library, state, reason FROM root WHERE node = ?1 ORDER BY root";
        let mut select = self.transaction.prepare_cached(sql)?;
        let mut rows = select.query([node])?;
        let mut changes = Vec::new();
        while let Some(row) = rows.next()? {
            changes.push(Change::Root(RootId(row.get(0)?), row::root(row, 1)?));
        }
        Ok(changes)
    }

    fn replicas(&mut self, node: i64, changes: &mut Vec<Change>) -> Result<(), RowError> {
        let sql =
            "SELECT root, name, size, modified, state, detail, digest, format, arch, mutable FROM replica
             WHERE node = ?1 ORDER BY root, name";
        let mut select = self.transaction.prepare_cached(sql)?;
        let mut rows = select.query([node])?;
        while let Some(row) = rows.next()? {
            if changes.len() >= MAX_REPLICAS {
                return Err(bad("replica", "more rows than a node may report"));
            }
            let name = row.get_ref(1)?.as_str().map_err(Error::from)?;
            let key = ReplicaKey { root: RootId(row.get(0)?), name: self.name(name)? };
            changes.push(Change::Put(key, row::replica(row, 2)?));
        }
        Ok(())
    }

    fn name(&mut self, text: &str) -> Result<ImageName, RowError> {
        if let Some(known) = self.names.get(text) {
            return Ok(known.clone());
        }
        let name: ImageName = parse("name", text)?;
        self.names.insert(name.clone());
        Ok(name)
    }

    fn clear(&self, node: i64) -> Result<()> {
        let transaction = self.transaction;
        transaction.execute("DELETE FROM replica WHERE node = ?1", [node])?;
        transaction.execute("DELETE FROM root WHERE node = ?1", [node])?;
        let sql = "UPDATE node SET stream = 0, generation = 0, digest = zeroblob(32) WHERE id = ?1";
        transaction.execute(sql, [node])?;
        Ok(())
    }

    fn described(&self) -> Result<BTreeSet<Digest>> {
        let mut select =
            self.transaction.prepare("SELECT digest FROM image_metadata WHERE length(digest) = 32")?;
        select.query_map((), |row| row.get(0).map(Digest::from_bytes))?.collect()
    }

    fn heard_of(&mut self) -> Result<Vec<ImageName>> {
        let transaction = self.transaction;
        let mut select = transaction.prepare("SELECT name FROM heard_of ORDER BY id")?;
        let mut rows = select.query(())?;
        let mut names = Vec::new();
        while let Some(row) = rows.next()? {
            match self.name(row.get_ref(0)?.as_str().map_err(Error::from)?) {
                Ok(name) => names.push(name),
                Err(error) => warn!(%error, "a stored image name is not usable and left out"),
            }
        }
        Ok(names)
    }
}

fn node(row: &Row<'_>) -> Result<RestoredNode, RowError> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(Error::from);
    let partitions = text(4)?;
    Ok(RestoredNode {
        node: parse("name", text(1)?)?,
        facts: NodeFacts {
            build: row.get(2)?,
            arch: word("arch", text(3)?)?,
            partitions: serde_json::from_str(partitions).map_err(|_invalid| bad("partitions", partitions))?,
            last_seen: UnixMillis(row.get(5)?),
        },
        position: Position {
            stream: StreamId(row.get::<_, i64>(6)?.cast_unsigned()),
            generation: Generation(row.get::<_, i64>(7)?.cast_unsigned()),
            digest: InventoryDigest::from_bytes(row.get(8)?),
        },
        changes: Vec::new(),
    })
}
