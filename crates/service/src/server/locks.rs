//! Locks.

use std::sync::{Mutex, MutexGuard};

/// Locks a mutex. A thread that panics ends the process, so that no other sees its data.
pub fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
