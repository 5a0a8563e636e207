//! Reasons why a JPEG cannot be read.

pub(super) use crate::pixels::format::TRUNCATED;

/// A result whose error is the reason.
pub(super) type Result<T> = std::result::Result<T, &'static str>;

pub(super) const NO_FRAME: &str = "it has no frame";

/// Returns memory for so many elements.
pub(super) fn reserve<T>(length: usize) -> Result<Vec<T>> {
    crate::memory::reserve(length).map_err(|_| "there is not enough memory for it")
}
