//! The calling convention of C functions that are written without pgrx's wrapper.

/// Declares that the server calls a function by version 1 of its calling convention. The argument is the name of the function
/// with the prefix `pg_finfo_`, under which the server looks for the declaration.
macro_rules! declare_finfo {
    ($name:ident) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $name() -> &'static pgrx::pg_sys::Pg_finfo_record {
            const CALLING_CONVENTION: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &CALLING_CONVENTION
        }
    };
}

pub(crate) use declare_finfo;
