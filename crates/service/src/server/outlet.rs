//! The answers of a connection. A slow reader delays no thread that computes, because a thread of the connection writes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::locks::unpoisoned;
use crate::frame;
use crate::protocol::FromService;

/// Requests of one connection without an answer, at most. Sessions have one.
const MAX_REQUESTS: usize = 64;

/// Writes whole frames, from two threads.
struct Writer {
    stream: Arc<UnixStream>,
    turn: Mutex<()>,
}

/// Time within which a peer must take some bytes of an answer.
const TAKE_WITHIN: Duration = Duration::from_secs(10);

/// Answers, and the requests `R` that wait for them.
pub struct Outlet<R> {
    writer: Arc<Writer>,
    frames: Sender<Vec<u8>>,
    /// The requests without an answer, by their numbers.
    requests: Mutex<BTreeMap<u64, Weak<R>>>,
}

impl<R> Outlet<R> {
    /// Returns the outlet and the work of its thread, which ends after the outlet is dropped.
    pub fn new(stream: Arc<UnixStream>) -> io::Result<(Arc<Self>, impl FnOnce() + Send)> {
        stream.set_write_timeout(Some(TAKE_WITHIN))?;
        let writer = Arc::new(Writer { stream, turn: Mutex::new(()) });
        let (frames, waiting) = channel::<Vec<u8>>();
        let outlet = Self { writer: writer.clone(), frames, requests: Mutex::default() };
        Ok((Arc::new(outlet), move || waiting.iter().for_each(|frame| writer.write(&frame))))
    }

    /// Sends a message, from any thread.
    pub fn send(&self, message: &FromService, body: &[u8]) {
        // The thread ends after this outlet.
        self.frames.send(encoded(message, body)).ok();
    }

    /// Sends a message from the thread of the connection, which may wait for its peer.
    pub fn send_now(&self, message: &FromService, body: &[u8]) {
        self.writer.write(&encoded(message, body));
    }

    /// Keeps a request until it is answered. Returns false if there are too many, or if its number is in use.
    pub fn keep(&self, number: u64, request: &Arc<R>) -> bool {
        let mut requests = unpoisoned(&self.requests);
        if requests.len() >= MAX_REQUESTS || requests.contains_key(&number) {
            return false;
        }
        requests.insert(number, Arc::downgrade(request)).is_none()
    }

    /// Removes a request. Returns None if it was removed before, so that each request gets one answer.
    pub fn remove(&self, number: u64) -> Option<Weak<R>> {
        unpoisoned(&self.requests).remove(&number)
    }

    /// Removes all requests.
    pub fn remove_all(&self) -> Vec<Weak<R>> {
        std::mem::take(&mut *unpoisoned(&self.requests)).into_values().collect()
    }
}

fn encoded(message: &FromService, body: &[u8]) -> Vec<u8> {
    // An answer with the numbers of so many inputs as a request may have is smaller than a frame.
    let mut bytes = frame::opening(message, body.len()).unwrap_or_default();
    bytes.extend_from_slice(body);
    bytes
}

impl Writer {
    /// Writes a frame. After a failure the connection is closed, which its other thread finds.
    fn write(&self, frame: &[u8]) {
        let _turn = unpoisoned(&self.turn);
        if (&*self.stream).write_all(frame).is_err() {
            self.stream.shutdown(Shutdown::Both).ok();
        }
    }
}
