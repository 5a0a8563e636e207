//! The directories in which the files of this extension are installed.
//!
//! PostgreSQL 18 can load an extension from directories that `extension_control_path` and `dynamic_library_path` name, such as
//! read-only volumes. The models and ONNX Runtime are then next to the library, or in the same directories. Only superusers can
//! set these two settings. Releases without `extension_control_path` use only the directories of the server.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use pgrx::guc::GucSetting;
use pgrx::pg_sys;

use super::server_settings::value_of;

/// The directory of all models, within a directory of shared files.
const MODELS_WITHIN: &str = "pg_clip/models";

/// The library of ONNX Runtime, within a directory of libraries.
const RUNTIME_WITHIN: &str = "pg_clip/libonnxruntime.so";

static SHARE_DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| directory(pg_sys::get_share_path));
static LIBRARY_DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| directory(pg_sys::get_pkglib_path));

/// The server's own directory of models, and its own library of ONNX Runtime.
pub static MODELS: LazyLock<PathBuf> = LazyLock::new(|| SHARE_DIRECTORY.join(MODELS_WITHIN));
pub static RUNTIME: LazyLock<PathBuf> = LazyLock::new(|| LIBRARY_DIRECTORY.join(RUNTIME_WITHIN));

/// A setting whose default depends on the directories of the running server.
pub type PathSetting = LazyLock<&'static GucSetting<Option<CString>>>;

/// Creates a setting with this default.
pub fn path_setting(default: &Path) -> &'static GucSetting<Option<CString>> {
    // A path of the server contains no null.
    let path = CString::new(default.as_os_str().as_bytes()).unwrap_or_default();
    // Lives as long as the process, as the server's record of the setting does.
    Box::leak(Box::new(GucSetting::<Option<CString>>::new(Some(Box::leak(path.into_boxed_c_str())))))
}

/// Returns the existing directories of models, in the order in which they are searched. The server's own is the last one.
pub fn model_directories() -> Vec<PathBuf> {
    let default = MODELS.clone();
    let Some(control_path) = value_of(c"extension_control_path") else { return vec![default] };
    let next_to_library = own_directory().and_then(|library| Some(library.parent()?.join("share")));
    let found = next_to_library.into_iter().chain(entries(&control_path, "$system", &SHARE_DIRECTORY));
    let mut directories: Vec<PathBuf> = Vec::new();
    for directory in
        found.map(|directory| directory.join(MODELS_WITHIN)).filter(|directory| directory.is_dir()).chain([default])
    {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories
}

/// Returns the first library of ONNX Runtime that exists. The server's own is the last one.
pub fn runtime_library() -> PathBuf {
    let default = RUNTIME.clone();
    let is_extended = value_of(c"extension_control_path").is_some();
    let Some(library_path) = value_of(c"dynamic_library_path").filter(|_| is_extended) else { return default };
    let mut found = own_directory().into_iter().chain(entries(&library_path, "$libdir", &LIBRARY_DIRECTORY));
    found
        .find_map(|directory| Some(directory.join(RUNTIME_WITHIN)).filter(|library| library.is_file()))
        .unwrap_or(default)
}

/// Returns the command pgclip: next to the library, as in a volume of an extension, or among the programs of the server.
pub fn command() -> PathBuf {
    const NAME: &str = "pgclip";
    // SAFETY: a null-terminated string of the server.
    let program = unsafe { CStr::from_ptr((&raw const pg_sys::my_exec_path).cast()) };
    let program = Path::new(OsStr::from_bytes(program.to_bytes()));
    let next_to_library = own_directory().and_then(|library| Some(library.parent()?.join("bin").join(NAME)));
    next_to_library.filter(|command| command.is_file()).unwrap_or_else(|| program.with_file_name(NAME))
}

/// Returns the directories of a setting that lists them. `variable` stands for a directory of the server.
fn entries(list: &str, variable: &str, value: &Path) -> Vec<PathBuf> {
    let expanded = list.split(':').filter_map(|entry| match entry.strip_prefix(variable) {
        Some(rest) => Some(value.join(rest.trim_start_matches('/'))),
        // The server rejects relative paths when it searches for a library.
        None => Some(PathBuf::from(entry)).filter(|path| path.is_absolute()),
    });
    expanded.collect()
}

/// Returns the directory of this library.
fn own_directory() -> Option<PathBuf> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let here: fn() -> Option<PathBuf> = own_directory;
    // SAFETY: the address is in this library, and `info` can be written. The name is a null-terminated string that lives as long
    // as the library is loaded.
    let name = unsafe {
        if libc::dladdr(here as *const libc::c_void, &raw mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        CStr::from_ptr(info.dli_fname)
    };
    Some(Path::new(OsStr::from_bytes(name.to_bytes())).parent()?.to_owned()).filter(|directory| directory.is_absolute())
}

/// Returns a directory of the server.
fn directory(of_server: unsafe fn(*const c_char, *mut c_char)) -> PathBuf {
    let mut buffer = [0 as c_char; pg_sys::MAXPGPATH as usize];
    // SAFETY: `my_exec_path` is a null-terminated string in the server; the function writes at most MAXPGPATH bytes
    // with a null at the end.
    let directory = unsafe {
        of_server((&raw const pg_sys::my_exec_path).cast(), buffer.as_mut_ptr());
        CStr::from_ptr(buffer.as_ptr())
    };
    OsStr::from_bytes(directory.to_bytes()).into()
}
