//! The settings with the prefix `clip`. No setting changes the embedding that a named model computes.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clip::{Format, Limits, Options, Overflow, Provider};
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::pg_sys;

use super::installation::{self, PathSetting, path_setting};
use super::interrupt::interrupted;

/// The embedded model, which is installed with the extension.
pub const EMBEDDED_MODEL: &CStr = c"emoji";

static DEFAULT_MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(EMBEDDED_MODEL));

static MODEL_PATH: PathSetting = LazyLock::new(|| path_setting(&installation::MODELS));
static ONNXRUNTIME_PATH: PathSetting = LazyLock::new(|| path_setting(&installation::RUNTIME));

/// Empty: prepared files are in the directories of the models.
static PREPARED_PATH: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// One core by default, because a database runs many sessions in parallel. ONNX Runtime then starts no thread pool. During a run,
/// a second thread waits to stop the run if the query is canceled.
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(1);
static MAX_THREADS: GucSetting<i32> = GucSetting::<i32>::new(4);
/// More threads than any model can use.
const THREADS_LIMIT: i32 = 64;

/// Items in one run of the text encoder. The image encoder runs at most 8 images at a time.
static BATCH_SIZE: GucSetting<i32> = GucSetting::<i32>::new(BATCH_SIZE_LIMIT);
const BATCH_SIZE_LIMIT: i32 = clip::MAX_TEXT_BATCH as i32;

/// An index scan with LIMIT 10 embeds its query text eleven times. 256 embeddings take half a megabyte.
static QUERY_CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(256);
const QUERY_CACHE_SIZE_LIMIT: i32 = 1_000_000;

static TEXT_OVERFLOW: GucSetting<TextOverflow> = GucSetting::<TextOverflow>::new(TextOverflow::Truncate);

/// In kilobytes. The largest JPEG files of cameras have about 30 MB.
static MAX_IMAGE_BYTES: GucSetting<i32> = GucSetting::<i32>::new(32 * 1024);
/// 1 GB, the largest value that Postgres can store.
const IMAGE_KILOBYTES_LIMIT: i32 = 1024 * 1024;

/// 64 megapixels, the largest images of cameras: 192 MB when decoded.
static MAX_IMAGE_PIXELS: GucSetting<i32> = GucSetting::<i32>::new(64_000_000);
/// One gigapixel: 3 GB when decoded.
const IMAGE_PIXELS_LIMIT: i32 = 1_000_000_000;

static IMAGE_FORMATS: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"jpeg,png,webp,gif,bmp,tiff"));

/// One core for pending rows, independent of the load of the server.
static MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(1);
/// Equal to the limit for threads, and more than the spare cores of any server.
const WORKERS_LIMIT: i32 = THREADS_LIMIT;

/// In seconds.
static WORKER_NAPTIME: GucSetting<i32> = GucSetting::<i32>::new(60);
const NAPTIME_LIMIT: i32 = 24 * 60 * 60;

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
        c"Sets the model for functions that are called without a model.",
        c"The embedded model knows emoji, not photos. Install another model for real use.",
        &DEFAULT_MODEL,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_string_guc(
        c"clip.model_path",
        c"Sets the directory of the installed models.",
        c"The server runs model files like code. Only root or the server's user should be able to write to this directory.",
        &MODEL_PATH,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"clip.onnxruntime_path",
        c"Sets the absolute path of the ONNX Runtime library.",
        c"A session that has loaded the library keeps it.",
        &ONNXRUNTIME_PATH,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"clip.prepared_path",
        c"Sets the directory of prepared weights, for models on read-only volumes.",
        c"Empty if they are with the models. Only root or the server's user should be able to write to this directory.",
        &PREPARED_PATH,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"clip.threads",
        c"Sets the number of cores that one call may use.",
        c"More cores make one call faster and leave fewer cores to other sessions. \"clip.max_threads\" is the upper limit.",
        &THREADS,
        1,
        THREADS_LIMIT,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.max_threads",
        c"Sets the upper limit for \"clip.threads\".",
        c"A larger value of \"clip.threads\" is reduced to this value.",
        &MAX_THREADS,
        1,
        THREADS_LIMIT,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.batch_size",
        c"Sets the largest number of texts or images in one run of a model.",
        c"Smaller batches need less memory. One run never has more than 32 texts or 8 images.",
        &BATCH_SIZE,
        1,
        BATCH_SIZE_LIMIT,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.query_cache_size",
        c"Sets the number of text embeddings that each session caches.",
        c"An index scan embeds its query text once per row, unless the embedding is cached. 0 disables the cache.",
        &QUERY_CACHE_SIZE,
        0,
        QUERY_CACHE_SIZE_LIMIT,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_enum_guc(
        c"clip.text_overflow",
        c"Sets the action for texts with more tokens than the model reads.",
        c"\"truncate\" truncates the text as the reference implementation does. \"error\" raises an error.",
        &TEXT_OVERFLOW,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.max_image_bytes",
        c"Sets the largest encoded size of an image.",
        c"Larger images are rejected before they are read from disk.",
        &MAX_IMAGE_BYTES,
        1,
        IMAGE_KILOBYTES_LIMIT,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"clip.max_image_pixels",
        c"Sets the largest number of pixels of an image.",
        c"Larger images are rejected before they are decoded. Decoding needs up to 16 bytes per pixel.",
        &MAX_IMAGE_PIXELS,
        1,
        IMAGE_PIXELS_LIMIT,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.max_workers",
        c"Sets the number of background workers for mode \"queue\", in all databases together.",
        c"Each worker uses \"clip.threads\" cores. 0 stops all workers, and rows stay pending.",
        &MAX_WORKERS,
        0,
        WORKERS_LIMIT,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.worker_naptime",
        c"Sets the interval at which the launcher checks each database for pending rows.",
        c"The launcher runs if \"shared_preload_libraries\" contains pg_clip. It finds rows that are pending after a crash or a restore.",
        &WORKER_NAPTIME,
        1,
        NAPTIME_LIMIT,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    // SAFETY: the hook is guarded by `pg_guard`.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"clip.image_formats",
            c"Sets the allowed image formats.",
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

/// The options for calls into `clip`, from the current settings.
pub fn options() -> Options {
    Options {
        runtime: onnxruntime_path(),
        provider: Provider::Cpu,
        prepared: prepared_path(),
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

/// The directories of the models. A model in an earlier directory hides one of the same name in a later directory.
pub fn model_paths() -> Vec<PathBuf> {
    match path(&MODEL_PATH) {
        default if default == *installation::MODELS => installation::model_directories(),
        chosen => vec![chosen],
    }
}

pub fn onnxruntime_path() -> PathBuf {
    match path(&ONNXRUNTIME_PATH) {
        default if default == *installation::RUNTIME => installation::runtime_library(),
        chosen => chosen,
    }
}

/// The directory of prepared files, if they are not in the directories of the models.
pub fn prepared_path() -> Option<PathBuf> {
    Some(path(&PREPARED_PATH)).filter(|path| !path.as_os_str().is_empty())
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
