//! The containers of pictures, walked without their decoders: what these would set aside before a pixel is decoded, and
//! what they would walk for ever.

use crate::pixels::header::{CUT_SHORT, Format};
use crate::pixels::tiff::Tiff;

/// Memory for what comes before the pixels: colour profiles, EXIF and text, which can be compressed bombs.
pub(super) const HEADER_BYTES: u64 = 16 * 1024 * 1024;

/// The most that a decoder takes to read a header. Decoders allocate as they please.
pub(super) fn bytes_to_open(bytes: &[u8], format: Format) -> u64 {
    /// A text of a PNG, however short: its place in a list that grows, and up to four strings.
    const PNG_TEXT: u64 = 512;
    /// A chunk of a WebP: its place in a table that grows.
    const WEBP_CHUNK: u64 = 128;
    let listed = match format {
        Format::Png => {
            PNG_TEXT * png_chunks(bytes).filter(|kind| matches!(*kind, b"tEXt" | b"zTXt" | b"iTXt")).count() as u64
        }
        Format::WebP => WEBP_CHUNK * all_webp_chunks(bytes).count() as u64,
        Format::Jpeg | Format::Gif | Format::Bmp | Format::Tiff => 0,
    };
    // What is read whole, or in pieces that come to no more, is copied once more as it is handed on.
    2 * (bytes.len() as u64 + HEADER_BYTES) + listed
}

/// The kinds of the chunks of a PNG, as far as they are inside.
fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    const SIGNATURE: usize = 8;
    const SUM: usize = 4;
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (&length, content) = rest.split_first_chunk()?;
        let (kind, content) = content.split_at_checked(4)?;
        rest = content.get((u32::from_be_bytes(length) as usize).saturating_add(SUM)..).unwrap_or_default();
        Some(kind)
    })
}

/// The chunks of a WebP, or of a frame of one: their kind and content, nothing where that does not end within it.
fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    const KIND: usize = 4;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (kind, content) = rest.split_at_checked(KIND)?;
        let (&length, content) = content.split_first_chunk()?;
        let length = u32::from_le_bytes(length) as usize;
        // Chunks begin at even places.
        rest = content.get(length.saturating_add(length % 2)..).unwrap_or_default();
        Some((kind, content.get(..length)))
    })
}

/// The chunks of a whole WebP.
fn all_webp_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    const CONTAINER: usize = 12;
    webp_chunks(bytes.get(CONTAINER..).unwrap_or_default())
}

/// The chunks that hold pixels, those of an animation's frames included.
fn webp_pixels(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    const FRAME: usize = 16;
    all_webp_chunks(bytes).flat_map(|(kind, content)| {
        let content = content.unwrap_or_default();
        let is_frame = kind == b"ANMF";
        let inner = if is_frame { content.get(FRAME..).unwrap_or_default() } else { &[] };
        let plain = (!is_frame).then_some((kind, content));
        plain.into_iter().chain(webp_chunks(inner).map(|(kind, content)| (kind, content.unwrap_or_default())))
    })
}

/// Whether a WebP is as long as it says. Shorter ones are refused by libwebp, even where the first frame is there.
fn is_webp_whole(bytes: &[u8]) -> bool {
    const HEAD: usize = 4;
    let said = bytes.get(HEAD..).and_then(|rest| rest.split_first_chunk());
    said.is_some_and(|(&length, content)| content.len() >= u32::from_le_bytes(length) as usize)
}

/// Whether the chunks of a WebP end within it.
pub(super) fn are_webp_chunks_inside(bytes: &[u8]) -> bool {
    all_webp_chunks(bytes).all(|(_, content)| content.is_some())
}

/// What lossless parts of a WebP may take for their codes: a table of 4 kB for each ten bytes, and five for each group.
pub(super) fn webp_code_bytes(bytes: &[u8]) -> u64 {
    const TABLE: u64 = 4200;
    const LEAST: u64 = 10;
    const GROUPS: u64 = 1 << 16;
    let lossless = webp_pixels(bytes).filter(|(kind, _)| matches!(*kind, b"VP8L" | b"ALPH"));
    let longest = lossless.map(|(_, content)| content.len() as u64).max().unwrap_or(0);
    TABLE * (longest / LEAST).min(5 * GROUPS)
}

/// Whether all frames of a WebP, by what they say themselves, are within the picture.
fn is_webp_within(bytes: &[u8], (width, height): (u64, u64)) -> bool {
    const SIZE: u64 = (1 << 14) - 1;
    webp_pixels(bytes).all(|(kind, content)| {
        let size = match (kind, content) {
            (b"VP8 ", [_, _, _, _, _, _, w0, w1, h0, h1, ..]) => {
                [[*w0, *w1], [*h0, *h1]].map(|side| u64::from(u16::from_le_bytes(side)) & SIZE)
            }
            (b"VP8L", [_, b0, b1, b2, b3, ..]) => {
                let bits = u64::from(u32::from_le_bytes([*b0, *b1, *b2, *b3]));
                [(bits & SIZE) + 1, (bits >> 14 & SIZE) + 1]
            }
            _ => return true,
        };
        size[0] <= width && size[1] <= height
    })
}

/// Why a picture is not decoded, though its header is in order: where what is inside would cost more than such a picture does.
pub(super) fn defect(bytes: &[u8], format: Format, size: (u64, u64), most_pixels: u64) -> Option<&'static str> {
    match format {
        Format::WebP if !is_webp_whole(bytes) => Some(CUT_SHORT),
        Format::WebP => (!is_webp_within(bytes, size)).then_some("a frame is larger than the picture"),
        Format::Tiff => Tiff(bytes).defect(size, most_pixels),
        Format::Jpeg | Format::Png | Format::Gif | Format::Bmp => None,
    }
}
