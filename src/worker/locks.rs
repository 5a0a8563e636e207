//! Session locks that mark running workers. Checking a lock takes a microsecond and cannot raise an error, so it is safe in a
//! post-commit callback.
//!
//! They are locks of the server, not of its users: `pg_advisory_unlock_all` in a trigger of a table would release a user's lock.
//! The server releases its own locks when a transaction is aborted, so [`keep_locks`] takes them again. It does not release them
//! when a process ends outside of a transaction, so a callback does.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;

/// "clip", which separates these locks from other advisory locks.
const SPACE: u32 = u32::from_be_bytes(*b"clip");

/// Lock kind in the fourth field. pg_advisory_lock uses 1 and 2.
const KIND: u16 = 3;

/// A lock of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerLock {
    /// Held by the primary worker of a database.
    Database(pg_sys::Oid),
    /// Held by each of at most `clip.max_workers` working workers.
    Slot(i32),
    /// Shared by all workers that wait for a worker slot.
    Waiting,
}

thread_local! {
    /// The locks of this process, with their modes.
    static HELD: RefCell<Vec<(WorkerLock, u32)>> = const { RefCell::new(Vec::new()) };
    static IS_LOST: Cell<bool> = const { Cell::new(false) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Takes the locks of this process again, after the server has released them with an aborted transaction.
pub fn keep_locks() {
    HELD.with_borrow(|held| {
        for &(lock, mode) in held {
            match lock.request(mode) {
                pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL => IS_LOST.set(true),
                // The server counts the requests of a process, and a release takes back one of them.
                pg_sys::LockAcquireResult::LOCKACQUIRE_ALREADY_HELD => lock.give_back(mode),
                _ => (),
            }
        }
    });
}

/// Called by the server when the process ends.
#[pgrx::pg_guard]
extern "C-unwind" fn release_locks(_code: i32, _argument: pg_sys::Datum) {
    for (lock, mode) in HELD.take() {
        lock.unlock(mode);
    }
}

/// Returns true if another process has taken a lock of this one after an aborted transaction.
pub fn is_lock_lost() -> bool {
    IS_LOST.get()
}

impl WorkerLock {
    /// Takes the lock if it is free. Returns true on success. The lock is held until it is released or the process ends.
    pub fn take(self) -> bool {
        self.hold(pg_sys::ExclusiveLock)
    }

    /// Takes the lock in shared mode.
    pub fn share(self) -> bool {
        self.hold(pg_sys::ShareLock)
    }

    pub fn release(self) {
        self.unlock(pg_sys::ExclusiveLock);
    }

    pub fn unshare(self) {
        self.unlock(pg_sys::ShareLock);
    }

    fn hold(self, mode: u32) -> bool {
        if !IS_REGISTERED.replace(true) {
            // SAFETY: the function lives as long as this library, which is never unloaded.
            unsafe { pg_sys::before_shmem_exit(Some(release_locks), pg_sys::Datum::null()) };
        }
        let is_held = self.request(mode) != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL;
        if is_held {
            HELD.with_borrow_mut(|held| held.push((self, mode)));
        }
        is_held
    }

    /// Returns true for a worker slot whose number is not below `slots`.
    pub fn is_beyond(self, slots: i32) -> bool {
        matches!(self, Self::Slot(number) if number >= slots)
    }

    /// Returns true if any process, this one included, holds the lock or waits for it. The check takes no lock, so that no
    /// [`WorkerLock::take`] fails because of it. It does not allocate and raises no error, so it is safe after a commit.
    pub fn is_taken(self) -> bool {
        // SAFETY: reads an entry of the server's lock table under the lightweight lock that protects it.
        unsafe { pg_sys::LockWaiterCount(&self.tag()) > 0 }
    }

    fn tag(self) -> pg_sys::LOCKTAG {
        let (database, number) = match self {
            Self::Database(database) => (database.to_u32(), 0),
            Self::Slot(number) => (0, number as u32),
            Self::Waiting => (0, u32::MAX),
        };
        pg_sys::LOCKTAG {
            locktag_field1: database,
            locktag_field2: SPACE,
            locktag_field3: number,
            locktag_field4: KIND,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        }
    }

    fn request(self, mode: u32) -> pg_sys::LockAcquireResult::Type {
        // SAFETY: requests a session lock without waiting. A full lock table is reported as "not available".
        unsafe {
            pg_sys::LockAcquireExtended(
                &self.tag(),
                mode as i32,
                true,
                true,
                false,
                std::ptr::null_mut(),
                #[cfg(feature = "pg18")]
                false,
            )
        }
    }

    fn unlock(self, mode: u32) {
        HELD.with_borrow_mut(|held| held.retain(|&lock| lock != (self, mode)));
        self.give_back(mode);
    }

    fn give_back(self, mode: u32) {
        // SAFETY: a lock of this session. The release of a lock that is not held is only a warning.
        unsafe { pg_sys::LockRelease(&self.tag(), mode as i32, true) };
    }
}
