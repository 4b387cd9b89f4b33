//! Standings of names and tokens, one row each.

use rusqlite::{Result, Row, Transaction, params};
use sifleet_common::epoch::Epoch;
use sifleet_common::name::NodeName;
use sifleet_common::time::UnixMillis;
use tracing::warn;

use super::row::{RowError, parse, tolerate};
use crate::store::identity::{Invite, InviteHash, InviteNo, Standing};

pub(super) fn put_standing(transaction: &Transaction<'_>, node: &NodeName, standing: Standing) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO standing (node, epoch, enrolled, revoked) VALUES (?1, ?2, ?3, ?4)";
    let Standing { epoch, enrolled, revoked } = standing;
    let (enrolled, revoked) = (enrolled.map(|at| at.0), revoked.map(|at| at.0));
    transaction.prepare_cached(sql)?.execute(params![node.as_str(), epoch.0, enrolled, revoked])?;
    Ok(())
}

pub(super) fn put_invites(transaction: &Transaction<'_>, invites: &[Invite]) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO enrol_token
             (id, hash, node, networks, created, expires, used, used_from)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let mut put = transaction.prepare_cached(sql)?;
    for invite in invites {
        let networks: Vec<String> = invite.from.iter().map(ToString::to_string).collect();
        let used = invite.used.map(|(at, from)| (at.0, from.to_string()));
        put.execute(params![
            invite.id.0.cast_signed(),
            invite.hash.0.as_bytes(),
            invite.node.as_str(),
            networks.join(" "),
            invite.created.0,
            invite.expires.0,
            used.as_ref().map(|(at, _)| at),
            used.as_ref().map(|(_, from)| from),
        ])?;
    }
    Ok(())
}

pub(super) fn replace_invites(transaction: &Transaction<'_>, invites: &[Invite]) -> Result<()> {
    transaction.prepare_cached("DELETE FROM enrol_token")?.execute(())?;
    put_invites(transaction, invites)
}

pub(super) fn forget_invites(transaction: &Transaction<'_>, invites: &[InviteNo]) -> Result<()> {
    let mut forget = transaction.prepare_cached("DELETE FROM enrol_token WHERE id = ?1")?;
    for invite in invites {
        forget.execute([invite.0.cast_signed()])?;
    }
    Ok(())
}

/// Reads how names stand. A row that does not read back ends the start: leaving a revocation out would undo it.
pub(super) fn read_standings(transaction: &Transaction<'_>) -> Result<Vec<(NodeName, Standing)>> {
    let mut select =
        transaction.prepare("SELECT node, epoch, enrolled, revoked FROM standing ORDER BY node")?;
    let time = |at: Option<i64>| at.map(UnixMillis);
    let rows = select.query_map((), |row| {
        let name: String = row.get(0)?;
        let node = name.parse::<NodeName>().map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
        })?;
        let standing =
            Standing { epoch: Epoch(row.get(1)?), enrolled: time(row.get(2)?), revoked: time(row.get(3)?) };
        Ok((node, standing))
    })?;
    rows.collect()
}

/// Reads the tokens. One that does not read back is left out: it lets nobody in.
pub(super) fn read_invites(transaction: &Transaction<'_>) -> Result<Vec<Invite>> {
    let sql =
        "SELECT id, hash, node, networks, created, expires, used, used_from FROM enrol_token ORDER BY id";
    let mut select = transaction.prepare(sql)?;
    let mut rows = select.query(())?;
    let mut invites = Vec::new();
    while let Some(row) = rows.next()? {
        match tolerate(invite(row))? {
            Ok(invite) => invites.push(invite),
            Err(error) => warn!(error, "a stored token is not usable and left out"),
        }
    }
    Ok(invites)
}

fn invite(row: &Row<'_>) -> Result<Invite, RowError> {
    let networks: String = row.get(3)?;
    let from =
        networks.split_ascii_whitespace().map(|text| parse("networks", text)).collect::<Result<_, _>>()?;
    let used: Option<i64> = row.get(6)?;
    let used_from: Option<String> = row.get(7)?;
    let used_from = used_from.map(|text| parse("used_from", &text)).transpose()?;
    Ok(Invite {
        id: InviteNo(row.get::<_, i64>(0)?.cast_unsigned()),
        hash: InviteHash(blake3::Hash::from_bytes(row.get(1)?)),
        node: parse("node", &row.get::<_, String>(2)?)?,
        from,
        created: UnixMillis(row.get(4)?),
        expires: UnixMillis(row.get(5)?),
        used: used.map(UnixMillis).zip(used_from),
    })
}
