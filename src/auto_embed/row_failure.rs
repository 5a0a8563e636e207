//! Failures of single rows that the row trigger records, by the key of the row.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::columns::Columns;
use super::trigger_row::Row;
use crate::failures;
use crate::failures::Failure;
use crate::pg::messages::broken_trigger;
use crate::pg::roles::{Extension, with_fixed_output};
use crate::pg::spi::{Row as Found, read, required};
use crate::pg::summary::summary_of;
use crate::pg::text::Text;
use crate::pg::values::OwnedValue;
use crate::pg::varlena::Varlena;

/// Records that a row could not be embedded.
pub fn record_failure(
    row: &Row<'_>,
    columns: Columns,
    source: Varlena<'_>,
    error: ErrorReport,
) -> Result<(), ErrorReport> {
    let (sqlstate, message) = summary_of(error);
    let source_digest = failures::source_digest(source, columns.is_image());
    let row_key = RowKey::look_up(row)?;
    // Rows without a key are identified by their source.
    let key = match row_key.key(row)? {
        Some(key) => key,
        None => json_object(&["'source'".into()], &[Text(source_digest.clone()).into()])?,
    };
    let failure = Failure {
        trigger_name: row_key.trigger_name.into(),
        key: key.argument(),
        source_digest: &source_digest,
        sqlstate: &sqlstate,
        message: &message,
        retry: false,
    };
    failures::record(row_key.relation, failure)
}

/// Clears the failure of a row, if the table has a key.
pub fn forget_failure(row: &Row<'_>) -> Result<(), ErrorReport> {
    let row_key = RowKey::look_up(row)?;
    match row_key.key(row)? {
        Some(key) => failures::forget_one(row_key.relation, row_key.trigger_name, key.argument()),
        None => Ok(()),
    }
}

fn failed(error: spi::Error) -> ErrorReport {
    broken_trigger(&error.to_string())
}

/// The key by which failures identify a row. Looked up each time, because a key may change while its trigger does not.
struct RowKey {
    /// The table and the trigger of the managed column, of which those of a partition are copies.
    relation: pg_sys::Oid,
    trigger_name: Text,
    /// SQL expressions for the names of the key's columns, and the numbers of the columns.
    names: Vec<String>,
    numbers: Vec<i16>,
}

impl RowKey {
    fn look_up(row: &Row<'_>) -> Result<Self, ErrorReport> {
        let extension = Extension::find().ok_or_else(|| broken_trigger("the extension does not exist"))?;
        let row_key = extension.as_owner(|_| {
            // The trigger of a partition is a copy of its table's trigger. Columns of the table may have other numbers.
            let query = "WITH RECURSIVE up (oid, parent) AS ( \
                    SELECT t.oid, t.tgparentid FROM pg_trigger AS t WHERE t.oid = $1 \
                    UNION ALL SELECT t.oid, t.tgparentid FROM pg_trigger AS t JOIN up ON t.oid = up.parent) \
                 SELECT c.relation::oid, c.trigger_name::text, k.names, k.numbers \
                 FROM up JOIN _clip.columns AS c ON c.trigger_oid = up.oid \
                 LEFT JOIN LATERAL ( \
                    SELECT array_agg(format('(SELECT attname::pg_catalog.text FROM pg_catalog.pg_attribute \
                        WHERE attrelid OPERATOR(pg_catalog.=) %s AND attnum OPERATOR(pg_catalog.=) %s)', a.attrelid, a.attnum) ORDER BY k.i) AS names, \
                        array_agg(a.attnum ORDER BY k.i) AS numbers \
                    FROM unnest(c.key_names) WITH ORDINALITY AS k (name, i) \
                    JOIN pg_attribute AS a ON a.attrelid = $2 AND a.attname = k.name \
                 ) AS k ON true";
            read(query, &[row.trigger().into(), row.relation().into()], |found: &Found<'_>| {
                Ok(Self {
                    relation: required(found, 1)?,
                    trigger_name: required(found, 2)?,
                    names: found.get(3)?.unwrap_or_default(),
                    numbers: found.get(4)?.unwrap_or_default(),
                })
            })
        });
        row_key.map_err(failed)?.ok_or_else(|| broken_trigger("clip_auto_embed did not create it"))
    }

    /// Returns the key of a row as a JSON object, if the table has a key.
    fn key(&self, row: &Row<'_>) -> Result<Option<OwnedValue>, ErrorReport> {
        let Some(values) = self.numbers.iter().map(|&number| row.argument(number)).collect::<Option<Vec<_>>>() else {
            return Err(broken_trigger("the key of its table has changed"));
        };
        if values.is_empty() { Ok(None) } else { json_object(&self.names, &values).map(Some) }
    }
}

/// Builds a JSON object of names (SQL expressions) and values. Settings of the session do not change it.
fn json_object(names: &[String], values: &[DatumWithOid<'_>]) -> Result<OwnedValue, ErrorReport> {
    let pairs: Vec<_> = names.iter().zip(1..).map(|(name, number)| format!("{name}, ${number}")).collect();
    let query = format!("SELECT pg_catalog.jsonb_build_object({})", pairs.join(", "));
    let object = with_fixed_output(|| read(&query, values, |row| Ok(row.owned(1))));
    object.map_err(failed)?.unwrap_or_else(|| Err(broken_trigger("its key cannot be converted to JSON")))
}
