//! The memory of decoders that run at the same time.

use std::sync::{Condvar, Mutex};

use super::locks::unpoisoned;

/// Memory of all decoders together: that of sixteen photos of 12 megapixels.
pub const MAX_BYTES: u64 = 1 << 30;

pub struct Decoding {
    limit: u64,
    used: Mutex<u64>,
    returned: Condvar,
}

impl Decoding {
    pub fn new(limit: u64) -> Self {
        Self { limit, used: Mutex::new(0), returned: Condvar::new() }
    }

    /// Decodes when memory suffices. An image that needs more than the limit is decoded while no other is.
    pub fn with<T>(&self, bytes: u64, decode: impl FnOnce() -> T) -> T {
        let is_full = |used: &mut u64| *used > 0 && used.saturating_add(bytes) > self.limit;
        let used = unpoisoned(&self.used);
        let mut used = self.returned.wait_while(used, is_full).unwrap_or_else(|poisoned| poisoned.into_inner());
        // A large sum would not be the same after the subtraction.
        let bytes = bytes.min(u64::MAX - *used);
        *used += bytes;
        drop(used);
        let decoded = decode();
        *unpoisoned(&self.used) -= bytes;
        self.returned.notify_all();
        decoded
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn decoders_share_the_limit() {
        let decoding = Decoding::new(10);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for bytes in [4, 6, 4, u64::MAX, 6, 1] {
                let (decoding, now, most) = (&decoding, &now, &most);
                let decode = move || {
                    let sum = now.fetch_add(bytes.min(10), Ordering::SeqCst) + bytes.min(10);
                    most.fetch_max(sum, Ordering::SeqCst);
                    thread::yield_now();
                    now.fetch_sub(bytes.min(10), Ordering::SeqCst);
                };
                scope.spawn(move || (0..100).for_each(|_| decoding.with(bytes, decode)));
            }
        });
        assert!((1..=10).contains(&most.into_inner()));
    }
}
