//! The record of a managed column, and the statements that fill its pending rows.

use clip::Embedding;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::messages::{broken_extension, broken_statement};
use crate::pg::roles::Extension;
use crate::pg::spi::{read, required};
use crate::pg::text::{ServerText, Text};
use crate::pg::vector::{Vector, VectorType};

/// A managed column with a key, as it is in the catalogs now.
pub struct Filling {
    pub relation: pg_sys::Oid,
    pub trigger_name: Text,
    pub owner: pg_sys::Oid,
    pub mode: String,
    pub model: String,
    pub digest: String,
    pub on_error: String,
    pub is_image: bool,
    pub target_type: pg_sys::Oid,
    pub key_types: Vec<pg_sys::Oid>,
    /// True if rows can be read in the order of their keys, so that a pass continues after the last batch.
    pub is_ordered: bool,
    pub has_failures: bool,
    /// Key and source of the pending rows of an INSERT or an UPDATE, from its transition tables.
    pub inserted: ServerText,
    pub updated: ServerText,
    /// Key and source of the first $1 pending rows, and of the next rows after a key ($2 …). Both lock the rows.
    pub first_rows: ServerText,
    pub next_rows: ServerText,
    /// True if a row is pending; the number of pending rows.
    pub any_row: ServerText,
    pub count_rows: ServerText,
    /// Stores an embedding ($1) in the row of a key ($2 …), if it has none. Returns true if the row has an embedding then.
    pub store: ServerText,
    /// True if the row of a key ($1 …) is pending.
    pub is_left: ServerText,
    /// A key ($1 …) as the JSON object that the view clip_failures shows.
    pub key_object: ServerText,
    /// The keys of failures of rows that are no longer pending.
    pub gone: ServerText,
}

impl Filling {
    /// Finds the column. Returns None if the table or the column's trigger does not exist.
    pub fn find(relation: pg_sys::Oid, trigger_name: &Text) -> Result<Option<Self>, ErrorReport> {
        let extension = Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?;
        let found = extension.as_owner(|schema| {
            let query = format!(
                "SELECT f.owner, f.mode, f.model, f.digest, f.on_error, f.is_image, f.target_type, f.key_types, f.is_ordered, f.has_failures, \
                        f.inserted, f.updated, f.first_rows, f.next_rows, f.any_row, f.count_rows, f.store, f.key_object, f.gone, f.is_left \
                   FROM {schema}._clip_filling($1::pg_catalog.regclass, $2::pg_catalog.name) AS f WHERE f.owner IS NOT NULL"
            );
            read(&query, &[relation.into(), trigger_name.clone().into()], |row| {
                let text = |column| required(row, column).map(|Text(text)| text);
                Ok(Self {
                    relation,
                    trigger_name: trigger_name.clone(),
                    owner: required(row, 1)?,
                    mode: text(2)?,
                    model: text(3)?,
                    digest: text(4)?,
                    on_error: text(5)?,
                    is_image: required(row, 6)?,
                    target_type: required(row, 7)?,
                    key_types: required(row, 8)?,
                    is_ordered: required(row, 9)?,
                    has_failures: required(row, 10)?,
                    inserted: required(row, 11)?,
                    updated: required(row, 12)?,
                    first_rows: required(row, 13)?,
                    next_rows: required(row, 14)?,
                    any_row: required(row, 15)?,
                    count_rows: required(row, 16)?,
                    store: required(row, 17)?,
                    key_object: required(row, 18)?,
                    gone: required(row, 19)?,
                    is_left: required(row, 20)?,
                })
            })
        });
        found.map_err(|error| broken_statement(&error.to_string()))
    }

    /// Returns an embedding as a value of the column.
    pub fn value(&self, embedding: &Embedding) -> Result<Vector, ErrorReport> {
        let kind = VectorType::of(self.target_type);
        kind.ok_or_else(|| broken_extension("the column has a type of another extension"))?.value(embedding)
    }

    /// Returns the argument types of a statement with one value and a key.
    pub fn types_with(&self, first: pg_sys::Oid) -> Vec<pg_sys::Oid> {
        [first].into_iter().chain(self.key_types.iter().copied()).collect()
    }

    /// Returns the value of a query of this column without arguments.
    pub fn ask<T: FromDatum + IntoDatum>(&self, query: &ServerText) -> Result<T, ErrorReport> {
        let none: [DatumWithOid<'_>; 0] = [];
        Spi::connect(|_| {
            let statement = crate::pg::spi::Statement::prepare(query.bytes(), &[])?;
            let rows = statement.run(&none, false, 1)?;
            let value = rows.row(0).map(|row| required(&row, 1)).transpose();
            value.ok().flatten().ok_or_else(|| broken_statement("it returned no value"))
        })
    }
}
