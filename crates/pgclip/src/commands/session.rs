//! The surroundings that all commands share.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use clip::{Format, Limits, Options, Overflow, Provider, store};

use crate::cli::Place;
use crate::failure::Failure;

/// Set by the first signal that ends the process.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Returns true after the first such signal.
pub fn interrupted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// The surroundings of a command.
pub struct Session {
    pub place: Place,
    pub json: bool,
}

impl Session {
    /// Returns true if connections share the weights of a model.
    pub fn is_prepared(&self, models: &Path, name: &str) -> bool {
        let places = (self.place.runtime(), self.place.prepared());
        let (Ok(runtime), Ok(prepared)) = places else { return false };
        store::check_prepared(&models.join(name), name, &runtime, prepared.as_deref()).is_ok()
    }
}

/// Returns the options for running models that are added, without images or texts of users.
pub fn options(place: &Place) -> Result<Options, Failure> {
    Ok(Options {
        runtime: place.runtime()?,
        provider: Provider::Cpu,
        prepared: place.prepared()?,
        threads: 1,
        batch_size: 2,
        overflow: Overflow::Truncate,
        limits: Limits { bytes: 0, pixels: 0, formats: Format::ALL.to_vec() },
        interrupted,
    })
}
