//! Job templates as rows.

use rusqlite::{Error, Result, Row, Transaction, params};
use sifleet_common::time::UnixMillis;
use tracing::warn;

use super::row::{RowError, parse, tolerate};
use crate::store::template::{TemplateId, TemplateRecord};

/// Writes a template, new or changed.
pub(super) fn put(transaction: &Transaction<'_>, template: &TemplateRecord) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO template
             (id, name, description, image, partition, require, digest, signer, changed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    transaction.prepare_cached(sql)?.execute(params![
        template.id.as_str(),
        template.name,
        template.description,
        template.image,
        template.partition.as_str(),
        template.require.to_string(),
        template.digest.map(|digest| digest.to_string()),
        template.signer.map(|signer| signer.to_string()),
        template.changed.0,
    ])?;
    Ok(())
}

pub(super) fn forget(transaction: &Transaction<'_>, id: &TemplateId) -> Result<()> {
    transaction.prepare_cached("DELETE FROM template WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}

/// Reads all templates, by id.
pub(super) fn read_all(transaction: &Transaction<'_>) -> Result<Vec<TemplateRecord>> {
    let sql = "SELECT id, name, description, image, partition, require, digest, signer, changed
         FROM template ORDER BY id";
    let mut select = transaction.prepare(sql)?;
    let mut rows = select.query(())?;
    let mut templates = Vec::new();
    while let Some(row) = rows.next()? {
        match tolerate(template(row))? {
            Ok(template) => templates.push(template),
            Err(error) => warn!(error, "a stored template is not usable and left out"),
        }
    }
    Ok(templates)
}

fn template(row: &Row<'_>) -> Result<TemplateRecord, RowError> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(Error::from);
    let (digest, signer): (Option<String>, Option<String>) = (row.get(6)?, row.get(7)?);
    Ok(TemplateRecord {
        id: parse("id", text(0)?)?,
        name: row.get(1)?,
        description: row.get(2)?,
        image: row.get(3)?,
        partition: parse("partition", text(4)?)?,
        require: parse("require", text(5)?)?,
        digest: digest.map(|digest| parse("digest", &digest)).transpose()?,
        signer: signer.map(|signer| parse("signer", &signer)).transpose()?,
        changed: UnixMillis(row.get(8)?),
    })
}
