//! Settings, all under the prefix `clip`. None of them changes a vector that a named model gives.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clip::{Format, Limits, Options, Overflow};
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::pg_sys;

use super::interrupt::interrupted;

/// The model that comes with the extension.
pub const EMBEDDED_MODEL: &CStr = c"emoji";

static DEFAULT_MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(EMBEDDED_MODEL));

/// A setting whose default is known only when the server runs: it depends on where the server is installed.
type InstalledPath = LazyLock<&'static GucSetting<Option<CString>>>;

static MODEL_PATH: InstalledPath = LazyLock::new(|| installed(pg_sys::get_share_path, "pg_clip/models"));

static ONNXRUNTIME_PATH: InstalledPath =
    LazyLock::new(|| installed(pg_sys::get_pkglib_path, "pg_clip/libonnxruntime.so"));

/// One core: connections are the parallelism of a database. ONNX Runtime starts no pool of threads then. Each run still has
/// a second thread for as long as it takes: the one that ends it when the session is cancelled.
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(1);
static MAX_THREADS: GucSetting<i32> = GucSetting::<i32>::new(4);
/// More threads than any CLIP can use.
const MOST_THREADS: i32 = 64;

/// The most that one run of a text tower takes; an image tower takes at most 8 whatever this says.
static BATCH_SIZE: GucSetting<i32> = GucSetting::<i32>::new(MOST_BATCH_SIZE);
const MOST_BATCH_SIZE: i32 = clip::MAX_TEXT_BATCH as i32;

/// An index scan with LIMIT 10 asks for one text eleven times; 256 vectors are half a megabyte.
static QUERY_CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(256);
const MOST_QUERY_CACHE_SIZE: i32 = 1_000_000;

static TEXT_OVERFLOW: GucSetting<TextOverflow> = GucSetting::<TextOverflow>::new(TextOverflow::Truncate);

/// In kilobytes. A camera's largest JPEG has about 30 MB.
static MAX_IMAGE_BYTES: GucSetting<i32> = GucSetting::<i32>::new(32 * 1024);
/// The largest value that Postgres can hold.
const MOST_IMAGE_KILOBYTES: i32 = 1024 * 1024;

/// 64 megapixels: a camera's largest picture; 192 MB when decoded.
static MAX_IMAGE_PIXELS: GucSetting<i32> = GucSetting::<i32>::new(64_000_000);
/// A gigapixel: 3 GB when decoded.
const MOST_IMAGE_PIXELS: i32 = 1_000_000_000;

static IMAGE_FORMATS: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"jpeg,png,webp,gif,bmp,tiff"));

/// One core for rows that wait, whatever else the server does.
static MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(1);
/// As many as threads: more than any server has cores to spare.
const MOST_WORKERS: i32 = MOST_THREADS;

/// In seconds.
static WORKER_NAPTIME: GucSetting<i32> = GucSetting::<i32>::new(60);
const MOST_NAPTIME: i32 = 24 * 60 * 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum TextOverflow {
    #[name = c"truncate"]
    Truncate,
    #[name = c"error"]
    Error,
}

