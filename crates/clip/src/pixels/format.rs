//! The formats of images, the limits for decoding them, and the error for an image that cannot be decoded.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A format that has a decoder, which is pure Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    Tiff,
}

impl Format {
    pub const ALL: [Self; 6] = [Self::Jpeg, Self::Png, Self::WebP, Self::Gif, Self::Bmp, Self::Tiff];

    /// Returns the name in lower case, as settings spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Gif => "gif",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
        }
    }

    /// Returns the format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// Limits for images that come from users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Encoded size in bytes.
    pub bytes: u64,
    /// Width times height.
    pub pixels: u64,
    /// The formats that may be decoded.
    pub formats: Vec<Format>,
}

/// The reason of an error about a file whose end is missing, as after an upload that broke off.
pub(super) const TRUNCATED: &str = "it is truncated";

/// Returns the error of an image that cannot be decoded, with the reason in one line.
pub(super) fn undecodable(format: Format, reason: impl std::fmt::Display) -> Error {
    // Decoders write several lines, and some end with a full stop: DETAIL is one line and puts its own.
    let reason = reason
        .to_string()
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    Error::UndecodableImage { format: format.name(), reason: reason.trim_end_matches(['.', ' ']).into() }
}
