//! Libraries that panic on input that they do not understand, held to this crate's promise.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `work` gives, or nothing where it panicked. It must leave nothing half-changed that outlives it.
pub(crate) fn calm<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
