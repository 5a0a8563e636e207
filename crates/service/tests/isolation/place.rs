//! The directories of a case, and its isolated process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::{env, fs, io};

use clip::{Format, Limits, Options, Overflow, Provider, TELEMETRY_OFF};
use service::isolation::{Needs, isolate};

/// The argument of the isolated process, before the name of the case and its directory.
pub const INSIDE: &str = "--inside";

/// The limit of memory of the cases.
pub const MEMORY: u64 = 1 << 30;

/// A temporary directory with two directories in it: one that the isolated process can read, and one that it cannot.
pub struct Place {
    pub path: PathBuf,
    owned: bool,
}

impl Place {
    pub fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("pg_clip-isolation-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("readable")).unwrap();
        fs::create_dir_all(path.join("other")).unwrap();
        fs::create_dir_all(path.join("prepared")).unwrap();
        fs::write(path.join("readable/file"), "content").unwrap();
        fs::write(path.join("other/file"), "content").unwrap();
        Self { path, owned: true }
    }

    pub fn at(path: &str) -> Self {
        Self { path: path.into(), owned: false }
    }

    pub fn readable(&self, file: &str) -> PathBuf {
        self.path.join("readable").join(file)
    }

    pub fn other(&self, file: &str) -> PathBuf {
        self.path.join("other").join(file)
    }

    /// Isolates this process as the service does.
    pub fn isolate(&self) -> String {
        self.isolate_with(Some(MEMORY)).unwrap()
    }

    pub fn isolate_with(&self, memory: Option<u64>) -> io::Result<String> {
        let (models, runtime) = (models(), self.options().runtime);
        let directories = [models.as_path(), &self.path.join("readable"), &self.path.join("prepared")];
        isolate(&Needs { directories: &directories, runtime: &runtime, memory })
    }

    pub fn options(&self) -> Options {
        Options {
            runtime: root().join("target/onnxruntime/libonnxruntime.so"),
            provider: Provider::Cpu,
            prepared: None,
            threads: 2,
            batch_size: 32,
            overflow: Overflow::Truncate,
            limits: Limits { bytes: 1 << 25, pixels: 64_000_000, formats: Format::ALL.to_vec() },
            interrupted: || false,
        }
    }

    /// Starts the isolated process of a case.
    pub fn start(&self, name: &str, errors: Stdio) -> Child {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([INSIDE, name]).arg(&self.path).envs(TELEMETRY_OFF.map(|variable| (variable, "1")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn().unwrap()
    }

    pub fn output(&self, name: &str) -> Output {
        self.start(name, Stdio::piped()).wait_with_output().unwrap()
    }

    pub fn succeeds(&self, name: &str) {
        let output = self.output(name);
        assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.owned {
            fs::remove_dir_all(&self.path).unwrap();
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

pub fn models() -> PathBuf {
    root().join("models")
}

pub fn image(name: &str) -> Vec<u8> {
    fs::read(root().join("tests/fixtures/images").join(name)).unwrap()
}

/// Asserts that an act failed with this error of the system.
pub fn fails<T>(act: &str, result: io::Result<T>, expected: i32) {
    let Err(error) = result else { panic!("{act} succeeded") };
    assert_eq!(error.raw_os_error(), Some(expected), "{act}: {error}");
}
