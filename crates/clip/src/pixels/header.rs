//! The header of an image, read before a pixel is decoded. External crate: `image`.

use std::borrow::Cow;
use std::io::Cursor;

use image::{ImageDecoder, ImageFormat, ImageReader};

use crate::error::Error;
use crate::memory::MemoryCheck;
use crate::pixels::bmp::Bmp;
use crate::pixels::budget::{HEADER_BYTES, bytes_to_open};
use crate::pixels::format::{Format, Limits, undecodable};
use crate::pixels::gif::{self, Gif};
use crate::pixels::jpeg::Jpeg;
use crate::pixels::orientation::orientation;
use crate::pixels::sniff::sniff;
use crate::pixels::tiff::{Page, Tiff};
use crate::pixels::{png, webp};

/// The content of an image's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    pub format: Format,
    /// Stored width in pixels, before the orientation is applied.
    pub width: u32,
    /// Stored height in pixels, before the orientation is applied.
    pub height: u32,
    /// The orientation that is applied, in EXIF's numbers from 1 to 8. It is 1 if the file has none.
    pub orientation: u8,
    /// Frames of an animation or pages of a TIFF. It is 1 for a still image.
    pub frames: u32,
}

/// Checks size and format, reads the header and checks the dimensions.
pub(super) fn open<'a>(
    bytes: &'a [u8],
    limits: &Limits,
    memory: MemoryCheck,
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

/// Returns the decoder, which has read the header.
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

/// Returns a decoder of the crate `image`.
fn foreign(bytes: &[u8], format: Format, kind: ImageFormat) -> Result<Box<dyn ImageDecoder + '_>, Error> {
    let mut reader = ImageReader::with_format(Cursor::new(repaired(bytes, format)?), kind);
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(HEADER_BYTES);
    reader.limits(limits);
    Ok(Box::new(reader.into_decoder().map_err(|error| undecodable(format, error))?))
}

/// Returns the file without damage that the reference ignores and the decoder does not. A copy is no larger than the
/// memory that [`bytes_to_open`] asks for.
fn repaired(bytes: &[u8], format: Format) -> Result<Cow<'_, [u8]>, Error> {
    Ok(match format {
        Format::Png => png::plain(bytes)?.into(),
        Format::WebP => webp::repaired(bytes),
        Format::Jpeg | Format::Gif | Format::Bmp | Format::Tiff => bytes.into(),
    })
}

pub(super) fn info(bytes: &[u8], limits: &Limits) -> Result<ImageInfo, Error> {
    let (format, decoder) = open(bytes, limits, MemoryCheck::PerStep)?;
    let (width, height) = decoder.dimensions();
    let orientation = orientation(bytes, format).to_exif();
    // Counting frames opens the file again.
    drop(decoder);
    Ok(ImageInfo { format, width, height, orientation, frames: frames(bytes, format) })
}

/// Returns the number of frames that can be read, at least one. In a truncated file, those before its end count.
fn frames(bytes: &[u8], format: Format) -> u32 {
    let counted = match format {
        Format::Jpeg | Format::Bmp => 1,
        Format::Png => png::frames(bytes),
        Format::WebP => webp::frames(bytes),
        Format::Gif => gif::frames(bytes),
        Format::Tiff => Tiff(bytes).pages(),
    };
    counted.max(1)
}
