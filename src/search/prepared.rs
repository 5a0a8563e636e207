//! A search whose statements are known. SQL builds the statements; this module runs them.

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::column::{Model, SearchColumn};
use super::named_index::with_index;
use super::select::{ef_search, select};
use crate::citus::with_search_settings;
use crate::pg::arguments::{name, optional_name, optional_regclass, regclass, text};
use crate::pg::messages::{broken_extension, null_argument};
use crate::pg::roles::Extension;
use crate::pg::spi::{Row, read, required};
use crate::pg::text::{ServerText, Text};
use crate::pg::values::RawDatum;
use crate::pg::varlena::Varlena;

/// The largest number of nearest rows in which groups are searched by an index. pgvector stops after 20,000 rows by default.
const MAX_ROWS_OF_GROUPS: i64 = 20_000;

/// The arguments of a search, except its query.
pub struct Search<'a> {
    pub relation: Option<pg_sys::Oid>,
    pub k: Option<i32>,
    pub target: Option<&'a CStr>,
    pub filter: Option<Varlena<'a>>,
    pub key_column: Option<&'a CStr>,
    pub min_relevance: Option<f64>,
    pub per: Option<&'a CStr>,
    pub per_size: Option<i32>,
    pub exclude: Option<RawDatum>,
    pub index: Option<pg_sys::Oid>,
}

/// A validated search with its statements.
pub struct Prepared<'a> {
    pub extension: Extension,
    pub column: SearchColumn<'a>,
    /// The index that the caller names.
    index: Option<pg_sys::Oid>,
    k: usize,
    nearest: ServerText,
    /// The same search in a form that no index supports. None if no index can omit rows.
    exact: Option<ServerText>,
    /// Number of rows that an index should return.
    candidates: i32,
    /// Number of rows in which the first attempt searches groups. None if the search has no groups.
    rows_of_groups: Option<i64>,
}

impl<'a> Search<'a> {
    /// `by_image` is true if the query is an image.
    pub fn prepare(self, by_image: bool) -> Result<Prepared<'a>, ErrorReport> {
        let per = optional_name(self.per);
        // SAFETY: the SQL declaration of the argument is jsonb.
        let exclude = unsafe { DatumWithOid::new(self.exclude, pg_sys::JSONBOID) };
        let rows_of_groups = self.per.map(|_| {
            let [k, per_size] = [self.k, self.per_size].map(|number| i64::from(number.unwrap_or(1).max(1)));
            k.saturating_mul(per_size).saturating_mul(4)
        });
        let index = optional_regclass(self.index);
        let more = [self.min_relevance.into(), per, self.per_size.into(), exclude, index, by_image.into()];
        let function = "_clip_search_statements($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let mut prepared = prepare(function, self.relation, self.k, self.target, self.filter, self.key_column, more)?;
        prepared.rows_of_groups = rows_of_groups;
        prepared.index = self.index;
        Ok(prepared)
    }
}

/// Prepares a hybrid search, which also ranks rows by a column of words.
pub fn prepare_hybrid<'a>(
    relation: Option<pg_sys::Oid>,
    k: Option<i32>,
    target: Option<&'a CStr>,
    filter: Option<Varlena<'a>>,
    key_column: Option<&'a CStr>,
    words: &'a CStr,
    index: Option<pg_sys::Oid>,
) -> Result<Prepared<'a>, ErrorReport> {
    let function = "_clip_hybrid_statements($1, $6, $2, $3, $4, $5, $7)";
    let more = [name(words), optional_regclass(index)];
    Ok(Prepared { index, ..prepare(function, relation, k, target, filter, key_column, more)? })
}

