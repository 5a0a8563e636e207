//! The needs of the process after it is isolated.

use std::path::Path;

/// The needs of the process after it is isolated.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// Directories of models and of prepared files. Files that appear there later can be read, too. A directory that
    /// does not exist, or is replaced later, cannot be read.
    pub directories: &'a [&'a Path],
    /// ONNX Runtime's library. Its directory can be read, because its providers are next to it.
    pub runtime: &'a Path,
    /// Bytes of private memory: the heap, copies of weights, and the whole stacks of threads (up to 8 MiB each). Weights
    /// that are mapped from prepared files do not count.
    pub memory: Option<u64>,
}
