//! The common parts of the tests of `pgclip serve`: the process, its directories and its clients.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clip::{Error, Format, Limits, Overflow};
use service::frame::{self, Frame, MAX_BODY, OfService};
use service::protocol::{Class, FromService, Kind, PROTOCOL, Statistics, ToService, VERSION};

/// Time after which a test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// The directories of a service. Dropping it removes them.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pg_clip-serve-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let models = root().join("models");
        let copied = Command::new("cp").arg("-r").args([&models, &path]).status().unwrap();
        assert!(copied.success());
        let private = Command::new("chmod").arg("-R").arg("go-w").arg(&path).status().unwrap();
        assert!(private.success());
        Self(path)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("run/service")
    }

    /// Returns the command, which starts in the directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgclip"));
        let runtime = root().join("target/onnxruntime/libonnxruntime.so");
        command.current_dir(&self.0).args(["serve", "--socket", "run/service", "--model-path", "nowhere"]);
        command.args(["--model-path", "models", "--onnxruntime"]).arg(runtime).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn start(&self) -> Process {
        let process = Process(self.command(&["--threads", "2", "--memory", "1000000000"]).spawn().unwrap());
        wait_until(|| UnixStream::connect(self.socket()).is_ok());
        process
    }

    pub fn connect(&self) -> Client {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client { stream, decoder: OfService::new(MAX_BODY), number: 0, digest: digest() };
        client.send(&ToService::Hello { protocol: PROTOCOL, version: VERSION.into() }, &[]);
        assert!(matches!(client.next().message, FromService::Hello { protocol: PROTOCOL, .. }));
        client
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A running command. Dropping it kills the process.
pub struct Process(pub Child);

impl Process {
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end, and returns the exit code, or None after a signal.
    pub fn end(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    /// Returns a size from the status of the process, in kilobytes.
    pub fn kilobytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub struct Client {
    stream: UnixStream,
    decoder: OfService,
    number: u64,
    digest: String,
}

impl Client {
    fn send(&mut self, message: &ToService, body: &[u8]) {
        let frame = [frame::opening(message, body.len()).unwrap(), body.to_vec()].concat();
        self.stream.write_all(&frame).unwrap();
    }

    fn next(&mut self) -> Frame<FromService> {
        loop {
            if let Some(found) = self.decoder.next().unwrap() {
                return found;
            }
            let mut bytes = [0; 4096];
            let read = self.stream.read(&mut bytes).unwrap();
            assert!(read > 0, "the connection was closed");
            self.decoder.feed(&bytes[..read]);
        }
    }

    /// Embeds an input, which must succeed.
    pub fn embed(&mut self, class: Class, kind: Kind, input: &[u8]) -> Vec<f32> {
        self.attempt(class, kind, input).unwrap()
    }

    /// Embeds an input, or returns its error.
    pub fn attempt(&mut self, class: Class, kind: Kind, input: &[u8]) -> Result<Vec<f32>, Error> {
        self.number += 1;
        let message = ToService::Embed {
            number: self.number,
            class,
            model: "emoji".into(),
            digest: self.digest.clone(),
            kind,
            sizes: vec![input.len() as u32],
            overflow: Overflow::Truncate,
            limits: Limits { bytes: 1 << 25, pixels: 64_000_000, formats: Format::ALL.to_vec() },
        };
        self.send(&message, input);
        let Frame { message, body } = self.next();
        match message {
            FromService::Failed { number, error } if number == self.number => return Err(error),
            other => assert_eq!(other, FromService::Embedded { number: self.number, dimensions: 128, count: 1 }),
        }
        Ok(frame::numbers(&body, 128, 1).unwrap())
    }

    pub fn statistics(&mut self) -> Statistics {
        self.send(&ToService::Statistics, &[]);
        let FromService::Statistics(found) = self.next().message else { panic!("no statistics") };
        *found
    }
}

pub fn root() -> PathBuf {
    std::path::absolute(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

pub fn digest() -> String {
    clip::store::manifest(&root().join("models"), "emoji").unwrap().digest
}

pub fn wait_until(mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
}
