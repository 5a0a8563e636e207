//! Conversion of strings between UTF-8, which Rust uses, and the encoding of the database.

use std::ffi::{CStr, c_char};
use std::ptr;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::messages;

/// Converts bytes of this database to UTF-8. Fails if they are not valid, which is possible in encoding SQL_ASCII.
pub fn from_server(bytes: &[u8]) -> Result<&str, ErrorReport> {
    // SAFETY: a number that the server set when it connected to the database.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    let as_they_are = [pg_sys::pg_enc::PG_UTF8, pg_sys::pg_enc::PG_SQL_ASCII].map(|encoding| encoding as i32);
    let converted = match as_they_are.contains(&encoding) {
        true => bytes,
        // SAFETY: the pointer and length are of one slice. If no conversion is needed, the server returns the same pointer;
        // otherwise a new null-terminated string in the current memory context, which lives as long as the argument.
        false => unsafe {
            let start = bytes.as_ptr().cast::<c_char>();
            let converted = pg_sys::pg_server_to_any(start, bytes.len() as i32, pg_sys::pg_enc::PG_UTF8 as i32);
            match ptr::eq(converted, start) {
                true => bytes,
                false => CStr::from_ptr(converted).to_bytes(),
            }
        },
    };
    std::str::from_utf8(converted).map_err(|_| messages::invalid_text())
}

/// Quotes a name for a statement. The result is ASCII in every encoding.
pub fn identifier(name: &str) -> String {
    if name.is_ascii() {
        return format!("\"{}\"", name.replace('"', "\"\""));
    }
    // Postgres rejects such a name if "standard_conforming_strings" is off.
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
