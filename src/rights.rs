//! With whose rights SQL runs. Nothing here is SECURITY DEFINER: who calls is asked first, then a fixed statement runs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::datum::{DatumWithOid, FromDatum, IntoDatum};
use pgrx::pg_sys::PgOid;
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiHeapTupleData};

use crate::encoding::{Text, identifier};

/// Where the extension is, quoted, and who owns it.
pub struct Extension {
    pub schema: String,
    owner: pg_sys::Oid,
}

impl Extension {
    /// None in a database that does not have the extension.
    pub fn find() -> Option<Self> {
        let query = "SELECT n.nspname::pg_catalog.text, e.extowner FROM pg_catalog.pg_extension AS e \
            JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace \
            WHERE e.extname OPERATOR(pg_catalog.=) 'pg_clip'::pg_catalog.name";
        read(query, &[], |row| {
            let Text(schema) = required(row, 1)?;
            Ok(Self { schema: identifier(&schema), owner: required(row, 2)? })
        })
        .ok()
        .flatten()
    }

    /// Run something as the owner of the extension, with a search_path that nobody else can write to.
    pub fn as_owner<T>(&self, run: impl FnOnce(&str) -> T) -> T {
        as_role(self.owner, || {
            pin_search_path();
            run(&self.schema)
        })
    }
}

/// The first row of a query that only reads: it needs no transaction number, and may run in a parallel query.
pub fn read<T>(
    query: &str,
    arguments: &[DatumWithOid<'_>],
    row: impl FnOnce(&SpiHeapTupleData<'_>) -> spi::SpiResult<T>,
) -> spi::SpiResult<Option<T>> {
    Spi::connect(|client| {
        let statement = prepared(client, query, arguments)?;
        client.select(&*statement, Some(1), arguments)?.next().map(|found| row(&found)).transpose()
    })
}

/// A statement and the types of its arguments.
type Statement = (String, Vec<pg_sys::Oid>);

thread_local! {
    // Never dropped at exit, where the server has no memory contexts any more.
    static STATEMENTS: RefCell<ManuallyDrop<HashMap<Statement, Rc<OwnedPreparedStatement>>>> = RefCell::default();
}

/// More than there are, but for those that name the key of a table.
const MOST_STATEMENTS: usize = 200;

/// The statement, planned once: planning those that read the catalogs takes milliseconds. Postgres plans it anew where what it
/// reads was changed.
fn prepared(
    client: &SpiClient<'_>,
    query: &str,
    arguments: &[DatumWithOid<'_>],
) -> spi::SpiResult<Rc<OwnedPreparedStatement>> {
    let statement = (query.to_owned(), arguments.iter().map(DatumWithOid::oid).collect::<Vec<_>>());
    if let Some(known) = STATEMENTS.with_borrow(|statements| statements.get(&statement).cloned()) {
        return Ok(known);
    }
    let types: Vec<_> = statement.1.iter().map(|&kind| PgOid::from(kind)).collect();
    let prepared = Rc::new(client.prepare(query, &types)?.keep());
    STATEMENTS.with_borrow_mut(|statements| {
        if statements.len() >= MOST_STATEMENTS {
            statements.clear();
        }
        statements.insert(statement, prepared.clone());
    });
    Ok(prepared)
}

/// A value that is not NULL.
pub fn required<T: IntoDatum + FromDatum>(row: &SpiHeapTupleData<'_>, column: usize) -> spi::SpiResult<T> {
    row.get(column)?.ok_or(spi::SpiError::InvalidPosition)
}

/// Run something as a role that cannot be left from inside, as maintenance commands run what a table's owner wrote: what
/// it sets is as it was afterwards, so that nothing of it is left for what the next role's tables do.
/// After an error Postgres restores role and settings itself, when it aborts the transaction.
pub fn as_role<T>(role: pg_sys::Oid, run: impl FnOnce() -> T) -> T {
    let (mut before, mut context) = (pg_sys::InvalidOid, 0);
    let flags = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
    // SAFETY: these functions only read and write variables of this process. The level is ended below.
    let level = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut before, &mut context);
        pg_sys::SetUserIdAndSecContext(role, context | flags);
        pg_sys::NewGUCNestLevel()
    };
    let done = run();
    // SAFETY: as above; levels that were begun inside have ended.
    unsafe {
        pg_sys::AtEOXact_GUC(false, level);
        pg_sys::SetUserIdAndSecContext(before, context);
    }
    done
}

/// `search_path = pg_catalog, pg_temp` until the nest level of settings ends.
fn pin_search_path() {
    // SAFETY: the strings are constants; the value is one that the setting takes.
    unsafe {
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            c"pg_catalog, pg_temp".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}
