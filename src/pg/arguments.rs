//! Arguments of statements, of types that are not types of Rust.

use std::ffi::CStr;

use pgrx::datum::{DatumWithOid, IntoDatum};
use pgrx::pg_sys;

use super::varlena::Varlena;

/// Returns a relation as an argument of a statement.
pub fn regclass<'a>(relation: pg_sys::Oid) -> DatumWithOid<'a> {
    // SAFETY: both types are OIDs.
    unsafe { DatumWithOid::new(relation, pg_sys::REGCLASSOID) }
}

/// Returns a relation or NULL as an argument of a statement.
pub fn optional_regclass<'a>(relation: Option<pg_sys::Oid>) -> DatumWithOid<'a> {
    relation.map_or(DatumWithOid::null_oid(pg_sys::REGCLASSOID), regclass)
}

/// Returns a name as an argument of a statement.
pub fn name(name: &CStr) -> DatumWithOid<'_> {
    struct Name<'a>(&'a CStr);
    impl IntoDatum for Name<'_> {
        fn into_datum(self) -> Option<pg_sys::Datum> {
            Some(pg_sys::Datum::from(self.0.as_ptr()))
        }

        fn type_oid() -> pg_sys::Oid {
            pg_sys::NAMEOID
        }
    }
    // SAFETY: callers pass arguments whose SQL type is name, which has 64 bytes.
    unsafe { DatumWithOid::new(Name(name), pg_sys::NAMEOID) }
}

/// Returns a text as an argument of a statement.
pub fn text(text: Option<Varlena<'_>>) -> DatumWithOid<'_> {
    // SAFETY: callers pass arguments whose SQL type is text.
    text.map_or(DatumWithOid::null_oid(pg_sys::TEXTOID), |text| unsafe { text.argument(pg_sys::TEXTOID) })
}

/// Returns a name or NULL as an argument of a statement.
pub fn optional_name(given: Option<&CStr>) -> DatumWithOid<'_> {
    given.map_or(DatumWithOid::null_oid(pg_sys::NAMEOID), name)
}
