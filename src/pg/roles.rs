//! Role switching for internal SQL. No function is SECURITY DEFINER: the caller's privileges are checked first, then a fixed
//! statement runs as the extension's owner.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::encoding::identifier;
use super::spi::{read, required};
use super::text::Text;

/// The extension's schema, quoted, and its owner.
pub struct Extension {
    pub schema: String,
    owner: pg_sys::Oid,
}

impl Extension {
    /// Finds the extension. Returns None if the database does not have it.
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

    /// Runs `run` as the owner of the extension, under a search_path without schemas of other roles.
    pub fn as_owner<T>(&self, run: impl FnOnce(&str) -> T) -> T {
        as_role(self.owner, || with_pinned_search_path(|| run(&self.schema)))
    }
}

/// Runs `run` as `role` in a security-restricted operation, as VACUUM and REINDEX do for functions of indexes. Settings that
/// change inside are restored afterwards, so that nothing affects the work for the next role.
/// After an error, Postgres restores the role and the settings when it aborts the transaction.
pub fn as_role<T>(role: pg_sys::Oid, run: impl FnOnce() -> T) -> T {
    let (mut before, mut context) = (pg_sys::InvalidOid, 0);
    let flags = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
    // SAFETY: these functions only read and write variables of this process. The nest level ends below.
    let level = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut before, &mut context);
        pg_sys::SetUserIdAndSecContext(role, context | flags);
        pg_sys::NewGUCNestLevel()
    };
    let done = run();
    // SAFETY: as above. Nest levels that began inside have ended.
    unsafe {
        pg_sys::AtEOXact_GUC(false, level);
        pg_sys::SetUserIdAndSecContext(before, context);
    }
    done
}

/// Runs `run` under a search_path without schemas of other roles.
pub fn with_pinned_search_path<T>(run: impl FnOnce() -> T) -> T {
    with_settings(&[(c"search_path", c"pg_catalog, pg_temp")], run)
}

/// Runs `run` without FORCE ROW LEVEL SECURITY, as the server does for checks of foreign keys. So the owner of a table embeds all
/// its rows. Policies still apply to other roles.
pub fn without_forced_policies<T>(run: impl FnOnce() -> T) -> T {
    let (mut role, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: these functions only read and write variables of this process.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut role, &mut context);
        pg_sys::SetUserIdAndSecContext(role, context | pg_sys::SECURITY_NOFORCE_RLS as i32);
    }
    let done = run();
    // SAFETY: as above. After an error, the server restores both.
    unsafe { pg_sys::SetUserIdAndSecContext(role, context) };
    done
}

/// Runs `run` with settings that are restored afterwards.
pub fn with_settings<T>(settings: &[(&CStr, &CStr)], run: impl FnOnce() -> T) -> T {
    // SAFETY: only reads and writes variables of this process. The nest level ends below.
    let level = unsafe { pg_sys::NewGUCNestLevel() };
    for &(name, value) in settings {
        set_in_level(name, value);
    }
    let done = run();
    // SAFETY: as above. Nest levels that began inside have ended. After an error, the server ends them.
    unsafe { pg_sys::AtEOXact_GUC(false, level) };
    done
}

/// Runs `run` with fixed output settings, so that values have the same text in every session.
pub fn with_fixed_output<T>(run: impl FnOnce() -> T) -> T {
    let settings = [
        (c"DateStyle", c"ISO, YMD"),
        (c"IntervalStyle", c"postgres"),
        (c"TimeZone", c"UTC"),
        (c"extra_float_digits", c"1"),
        (c"bytea_output", c"hex"),
        (c"lc_monetary", c"C"),
        (c"xmlbinary", c"base64"),
    ];
    with_settings(&settings, run)
}

fn set_in_level(name: &CStr, value: &CStr) {
    // SAFETY: the strings are constants, and the setting accepts the value.
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
