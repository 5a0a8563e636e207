//! The frames that a peer sends.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use clip::reserve;

use crate::frame::{self, MAX_BODY, PREFIX};
use crate::protocol::ToService;

/// Bytes of a buffer: a request for one text fits.
const BUFFER: usize = 8 * 1024;

/// Time within which some bytes of a frame that has begun must arrive.
const ARRIVE_WITHIN: Duration = Duration::from_secs(10);

pub struct Inlet {
    reader: BufReader<Incoming>,
    /// True if a read has a limit of time.
    is_timed: bool,
}

/// The bytes of a stream that other threads write to.
struct Incoming(Arc<UnixStream>);

impl Read for Incoming {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(bytes)
    }
}

/// The peer closed the connection, or sent bytes that are no frame, or no memory is left for them.
pub struct Closed;

impl From<io::Error> for Closed {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl From<frame::Damaged> for Closed {
    fn from(_: frame::Damaged) -> Self {
        Self
    }
}

impl Inlet {
    pub fn new(stream: Arc<UnixStream>) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER, Incoming(stream)), is_timed: false }
    }

    /// Returns the next message and the size of its body, which must be taken next.
    pub fn next(&mut self) -> Result<(ToService, usize), Closed> {
        if self.reader.buffer().is_empty() {
            self.time(false)?;
            self.reader.fill_buf()?;
        }
        let mut prefix = [0; PREFIX];
        self.fill(&mut prefix)?;
        let (header, body) = frame::sizes(prefix, MAX_BODY)?;
        let header = self.body(header)?;
        Ok((frame::message(&header)?, body))
    }

    /// Returns a body.
    pub fn body(&mut self, size: usize) -> Result<Vec<u8>, Closed> {
        let mut bytes = reserve(size).map_err(|_| Closed)?;
        bytes.resize(size, 0);
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads a body and drops it.
    pub fn skip(&mut self, size: usize) -> Result<(), Closed> {
        self.time(true)?;
        let skipped = io::copy(&mut self.reader.by_ref().take(size as u64), &mut io::sink())?;
        if skipped == size as u64 { Ok(()) } else { Err(Closed) }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Closed> {
        if self.reader.buffer().len() < bytes.len() {
            self.time(true)?;
        }
        Ok(self.reader.read_exact(bytes)?)
    }

    fn time(&mut self, is_timed: bool) -> Result<(), Closed> {
        if self.is_timed != is_timed {
            self.reader.get_ref().0.set_read_timeout(is_timed.then_some(ARRIVE_WITHIN))?;
            self.is_timed = is_timed;
        }
        Ok(())
    }
}
