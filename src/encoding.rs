//! Strings between Rust, which has UTF-8, and a database, which may have another encoding.
//!
//! pgrx's own conversions of strings refuse any other than UTF-8, or store bytes that are wrong there: [`Text`] stands in.

use std::ffi::{CStr, c_char};
use std::ptr;

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{FromDatum, IntoDatum, pg_sys};

use crate::datum::Varlena;
use crate::error;

/// The bytes of a value of this database as UTF-8. Where the encoding is SQL_ASCII they may be anything.
pub fn from_server(bytes: &[u8]) -> Result<&str, ErrorReport> {
    // SAFETY: a number that the server set when it connected to the database.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    let as_they_are = [pg_sys::pg_enc::PG_UTF8, pg_sys::pg_enc::PG_SQL_ASCII].map(|encoding| encoding as i32);
    let converted = match as_they_are.contains(&encoding) {
        true => bytes,
        // SAFETY: the pointer and length are of one slice; where no conversion is needed, the same pointer comes back,
        // else a new null-terminated string in the current memory context, which lives as long as what was read.
        false => unsafe {
            let start = bytes.as_ptr().cast::<c_char>();
            let converted = pg_sys::pg_server_to_any(start, bytes.len() as i32, pg_sys::pg_enc::PG_UTF8 as i32);
            match ptr::eq(converted, start) {
                true => bytes,
                false => CStr::from_ptr(converted).to_bytes(),
            }
        },
    };
    std::str::from_utf8(converted).map_err(|_| error::invalid_text())
}

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
        // SAFETY: the pointer and length are of one string; what comes back is that, or a new null-terminated one, and is
        // copied into a value of the current memory context. A character that the database cannot hold raises an error.
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

/// A value of type text, or of another type with variable length, as the database has it: whatever the encoding, it is what
/// it was when it is given back.
#[derive(Clone)]
pub struct Raw(Vec<u8>);

impl Raw {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromDatum for Raw {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        // SAFETY: callers read columns of type text, which is a varlena.
        (!is_null).then(|| Self(unsafe { Varlena::from_datum(datum) }.detoast().to_vec()))
    }
}

// SAFETY: the datum points to a value in the memory context of the call.
unsafe impl BoxRet for Raw {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let datum = self.into_datum().unwrap_or(pg_sys::Datum::null());
        // SAFETY: the SQL declarations say that such functions return text.
        unsafe { fcinfo.return_raw_datum(datum) }
    }
}

impl IntoDatum for Raw {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // SAFETY: the pointer and length are of one slice, which is copied into a value of the current memory context.
        let text = unsafe { pg_sys::cstring_to_text_with_len(self.0.as_ptr().cast::<c_char>(), self.0.len() as i32) };
        Some(pg_sys::Datum::from(text))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }

    /// Types that are laid out as text is: a length and bytes.
    fn is_compatible_with(kind: pg_sys::Oid) -> bool {
        [pg_sys::TEXTOID, pg_sys::JSONBOID, pg_sys::TSQUERYOID].contains(&kind)
    }
}

/// A name as it can stand in a statement, which is ASCII whatever the database has.
pub fn identifier(name: &str) -> String {
    if name.is_ascii() {
        return format!("\"{}\"", name.replace('"', "\"\""));
    }
    // Where "standard_conforming_strings" is off, Postgres takes no such name.
    let mut quoted = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        match character {
            '"' => quoted.push_str("\"\""),
            '\\' => quoted.push_str("\\\\"),
            ' '..='~' => quoted.push(character),
            other => quoted.push_str(&format!("\\+{:06X}", u32::from(other))),
        }
    }
    format!("U&\"{quoted}\"")
}
