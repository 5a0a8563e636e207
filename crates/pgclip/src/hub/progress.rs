//! The callbacks of a caller: progress and interrupts.

/// Returns true if the caller wants to stop.
pub type Interrupted = fn() -> bool;

/// Receives the progress of downloads.
pub trait Progress {
    /// Reports that a file begins, or begins again. `already` bytes of it are there.
    fn begin(&self, file: &str, size: u64, already: u64);
    /// Reports more bytes.
    fn advance(&self, bytes: u64);
    /// Reports the end of the file, complete or not.
    fn end(&self);
    /// Reports that a failed request is repeated after so many seconds.
    fn wait(&self, reason: &str, seconds: u64);
}
