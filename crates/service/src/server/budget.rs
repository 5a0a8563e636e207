//! The bytes of inputs that the service holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::Class;

/// Bytes of inputs in memory, at most. PostgreSQL sends at most 32 MB in one request, unless one image is larger.
pub const MAX_BYTES: u64 = 256 << 20;

/// A bound that requests share.
pub struct Budget {
    limit: u64,
    used: AtomicU64,
}

/// A part of the budget. Dropping it returns the bytes.
pub struct Reserved {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Reserves bytes, or returns None if others use too many. Bulk work leaves a quarter to searches. A request that is larger
    /// than the limit is accepted if no other uses any.
    pub fn reserve(self: &Arc<Self>, bytes: u64, class: Class) -> Option<Reserved> {
        let limit = share(self.limit, class);
        let fits = |used: u64| (used == 0 || used.saturating_add(bytes) <= limit).then(|| used.saturating_add(bytes));
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Reserved { budget: self.clone(), bytes })
    }
}

/// Returns the part of a bound that a class of requests may fill: bulk work leaves room for searches.
pub fn share(limit: u64, class: Class) -> u64 {
    match class {
        Class::Search => limit,
        Class::Bulk => limit - limit / 4,
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_work_leaves_room_and_bytes_are_returned() {
        let budget = Budget::new(100);
        let bulk = budget.reserve(75, Class::Bulk).unwrap();
        assert!(budget.reserve(1, Class::Bulk).is_none());
        let search = budget.reserve(25, Class::Search).unwrap();
        assert!(budget.reserve(1, Class::Search).is_none());
        drop((bulk, search));
        let large = budget.reserve(1000, Class::Search).unwrap();
        assert!(budget.reserve(0, Class::Bulk).is_none());
        drop(large);
        assert!(budget.reserve(75, Class::Bulk).is_some());
    }
}
