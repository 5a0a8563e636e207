//! Reasons why a TIFF is rejected.

/// A result whose error is the reason.
pub(super) type Result<T> = std::result::Result<T, &'static str>;

pub(super) const SHORT: &str = "a strip or tile ends too soon";
pub(super) const BROKEN: &str = "a strip or tile cannot be decompressed";

/// Returns memory for so many bytes.
pub(super) fn reserve(length: u64) -> Result<Vec<u8>> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    crate::memory::reserve(length).map_err(|_| "there is not enough memory for it")
}
