//! Decoded images.

use crate::error::Error;
use crate::memory::reserve;

/// Rows of pixels with three bytes each, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rgb {
    pub width: u32,
    pub height: u32,
    pub bytes: Vec<u8>,
}

impl Rgb {
    /// Returns an image without pixels, with memory for all of them.
    pub fn with_capacity(width: u32, height: u32) -> Result<Self, Error> {
        Ok(Self { width, height, bytes: reserve(width as usize * height as usize * 3)? })
    }
}
