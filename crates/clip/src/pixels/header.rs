//! What a picture's header says, before a pixel is decoded.
//!
//! External crates: `image`, and `image-webp` beneath it for counting frames.

use std::io::Cursor;

use image::{ImageDecoder, ImageFormat, ImageReader};

use crate::error::Error;
use crate::memory::Memory;
use crate::pixels::bmp::Bmp;
use crate::pixels::container::{HEADER_BYTES, bytes_to_open, repaired};
use crate::pixels::gif::{self, Gif};
use crate::pixels::jpeg::Jpeg;
use crate::pixels::orientation::orientation;
use crate::pixels::tiff::{Page, Tiff};
use crate::pixels::{png, unsupported};

/// A format that can be decoded, by pure-Rust decoders only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// The name in lower case, as settings spell it.
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

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// What may be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Encoded size in bytes.
    pub bytes: u64,
    /// Width times height.
    pub pixels: u64,
    pub formats: Vec<Format>,
}

/// What the header of a picture says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    pub format: Format,
    /// Stored width in pixels, before the orientation is applied.
    pub width: u32,
    /// Stored height in pixels, before the orientation is applied.
    pub height: u32,
    /// The orientation that is applied, in EXIF's numbers from 1 to 8; 1 where the file has none.
    pub orientation: u8,
    /// Frames of an animation, pages of a TIFF; 1 for a still picture.
    pub frames: u32,
}

/// Tell the format from the first bytes.
pub(super) fn sniff(bytes: &[u8]) -> Result<Format, Error> {
    let starts = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    Ok(match bytes {
        [] => return Err(Error::EmptyImage),
        _ if starts(0, b"\xff\xd8\xff") => Format::Jpeg,
        _ if starts(0, b"\x89PNG\r\n\x1a\n") => Format::Png,
        _ if starts(0, b"RIFF") && starts(8, b"WEBP") => Format::WebP,
        _ if starts(0, b"GIF8") => Format::Gif,
        _ if starts(0, b"BM") => Format::Bmp,
        _ if Tiff::is_one(bytes) => Format::Tiff,
        _ => {
            return Err(
                unsupported::name(bytes).map_or(Error::UnknownFormat, |format| Error::UnsupportedFormat { format })
            );
        }
    })
}

/// Check size and format, read the header and check its dimensions.
pub(super) fn open<'a>(
    bytes: &'a [u8],
    limits: &Limits,
    memory: Memory,
) -> Result<(Format, Box<dyn ImageDecoder + 'a>), Error> {
    let size = bytes.len() as u64;
    if size > limits.bytes {
        return Err(Error::ImageBytesExceeded { bytes: size, limit: limits.bytes });
    }
    let format = sniff(bytes)?;
    if !limits.formats.contains(&format) {
        return Err(Error::FormatNotAllowed { format: format.name() });
    }
    memory.headroom(bytes_to_open(bytes, format))?;
    let decoder = decoder(bytes, format)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels {
        return Err(Error::ImagePixelsExceeded { width, height, limit: limits.pixels });
    }
    if width == 0 || height == 0 {
        return Err(undecodable(format, "it has no pixels"));
    }
    Ok((format, decoder))
}

/// The decoder, by what its header says.
fn decoder(bytes: &[u8], format: Format) -> Result<Box<dyn ImageDecoder + '_>, Error> {
    Ok(match format {
        Format::Jpeg => Box::new(Jpeg::open(bytes).map_err(|reason| undecodable(format, reason))?),
        Format::Tiff => Box::new(Page::read(Tiff(bytes)).map_err(|reason| undecodable(format, reason))?),
        Format::Gif => Box::new(Gif::open(bytes)?),
        Format::Bmp => Box::new(Bmp::open(bytes)?),
        Format::Png => foreign(bytes, format, ImageFormat::Png)?,
        Format::WebP => foreign(bytes, format, ImageFormat::WebP)?,
    })
}

/// A decoder of the crate `image`.
fn foreign(bytes: &[u8], format: Format, kind: ImageFormat) -> Result<Box<dyn ImageDecoder + '_>, Error> {
    let mut reader = ImageReader::with_format(Cursor::new(repaired(bytes, format)?), kind);
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(HEADER_BYTES);
    reader.limits(limits);
    Ok(Box::new(reader.into_decoder().map_err(|error| undecodable(format, error))?))
}

/// Why a file is refused of which the end is missing, as where an upload broke off.
pub(super) const CUT_SHORT: &str = "it is cut short";

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

pub(super) fn info(bytes: &[u8], limits: &Limits) -> Result<ImageInfo, Error> {
    let (format, decoder) = open(bytes, limits, Memory::Unasked)?;
    let (width, height) = decoder.dimensions();
    let orientation = orientation(bytes, format).to_exif();
    // Counting opens it again.
    drop(decoder);
    Ok(ImageInfo { format, width, height, orientation, frames: frames(bytes, format) })
}

/// Frames as far as they can be read: a file that is cut short has those before the cut, at least one.
fn frames(bytes: &[u8], format: Format) -> u32 {
    let counted = match format {
        Format::Jpeg | Format::Bmp => 1,
        Format::Png => png::frames(bytes),
        Format::WebP => webp_frames(bytes),
        Format::Gif => gif::frames(bytes),
        Format::Tiff => Tiff(bytes).pages(),
    };
    counted.max(1)
}

fn webp_frames(bytes: &[u8]) -> u32 {
    let Ok(bytes) = repaired(bytes, Format::WebP) else { return 1 };
    image_webp::WebPDecoder::new(Cursor::new(bytes)).map_or(1, |decoder| decoder.num_frames())
}
