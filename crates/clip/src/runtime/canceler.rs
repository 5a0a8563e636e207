//! The end of a run from another thread. External crate: `ort`.

use std::sync::{Arc, Mutex, MutexGuard};

use ort::session::RunOptions;

use crate::threads::unpoisoned;

/// Cancels runs of one loaded tower, from any thread.
#[derive(Clone)]
pub struct Canceler(Arc<Shared>);

struct Shared {
    run: RunOptions,
    /// Locked while `run` changes, so that the start of a run does not undo a cancel.
    is_canceled: Mutex<bool>,
}

impl Canceler {
    pub(super) fn new() -> ort::Result<Self> {
        Ok(Self(Arc::new(Shared { run: RunOptions::new()?, is_canceled: Mutex::new(false) })))
    }

    /// Ends the current run after the operator that it computes. This run and later ones fail with
    /// [`crate::Error::Interrupted`] until [`Canceler::reset`].
    pub fn cancel(&self) {
        let mut is_canceled = self.lock();
        *is_canceled = true;
        self.end_run();
    }

    /// Allows runs again.
    pub fn reset(&self) {
        *self.lock() = false;
    }

    pub(super) fn is_canceled(&self) -> bool {
        *self.lock()
    }

    /// Returns the options of the next run, or None if it is canceled.
    pub(super) fn begin(&self) -> ort::Result<Option<&RunOptions>> {
        let is_canceled = self.lock();
        if *is_canceled {
            return Ok(None);
        }
        self.0.run.unterminate()?;
        Ok(Some(&self.0.run))
    }

    /// Ends the current run, and no later one.
    pub(super) fn end_run(&self) {
        // It fails only without options.
        self.0.run.terminate().ok();
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        unpoisoned(&self.0.is_canceled)
    }
}
