//! Statements that only read, run in the snapshot of the statement that calls: what a search finds can be joined with the
//! table. An error in one reaches the client without our statement, because pgrx passes on message, DETAIL and HINT only.

use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;

use pgrx::datum::{DatumWithOid, FromDatum, IntoDatum};
use pgrx::prelude::*;

use crate::datum::Varlena;

/// A statement in the encoding of the database.
pub struct Statement(CString);

impl FromDatum for Statement {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: callers read columns of type text, which is a varlena.
        let text = unsafe { Varlena::from_datum(datum) }.detoast();
        // A value of type text has no null in it.
        CString::new(text).ok().map(Self)
    }
}

impl IntoDatum for Statement {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // SAFETY: copies a null-terminated string.
        Some(unsafe { pg_sys::cstring_to_text(self.0.as_ptr()) }.into())
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

/// A row of a result, while the statement's memory is there.
pub struct Row<'a> {
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
    lives: PhantomData<&'a ()>,
}

impl Row<'_> {
    /// The value of a column, from 1.
    pub fn get<T: FromDatum>(&self, column: i32) -> Option<T> {
        let mut is_null = false;
        // SAFETY: the tuple and its description are of one result, and the caller names a type that reads the column's.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.columns, column, &mut is_null);
            T::from_polymorphic_datum(datum, is_null, pg_sys::SPI_gettypeid(self.columns, column))
        }
    }
}

/// Runs a statement with the caller's rights and search_path, and reads all its rows.
pub fn select<T>(statement: &Statement, arguments: &[DatumWithOid<'_>], read: impl Fn(&Row<'_>) -> T) -> Vec<T> {
    let mut types: Vec<_> = arguments.iter().map(DatumWithOid::oid).collect();
    let nulls: Vec<_> = arguments.iter().map(|it| if it.datum().is_some() { b' ' } else { b'n' } as c_char).collect();
    let mut values: Vec<_> =
        arguments.iter().map(|it| it.datum().map_or(pg_sys::Datum::null(), |datum| datum.sans_lifetime())).collect();
    Spi::connect(|_| {
        // SAFETY: the arrays have as many elements as the statement has parameters of these types; the result is read
        // before the connection to SPI ends. The statement may raise an error, which pgrx turns into an unwinding panic.
        unsafe {
            pg_sys::SPI_execute_with_args(
                statement.0.as_ptr(),
                arguments.len() as i32,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_ptr(),
                true,
                0,
            );
            let Some(table) = pg_sys::SPI_tuptable.as_ref() else { return Vec::new() };
            let row = |i: usize| Row { tuple: *table.vals.add(i), columns: table.tupdesc, lives: PhantomData };
            (0..pg_sys::SPI_processed as usize).map(|i| read(&row(i))).collect()
        }
    })
}

/// A statement of ours, which is ASCII.
pub fn statement(text: &str) -> Statement {
    Statement(CString::new(text).unwrap_or_default())
}

/// Runs something with settings that end with it, as the SET clause of a function does.
/// After an error Postgres restores the settings itself, when it aborts the transaction.
pub fn with_settings<T>(settings: &[(&CStr, &str)], run: impl FnOnce() -> T) -> T {
    // SAFETY: a number; the level is ended below.
    let level = unsafe { pg_sys::NewGUCNestLevel() };
    for (name, value) in settings {
        let value = CString::new(*value).unwrap_or_default();
        // SAFETY: the strings are null-terminated; a setting that cannot be set raises an error.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
    let done = run();
    // SAFETY: ends the level begun above; levels that were begun inside have ended.
    unsafe { pg_sys::AtEOXact_GUC(false, level) };
    done
}

/// `hnsw.ef_search` for a search that wants so many rows: the caller's where that is larger, within pgvector's limits.
pub fn ef_search(candidates: i32) -> String {
    /// pgvector's default, for a session that has not loaded it yet, and its limit.
    const DEFAULT: i32 = 40;
    const MOST: i32 = 1000;
    // SAFETY: reads a setting by its name; the string is copied at once.
    let set = unsafe {
        let value = pg_sys::GetConfigOption(c"hnsw.ef_search".as_ptr(), true, false);
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().parse().ok()).flatten()
    };
    candidates.max(set.unwrap_or(DEFAULT)).min(MOST).to_string()
}
