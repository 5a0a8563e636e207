//! `pgclip pull`, from a hub on this machine to a usable model.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod loopback;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use loopback::{COMMIT, Fault, Loopback, Stored};

const NAME: &str = "someone/photo-clip";

struct Server {
    hub: Loopback,
    scratch: PathBuf,
}

impl Server {
    /// Starts a hub with the files of a fixture family, and with some files that no model needs.
    fn start(family: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/families").join(family);
        let mut files = stored(&root, "");
        files.push(Stored { path: "README.md".into(), bytes: b"# A model".to_vec(), lfs: false });
        files.push(Stored { path: "model.safetensors".into(), bytes: vec![7; 5_000_000], lfs: true });
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let scratch = std::env::temp_dir().join(format!("pg_clip-pull-{}-{number}", std::process::id()));
        Self { hub: Loopback::start(NAME, &files), scratch }
    }

    fn pgclip(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgclip"));
        let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/onnxruntime/libonnxruntime.so");
        command.arg("--onnxruntime").arg(runtime).arg("--model-path").arg(self.models()).args(arguments);
        command.env("HF_ENDPOINT", &self.hub.endpoint).env("HF_HOME", self.scratch.join("home"));
        command.env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE").env_remove("HF_HUB_CACHE");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn models(&self) -> PathBuf {
        self.scratch.join("models")
    }

    /// Returns the number of files whose bytes were requested.
    fn fetched(&self) -> usize {
        self.hub.log().iter().filter(|request| request.target.contains("/resolve/")).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.scratch).ok();
    }
}

fn stored(folder: &Path, prefix: &str) -> Vec<Stored> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        match entry.path().is_dir() {
            true => files.extend(stored(&entry.path(), &format!("{path}/"))),
            false => {
                let lfs = path.contains(".onnx");
                files.push(Stored { path, bytes: fs::read(entry.path()).unwrap(), lfs });
            }
        }
    }
    files
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_model_is_pulled_with_its_weights_and_nothing_else() {
    let server = Server::start("external");
    let output = server.pgclip(&["--json", "pull", NAME]).output().unwrap();
    assert_eq!(told(&output), (Some(0), String::new()));
    let model: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(model["name"], "photo-clip");
    assert_eq!(model["source"], serde_json::json!({"repository": NAME, "revision": COMMIT}));
    assert_eq!(model["license"], "mit");
    assert_eq!(model["text"]["graph"]["data"], serde_json::json!(["onnx/text_model.onnx_data"]));
    // Four small files, two graphs, and their weights, but neither README.md nor model.safetensors.
    assert_eq!(server.fetched(), 8);
    let verified = server.pgclip(&["verify"]).output().unwrap();
    assert_eq!(told(&verified), (Some(0), String::new()));
    // The second pull, under another name, finds all files in the cache.
    let again = server.pgclip(&["pull", &format!("{NAME}@{COMMIT}"), "--name", "again"]).output().unwrap();
    assert_eq!(told(&again), (Some(0), String::new()));
    assert_eq!(server.fetched(), 8);
    let offline = server.pgclip(&["pull", NAME, "--name", "offline"]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    let (code, message) = told(&offline);
    assert_eq!(code, Some(0), "{message}");
    assert!(message.contains("the hub was not asked"), "{message}");
}

#[test]
fn a_name_that_is_taken_costs_no_download() {
    let server = Server::start("half");
    let pull = || server.pgclip(&["pull", NAME, "--variant", "fp16"]).output().unwrap();
    assert_eq!(told(&pull()).0, Some(0));
    let requests = server.hub.log().len();
    let (code, message) = told(&pull());
    assert_eq!(code, Some(1));
    assert!(message.contains("exists already"), "{message}");
    assert_eq!(server.hub.log().len(), requests);
}

#[test]
fn rejections_of_the_hub_have_different_exit_codes() {
    let server = Server::start("half");
    let (code, message) = told(&server.pgclip(&["pull", "someone/else"]).output().unwrap());
    assert_eq!(code, Some(3), "{message}");
    assert!(message.contains("HF_TOKEN"), "{message}");
    let (code, message) = told(&server.pgclip(&["pull", &format!("{NAME}@v2")]).output().unwrap());
    assert_eq!(code, Some(3), "{message}");
    let (code, message) = told(&server.pgclip(&["pull", NAME]).output().unwrap());
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("fp16"), "the variants are named: {message}");
    let (code, message) = told(&server.pgclip(&["pull", "nonsense"]).output().unwrap());
    assert_eq!(code, Some(3), "{message}");
    assert!(!server.models().exists(), "something was added");
}

#[test]
fn a_killed_pull_goes_on_where_it_was() {
    let server = Server::start("external");
    // The store stops sending in the middle of the first large file.
    server.hub.fail_bytes(std::iter::repeat_n(Fault::Stall(100), 8));
    let mut pull = server.pgclip(&["pull", NAME]).spawn().unwrap();
    let is_partial = || {
        let blobs = server.scratch.join("home/hub/models--someone--photo-clip/blobs");
        let entries = fs::read_dir(blobs).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| {
            path.extension().is_some_and(|end| end == "incomplete") && path.metadata().is_ok_and(|file| file.len() > 0)
        })
    };
    let begun = Instant::now();
    while !is_partial() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing arrived");
        std::thread::yield_now();
    }
    pull.kill().unwrap();
    pull.wait().unwrap();
    assert!(!server.models().exists(), "something was added");
    server.hub.forgive();
    let output = server.pgclip(&["pull", NAME]).output().unwrap();
    assert_eq!(told(&output), (Some(0), String::new()));
    let asked = server.hub.log().iter().any(|request| request.header("range") == Some("bytes=100-"));
    assert!(asked, "the part that was there was fetched again");
    assert_eq!(told(&server.pgclip(&["verify"]).output().unwrap()), (Some(0), String::new()));
}
