//! The messages between a session and the service.
//!
//! Each side begins with its `Hello`. A session sends requests, each with a number of its own, and gets one answer for each. It cancels
//! a request by closing the connection, or by `Cancel`, after which no answer comes if the request had not begun. Answers can come in
//! another order than the requests.

use clip::{Error, Limits, Overflow};
use serde::{Deserialize, Serialize};

/// The version of the messages. Two sides with different versions do not talk to each other.
pub const PROTOCOL: u32 = 1;

/// The version of pg_clip.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The urgency of a request. Searches run before bulk work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A user waits for one embedding or a few.
    Search,
    /// Rows of a table, or a batch.
    Bulk,
}

/// The kind of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// In UTF-8.
    Texts,
    /// Encoded images.
    Images,
}

/// A message to the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToService {
    Hello {
        protocol: u32,
        version: String,
    },
    /// The body of the frame has the inputs, one after the other.
    Embed {
        number: u64,
        class: Class,
        model: String,
        /// The service declines the request if its model of that name has another digest.
        digest: String,
        kind: Kind,
        /// The sizes of the inputs in bytes.
        sizes: Vec<u32>,
        /// Settings of the session that decide whether an input is accepted.
        overflow: Overflow,
        limits: Limits,
    },
    Cancel {
        number: u64,
    },
    /// The answer is `Pong`, also if the service is busy.
    Ping,
    Statistics,
}

/// A message of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromService {
    Hello {
        protocol: u32,
        version: String,
    },
    /// The body of the frame has `count` embeddings of `dimensions` numbers: `f32`, little-endian.
    Embedded {
        number: u64,
        dimensions: u32,
        count: u32,
    },
    /// The inputs or the model cannot be embedded, here or elsewhere.
    Failed {
        number: u64,
        error: Error,
    },
    /// The queue is full.
    Busy {
        number: u64,
        reason: String,
    },
    /// The service cannot compute this request, but the session may: it has no such model, or not enough memory for it.
    Declined {
        number: u64,
        reason: String,
    },
    /// The service is ending, and has not begun with this request. It computes the requests that it got before.
    Ending {
        number: u64,
    },
    Pong,
    Statistics(Box<Statistics>),
}

/// The state of the service, and its statistics since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    pub process: u32,
    /// Seconds since the epoch of Unix.
    pub since: f64,
    pub version: String,
    pub provider: String,
    /// The restrictions of the process that are in force.
    pub isolation: String,
    pub threads: u64,
    pub connections: u64,
    pub models: Vec<LoadedModel>,
    /// Inputs that wait.
    pub queued: u64,
    pub requests: u64,
    pub items: u64,
    pub batches: u64,
    pub cache_hits: u64,
    /// Percentiles of the duration of recent requests, in milliseconds.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// A tower in the memory of the service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadedModel {
    pub name: String,
    pub digest: String,
    /// `text` or `image`.
    pub tower: String,
    /// The execution provider that computes it.
    pub provider: String,
    pub bytes: u64,
    pub sessions: u64,
}
