//! pg_clip: embeddings of texts and images inside PostgreSQL.
//!
//! This crate connects PostgreSQL to the crate `clip`, which decodes images, tokenizes texts and runs models. Reading order:
//! `functions` and `search` (the functions that SQL calls), `model_choice`, `model_cache` (the open models of this backend),
//! `pg` (errors, settings, values, strings, statements, roles); then, for managed columns, `auto_embed` (triggers and fills),
//! `failures`, `queue` (the rows that a worker embeds), `worker` (processes); last `service` (the process that computes for all sessions).
//!
//! Error handling: in this crate, any call into Postgres may raise an error (longjmp or unwind). The crate `clip` never calls
//! Postgres and returns `Result`. Calls into `clip` borrow their arguments and return owned data.

mod auto_embed;
mod citus;
mod failures;
mod functions;
mod model_cache;
mod model_choice;
mod pg;
mod queue;
mod search;
mod service;
mod worker;

pgrx::pg_module_magic!(name, version);

#[pgrx::pg_guard]
extern "C-unwind" fn _PG_init() {
    // ONNX Runtime is loaded in backends, on first use. This function may run in the postmaster, so it does not load it.
    pg::environment::set();
    service::settings::define();
    pg::settings::define();
    share_one_arena();
    // SAFETY: variables of this process. While pg_upgrade runs a server, no worker may change anything in it.
    if unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress && !pgrx::pg_sys::IsBinaryUpgrade } {
        worker::launcher::register_launcher();
        service::register();
    }
}

/// Limits glibc's allocator to one arena. Memory that one thread has reserved is then available to all threads, and no
/// further arenas of 64 MiB of address space are mapped.
fn share_one_arena() {
    // SAFETY: a parameter of the allocator, which it reads when it would create another arena.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
