//! Values of any type: a datum that is passed on, or a copy that outlives its transaction.

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{IntoDatum, pg_sys, varlena};

use super::{error, messages};

/// Allocates like `Vec::with_capacity`, but returns an error instead of aborting the process, which would crash the server.
pub fn reserve<T>(length: usize) -> Result<Vec<T>, ErrorReport> {
    clip::reserve(length).map_err(error::report)
}

/// An unread datum, to read later or to pass to a statement.
pub struct RawDatum(pg_sys::Datum);

impl RawDatum {
    pub fn new(datum: pg_sys::Datum) -> Self {
        Self(datum)
    }

    /// Returns the datum of an argument, or raises an error if it is null. Postgres calls functions that are not STRICT with nulls.
    pub fn required(datum: Option<Self>) -> pg_sys::Datum {
        datum.ok_or_else(|| messages::null_argument("an argument of this internal function")).unwrap_or_report().0
    }
}

impl pgrx::FromDatum for RawDatum {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        (!is_null).then_some(Self(datum))
    }
}

// SAFETY: the datum is taken as it is, whatever its type, and lives as long as the argument.
unsafe impl<'fcx> ArgAbi<'fcx> for RawDatum {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above.
        Self(Self::required(unsafe { arg.unbox_arg_using_from_datum::<RawDatum>() }))
    }
}

/// A copy of a value of any type, which outlives its transaction.
#[derive(PartialEq)]
pub struct OwnedValue {
    kind: pg_sys::Oid,
    stored: Stored,
}

#[derive(PartialEq)]
enum Stored {
    Null,
    ByValue(pg_sys::Datum),
    /// Aligned for all types of the server.
    ByReference(Box<[u64]>),
}

impl OwnedValue {
    /// # Safety
    ///
    /// The value must be of the type.
    pub unsafe fn copy(datum: pg_sys::Datum, is_null: bool, kind: pg_sys::Oid) -> Result<Self, ErrorReport> {
        if is_null {
            return Ok(Self { kind, stored: Stored::Null });
        }
        let (mut length, mut by_value) = (0, false);
        // SAFETY: the type exists, because the value has it.
        unsafe { pg_sys::get_typlenbyval(kind, &mut length, &mut by_value) };
        if by_value {
            return Ok(Self { kind, stored: Stored::ByValue(datum) });
        }
        // SAFETY: by the caller's promise the datum points to a value of this length: a varlena (-1), which is read whole,
        // a null-terminated string (-2), or so many bytes.
        let bytes = unsafe {
            let (start, size) = match length {
                -1 => {
                    let flat = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<u8>();
                    (flat, varlena::varsize_any(flat.cast()))
                }
                -2 => (datum.cast_mut_ptr::<u8>(), std::ffi::CStr::from_ptr(datum.cast_mut_ptr()).count_bytes() + 1),
                fixed => (datum.cast_mut_ptr::<u8>(), fixed as usize),
            };
            std::slice::from_raw_parts(start, size)
        };
        let mut words = reserve(bytes.len().div_ceil(size_of::<u64>()))?;
        words.extend(bytes.chunks(size_of::<u64>()).map(|chunk| {
            let mut word = [0; size_of::<u64>()];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        }));
        Ok(Self { kind, stored: Stored::ByReference(words.into()) })
    }

    /// Returns the value as an argument of a statement.
    pub fn argument(&self) -> DatumWithOid<'_> {
        let datum = match &self.stored {
            Stored::Null => return DatumWithOid::null_oid(self.kind),
            Stored::ByValue(datum) => *datum,
            Stored::ByReference(words) => pg_sys::Datum::from(words.as_ptr().cast_mut()),
        };
        // SAFETY: the value is of this type, and lives as long as `self`.
        unsafe { DatumWithOid::new(RawDatum(datum), self.kind) }
    }
}

impl IntoDatum for RawDatum {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    /// Unknown here: the code that creates an argument passes the type.
    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}
