//! Interrupts during long computations: cancel, `statement_timeout`, `transaction_timeout`, terminate, and the death of the
//! postmaster.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use pgrx::pg_sys;

/// The signal that the kernel sends to each process of a server whose postmaster dies (`POSTMASTER_DEATH_SIGNAL`).
const POSTMASTER_DEATH: i32 = libc::SIGPWR;

unsafe extern "C-unwind" {
    /// The server's handler of SIGTERM. It only sets flags, so it needs no guard of pgrx, which is not safe in a handler.
    pub fn die(signal: i32);
}

unsafe extern "C" {
    static mut postmaster_possibly_dead: pg_sys::sig_atomic_t;
    fn PostmasterIsAliveInternal() -> bool;
}

/// Returns true if Postgres wants this statement to end. Only reads memory, because a second thread calls it.
pub fn interrupted() -> bool {
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    if pending(&raw mut pg_sys::TransactionTimeoutPending) {
        return true;
    }
    pending(&raw mut pg_sys::QueryCancelPending) || pending(&raw mut pg_sys::ProcDiePending)
}

/// Treats the death of the postmaster as a termination from now on.
///
/// The server's own handler sets a flag that is only checked in waits. A process that computes does not wait. It would continue,
/// and no server can start while a process of the previous server is attached to its shared memory.
pub fn end_with_postmaster() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    handle_signal(POSTMASTER_DEATH, on_postmaster_death);
    // SAFETY: reads a pipe that every process of a server has. The handler may run at any time.
    unsafe {
        // The postmaster may have died before the handler was set.
        if pg_sys::IsUnderPostmaster && !PostmasterIsAliveInternal() {
            on_postmaster_death(POSTMASTER_DEATH);
        }
    }
}

unsafe extern "C-unwind" fn on_postmaster_death(signal: i32) {
    // SAFETY: sets the same flags and latch as the server's own handlers of this signal and of SIGTERM.
    unsafe {
        (&raw mut postmaster_possibly_dead).write_volatile(1);
        die(signal);
    }
}

/// Sets the handler of a signal, as the server's processes do.
pub fn handle_signal(signal: i32, handler: unsafe extern "C-unwind" fn(i32)) {
    // SAFETY: the server's way to set a handler; each handler given here only sets flags and a latch.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(signal, Some(handler));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(signal, Some(handler));
    }
}

fn pending(flag: *mut pg_sys::sig_atomic_t) -> bool {
    // SAFETY: the flags are aligned `volatile int`s that live as long as the process. Only the signal handler that sets a flag
    // can run at the same time as the atomic read.
    unsafe { AtomicI32::from_ptr(flag) }.load(Ordering::Relaxed) != 0
}
