//! The command as administrators use it: exit codes, remains after a failure, two commands at once.

mod adding;
mod checking;
mod exporting;
mod refusing;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use e2e::{Cluster, root, run};
use serde_json::Value;

/// Longer than any command in these tests, so that a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A temporary directory with a model directory in it. Dropping it removes the directory.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pg_clip-command-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    fn pgclip(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(root().join("target/release/pgclip"));
        command.arg("--model-path").arg(self.models()).arg("--onnxruntime");
        command.arg(root().join("target/onnxruntime/libonnxruntime.so")).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn add(&self, name: &str, folder: &Path) -> Output {
        self.pgclip(&["add", name]).arg(folder).output().unwrap()
    }

    /// Returns the entries of the model directory, including hidden ones.
    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.models()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut entries: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        entries.sort();
        entries
    }

    /// Waits until a command is adding a model.
    fn wait_until_busy(&self) {
        let begun = Instant::now();
        let is_busy = || self.models().is_dir() && self.entries().iter().any(|name| name.starts_with(".unfinished-"));
        while !is_busy() {
            assert!(begun.elapsed() < PATIENCE, "nothing was begun");
            std::thread::yield_now();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn family(name: &str) -> PathBuf {
    root().join("tests/fixtures/families").join(name)
}

fn model(name: &str) -> PathBuf {
    root().join("tests/fixtures/models").join(name)
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-r").arg(from).arg(to));
}

/// Returns the exit code and the standard error.
fn told(output: &Output) -> (i32, String) {
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", told(output).1);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn signal(child: &Child, signal: &str) {
    run(Command::new("kill").arg(signal).arg(child.id().to_string()));
}
