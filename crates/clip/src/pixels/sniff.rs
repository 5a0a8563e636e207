//! The format of an image by its first bytes.

use crate::error::Error;
use crate::pixels::format::Format;
use crate::pixels::tiff::Tiff;
use crate::pixels::unsupported;

/// Returns the format of the image, or the error that names a format without a decoder.
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
