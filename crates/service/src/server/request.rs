//! A request in progress: its inputs, its results, and its one answer.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use clip::{Embedding, Limits, Overflow};

use super::budget::Reserved;
use super::counters::Counters;
use super::failure::Failure;
use super::locks::unpoisoned;
use super::models::Opened;
use super::outlet::Outlet;
use crate::frame::Damaged;
use crate::protocol::{Class, FromService, Kind};

/// The inputs of a request as they arrived.
pub struct Inputs {
    pub kind: Kind,
    body: Vec<u8>,
    places: Vec<Range<usize>>,
    _reserved: Reserved,
}

pub struct Request {
    pub number: u64,
    pub class: Class,
    pub model: Arc<Opened>,
    pub inputs: Inputs,
    pub overflow: Overflow,
    pub limits: Limits,
    begun: Instant,
    outlet: Arc<Outlet<Self>>,
    counters: Arc<Counters>,
    progress: Mutex<Progress>,
}

struct Progress {
    rows: Vec<Option<Embedding>>,
    /// Inputs without a result.
    left: usize,
    /// The failure of the first input that failed.
    failure: Option<(usize, Failure)>,
    is_canceled: bool,
}

impl Inputs {
    /// Divides a body. Fails if the sizes do not match it, or if texts are not in UTF-8.
    pub fn new(kind: Kind, body: Vec<u8>, sizes: &[u32], reserved: Reserved) -> Result<Self, Damaged> {
        let mut end = 0usize;
        let next = |&size: &u32| {
            let begin = end;
            end += size as usize;
            begin..end
        };
        let places: Vec<_> = sizes.iter().map(next).collect();
        let inputs = Self { kind, body, places, _reserved: reserved };
        let is_text = |index| std::str::from_utf8(inputs.bytes(index)).is_ok();
        match end == inputs.body.len() && (kind == Kind::Images || (0..inputs.len()).all(is_text)) {
            true => Ok(inputs),
            false => Err(Damaged),
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn bytes(&self, index: usize) -> &[u8] {
        &self.body[self.places[index].clone()]
    }

    pub fn text(&self, index: usize) -> &str {
        std::str::from_utf8(self.bytes(index)).unwrap_or_default()
    }
}

/// The parts of a request that the message has, next to its inputs.
pub struct Terms {
    pub number: u64,
    pub class: Class,
    pub overflow: Overflow,
    pub limits: Limits,
}

impl Request {
    pub fn new(
        terms: Terms,
        model: Arc<Opened>,
        inputs: Inputs,
        begun: Instant,
        outlet: Arc<Outlet<Self>>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let Terms { number, class, overflow, limits } = terms;
        let left = inputs.len();
        let progress = Progress { rows: vec![None; left], left, failure: None, is_canceled: false };
        let progress = Mutex::new(progress);
        Arc::new(Self { number, class, model, inputs, overflow, limits, begun, outlet, counters, progress })
    }

    /// Returns true if the input must be read, or run if it was read. After a failure, only inputs in front of the failed one are
    /// read, because the first failure is the answer.
    pub fn wants(&self, index: usize, is_read: bool) -> bool {
        let progress = unpoisoned(&self.progress);
        let is_in_front = progress.failure.as_ref().is_none_or(|&(failed, _)| !is_read && index < failed);
        !progress.is_canceled && is_in_front
    }

    /// Records the embedding of an input.
    pub fn embedded(&self, index: usize, embedding: Embedding) {
        let mut progress = unpoisoned(&self.progress);
        progress.rows[index] = Some(embedding);
        self.finish(progress, 1);
    }

    /// Records an embedding that is known before the request is queued, and sends no answer.
    pub fn known(&self, index: usize, embedding: Embedding) {
        let mut progress = unpoisoned(&self.progress);
        progress.rows[index] = Some(embedding);
        progress.left -= 1;
    }

    /// Records the failure of an input.
    pub fn failed(&self, index: usize, failure: Failure) {
        let mut progress = unpoisoned(&self.progress);
        if progress.failure.as_ref().is_none_or(|&(first, _)| index < first) {
            progress.failure = Some((index, failure));
        }
        self.finish(progress, 1);
    }

    /// Records inputs that will not be computed.
    pub fn dropped(&self, count: usize) {
        self.finish(unpoisoned(&self.progress), count);
    }

    /// Cancels the request. It gets no answer.
    pub fn cancel(&self) {
        unpoisoned(&self.progress).is_canceled = true;
    }

    pub fn is_canceled(&self) -> bool {
        unpoisoned(&self.progress).is_canceled
    }

    /// Sends the answer if no input is left.
    fn finish(&self, mut progress: MutexGuard<'_, Progress>, count: usize) {
        progress.left -= count;
        if let Some((message, body)) = self.answer(progress) {
            self.outlet.send(&message, &body);
        }
    }

    /// Sends the answer of a request without inputs to compute, from the thread of the connection.
    pub fn answer_now(&self) {
        if let Some((message, body)) = self.answer(unpoisoned(&self.progress)) {
            self.outlet.send_now(&message, &body);
        }
    }

    /// Returns the answer and its body if no input is left and the request has no answer yet.
    fn answer(&self, mut progress: MutexGuard<'_, Progress>) -> Option<(FromService, Vec<u8>)> {
        if progress.left > 0 || progress.is_canceled {
            return None;
        }
        self.outlet.remove(self.number)?;
        self.counters.add_duration(self.begun.elapsed());
        let number = self.number;
        Some(match progress.failure.take() {
            Some((_, failure)) => (failure.answer(number), Vec::new()),
            None => {
                let rows: Vec<Embedding> = std::mem::take(&mut progress.rows).into_iter().flatten().collect();
                let body: Vec<u8> = rows.iter().flat_map(|row| row.as_slice()).flat_map(|x| x.to_le_bytes()).collect();
                let dimensions = self.model.manifest.dimensions as u32;
                (FromService::Embedded { number, dimensions, count: rows.len() as u32 }, body)
            }
        })
    }
}