pub fn define() {
    GucRegistry::define_string_guc(
        c"clip.default_model",
        c"Sets the model that functions use when none is named.",
        c"The embedded model knows emoji, not photographs: set a model of your own for real use.",
        &DEFAULT_MODEL,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_string_guc(
        c"clip.model_path",
        c"Sets the directory that holds the model folders.",
        c"Model files are code to the server: only its owner should be able to write there.",
        &MODEL_PATH,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"clip.onnxruntime_path",
        c"Sets the absolute path of the ONNX Runtime library.",
        c"A connection that has loaded the library keeps it.",
        &ONNXRUNTIME_PATH,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"clip.threads",
        c"Sets the number of cores that one call may use.",
        c"More make one call faster and leave less to other connections. \"clip.max_threads\" caps it.",
        &THREADS,
        1,
        MOST_THREADS,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.max_threads",
        c"Sets the largest number of cores that one call can be given.",
        c"A larger \"clip.threads\" counts as this number.",
        &MAX_THREADS,
        1,
        MOST_THREADS,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.batch_size",
        c"Sets the largest number of texts or images in one run of a model.",
        c"Fewer need less memory. More than 32 texts or 8 images are never run at once.",
        &BATCH_SIZE,
        1,
        MOST_BATCH_SIZE,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.query_cache_size",
        c"Sets the number of texts whose embeddings a connection remembers.",
        c"An index scan asks for its query text once per row. 0 remembers none.",
        &QUERY_CACHE_SIZE,
        0,
        MOST_QUERY_CACHE_SIZE,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_enum_guc(
        c"clip.text_overflow",
        c"Sets what becomes of a text with more tokens than the model reads.",
        c"\"truncate\" cuts it as the reference implementation does; \"error\" refuses it.",
        &TEXT_OVERFLOW,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.max_image_bytes",
        c"Sets the largest encoded size of an image.",
        c"Larger images are refused before they are read from disk.",
        &MAX_IMAGE_BYTES,
        1,
        MOST_IMAGE_KILOBYTES,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"clip.max_image_pixels",
        c"Sets the largest number of pixels of an image.",
        c"Larger images are refused before they are decoded; decoding needs up to 16 bytes per pixel.",
        &MAX_IMAGE_PIXELS,
        1,
        MOST_IMAGE_PIXELS,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.max_workers",
        c"Sets the number of background workers that embed queued rows, of all databases together.",
        c"Each uses one core, or \"clip.threads\". 0 stops them; rows wait then.",
        &MAX_WORKERS,
        0,
        MOST_WORKERS,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.worker_naptime",
        c"Sets the time between visits of the launcher to each database.",
        c"The launcher runs if \"shared_preload_libraries\" has pg_clip. It finds rows that were left by a crash or a restore.",
        &WORKER_NAPTIME,
        1,
        MOST_NAPTIME,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    // SAFETY: the hook is guarded by `pg_guard`.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"clip.image_formats",
            c"Sets the image formats that may be decoded.",
            c"A comma-separated list of jpeg, png, webp, gif, bmp and tiff.",
            &IMAGE_FORMATS,
            GucContext::Suset,
            GucFlags::empty(),
            Some(check_image_formats),
            None,
            None,
        );
        pg_sys::MarkGUCPrefixReserved(c"clip".as_ptr());
    }
}

pub fn text_overflow() -> Overflow {
    match TEXT_OVERFLOW.get() {
        TextOverflow::Truncate => Overflow::Truncate,
        TextOverflow::Error => Overflow::Error,
    }
}

/// How calls want their work done, as the settings stand now.
pub fn options() -> Options {
    Options {
        runtime: path(&ONNXRUNTIME_PATH),
        threads: THREADS.get().min(MAX_THREADS.get()) as usize,
        batch_size: BATCH_SIZE.get() as usize,
        overflow: text_overflow(),
        limits: limits(),
        interrupted,
    }
}

pub fn limits() -> Limits {
    Limits {
        bytes: MAX_IMAGE_BYTES.get() as u64 * 1024,
        pixels: MAX_IMAGE_PIXELS.get() as u64,
        formats: parse_formats(&text(&IMAGE_FORMATS)).unwrap_or_default(),
    }
}

pub fn default_model() -> String {
    text(&DEFAULT_MODEL)
}

pub fn model_path() -> PathBuf {
    path(&MODEL_PATH)
}

pub fn onnxruntime_path() -> PathBuf {
    path(&ONNXRUNTIME_PATH)
}

pub fn query_cache_size() -> usize {
    QUERY_CACHE_SIZE.get() as usize
}

pub fn max_workers() -> i32 {
    MAX_WORKERS.get()
}

pub fn worker_naptime() -> Duration {
    Duration::from_secs(WORKER_NAPTIME.get() as u64)
}

fn text(setting: &GucSetting<Option<CString>>) -> String {
    setting.get().unwrap_or_default().to_string_lossy().into_owned()
}

fn path(setting: &GucSetting<Option<CString>>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(setting.get().unwrap_or_default().into_bytes()).into()
}

fn parse_formats(list: &str) -> Option<Vec<Format>> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Format::from_name).collect()
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn check_image_formats(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server passes a pointer to a null-terminated string.
    let list = unsafe { CStr::from_ptr(*new) };
    list.to_str().is_ok_and(|list| parse_formats(list).is_some())
}

/// A setting whose default is `file` in one of the server's directories.
fn installed(directory: unsafe fn(*const c_char, *mut c_char), file: &str) -> &'static GucSetting<Option<CString>> {
    let mut buffer = [0 as c_char; pg_sys::MAXPGPATH as usize];
    // SAFETY: `my_exec_path` is a null-terminated string in the server; the function writes at most MAXPGPATH bytes
    // with a null at the end.
    let directory = unsafe {
        directory((&raw const pg_sys::my_exec_path).cast(), buffer.as_mut_ptr());
        CStr::from_ptr(buffer.as_ptr())
    };
    let path = [directory.to_bytes(), b"/", file.as_bytes()].concat();
    // Both parts come from strings that end at the first null, so there is none in the path.
    let path: &'static CStr = Box::leak(CString::new(path).unwrap_or_default().into_boxed_c_str());
    // Lives as long as the process, as the server's record of the setting does.
    Box::leak(Box::new(GucSetting::<Option<CString>>::new(Some(path))))
}
