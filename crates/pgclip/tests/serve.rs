//! `pgclip serve`, as a process of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clip::{Format, Limits, Overflow};
use service::frame::{self, Frame, MAX_BODY, OfService};
use service::protocol::{Class, FromService, Kind, PROTOCOL, Statistics, ToService, VERSION};

/// Time after which a test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// The directories of a service. Dropping it removes them.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
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

    fn socket(&self) -> PathBuf {
        self.0.join("run/service")
    }

    /// Returns the command, which starts in the directory.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgclip"));
        let runtime = root().join("target/onnxruntime/libonnxruntime.so");
        command.current_dir(&self.0).args(["serve", "--socket", "run/service", "--model-path", "nowhere"]);
        command.args(["--model-path", "models", "--onnxruntime"]).arg(runtime).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self) -> Process {
        let process = Process(self.command(&["--threads", "2", "--memory", "1000000000"]).spawn().unwrap());
        wait_until(|| UnixStream::connect(self.socket()).is_ok());
        process
    }

    fn connect(&self) -> Client {
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
struct Process(Child);

impl Process {
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end, and returns the exit code, or None after a signal.
    fn end(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    /// Returns a size from the status of the process, in kilobytes.
    fn kilobytes(&self, name: &str) -> u64 {
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

struct Client {
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

    fn embed(&mut self, class: Class, kind: Kind, input: &[u8]) -> Vec<f32> {
        self.number += 1;
        let message = ToService::Embed {
            number: self.number,
            class,
            model: "emoji".into(),
            digest: self.digest.clone(),
            kind,
            sizes: vec![input.len() as u32],
            overflow: Overflow::Truncate,
            limits: Limits { bytes: 1 << 20, pixels: 1 << 20, formats: Format::ALL.to_vec() },
        };
        self.send(&message, input);
        let Frame { message, body } = self.next();
        assert_eq!(message, FromService::Embedded { number: self.number, dimensions: 128, count: 1 });
        frame::numbers(&body, 128, 1).unwrap()
    }

    fn statistics(&mut self) -> Statistics {
        self.send(&ToService::Statistics, &[]);
        let FromService::Statistics(found) = self.next().message else { panic!("no statistics") };
        *found
    }
}

fn root() -> PathBuf {
    std::path::absolute(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

fn digest() -> String {
    clip::store::manifest(&root().join("models"), "emoji").unwrap().digest
}

fn wait_until(mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_signal_ends_it_in_order() {
    let place = Place::new();
    for signal in ["TERM", "INT"] {
        let mut process = place.start();
        let mut client = place.connect();
        client.embed(Class::Search, Kind::Texts, b"a red car");
        let statistics = client.statistics();
        assert_eq!((statistics.process, statistics.threads, statistics.items), (process.0.id(), 2, 1));
        assert!(statistics.isolation.contains("seccomp"), "{}", statistics.isolation);
        process.signal(signal);
        assert_eq!(process.end(), Some(0));
        assert!(UnixStream::connect(place.socket()).is_err());
    }
}

#[test]
fn the_socket_of_a_killed_service_is_replaced() {
    let place = Place::new();
    for _ in 0..3 {
        let mut process = place.start();
        place.connect().embed(Class::Search, Kind::Texts, b"a red car");
        process.signal("KILL");
        assert_eq!(process.end(), None);
        assert!(place.socket().exists());
    }
    let _process = place.start();
    let second = place.command(&[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(message(&second).contains("another service uses this socket"), "{second:?}");
}

#[test]
fn a_service_that_cannot_start_reports_the_reason() {
    let place = Place::new();
    fs::create_dir(place.0.join("run")).unwrap();
    fs::set_permissions(place.0.join("run"), Permissions::from_mode(0o755)).unwrap();
    let failed = place.command(&[]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(message(&failed).contains("other users can enter the directory"), "{failed:?}");
    fs::remove_dir(place.0.join("run")).unwrap();

    let mut command = Command::new(env!("CARGO_BIN_EXE_pgclip"));
    command.current_dir(&place.0).args(["serve", "--socket", "run/service", "--model-path", "models"]);
    let failed = command.args(["--onnxruntime", "libonnxruntime.so"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(message(&failed).contains("could not load ONNX Runtime"), "{failed:?}");
    assert!(!place.0.join("run").exists());

    let several = ["list", "--model-path", "models", "--model-path", "nowhere"];
    let failed = Command::new(env!("CARGO_BIN_EXE_pgclip")).args(several).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(message(&failed).contains("more than one model directory"), "{failed:?}");
}

/// Texts that are new and texts that are cached, images, rejected models, and connections that come and go.
#[test]
fn memory_does_not_grow_over_100_000_requests() {
    const CLIENTS: usize = 4;
    let place = Place::new();
    let process = place.start();
    let image = fs::read(root().join("tests/fixtures/images/grey.png")).unwrap();
    let work = |requests: usize| {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (place, image) = (&place, &image);
                scope.spawn(move || {
                    let mut connection = place.connect();
                    for number in 0..requests / CLIENTS {
                        match number % 50 {
                            0 => connection = place.connect(),
                            1 => drop(connection.embed(Class::Bulk, Kind::Images, image)),
                            2..10 => {
                                let text = format!("row {client} {number}");
                                connection.embed(Class::Bulk, Kind::Texts, text.as_bytes());
                            }
                            rest => drop(connection.embed(Class::Search, Kind::Texts, rest.to_string().as_bytes())),
                        }
                    }
                });
            }
        });
    };
    work(10_000);
    let before = process.kilobytes("VmRSS");
    work(100_000);
    let after = process.kilobytes("VmRSS");
    assert!(after < before + 8 * 1024, "{before} kB, then {after} kB");
    let mut client = place.connect();
    wait_until(|| client.statistics().connections == 1);
    let statistics = client.statistics();
    assert_eq!((statistics.queued, statistics.requests), (0, 110_000 - 110_000 / 50));
    // The main thread, threads that compute, accept and handle signals, and the two of this connection.
    assert!(process.kilobytes("Threads") < 12);
}
