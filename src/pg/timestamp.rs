//! Times of the system as values of Postgres.

use std::time::SystemTime;

use pgrx::prelude::*;

/// Microseconds between 1970 and 2000, the epochs of Unix and of Postgres.
const UNIX_TO_POSTGRES: i64 = 946_684_800_000_000;

pub fn timestamp(time: SystemTime) -> TimestampWithTimeZone {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
    TimestampWithTimeZone::try_from(since - UNIX_TO_POSTGRES)
        .unwrap_or_else(|_| TimestampWithTimeZone::negative_infinity())
}
