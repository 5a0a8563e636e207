//! A hub of one repository on two ports of this machine: one is the hub, the other stores its large files.
//!
//!  It answers as huggingface.co does, logs every request, and fails on request of a test.
#![allow(dead_code, reason = "not every test uses every fault")]

pub mod scene;
mod stored;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub use stored::Stored;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The fault of one answer.
#[derive(Clone)]
pub enum Fault {
    /// Closes the connection after that many bytes of the body.
    Cut(usize),
    /// Stops sending after that many bytes, until the client disconnects.
    Stall(usize),
    /// Sends only that many bytes, with this number as the length.
    Short(usize),
    /// Sends one wrong byte.
    Garbled,
    /// Sends one byte too many, without a length in the header.
    Endless,
    /// Sends the file from its beginning and ignores the requested range.
    WithoutRange,
    /// Sends another range than the requested one.
    WrongRange,
    Status(u16, Vec<(&'static str, String)>),
    /// Sends status 200 and this document.
    Document(Vec<u8>),
}

#[derive(Clone, Debug)]
pub struct Request {
    /// True for a request to the hub, false for one to the store of large files.
    pub hub: bool,
    pub target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

struct State {
    name: String,
    files: Vec<Stored>,
    store: String,
    log: Mutex<Vec<Request>>,
    listing: Mutex<VecDeque<Fault>>,
    bytes: Mutex<VecDeque<Fault>>,
}

pub struct Loopback {
    pub endpoint: String,
    state: Arc<State>,
}

impl Loopback {
    pub fn start(name: &str, files: &[Stored]) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (hub, store) = (listen(), listen());
        let endpoint = address(&hub);
        let state = State {
            name: name.into(),
            files: files.to_vec(),
            store: address(&store),
            log: Mutex::default(),
            listing: Mutex::default(),
            bytes: Mutex::default(),
        };
        let state = Arc::new(state);
        for (listener, is_hub) in [(hub, true), (store, false)] {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let state = Arc::clone(&state);
                    thread::spawn(move || state.serve(stream, is_hub));
                }
            });
        }
        Self { endpoint, state }
    }

    /// Makes the next listings fail.
    pub fn fail_listing(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.listing.lock().unwrap().extend(faults);
    }

    /// Makes the next answers with a file's bytes fail.
    pub fn fail_bytes(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.bytes.lock().unwrap().extend(faults);
    }

    /// Removes all faults.
    pub fn forgive(&self) {
        self.state.listing.lock().unwrap().clear();
        self.state.bytes.lock().unwrap().clear();
    }

    pub fn log(&self) -> Vec<Request> {
        self.state.log.lock().unwrap().clone()
    }

    /// Returns the header `Range` of each request for bytes of large files, in their order.
    pub fn ranges(&self) -> Vec<Option<String>> {
        let of = |request: &Request| request.header("range").map(str::to_owned);
        self.log().iter().filter(|request| !request.hub).map(of).collect()
    }
}

