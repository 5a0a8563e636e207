//! Statements through SPI. Values stay datums, so that no setting such as DateStyle changes them on a way through text.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_long};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr;
use std::rc::Rc;

use pgrx::datum::{DatumWithOid, FromDatum, IntoDatum};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::messages::broken_statement;
use super::values::OwnedValue;
use super::varlena::Varlena;

/// A planned statement of this session.
pub struct Statement(pg_sys::SPIPlanPtr);

impl Statement {
    /// Plans a statement. `text` is in the encoding of the database. SPI must be connected.
    pub fn prepare(text: &[u8], kinds: &[pg_sys::Oid]) -> Result<Self, ErrorReport> {
        let text = CString::new(text).map_err(|_| broken_statement("it contains a null byte"))?;
        let mut kinds = kinds.to_vec();
        // SAFETY: the server reads the string and `kinds.len()` types, and copies both.
        let plan = unsafe { pg_sys::SPI_prepare(text.as_ptr(), kinds.len() as i32, kinds.as_mut_ptr()) };
        if plan.is_null() {
            return Err(broken_statement("it could not be planned"));
        }
        let statement = Self(plan);
        // SAFETY: the plan was created above.
        unsafe { pg_sys::SPI_keepplan(plan) };
        Ok(statement)
    }

    /// Runs the statement for at most `limit` rows, or for all rows if `limit` is 0. `read_only` uses the active snapshot.
    pub fn run(&self, arguments: &[DatumWithOid<'_>], read_only: bool, limit: c_long) -> Result<Rows<'_>, ErrorReport> {
        let (mut values, nulls) = as_arrays(arguments);
        // SAFETY: the plan lives as long as `self`. The numbers of values and nulls are those of the plan.
        let code = unsafe { pg_sys::SPI_execute_plan(self.0, values.as_mut_ptr(), nulls.as_ptr(), read_only, limit) };
        Rows::of(code)
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: the plan was kept, and nothing refers to it anymore.
        unsafe { pg_sys::SPI_freeplan(self.0) };
    }
}

fn as_arrays(arguments: &[DatumWithOid<'_>]) -> (Vec<pg_sys::Datum>, Vec<c_char>) {
    let datums = arguments.iter().map(|argument| argument.datum().map(|datum| datum.sans_lifetime()));
    let nulls = datums.clone().map(|datum| if datum.is_some() { b' ' } else { b'n' } as c_char).collect();
    (datums.map(|datum| datum.unwrap_or(pg_sys::Datum::null())).collect(), nulls)
}

/// The result rows of a statement.
pub struct Rows<'a> {
    table: *mut pg_sys::SPITupleTable,
    /// Number of rows that the statement returned or changed.
    pub processed: usize,
    lives: PhantomData<&'a ()>,
}

impl Rows<'_> {
    fn of(code: i32) -> Result<Self, ErrorReport> {
        if code < 0 {
            return Err(broken_statement(&format!("SPI returned {code}")));
        }
        Ok(Self::taken())
    }

    /// Takes the result of the last call of SPI.
    fn taken() -> Self {
        // SAFETY: variables of this process that the call has set.
        unsafe { Self { table: pg_sys::SPI_tuptable, processed: pg_sys::SPI_processed as usize, lives: PhantomData } }
    }

    pub fn row(&self, number: usize) -> Option<Row<'_>> {
        // SAFETY: null, or a table that lives until it is freed below.
        let table = unsafe { self.table.as_ref() }?;
        // SAFETY: the table has `numvals` rows.
        let tuple = (number < table.numvals as usize).then(|| unsafe { *table.vals.add(number) })?;
        Some(Row { tuple, description: table.tupdesc, lives: PhantomData })
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        // After an error, the server has freed the table already, with the memory of the SPI call.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: this is the only owner of the table. SPI ignores a table that it has already freed.
        unsafe { pg_sys::SPI_freetuptable(self.table) };
    }
}

/// A row of a result.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
    lives: PhantomData<&'a ()>,
}

impl Row<'_> {
    fn value(&self, column: usize) -> (pg_sys::Datum, bool, pg_sys::Oid) {
        let (column, mut is_null) = (column as i32, false);
        // SAFETY: tuple and description belong together. The value of a missing column is null.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.description, column, &mut is_null);
            (datum, is_null, pg_sys::SPI_gettypeid(self.description, column))
        }
    }

    /// Returns the number of columns.
    pub fn columns(&self) -> usize {
        // SAFETY: the description of the rows, which live longer than this row.
        unsafe { self.description.as_ref() }.map_or(0, |description| description.natts as usize)
    }

    /// Returns the value of a column. Numbers of columns start at 1.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: usize) -> spi::SpiResult<Option<T>> {
        let (datum, is_null, kind) = self.value(column);
        // SAFETY: value and type belong together.
        unsafe { T::try_from_datum(datum, is_null, kind) }.map_err(spi::SpiError::DatumError)
    }

    /// Returns a value of type text or bytea, not detoasted yet.
    pub fn varlena(&self, column: usize) -> Option<Varlena<'_>> {
        let (datum, is_null, kind) = self.value(column);
        let known = [pg_sys::TEXTOID, pg_sys::VARCHAROID, pg_sys::BYTEAOID].contains(&kind);
        // SAFETY: the type was checked, and the value lives as long as the rows.
        (known && !is_null).then(|| unsafe { Varlena::from_datum(datum) })
    }

    /// Copies a value, so that it outlives the transaction.
    pub fn owned(&self, column: usize) -> Result<OwnedValue, ErrorReport> {
        let (datum, is_null, kind) = self.value(column);
        // SAFETY: value and type belong together.
        unsafe { OwnedValue::copy(datum, is_null, kind) }
    }
}

