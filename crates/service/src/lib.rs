//! The embedding service: one process that computes embeddings for all sessions of a server.
//!
//! Reading order: `protocol` (the messages between a session and the service), `frame` (their bytes), `server` (the process),
//! `isolation` (the restrictions of the process).
//!
//! Invariants: nothing in this crate depends on Postgres; no byte that a peer sends panics.

pub mod frame;
pub mod isolation;
pub mod protocol;
pub mod server;
