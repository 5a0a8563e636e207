//! pg_clip: texts and pictures become vectors inside PostgreSQL.
//!
//! This crate adapts; it decides nothing about pixels, tokens or floats. Reading order: `functions` (what SQL calls),
//! `models` (what this backend has open), `settings`, `error` (SQLSTATEs), `datum` (the only `unsafe`).
//!
//! Two worlds: here Postgres may raise an error at any call; inside `clip` nothing may, and no Postgres function is
//! called. The border is the call into `clip`: arguments are borrowed across it, results are owned Rust data.

mod datum;
mod error;
mod functions;
mod interrupt;
mod models;
mod settings;
mod views;

pgrx::pg_module_magic!(name, version);

#[pgrx::pg_guard]
extern "C-unwind" fn _PG_init() {
    // The library is opened in backends, on first use: never here, which may be the postmaster.
    settings::disable_telemetry();
    settings::define();
}
