//! Memory that may not be there: an error, where Rust's own answer is to abort the process, and with it the server.

use crate::error::Error;

/// What must be there to be had before work begins that allocates in many small pieces: ours, the tokenizer's and ONNX
/// Runtime's for one batch. It is asked for and given back at once, untouched, which takes microseconds.
pub(crate) const HEADROOM: u64 = 32 * 1024 * 1024;

/// A vector with room for `length` elements, or an error: a size that comes from input must not abort the process.
pub fn reserve<T>(length: usize) -> Result<Vec<T>, Error> {
    let mut vector = Vec::new();
    let bytes = (length as u64).saturating_mul(size_of::<T>() as u64);
    vector.try_reserve_exact(length).map_err(|_| Error::OutOfMemory { bytes: Some(bytes) })?;
    Ok(vector)
}

/// Make sure that `bytes` can be had, for what allocates as it pleases.
pub fn headroom(bytes: u64) -> Result<(), Error> {
    reserve::<u8>(usize::try_from(bytes).unwrap_or(usize::MAX)).map(drop)
}

/// Whether what work needs was asked for before it began. Where several threads allocate, asking takes from the others for a
/// moment what they were told that there is: then all is asked for at once, before any begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Unasked,
    Granted,
}

impl Memory {
    pub(crate) fn headroom(self, bytes: u64) -> Result<(), Error> {
        match self {
            Self::Unasked => headroom(bytes),
            Self::Granted => Ok(()),
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