/// Returns a value that must not be NULL.
pub fn required<T: IntoDatum + FromDatum>(row: &Row<'_>, column: usize) -> spi::SpiResult<T> {
    row.get(column)?.ok_or(spi::SpiError::InvalidPosition)
}

/// Runs a read-only statement once, in the snapshot of the calling statement. `text` is in the encoding of the database. SPI must
/// be connected.
pub fn select_once<'a>(text: &[u8], arguments: &[DatumWithOid<'a>]) -> Result<Rows<'a>, ErrorReport> {
    let text = CString::new(text).map_err(|_| broken_statement("it contains a null byte"))?;
    let mut kinds: Vec<_> = arguments.iter().map(DatumWithOid::oid).collect();
    let (mut values, nulls) = as_arrays(arguments);
    // SAFETY: the numbers of types, values and nulls are equal. The server copies them.
    let code = unsafe {
        let count = kinds.len() as i32;
        pg_sys::SPI_execute_with_args(
            text.as_ptr(),
            count,
            kinds.as_mut_ptr(),
            values.as_mut_ptr(),
            nulls.as_ptr(),
            true,
            0,
        )
    };
    Rows::of(code)
}

/// An open query, whose rows are fetched in batches.
pub struct Cursor(pg_sys::Portal);

impl Cursor {
    /// Opens a query, which may lock rows. `text` is in the encoding of the database.
    pub fn open(text: &[u8], arguments: &[DatumWithOid<'_>], read_only: bool) -> Result<Self, ErrorReport> {
        let text = CString::new(text).map_err(|_| broken_statement("it contains a null byte"))?;
        let mut kinds: Vec<_> = arguments.iter().map(DatumWithOid::oid).collect();
        let (mut values, nulls) = as_arrays(arguments);
        // SAFETY: the numbers of types, values and nulls are equal. The server copies them.
        let portal = unsafe {
            pg_sys::SPI_cursor_open_with_args(
                ptr::null(),
                text.as_ptr(),
                kinds.len() as i32,
                kinds.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_ptr(),
                read_only,
                pg_sys::CURSOR_OPT_NO_SCROLL as i32,
            )
        };
        Ok(Self(portal))
    }

    pub fn fetch(&mut self, rows: usize) -> Rows<'_> {
        // SAFETY: the portal is open until it is closed below, or its transaction ends.
        unsafe { pg_sys::SPI_cursor_fetch(self.0, true, rows as c_long) };
        Rows::taken()
    }

    pub fn close(self) {
        // SAFETY: as above. After an error, the server closes it.
        unsafe { pg_sys::SPI_cursor_close(self.0) };
    }
}

/// Runs `run` with a new snapshot of the catalogs. A statement that waited for a lock has an older snapshot, in which a table is
/// in the state before the change that it waited for.
pub fn with_latest_snapshot<T>(run: impl FnOnce() -> T) -> T {
    // SAFETY: reads the state of this process. A parallel query can only use its own snapshot.
    let pushed = unsafe { !pg_sys::IsInParallelMode() };
    if pushed {
        // SAFETY: the snapshot is popped below, or by the server after an error.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    }
    let done = run();
    if pushed {
        // SAFETY: the snapshot that was pushed above.
        unsafe { pg_sys::PopActiveSnapshot() };
    }
    done
}

/// A statement and the types of its arguments.
type Definition = (Vec<u8>, Vec<pg_sys::Oid>);

thread_local! {
    // Never dropped at exit, when the server has no memory contexts anymore.
    static STATEMENTS: RefCell<ManuallyDrop<HashMap<Definition, Rc<Statement>>>> = RefCell::default();
}

/// Upper limit of cached plans. There are fewer fixed statements; only statements with the key columns of a table exceed it.
const MAX_STATEMENTS: usize = 200;

/// Returns the statement from a cache of plans, because planning of catalog queries takes milliseconds. Postgres plans it again
/// after a change of its tables.
pub fn prepared(text: &[u8], arguments: &[DatumWithOid<'_>]) -> Result<Rc<Statement>, ErrorReport> {
    let definition = (text.to_owned(), arguments.iter().map(DatumWithOid::oid).collect::<Vec<_>>());
    if let Some(known) = STATEMENTS.with_borrow(|statements| statements.get(&definition).cloned()) {
        return Ok(known);
    }
    let statement = Rc::new(Statement::prepare(text, &definition.1)?);
    STATEMENTS.with_borrow_mut(|statements| {
        if statements.len() >= MAX_STATEMENTS {
            statements.clear();
        }
        statements.insert(definition, statement.clone());
    });
    Ok(statement)
}

/// Returns the first row of a catalog query with a new snapshot. The query assigns no transaction ID and can run in a parallel
/// query.
pub fn read<T>(
    query: &str,
    arguments: &[DatumWithOid<'_>],
    row: impl FnOnce(&Row<'_>) -> spi::SpiResult<T>,
) -> spi::SpiResult<Option<T>> {
    Spi::connect(|_| {
        with_latest_snapshot(|| {
            let rows = prepared(query.as_bytes(), arguments)
                .map_err(|_| spi::SpiError::PreparedStatementArgumentMismatch { expected: 0, got: 0 })?;
            let rows = rows.run(arguments, true, 1).map_err(|_| spi::SpiError::InvalidPosition)?;
            rows.row(0).map(|found| row(&found)).transpose()
        })
    })
}
