//! The settings of the embedding service.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clip::Provider as Choice;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// Sessions compute embeddings by default, which needs no configuration.
static SERVICE: GucSetting<bool> = GucSetting::<bool>::new(false);

/// Empty: the server runs the service itself, with a socket in the data directory.
static SOCKET: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// 0: one thread for each core.
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
const THREADS_LIMIT: i32 = 1024;

/// In megabytes. Both encoders of the largest published CLIP models take 2 GB in single precision.
static MEMORY: GucSetting<i32> = GucSetting::<i32>::new(4096);
/// The encoders of the smallest published models, in 8 bits.
const MIN_MEMORY: i32 = 128;
/// 1 TB.
const MEMORY_LIMIT: i32 = 1024 * 1024;

static PROVIDER: GucSetting<Provider> = GucSetting::<Provider>::new(Provider::of(Choice::Cpu));

/// The execution providers, by their names in [`Choice::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum Provider {
    #[name = c"cpu"]
    Cpu,
    #[name = c"openvino"]
    OpenVino,
    #[name = c"cuda"]
    Cuda,
}

impl Provider {
    /// Returns the value of the setting. A provider without one does not compile.
    const fn of(provider: Choice) -> Self {
        match provider {
            Choice::Cpu => Self::Cpu,
            Choice::OpenVino => Self::OpenVino,
            Choice::Cuda => Self::Cuda,
        }
    }
}

static FALLBACK: GucSetting<bool> = GucSetting::<bool>::new(true);

/// The directory of the socket, in the data directory. Base backups and pg_rewind skip names with the prefix of temporary files.
const DIRECTORY: &str = "pgsql_tmp_pg_clip";

pub fn define() {
    GucRegistry::define_bool_guc(
        c"clip.service",
        c"Sets whether one embedding service computes for all sessions.",
        c"If off, each session loads models and computes embeddings itself.",
        &SERVICE,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_string_guc(
        c"clip.service_socket",
        c"Sets the socket of an embedding service that runs on its own.",
        c"If empty, the server starts and supervises the service. That needs pg_clip in \"shared_preload_libraries\".",
        &SOCKET,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"clip.service_threads",
        c"Sets the number of cores that the embedding service may use.",
        c"0 means all cores.",
        &THREADS,
        0,
        THREADS_LIMIT,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"clip.service_memory",
        c"Sets the memory that the embedding service may use for models.",
        c"Beyond it, the service unloads the models that were used least recently.",
        &MEMORY,
        MIN_MEMORY,
        MEMORY_LIMIT,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_enum_guc(
        c"clip.service_provider",
        c"Sets the execution provider of the embedding service.",
        c"\"openvino\" and \"cuda\" need a build of ONNX Runtime with that provider.",
        &PROVIDER,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_bool_guc(
        c"clip.service_fallback",
        c"Sets whether a session computes embeddings itself if the embedding service is unavailable.",
        c"If off, calls fail with an error.",
        &FALLBACK,
        GucContext::Suset,
        GucFlags::empty(),
    );
}

/// Returns true if sessions use the embedding service.
pub fn is_on() -> bool {
    SERVICE.get()
}

/// Returns true if the server runs the service itself.
pub fn is_supervised() -> bool {
    SOCKET.get().is_none_or(|socket| socket.is_empty())
}

/// Returns the socket. A relative path begins in the data directory, the working directory of each process of the server. So its
/// length does not depend on the data directory, although the path of a socket has at most 107 bytes.
pub fn socket() -> PathBuf {
    match SOCKET.get().filter(|socket| !socket.is_empty()) {
        Some(socket) => std::ffi::OsString::from_vec(socket.into_bytes()).into(),
        None => PathBuf::from(DIRECTORY).join("service"),
    }
}

/// Returns the number of threads. 0 means one for each core.
pub fn threads() -> usize {
    THREADS.get() as usize
}

/// Returns the memory for models in bytes.
pub fn memory() -> u64 {
    MEMORY.get() as u64 * 1024 * 1024
}

/// Returns the name of the service's execution provider.
pub fn provider() -> &'static str {
    let value = PROVIDER.get();
    Choice::ALL.into_iter().find(|&provider| Provider::of(provider) == value).unwrap_or_default().name()
}

/// Returns true if a session computes itself while the service is unavailable.
pub fn has_fallback() -> bool {
    FALLBACK.get()
}
