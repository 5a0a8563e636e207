//! Waits on the latch of this process and a socket, as processes of the server do.

use std::os::fd::RawFd;
use std::time::Duration;

use clip::Error;
use pgrx::prelude::*;

use crate::pg::interrupt::interrupted;

/// The direction in which a socket is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Readable,
    Writable,
}

/// Waits until the socket is ready, a signal arrives or the time is over. Returns true if the socket is ready. Fails if the statement
/// should end. Other requests of the server are handled here, and may raise an error. Exits if the postmaster dies.
pub fn for_socket(socket: RawFd, wanted: Wanted, time: Duration) -> Result<bool, Error> {
    let event = match wanted {
        Wanted::Readable => pg_sys::WL_SOCKET_READABLE,
        Wanted::Writable => pg_sys::WL_SOCKET_WRITEABLE,
    };
    Ok(wait(socket, event, time)? & event != 0)
}

/// Waits until the socket is readable, a signal arrives or a millisecond is over. Returns true if the socket is ready. An answer from the
/// cache arrives within that time, and waiting on the latch takes several system calls.
pub fn briefly(socket: RawFd) -> bool {
    let mut wanted = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
    // SAFETY: polls one descriptor, which is open.
    unsafe { libc::poll(&raw mut wanted, 1, 1) > 0 }
}

/// Waits for some time. Fails if the statement should end.
pub fn for_time(time: Duration) -> Result<(), Error> {
    wait(pg_sys::PGINVALID_SOCKET, 0, time).map(drop)
}

fn wait(socket: RawFd, event: u32, time: Duration) -> Result<u32, Error> {
    let events = event | pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    if interrupted() {
        return Err(Error::Interrupted);
    }
    // A part of a millisecond must not become a busy wait.
    let milliseconds = time.as_millis() as i64 + 1;
    // SAFETY: waits for the latch of this process and resets it. The socket is open.
    let happened = unsafe {
        let happened =
            pg_sys::WaitLatchOrSocket(pg_sys::MyLatch, events as i32, socket, milliseconds, event_number()) as u32;
        if happened & pg_sys::WL_LATCH_SET != 0 {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        happened
    };
    if interrupted() {
        return Err(Error::Interrupted);
    }
    pgrx::check_for_interrupts!();
    Ok(happened)
}

/// Returns the wait event in pg_stat_activity.
#[cfg(any(feature = "pg17", feature = "pg18"))]
fn event_number() -> u32 {
    use std::cell::Cell;
    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    if NUMBER.get() == 0 {
        // SAFETY: the server copies the name, and returns the same number to each process.
        NUMBER.set(unsafe { pg_sys::WaitEventExtensionNew(c"ClipService".as_ptr()) });
    }
    NUMBER.get()
}

/// Returns the wait event in pg_stat_activity. Releases before 17 know one for all extensions.
#[cfg(not(any(feature = "pg17", feature = "pg18")))]
fn event_number() -> u32 {
    pg_sys::PG_WAIT_EXTENSION
}
