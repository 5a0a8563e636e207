//! Fallible allocation. Rust aborts the process when an allocation fails, which would crash the server; these functions
//! return an error instead.

use crate::error::Error;

/// Memory that must be available before work begins that makes many small allocations: those of this crate, of the
/// tokenizer and of ONNX Runtime for one batch. It is allocated and freed at once, untouched, which takes microseconds.
pub(crate) const HEADROOM: u64 = 32 * 1024 * 1024;

/// Returns a vector with capacity for `length` elements. A size from input must not abort the process.
pub fn reserve<T>(length: usize) -> Result<Vec<T>, Error> {
    let mut vector = Vec::new();
    let bytes = (length as u64).saturating_mul(size_of::<T>() as u64);
    vector.try_reserve_exact(length).map_err(|_| Error::OutOfMemory { bytes: Some(bytes) })?;
    Ok(vector)
}

/// Checks that `bytes` can be allocated, for libraries that allocate infallibly.
pub fn headroom(bytes: u64) -> Result<(), Error> {
    reserve::<u8>(usize::try_from(bytes).unwrap_or(usize::MAX)).map(drop)
}

/// The time of the check of memory. A check in one of several threads would briefly
/// take the memory that the others were promised, so parallel work checks once for all threads before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryCheck {
    /// Each step checks the memory that it needs.
    PerStep,
    /// The memory was checked before the work began.
    Done,
}

impl MemoryCheck {
    pub(crate) fn headroom(self, bytes: u64) -> Result<(), Error> {
        match self {
            Self::PerStep => headroom(bytes),
            Self::Done => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_cannot_be_had_are_errors() {
        assert_eq!(reserve::<u64>(usize::MAX), Err(Error::OutOfMemory { bytes: Some(u64::MAX) }));
        assert_eq!(headroom(u64::MAX), Err(Error::OutOfMemory { bytes: Some(u64::MAX) }));
        assert_eq!(headroom(HEADROOM), Ok(()));
    }
}
