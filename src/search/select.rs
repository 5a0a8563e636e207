//! Read-only statements, which run in the snapshot of the calling statement, so that results of a search can be joined with the
//! table. Their errors reach the client without our statement, because pgrx passes on only message, DETAIL and HINT.

use std::ffi::CString;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::messages::broken_statement;
use crate::pg::server_settings::value_of;
use crate::pg::spi::{Row, select_once};

/// Runs a statement with the caller's privileges and search_path, and returns all its rows. `statement` is in the encoding of the
/// database.
pub fn select<T>(
    statement: &[u8],
    arguments: &[DatumWithOid<'_>],
    read: impl Fn(&Row<'_>) -> spi::SpiResult<T>,
) -> Result<Vec<T>, ErrorReport> {
    Spi::connect(|_| {
        let rows = select_once(statement, arguments)?;
        let found = (0..rows.processed).filter_map(|number| rows.row(number)).map(|row| read(&row));
        found.collect::<Result<_, _>>().map_err(|error| broken_statement(&error.to_string()))
    })
}

/// Returns `hnsw.ef_search` for a search of `candidates` rows. A larger value of the caller is kept, within pgvector's limits.
pub fn ef_search(candidates: i32) -> CString {
    /// pgvector's default, for a session that has not loaded pgvector, and its upper limit.
    const DEFAULT: i32 = 40;
    const MAX: i32 = 1000;
    let set = value_of(c"hnsw.ef_search").and_then(|value| value.parse().ok());
    CString::new(candidates.max(set.unwrap_or(DEFAULT)).min(MAX).to_string()).unwrap_or_default()
}
