//! Settings of the server and of other extensions, by their names.

use std::ffi::CStr;

use pgrx::pg_sys;

/// Returns the value of a setting. None if the server does not know the setting.
pub fn value_of(name: &CStr) -> Option<String> {
    // SAFETY: the name is a null-terminated string. A setting that is missing is no error, and the value is a null-terminated string
    // that is copied at once.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
    }
}

/// Sets settings for the life of this process, outside of a transaction. The server must have the settings and accept the values.
pub fn set_for_process(settings: &[(&CStr, &CStr)]) {
    for (name, value) in settings {
        // SAFETY: the strings are null-terminated, and the server copies them.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}
