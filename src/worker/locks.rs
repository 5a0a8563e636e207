//! Session locks that mark running workers, kept in the server's own lock table: they end with the process that holds
//! them. Looking at one takes a microsecond and cannot fail, so that the end of a commit may do it.

use pgrx::pg_sys;

/// "clip": tells these locks from those of others in the space of advisory locks.
const SPACE: u32 = u32::from_be_bytes(*b"clip");

/// pg_advisory_lock uses 1 and 2 here.
const KIND: u16 = 3;

/// Something that one process at a time can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// To be the worker that sees to it that a database is served.
    Database(pg_sys::Oid),
    /// To be one of `clip.max_workers`.
    Server(i32),
    /// To wait for a slot of the server: shared by all who do.
    Waiting,
}

impl Slot {
    /// Take it, if nobody has it. It stays taken until it is released or the process ends.
    pub fn take(self) -> bool {
        self.try_lock(pg_sys::ExclusiveLock)
    }

    /// Be one of those who share it.
    pub fn share(self) -> bool {
        self.try_lock(pg_sys::ShareLock)
    }

    pub fn release(self) {
        self.unlock(pg_sys::ExclusiveLock);
    }

    pub fn unshare(self) {
        self.unlock(pg_sys::ShareLock);
    }

    /// Returns true if any process, this one included, has it or waits for it. Counting takes nothing, so that nobody's
    /// [`Slot::take`] fails because of it; it allocates nothing and raises nothing, so that a commit may do it.
    pub fn is_taken(self) -> bool {
        // SAFETY: reads an entry of the server's lock table under the lightweight lock that protects it.
        unsafe { pg_sys::LockWaiterCount(&self.tag()) > 0 }
    }

    fn tag(self) -> pg_sys::LOCKTAG {
        let (database, number) = match self {
            Self::Database(database) => (database.to_u32(), 0),
            Self::Server(number) => (0, number as u32),
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
        // SAFETY: a lock of the session, asked for without waiting; a full lock table is told as "not available".
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
        // SAFETY: a lock that this session has; releasing one that it has not is a warning.
        unsafe { pg_sys::LockRelease(&self.tag(), mode as i32, true) };
    }
}