/// Gets the statements as the extension's owner, because a role that searches through a view may not be able to use our schema.
/// Reads only catalogs.
fn prepare<'a>(
    function: &str,
    relation: Option<pg_sys::Oid>,
    k: Option<i32>,
    target: Option<&'a CStr>,
    filter: Option<Varlena<'a>>,
    key_column: Option<&'a CStr>,
    more: impl IntoIterator<Item = DatumWithOid<'a>>,
) -> Result<Prepared<'a>, ErrorReport> {
    let relation = relation.ok_or_else(|| null_argument("relation"))?;
    let target = target.ok_or_else(|| null_argument("target"))?;
    let extension = Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?;
    let mut arguments = vec![regclass(relation), k.into(), name(target), text(filter), optional_name(key_column)];
    arguments.extend(more);
    let found = extension.as_owner(|schema| {
        let columns = "s.nearest, s.exact, s.candidates, s.model, s.digest, s.named";
        read(&format!("SELECT {columns} FROM {schema}.{function} AS s"), &arguments, |row| {
            let Text(named) = required(row, 6)?;
            let column = SearchColumn { relation, target, made_by: Model::new(row.get(4)?, row.get(5)?), named };
            Ok((column, row.get(1)?, row.get(2)?, required(row, 3)?))
        })
    });
    let Ok(Some((column, Some(nearest), exact, candidates))) = found else {
        return Err(broken_extension("a function returned no statement"));
    };
    let k = k.and_then(|k| usize::try_from(k).ok()).unwrap_or_default();
    Ok(Prepared { extension, column, index: None, k, nearest, exact, candidates, rows_of_groups: None })
}

impl Prepared<'_> {
    /// Runs the search with settings that make the index find k rows if k rows match. If it finds fewer, runs the exact search.
    pub fn run<T>(
        self,
        arguments: &[DatumWithOid<'_>],
        read: impl Fn(&Row<'_>) -> spi::SpiResult<T>,
    ) -> Result<Vec<T>, ErrorReport> {
        let ef_search = ef_search(self.candidates);
        let run = || {
            let found = select(self.nearest.bytes(), arguments, &read)?;
            match &self.exact {
                Some(exact) if found.len() < self.k => select(exact.bytes(), arguments, &read),
                _ => Ok(found),
            }
        };
        let found = self.by_index(|| with_search_settings(&settings(&ef_search), run))?;
        self.column.notice_pending();
        Ok(found)
    }

    /// Returns the relevant rows of the search. `read` returns the rank of a row, and whether the row is relevant.
    pub fn nearest<T>(
        self,
        vector: DatumWithOid<'_>,
        read: impl Fn(&Row<'_>) -> spi::SpiResult<(i32, bool, T)>,
    ) -> Result<Vec<T>, ErrorReport> {
        let found = match self.rows_of_groups {
            None => self.run(&[vector], read)?,
            Some(rows) => self.run_grouped(vector, rows, read)?,
        };
        Ok(found.into_iter().filter(|(_, is_relevant, _)| *is_relevant).map(|(_, _, row)| row).collect())
    }

    fn by_index<T>(&self, run: impl FnOnce() -> Result<T, ErrorReport>) -> Result<T, ErrorReport> {
        with_index(self.column.relation, self.column.target, self.index, run)
    }

    /// Searches k groups in a growing number of nearest rows, and in all rows at last.
    fn run_grouped<T>(
        self,
        vector: DatumWithOid<'_>,
        mut rows: i64,
        read: impl Fn(&Row<'_>) -> spi::SpiResult<(i32, bool, T)>,
    ) -> Result<Vec<(i32, bool, T)>, ErrorReport> {
        let mut arguments = [vector, None::<i64>.into()];
        let mut run = |statement: &ServerText, limit: Option<i64>| {
            arguments[1] = limit.into();
            let candidates = self.candidates.max(limit.map_or(0, |limit| i32::try_from(limit).unwrap_or(i32::MAX)));
            let ef_search = ef_search(candidates);
            let run = || select(statement.bytes(), &arguments, &read);
            self.by_index(|| with_search_settings(&settings(&ef_search), run))
        };
        // The last row has the largest rank.
        let is_complete = |found: &[(i32, bool, T)]| found.last().is_some_and(|(rank, ..)| *rank as usize >= self.k);
        let found = loop {
            let Some(exact) = &self.exact else { break run(&self.nearest, None)? };
            if rows > MAX_ROWS_OF_GROUPS {
                break run(exact, None)?;
            }
            let found = run(&self.nearest, Some(rows))?;
            if is_complete(&found) {
                break found;
            }
            rows *= 4;
        };
        self.column.notice_pending();
        Ok(found)
    }
}

/// The settings of a search. Iterative scans replace rows that the filter removes. Keys as jsonb keep all digits.
pub fn settings(ef_search: &CStr) -> [(&'static CStr, &CStr); 5] {
    [
        // Compiling takes longer than any search by an index.
        (c"jit", c"off"),
        (c"extra_float_digits", c"1"),
        (c"hnsw.iterative_scan", c"relaxed_order"),
        (c"ivfflat.iterative_scan", c"relaxed_order"),
        (c"hnsw.ef_search", ef_search),
    ]
}
