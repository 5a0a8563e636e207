//! The common parts of this crate's tests: a service in this process, and its clients.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clip::{Format, Limits, Model, Options, Overflow, Provider};
use service::frame::{self, Frame, MAX_BODY, OfService};
use service::protocol::{Class, FromService, Kind, PROTOCOL, Statistics, ToService, VERSION};
use service::server::{DEFAULT_MAX_INPUTS, Settings, serve};

/// Time after which a test fails because an answer is missing.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn root() -> PathBuf {
    std::path::absolute(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

pub fn options() -> Options {
    Options {
        runtime: root().join("target/onnxruntime/libonnxruntime.so"),
        provider: Provider::Cpu,
        prepared: None,
        threads: 1,
        batch_size: 32,
        overflow: Overflow::Truncate,
        limits: limits(),
        interrupted: || false,
    }
}

pub fn limits() -> Limits {
    Limits { bytes: 1 << 25, pixels: 64_000_000, formats: Format::ALL.to_vec() }
}

/// A temporary directory with the model `emoji`. Dropping it removes the directory.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pg_clip-service-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let directory = Self(path);
        directory.copy("emoji");
        directory
    }

    pub fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("run/service")
    }

    /// Copies the model `emoji` under another name, which does not change its digest.
    pub fn copy(&self, name: &str) {
        let from = root().join("models/emoji");
        let into = self.models().join(name);
        std::fs::create_dir_all(into.join("onnx")).unwrap();
        for file in ["onnx/text_model.onnx", "onnx/vision_model.onnx", "tokenizer.json", "config.json"] {
            std::fs::copy(from.join(file), into.join(file)).unwrap();
        }
        for file in ["preprocessor_config.json", "tokenizer_config.json"] {
            std::fs::copy(from.join(file), into.join(file)).unwrap();
        }
        let manifest = std::fs::read_to_string(from.join("pg_clip.json")).unwrap();
        let manifest = manifest.replace("\"name\": \"emoji\"", &format!("\"name\": \"{name}\""));
        std::fs::write(into.join("pg_clip.json"), manifest).unwrap();
    }

    pub fn open(&self, name: &str) -> Model {
        Model::open(&self.models().join(name), name, || false).unwrap()
    }

    pub fn settings(&self) -> Settings {
        Settings {
            socket: self.socket(),
            model_paths: vec![self.0.join("nowhere"), self.models()],
            runtime: options().runtime,
            provider: Provider::Cpu,
            prepared: None,
            threads: 2,
            memory: 1 << 30,
            max_inputs: DEFAULT_MAX_INPUTS,
            interrupted: || false,
            isolated: false,
            report: |_| (),
            fail: |_| (),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A service in this process.
pub struct Running {
    pub directory: Directory,
    pub digest: String,
    end: Sender<()>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Running {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let directory = Directory::new();
        let mut settings = directory.settings();
        change(&mut settings);
        let digest = directory.open("emoji").manifest().digest.clone();
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            serve(settings, |_| {
                ended.recv().ok();
            })
        });
        let running = Self { directory, digest, end, thread: Some(thread) };
        wait_until(|| UnixStream::connect(running.directory.socket()).is_ok());
        running
    }

    pub fn connect(&self) -> Client {
        Client::new(&self.directory.socket(), &self.digest)
    }

    /// Ends the service, and waits until it has ended.
    pub fn end(&mut self) -> Result<(), String> {
        self.end.send(()).unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

pub struct Client {
    pub stream: UnixStream,
    pub digest: String,
    pub model: String,
    decoder: OfService,
    number: u64,
}

impl Client {
    pub fn new(socket: &Path, digest: &str) -> Self {
        let mut client = Self::silent(socket, digest);
        client.send(&ToService::Hello { protocol: PROTOCOL, version: VERSION.into() }, &[]);
        let hello = FromService::Hello { protocol: PROTOCOL, version: VERSION.into() };
        assert_eq!(client.next().unwrap().message, hello);
        client
    }

    /// Connects without a greeting.
    pub fn silent(socket: &Path, digest: &str) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let decoder = OfService::new(MAX_BODY);
        Self { stream, digest: digest.into(), model: "emoji".into(), decoder, number: 0 }
    }

    pub fn send(&mut self, message: &ToService, body: &[u8]) {
        self.stream.write_all(&frame::opening(message, body.len()).unwrap()).unwrap();
        self.stream.write_all(body).unwrap();
    }

    /// Returns the next frame, or None if the connection is closed.
    pub fn next(&mut self) -> Option<Frame<FromService>> {
        loop {
            if let Some(found) = self.decoder.next().unwrap() {
                return Some(found);
            }
            let mut bytes = [0; 65536];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.decoder.feed(&bytes[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Sends a request and returns its number.
    pub fn request(&mut self, class: Class, kind: Kind, inputs: &[&[u8]], overflow: Overflow) -> u64 {
        self.number += 1;
        let message = ToService::Embed {
            number: self.number,
            class,
            model: self.model.clone(),
            digest: self.digest.clone(),
            kind,
            sizes: inputs.iter().map(|input| input.len() as u32).collect(),
            overflow,
            limits: limits(),
        };
        self.send(&message, &inputs.concat());
        self.number
    }

    pub fn texts(&mut self, class: Class, texts: &[&str]) -> u64 {
        let inputs: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        self.request(class, Kind::Texts, &inputs, Overflow::Truncate)
    }

    /// Embeds texts, which must succeed.
    pub fn embed_texts(&mut self, class: Class, texts: &[&str]) -> Vec<Vec<f32>> {
        let number = self.texts(class, texts);
        self.embedded(number, texts.len())
    }

    pub fn embed_images(&mut self, class: Class, images: &[&[u8]]) -> Vec<Vec<f32>> {
        let number = self.request(class, Kind::Images, images, Overflow::Truncate);
        self.embedded(number, images.len())
    }

    /// Returns the embeddings of the next answer.
    pub fn embedded(&mut self, number: u64, count: usize) -> Vec<Vec<f32>> {
        let Frame { message, body } = self.next().unwrap();
        assert_eq!(message, FromService::Embedded { number, dimensions: 128, count: count as u32 });
        frame::numbers(&body, 128, count as u32).unwrap().chunks(128).map(Vec::from).collect()
    }

    pub fn statistics(&mut self) -> Statistics {
        self.send(&ToService::Statistics, &[]);
        match self.next().unwrap().message {
            FromService::Statistics(found) => *found,
            other => panic!("{other:?}"),
        }
    }
}

/// Returns the cosine of two unit vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Waits for a condition, which another thread or process fulfills.
pub fn wait_until(mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns twelve images of several formats.
pub fn images() -> Vec<Vec<u8>> {
    let folder = root().join("tests/fixtures/images");
    let names = ["cmyk.jpg", "grey.jpg", "grey.png", "tall.png", "wide.png", "rgb.bmp", "lossy.webp", "lzw.tiff"];
    let others = ["animated.gif", "orientation_6.jpg", "palette.png", "strip.png"];
    names.into_iter().chain(others).map(|name| std::fs::read(folder.join(name)).unwrap()).collect()
}

/// Returns texts whose encoding takes some milliseconds each.
pub fn long_texts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number} {}", "a red car at night ".repeat(8_000))).collect()
}
