//! A connection to the service: the greeting, requests and answers.

use std::path::Path;
use std::time::{Duration, Instant};

use ::service::frame::{self, Frame, OfService};
use ::service::protocol::{FromService, PROTOCOL, Statistics, ToService, VERSION};
use clip::{Embedding, Error};

use super::broken::Broken;
use super::request::Request;
use super::socket::Socket;

/// Time without a sign of the service after which a waiting session asks for one.
const QUIET: Duration = Duration::from_secs(1);

/// Time within which the service must then show one, and take bytes that are sent to it.
const SIGN_WITHIN: Duration = Duration::from_secs(2);

/// Largest answer: the embeddings of a window of texts, with the most dimensions that a vector can have.
const MAX_ANSWER: usize = clip::TEXT_WINDOW * 16_000 * size_of::<f32>();

/// Bytes that are collected before they are sent.
const PORTION: usize = 64 * 1024;

/// An answer to a request.
pub enum Answer {
    Embedded(Vec<Embedding>),
    Failed(Error),
    /// The queue is full.
    Busy(String),
    /// The service cannot compute this request, and the session may.
    Declined(String),
}

pub struct Link {
    socket: Socket,
    decoder: OfService,
    /// The number of the last request.
    number: u64,
}

impl Link {
    /// Connects and greets.
    pub fn open(path: &Path, limit: Duration) -> Result<Self, Broken> {
        let socket = Socket::connect(path, limit)?;
        let mut link = Self { socket, decoder: OfService::new(MAX_ANSWER), number: 0 };
        link.send(&ToService::Hello { protocol: PROTOCOL, version: VERSION.into() }, limit)?;
        match link.next(limit) {
            Ok(Frame { message: FromService::Hello { protocol: PROTOCOL, .. }, .. }) => Ok(link),
            Ok(Frame { message: FromService::Hello { version, .. }, .. }) => Err(Broken::Refused(format!(
                "The service has version {version}, and this session has version {VERSION}"
            ))),
            Ok(_) | Err(Broken::Damaged) => {
                Err(Broken::Refused("The process that listens is no embedding service of this version".into()))
            }
            Err(broken) => Err(broken),
        }
    }

    /// Returns true if the other side has not closed the connection.
    pub fn is_usable(&self) -> bool {
        !self.socket.is_closed()
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self, limit: Duration) -> Result<(), Broken> {
        self.send(&ToService::Ping, limit)
    }

    /// Returns when the sign of life arrives. Fails if it does not arrive in the time, and can then be called again.
    pub fn pong(&mut self, limit: Duration) -> Result<(), Broken> {
        match self.next(limit)?.message {
            FromService::Pong => Ok(()),
            _ => Err(Broken::Damaged),
        }
    }

    /// Returns the statistics of the service.
    pub fn statistics(&mut self, limit: Duration) -> Result<Statistics, Broken> {
        self.send(&ToService::Statistics, limit)?;
        match self.next(limit)?.message {
            FromService::Statistics(found) => Ok(*found),
            _ => Err(Broken::Damaged),
        }
    }

    /// Sends a request and waits for its answer.
    pub fn embed(&mut self, request: &Request<'_>) -> Result<Answer, Broken> {
        self.number += 1;
        let inputs = request.inputs.bytes();
        let size = inputs.iter().map(|input| input.len()).sum();
        let Some(mut bytes) = frame::opening(&request.message(self.number), size) else {
            return Ok(Answer::Declined("The request is larger than the service accepts".into()));
        };
        for input in inputs {
            if bytes.len() + input.len() <= PORTION {
                bytes.extend_from_slice(input);
                continue;
            }
            self.send_part(&std::mem::take(&mut bytes))?;
            self.send_part(input)?;
        }
        self.send_part(&bytes)?;
        loop {
            let Frame { message, body } = self.wait_for_work()?;
            return match message {
                FromService::Embedded { number, dimensions, count } if number == self.number => {
                    self.embedded(request, dimensions, count, &body)
                }
                FromService::Failed { number, error } if number == self.number => match error {
                    // The index chooses an input of the caller.
                    Error::Item { index, .. } if index >= request.inputs.count() => Err(Broken::Damaged),
                    error => Ok(Answer::Failed(error)),
                },
                FromService::Busy { number, reason } if number == self.number => Ok(Answer::Busy(reason)),
                FromService::Declined { number, reason } if number == self.number => Ok(Answer::Declined(reason)),
                FromService::Ending { number } if number == self.number => Err(Broken::Ending),
                FromService::Pong => continue,
                _ => Err(Broken::Damaged),
            };
        }
    }

    /// Returns the embeddings of an answer, if they are those of the request.
    fn embedded(&self, request: &Request<'_>, dimensions: u32, count: u32, body: &[u8]) -> Result<Answer, Broken> {
        if dimensions as usize != request.dimensions || count as usize != request.inputs.count() {
            return Err(Broken::Damaged);
        }
        let numbers = frame::numbers(body, dimensions, count).map_err(|_| Broken::Damaged)?;
        let rows = numbers.chunks_exact(request.dimensions).map(Embedding::of_unit);
        rows.collect::<Option<_>>().map(Answer::Embedded).ok_or(Broken::Damaged)
    }

    /// Sends a part of a request. A service that ends before it has the whole request does not begin with it.
    fn send_part(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.socket.send(bytes, SIGN_WITHIN).map_err(|broken| match broken {
            Broken::Ended(_) => Broken::Ending,
            other => other,
        })
    }

    fn send(&mut self, message: &ToService, limit: Duration) -> Result<(), Broken> {
        let bytes = frame::bare(message).ok_or(Broken::Damaged)?;
        self.socket.send(&bytes, limit)
    }

    /// Returns the next frame. As long as the service shows signs of life, the wait has no limit.
    fn wait_for_work(&mut self) -> Result<Frame<FromService>, Broken> {
        match self.next(QUIET) {
            Err(Broken::Silent) => {
                self.send(&ToService::Ping, SIGN_WITHIN)?;
                self.next(SIGN_WITHIN)
            }
            other => other,
        }
    }

    /// Returns the next frame. Fails if no byte of it arrives in the time.
    fn next(&mut self, limit: Duration) -> Result<Frame<FromService>, Broken> {
        let begun = Instant::now();
        loop {
            if let Some(found) = self.decoder.next().map_err(|_| Broken::Damaged)? {
                return Ok(found);
            }
            let decoder = &mut self.decoder;
            self.socket.receive(limit.saturating_sub(begun.elapsed()), |bytes| decoder.feed(bytes))?;
        }
    }
}
