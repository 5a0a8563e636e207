//! An empty cache, a hub on this machine, and their use in tests.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pgclip::hub::{Hub, HubError, Interrupted, Progress, RemoteFile, Repository, Settings, Timeouts};

use super::{Fault, Loopback, Stored};

pub const NAME: &str = "open/clip";
pub const MODEL: &str = "onnx/model.onnx";

/// Records all progress. Calls `advanced` with the number of all bytes so far.
#[derive(Default)]
pub struct Heard {
    pub lines: RefCell<Vec<String>>,
    pub bytes: RefCell<u64>,
    pub advanced: Option<fn(u64)>,
}

impl Progress for Heard {
    fn begin(&self, file: &str, size: u64, already: u64) {
        self.lines.borrow_mut().push(format!("begin {file} {size} {already}"));
    }
    fn advance(&self, bytes: u64) {
        let all = self.bytes.borrow().saturating_add(bytes);
        self.bytes.replace(all);
        if let Some(advanced) = self.advanced {
            advanced(all);
        }
    }
    fn end(&self) {
        self.lines.borrow_mut().push("end".into());
    }
    fn wait(&self, reason: &str, seconds: u64) {
        self.lines.borrow_mut().push(format!("wait {seconds}: {reason}"));
    }
}

impl Heard {
    pub fn waits(&self) -> Vec<u64> {
        let seconds = |line: &String| line.strip_prefix("wait ")?.split(':').next()?.parse().ok();
        self.lines.borrow().iter().filter_map(seconds).collect()
    }
}

/// An empty cache. Dropping it removes the cache.
pub struct Scene {
    pub hub: Loopback,
    pub cache: PathBuf,
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.cache));
    }
}

pub fn model() -> Stored {
    let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    Stored::new(MODEL, &bytes, true)
}

pub fn config() -> Stored {
    Stored::new("a config.json", br#"{"model_type": "clip"}"#, false)
}

impl Scene {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cache = std::env::temp_dir().join(format!("pgclip-hub-{}-{number}", std::process::id()));
        Self { hub: Loopback::start(NAME, &[config(), model()]), cache }
    }

    pub fn settings(&self) -> Settings {
        let timeouts = Timeouts {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            second: Duration::from_millis(1),
        };
        let (endpoint, token) = (self.hub.endpoint.clone(), Some("hf_secret".into()));
        Settings { endpoint, token, cache: self.cache.clone(), offline: false, timeouts }
    }

    pub fn client(&self) -> Hub {
        Hub::new(self.settings(), || false).unwrap()
    }

    pub fn offline(&self) -> Hub {
        Hub::new(Settings { offline: true, ..self.settings() }, || false).unwrap()
    }

    pub fn repository(&self) -> Repository {
        self.client().repository(NAME, "main", &Heard::default()).unwrap()
    }

    /// Fetches one file with a new client.
    pub fn fetch(&self, file: &Stored, heard: &Heard) -> Result<PathBuf, HubError> {
        self.fetch_until(file, heard, || false)
    }

    pub fn fetch_until(&self, file: &Stored, heard: &Heard, interrupted: Interrupted) -> Result<PathBuf, HubError> {
        let repository = self.repository();
        let client = Hub::new(self.settings(), interrupted).unwrap();
        client.download(&repository, &[listed(&repository, &file.path)], heard)
    }

    pub fn blobs(&self) -> PathBuf {
        self.cache.join("models--open--clip/blobs")
    }

    pub fn partial(&self, file: &Stored) -> PathBuf {
        self.blobs().join(format!("{}.incomplete", file.id()))
    }

    /// Returns the names of the entries of the blob directory.
    pub fn blob_names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.blobs()) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub fn assert_has(&self, snapshot: &Path, file: &Stored) {
        assert!(fs::read(snapshot.join(&file.path)).unwrap() == file.bytes, "{} differs", file.path);
        assert!(fs::read(self.blobs().join(file.id())).unwrap() == file.bytes);
        assert!(!self.partial(file).exists());
    }
}

pub fn listed<'a>(repository: &'a Repository, path: &str) -> &'a RemoteFile {
    repository.files.iter().find(|file| file.path == path).unwrap()
}

pub fn status(status: u16, headers: &[(&'static str, &str)]) -> Fault {
    Fault::Status(status, headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
}
