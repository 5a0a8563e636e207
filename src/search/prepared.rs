//! A search whose statements are known. SQL builds the statements; this module runs them.

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::column::{Model, SearchColumn};
use super::leaves::{Arguments, Leaves};
use super::named_index::with_index;
use super::select::{ef_search, select};
use crate::citus::with_search_settings;
use crate::functions::filter::require_own_parameters;
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
    pub partial: Option<bool>,
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
    /// Number of arguments of the statements, if they read the table as a whole. A filter cannot use any other parameter.
    arguments: usize,
    /// The tables that the search reads one by one. None if it reads the table as a whole.
    leaves: Option<Leaves>,
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
        let function = "_clip_search_statements($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let mut prepared =
            prepare(function, self.relation, self.k, self.target, self.filter, self.key_column, self.partial, more)?;
        prepared.rows_of_groups = rows_of_groups;
        prepared.index = self.index;
        prepared.arguments += usize::from(rows_of_groups.is_some());
        Ok(prepared)
    }
}

/// Prepares a hybrid search, which also ranks rows by a column of words.
#[allow(clippy::too_many_arguments, reason = "as many as the SQL function has")]
pub fn prepare_hybrid<'a>(
    relation: Option<pg_sys::Oid>,
    k: Option<i32>,
    target: Option<&'a CStr>,
    filter: Option<Varlena<'a>>,
    key_column: Option<&'a CStr>,
    partial: Option<bool>,
    words: &'a CStr,
    index: Option<pg_sys::Oid>,
) -> Result<Prepared<'a>, ErrorReport> {
    let function = "_clip_hybrid_statements($1, $8, $2, $3, $4, $5, $6, $7, $9)";
    let more = [name(words), optional_regclass(index)];
    let prepared = prepare(function, relation, k, target, filter, key_column, partial, more)?;
    Ok(Prepared { index, arguments: 2, ..prepared })
}

/// Gets the statements as the extension's owner, because a role that searches through a view may not be able to use our schema.
/// Reads only catalogs.
#[allow(clippy::too_many_arguments, reason = "as many as the SQL functions have")]
fn prepare<'a>(
    function: &str,
    relation: Option<pg_sys::Oid>,
    k: Option<i32>,
    target: Option<&'a CStr>,
    filter: Option<Varlena<'a>>,
    key_column: Option<&'a CStr>,
    partial: Option<bool>,
    more: impl IntoIterator<Item = DatumWithOid<'a>>,
) -> Result<Prepared<'a>, ErrorReport> {
    let relation = relation.ok_or_else(|| null_argument("relation"))?;
    let target = target.ok_or_else(|| null_argument("target"))?;
    let extension = Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?;
    // SAFETY: a variable of this process.
    let role = unsafe { pg_sys::GetUserId() };
    let mut arguments = vec![regclass(relation), k.into(), name(target), text(filter), optional_name(key_column)];
    arguments.extend([role.into(), partial.into()]);
    arguments.extend(more);
    let found = extension.as_owner(|schema| {
        let columns = "s.nearest, s.exact, s.candidates, s.model, s.digest, s.named, s.names, s.probes";
        read(&format!("SELECT {columns} FROM {schema}.{function} AS s"), &arguments, |row| {
            let Text(named) = required(row, 6)?;
            let column = SearchColumn { relation, target, made_by: Model::new(row.get(4)?, row.get(5)?), named };
            let leaves = Leaves::new(row.get(7)?, row.get(8)?, partial == Some(true));
            Ok((column, row.get(1)?, row.get(2)?, required(row, 3)?, leaves))
        })
    });
    let Ok(Some((column, Some(nearest), exact, candidates, leaves))) = found else {
        return Err(broken_extension("a function returned no statement"));
    };
    require_own_parameters(filter)?;
    let k = k.and_then(|k| usize::try_from(k).ok()).unwrap_or_default();
    Ok(Prepared {
        extension,
        column,
        index: None,
        k,
        nearest,
        exact,
        candidates,
        arguments: 1,
        leaves,
        rows_of_groups: None,
    })
}

impl Prepared<'_> {
    /// Runs a statement of the search.
    fn select<T>(
        &self,
        statement: &ServerText,
        arguments: &mut Arguments<'_>,
        candidates: i32,
        read: &impl Fn(&Row<'_>) -> spi::SpiResult<T>,
    ) -> Result<Vec<T>, ErrorReport> {
        let ef_search = ef_search(candidates);
        let run = || match &self.leaves {
            None => select(statement.bytes(), &arguments[..self.arguments], read),
            Some(leaves) => leaves.select(statement, arguments, read),
        };
        with_index(self.column.relation, self.column.target, self.index, || {
            with_search_settings(&settings(&ef_search), run)
        })
    }

    /// Runs the search with settings that make the index find k rows if k rows match. If it finds fewer, runs the exact search.
    pub fn run<T>(
        mut self,
        [vector, second]: [DatumWithOid<'_>; 2],
        read: impl Fn(&Row<'_>) -> spi::SpiResult<T>,
    ) -> Result<Vec<T>, ErrorReport> {
        let mut arguments = arguments(vector, second);
        self.leave_out()?;
        let found = self.select(&self.nearest, &mut arguments, self.candidates, &read)?;
        let found = match &self.exact {
            Some(exact) if self.leaves.is_none() && found.len() < self.k => {
                self.select(exact, &mut arguments, self.candidates, &read)?
            }
            _ => found,
        };
        self.column.notice_pending();
        Ok(found)
    }

    /// Leaves out the tables whose server does not answer, if the caller asks for a partial result.
    fn leave_out(&mut self) -> Result<(), ErrorReport> {
        self.leaves.as_mut().map_or(Ok(()), |leaves| leaves.leave_out(&self.column.named))
    }

    /// Returns the relevant rows of the search. `read` returns the rank of a row, and whether the row is relevant.
    pub fn nearest<T>(
        self,
        vector: DatumWithOid<'_>,
        read: impl Fn(&Row<'_>) -> spi::SpiResult<(i32, bool, T)>,
    ) -> Result<Vec<T>, ErrorReport> {
        let found = match self.rows_of_groups {
            None => self.run([vector, None::<i64>.into()], read)?,
            Some(rows) => self.run_grouped(vector, rows, read)?,
        };
        Ok(found.into_iter().filter(|(_, is_relevant, _)| *is_relevant).map(|(_, _, row)| row).collect())
    }

    /// Searches k groups in a growing number of nearest rows, and in all rows at last.
    fn run_grouped<T>(
        mut self,
        vector: DatumWithOid<'_>,
        mut rows: i64,
        read: impl Fn(&Row<'_>) -> spi::SpiResult<(i32, bool, T)>,
    ) -> Result<Vec<(i32, bool, T)>, ErrorReport> {
        self.leave_out()?;
        let mut arguments = arguments(vector, None::<i64>.into());
        let mut run = |statement: &ServerText, limit: Option<i64>| {
            arguments[1] = limit.into();
            let candidates = self.candidates.max(limit.map_or(0, |limit| i32::try_from(limit).unwrap_or(i32::MAX)));
            self.select(statement, &mut arguments, candidates, &read)
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

fn arguments<'a>(vector: DatumWithOid<'a>, second: DatumWithOid<'a>) -> Arguments<'a> {
    [vector, second, None::<Vec<i32>>.into(), None::<Vec<i32>>.into()]
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
