//! Memory that opening and decoding an image takes, estimated from its header. Decoders allocate without asking, so
//! this much must be available before one starts.

use crate::pixels::decoder::{ColorType, ImageDecoder};
use crate::pixels::format::Format;
use crate::pixels::jpeg::Jpeg;
use crate::pixels::tiff::Tiff;
use crate::pixels::webp;

/// Memory for the data in front of the pixels (color profiles, EXIF and text), which can be compressed bombs.
pub(super) const HEADER_BYTES: u64 = 16 * 1024 * 1024;

/// Returns the most bytes that a decoder takes to read a header.
pub(super) fn bytes_to_open(bytes: &[u8], format: Format) -> u64 {
    /// An entry of a growing table, for each chunk of a WebP.
    const WEBP_CHUNK: u64 = 128;
    let listed = match format {
        Format::WebP => WEBP_CHUNK * webp::all_chunks(bytes).count() as u64,
        Format::Jpeg | Format::Png | Format::Gif | Format::Bmp | Format::Tiff => 0,
    };
    // Data is read whole, or in pieces of the same total size, and copied once more.
    2 * (bytes.len() as u64 + HEADER_BYTES) + listed
}

/// Returns the bytes that a decoder takes in addition to the samples that it returns.
fn bytes_beside(bytes: &[u8], format: Format, color: ColorType, pixels: u64) -> u64 {
    match (format, color) {
        (Format::Jpeg, _) => Jpeg::open(bytes).map_or(0, |jpeg| jpeg.bytes()),
        // A frame and its canvas.
        (Format::WebP, _) => 12 * pixels + webp::code_bytes(bytes),
        (Format::Tiff, _) => Tiff(bytes).bytes_to_decode(),
        // Another copy.
        _ => u64::from(color.bytes_per_pixel()) * pixels,
    }
}

/// A decoder's own tables and buffers, independent of the size of the image.
const DECODER_BYTES: u64 = 64 * 1024 * 1024;

/// Returns the number of pixels.
pub(super) fn pixels(decoder: &impl ImageDecoder) -> u64 {
    let (width, height) = decoder.dimensions();
    u64::from(width) * u64::from(height)
}

/// Returns the bytes of the samples and of everything else that the decoder takes.
pub(super) fn budget(decoder: &impl ImageDecoder, bytes: &[u8], format: Format) -> u64 {
    let beside = bytes_beside(bytes, format, decoder.color_type(), pixels(decoder));
    decoder.total_bytes().saturating_add(beside).saturating_add(DECODER_BYTES)
}
