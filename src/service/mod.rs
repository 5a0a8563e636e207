//! The embedding service: one process that computes for all sessions of the server. Reading order: `settings`, `client` (the request of a
//! session), `link` and `socket` (a connection), `wait`; then `supervisor`, `process` and `state` (the process of the service), `view`.
//!
//! Only `model_cache` calls [`embed`]. The waits call Postgres, which may raise an error: then the connection is closed.

pub mod broken;
mod client;
pub mod failure;
mod link;
mod process;
pub mod request;
pub mod settings;
mod socket;
mod state;
mod supervisor;
pub mod view;
mod wait;

pub use client::embed;

/// Prepares the supervised service while the server starts.
pub fn register() {
    state::share();
    supervisor::register();
}
