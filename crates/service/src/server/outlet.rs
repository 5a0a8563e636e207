//! The answers of a connection. A slow reader delays no thread that computes, because a thread of the connection writes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use super::locks::unpoisoned;
use crate::frame;
use crate::protocol::FromService;

/// Requests of one connection without an answer, at most. Sessions have one.
const MAX_REQUESTS: usize = 64;

/// Bytes of answers that wait for their peer, at most, before its next request is read. Requests that it has sent before can add their
/// answers.
const MAX_UNSENT: usize = 8 << 20;

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
    unsent: Arc<Unsent>,
    /// The requests without an answer, by their numbers.
    requests: Mutex<BTreeMap<u64, Weak<R>>>,
}

/// The bytes of answers that the thread has not written.
#[derive(Default)]
struct Unsent {
    bytes: Mutex<usize>,
    written: Condvar,
}

impl<R> Outlet<R> {
    /// Returns the outlet and the work of its thread, which ends after the outlet is dropped.
    pub fn new(stream: Arc<UnixStream>) -> io::Result<(Arc<Self>, impl FnOnce() + Send)> {
        stream.set_write_timeout(Some(TAKE_WITHIN))?;
        let writer = Arc::new(Writer { stream, turn: Mutex::new(()) });
        let (frames, waiting) = channel::<Vec<u8>>();
        let unsent = Arc::new(Unsent::default());
        let outlet = Self { writer: writer.clone(), frames, unsent: unsent.clone(), requests: Mutex::default() };
        let write = move |frame: Vec<u8>| {
            writer.write(&frame);
            *unpoisoned(&unsent.bytes) -= frame.len();
            unsent.written.notify_all();
        };
        Ok((Arc::new(outlet), move || waiting.iter().for_each(write)))
    }

    /// Sends a message, from any thread.
    pub fn send(&self, message: &FromService, body: &[u8]) {
        let frame = encoded(message, body);
        *unpoisoned(&self.unsent.bytes) += frame.len();
        // The thread ends after this outlet.
        self.frames.send(frame).ok();
    }

    /// Sends a message from the thread of the connection, which may wait for its peer.
    pub fn send_now(&self, message: &FromService, body: &[u8]) {
        self.writer.write(&encoded(message, body));
    }

    /// Waits while too many answers wait for the peer. If it takes none, the connection is closed, and they are dropped.
    pub fn wait_for_peer(&self) {
        let unsent = unpoisoned(&self.unsent.bytes);
        drop(self.unsent.written.wait_while(unsent, |bytes| *bytes > MAX_UNSENT));
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvTimeoutError;
    use std::thread;

    use super::*;

    #[test]
    fn a_connection_waits_for_a_peer_that_reads_nothing_until_it_has_gone() {
        let (stream, peer) = UnixStream::pair().unwrap();
        let (outlet, write) = Outlet::<()>::new(Arc::new(stream)).unwrap();
        let writing = thread::spawn(write);
        outlet.wait_for_peer();
        (0..2).for_each(|_| outlet.send(&FromService::Pong, &vec![0; MAX_UNSENT]));
        let (done, waited) = channel();
        let waiting = thread::spawn({
            let outlet = outlet.clone();
            move || {
                outlet.wait_for_peer();
                done.send(()).unwrap();
            }
        });
        assert_eq!(waited.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        drop(peer);
        waited.recv().unwrap();
        waiting.join().unwrap();
        // The thread that writes ends with the outlet.
        drop(outlet);
        writing.join().unwrap();
    }
}
