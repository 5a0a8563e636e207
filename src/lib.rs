//! pg_clip: texts and pictures become vectors inside PostgreSQL.
//!
//! This crate adapts; it decides nothing about pixels, tokens or floats. Reading order: `functions`, `zero_shot`, `search` and `expression` (what SQL calls),
//! `models` (what this backend has open), `settings`, `error` (SQLSTATEs), `datum` (values as Postgres holds them), `encoding` (its strings),
//! `statements` (SPI), `rights`; then, for rows that embed themselves, `auto_embed` (triggers and fills), `failures`, `worker`.
//!
//! Two worlds: here Postgres may raise an error at any call; inside `clip` nothing may, and no Postgres function is
//! called. The border is the call into `clip`: arguments are borrowed across it, results are owned Rust data.

mod auto_embed;
mod failures;
mod functions;
mod model_cache;
mod model_choice;
mod pg;
mod queue;
mod search;
mod worker;

pgrx::pg_module_magic!(name, version);

#[pgrx::pg_guard]
extern "C-unwind" fn _PG_init() {
    // The library is opened in backends, on first use: never here, which may be the postmaster.
    pg::environment::set();
    pg::settings::define();
    share_one_arena();
    // SAFETY: variables of this process. While pg_upgrade runs a server, nobody else is to change anything in it.
    if unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress && !pgrx::pg_sys::IsBinaryUpgrade } {
        worker::launcher::register_launcher();
    }
}

/// One heap for all threads of a process: memory that one of them made sure of is there for the others. Each other heap would
/// take 64 MiB of address space, too.
fn share_one_arena() {
    // SAFETY: a parameter of the allocator, which takes effect when it would begin another heap.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
