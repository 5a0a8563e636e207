//! Values of type text, in UTF-8 ([`Text`]) or in the encoding of the database ([`ServerText`]).
//!
//! pgrx's own conversions accept UTF-8 only, or store wrong bytes in a database with another encoding.

use std::ffi::c_char;
use std::ptr;

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{FromDatum, IntoDatum, pg_sys};

use super::varlena::Varlena;

/// A value of type text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

impl FromDatum for Text {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: callers read columns of type text, which is a varlena.
        let value = unsafe { Varlena::from_datum(datum) };
        Some(Self(value.text().unwrap_or_report().into_owned()))
    }
}

// SAFETY: the datum points to a value in the memory context of the call.
unsafe impl BoxRet for Text {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let datum = self.into_datum().unwrap_or(pg_sys::Datum::null());
        // SAFETY: the SQL declarations say that such columns are of type text.
        unsafe { fcinfo.return_raw_datum(datum) }
    }
}

impl IntoDatum for Text {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // SAFETY: the pointer and length are of one string. The server returns the same string or a new null-terminated one,
        // which is copied into the current memory context. A character that the encoding lacks raises an error.
        unsafe {
            let (start, length) = (self.0.as_ptr().cast::<c_char>(), self.0.len() as i32);
            let converted = pg_sys::pg_any_to_server(start, length, pg_sys::pg_enc::PG_UTF8 as i32);
            Some(match ptr::eq(converted, start) {
                true => pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(start, length)),
                false => pg_sys::Datum::from(pg_sys::cstring_to_text(converted)),
            })
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

/// A text value in the database's own encoding, or a value of another type with variable length. It is passed through unchanged.
#[derive(Clone)]
pub struct ServerText(Vec<u8>);

impl ServerText {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromDatum for ServerText {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        // SAFETY: callers read columns of type text, which is a varlena.
        (!is_null).then(|| Self(unsafe { Varlena::from_datum(datum) }.detoast().to_vec()))
    }
}

// SAFETY: the datum points to a value in the memory context of the call.
unsafe impl BoxRet for ServerText {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let datum = self.into_datum().unwrap_or(pg_sys::Datum::null());
        // SAFETY: the SQL declarations say that such functions return text.
        unsafe { fcinfo.return_raw_datum(datum) }
    }
}

impl IntoDatum for ServerText {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // SAFETY: the pointer and length are of one slice, which is copied into a value of the current memory context.
        let text = unsafe { pg_sys::cstring_to_text_with_len(self.0.as_ptr().cast::<c_char>(), self.0.len() as i32) };
        Some(pg_sys::Datum::from(text))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }

    /// Types with the layout of text: a length and bytes.
    fn is_compatible_with(kind: pg_sys::Oid) -> bool {
        [pg_sys::TEXTOID, pg_sys::JSONBOID, pg_sys::TSQUERYOID].contains(&kind)
    }
}
