//! Session advisory locks that mark running workers. The server releases them when the process ends. Checking a lock takes a
//! microsecond and cannot raise an error, so it is safe in a post-commit callback.

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

impl WorkerLock {
    /// Takes the lock if it is free. Returns true on success. The lock is held until it is released or the process ends.
    pub fn take(self) -> bool {
        self.try_lock(pg_sys::ExclusiveLock)
    }

    /// Takes the lock in shared mode.
    pub fn share(self) -> bool {
        self.try_lock(pg_sys::ShareLock)
    }

    pub fn release(self) {
        self.unlock(pg_sys::ExclusiveLock);
    }

    pub fn unshare(self) {
        self.unlock(pg_sys::ShareLock);
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
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        }
    }

    fn try_lock(self, mode: u32) -> bool {
        // SAFETY: requests a session lock without waiting. A full lock table is reported as "not available".
        let result = unsafe {
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
        };
        result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }

    fn unlock(self, mode: u32) {
        // SAFETY: a lock of this session. The release of a lock that is not held is only a warning.
        unsafe { pg_sys::LockRelease(&self.tag(), mode as i32, true) };
    }
}
