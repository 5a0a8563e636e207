//! ONNX Runtime's library, loaded once, on first use, from an absolute path. External crate: `ort`.
//!
//! Invariant: the library is never unloaded, because its destructors are not safe at process exit.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::environment::Environment;

use crate::error::Error;
use crate::memory::headroom;
use crate::runtime::elf;
use crate::runtime::failure::one_line;

/// Environment variables that turn off telemetry: the documented one, and an earlier spelling. Official builds of the
/// library since 1.29 report usage to their maker unless these are "1" before it is loaded.
pub const TELEMETRY_OFF: [&str; 2] = ["ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"];

/// Address space that the library takes in a process, with a margin.
const LIBRARY_BYTES: u64 = 64 * 1024 * 1024;

static LOADED: Mutex<Option<&'static Runtime>> = Mutex::new(None);

/// The loaded library. A process has at most one.
pub struct Runtime {
    pub(super) environment: Environment,
    path: PathBuf,
}

impl Runtime {
    /// Loads the library at `path`, or returns the one that was loaded from there.
    pub fn load(path: &Path) -> Result<&'static Self, Error> {
        let mut loaded = LOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(runtime) = *loaded {
            return match runtime.path == path {
                true => Ok(runtime),
                false => Err(Error::RuntimeLoaded {
                    loaded: runtime.path.display().to_string(),
                    wanted: path.display().to_string(),
                }),
            };
        }
        let missing = |reason: String| {
            let path = path.display().to_string();
            // The path is for superusers only; the reason is for all.
            let reason = one_line(&reason).replace(&path, "the library");
            Error::RuntimeMissing { path, reason }
        };
        if !path.is_absolute() {
            return Err(missing("the path is not absolute".into()));
        }
        if let Some(defect) = elf::defect(path).map_err(|error| missing(error.to_string()))? {
            return Err(missing(defect.into()));
        }
        headroom(LIBRARY_BYTES)?;
        let environment = ort::init_from(path)
            .map_err(|error| missing(error.to_string()))?
            .with_name("pg_clip")
            .with_telemetry(false)
            .with_logger(std::sync::Arc::new(|_, _, _, _, _| {}))
            .build()
            .map_err(|error| missing(error.to_string()))?;
        let runtime: &'static Self = Box::leak(Box::new(Self { environment, path: path.into() }));
        *loaded = Some(runtime);
        Ok(runtime)
    }

    /// Returns the library's description of itself: version, commit, compiler flags.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }
}