impl State {
    /// Answers requests of one connection until it ends.
    fn serve(&self, mut stream: TcpStream, hub: bool) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read_request(&mut reader, hub) {
            self.log.lock().unwrap().push(request.clone());
            let goes_on =
                if hub { self.answer_hub(&mut stream, &request) } else { self.answer_store(&mut stream, &request) };
            if goes_on.is_none() {
                return;
            }
        }
    }

    fn answer_hub(&self, stream: &mut TcpStream, request: &Request) -> Option<()> {
        let api = format!("/api/models/{}/revision/", self.name);
        if let Some(rest) = request.target.strip_prefix(&api) {
            return self.answer_listing(stream, rest);
        }
        let resolve = format!("/{}/resolve/{COMMIT}/", self.name);
        let cached = format!("/api/resolve-cache/models/{}/{COMMIT}/", self.name);
        if let Some(path) = request.target.strip_prefix(&resolve) {
            let Some(index) = self.files.iter().position(|file| encoded(&file.path) == path) else {
                return error(stream, 404, "EntryNotFound");
            };
            let file = &self.files[index];
            let commit = ("X-Repo-Commit", COMMIT.to_owned());
            if !file.lfs {
                return send(stream, 307, &[("Location", format!("{cached}{path}")), commit], b"", None);
            }
            let headers = [
                ("Location", format!("{}/{index}?signature=secret", self.store)),
                ("X-Linked-Etag", format!("\"{}\"", file.id())),
                ("X-Linked-Size", file.bytes.len().to_string()),
                commit,
            ];
            return send(stream, 302, &headers, b"Found. Redirecting", None);
        }
        match request.target.strip_prefix(&cached) {
            Some(path) => {
                let file = self.files.iter().find(|file| encoded(&file.path) == path)?;
                self.answer_bytes(stream, request, file)
            }
            None => error(stream, 401, "RepoNotFound"),
        }
    }

    fn answer_listing(&self, stream: &mut TcpStream, rest: &str) -> Option<()> {
        match self.listing.lock().unwrap().pop_front() {
            Some(Fault::Status(status, headers)) => return send(stream, status, &headers, b"", None),
            Some(Fault::Document(document)) => return send(stream, 200, &[], &document, None),
            _ => {}
        }
        let revisions = ["main", "refs%2Fpr%2F1", COMMIT];
        if revisions.iter().any(|revision| rest == format!("{revision}?blobs=true")) {
            send(stream, 200, &[("Content-Type", "application/json".into())], self.document().as_bytes(), None)
        } else {
            error(stream, 404, "RevisionNotFound")
        }
    }

    fn document(&self) -> String {
        let file = |file: &Stored| {
            let (path, size, id) = (&file.path, file.bytes.len(), file.blob_id());
            let lfs = if file.lfs {
                format!(r#", "lfs": {{"sha256": "{}", "size": {size}, "pointerSize": 134}}"#, file.id())
            } else {
                String::new()
            };
            format!(r#"{{"rfilename": {path:?}, "size": {size}, "blobId": "{id}"{lfs}}}"#)
        };
        let files: Vec<_> = self.files.iter().map(file).collect();
        let card = r#"{"license": "mit"}"#;
        format!(
            r#"{{"id": "{}", "sha": "{COMMIT}", "private": false, "cardData": {card}, "siblings": [{}]}}"#,
            self.name,
            files.join(", ")
        )
    }

    fn answer_store(&self, stream: &mut TcpStream, request: &Request) -> Option<()> {
        let index: usize = request.target.trim_start_matches('/').split('?').next()?.parse().ok()?;
        self.answer_bytes(stream, request, self.files.get(index)?)
    }

    fn answer_bytes(&self, stream: &mut TcpStream, request: &Request, file: &Stored) -> Option<()> {
        let fault = self.bytes.lock().unwrap().pop_front();
        let total = file.bytes.len();
        let asked =
            request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let start: usize = if matches!(fault, Some(Fault::WithoutRange)) { 0 } else { asked.unwrap_or(0) };
        if start >= total && start > 0 {
            return send(stream, 416, &[("Content-Range", format!("bytes */{total}"))], b"", None);
        }
        let first = if matches!(fault, Some(Fault::WrongRange)) { start - 1 } else { start };
        let range = ("Content-Range", format!("bytes {first}-{}/{total}", total - 1));
        let (status, headers) =
            if start > 0 { (206, vec![range]) } else { (200, vec![("ETag", format!("\"{}\"", file.id()))]) };
        let mut bytes = file.bytes[first..].to_vec();
        match fault {
            Some(Fault::Status(status, headers)) => send(stream, status, &headers, b"", None),
            Some(Fault::Cut(at)) => send(stream, status, &headers, &bytes, Some(at)).and(None),
            Some(Fault::Stall(at)) => {
                send(stream, status, &headers, &bytes, Some(at))?;
                stream.read(&mut [0]).ok().and(None)
            }
            Some(Fault::Short(length)) => send(stream, status, &headers, &bytes[..length], None),
            Some(Fault::Endless) => {
                bytes.push(0);
                write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").ok()?;
                stream.write_all(&bytes).ok().and(None)
            }
            Some(Fault::Garbled) => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                send(stream, status, &headers, &bytes, None)
            }
            _ => send(stream, status, &headers, &bytes, None),
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>, hub: bool) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Some(Request { hub, target, headers })
}

/// Sends an answer with at most `most` bytes of its body.
fn send(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&str, String)],
    body: &[u8],
    most: Option<usize>,
) -> Option<()> {
    let mut head = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").ok()?;
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    stream.write_all(&body[..most.unwrap_or(body.len()).min(body.len())]).ok()
}

fn error(stream: &mut TcpStream, status: u16, code: &str) -> Option<()> {
    send(stream, status, &[("X-Error-Code", code.into())], br#"{"error": "-"}"#, None)
}

fn encoded(path: &str) -> String {
    path.replace(' ', "%20")
}
