//! The callbacks of a caller: progress and interrupts.

/// Returns true if the caller wants to stop.
pub type Interrupted = fn() -> bool;

/// Receives the progress of downloads.
pub trait Progress {
    /// A file begins, or begins again. `already` bytes of it are there.
    fn begin(&self, file: &str, size: u64, already: u64);
    /// More bytes have arrived.
    fn advance(&self, bytes: u64);
    /// The file ends, complete or not.
    fn end(&self);
    /// A failed request is repeated after so many seconds.
    fn wait(&self, reason: &str, seconds: u64);
}
