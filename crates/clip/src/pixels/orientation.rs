//! The orientation of an image, from EXIF or else from XMP, wherever Pillow 13 finds it.
//! External crate: `image`, for the name of a transformation.

use std::borrow::Cow;

use crate::pixels::budget::HEADER_BYTES;
use crate::pixels::decoder::Orientation;
use crate::pixels::exif::{self, UPRIGHT};
use crate::pixels::format::Format;
use crate::pixels::metadata::{Exif, Metadata, decide};
use crate::pixels::{png, webp};

/// Returns the orientation to apply. Unreadable metadata is ignored.
pub(super) fn orientation(bytes: &[u8], format: Format) -> Orientation {
    let value = match format {
        Format::Jpeg => of_jpeg(bytes).orientation(),
        Format::Png => png::metadata(bytes).orientation(),
        Format::WebP => of_webp(bytes).orientation(),
        Format::Tiff => {
            let directory = exif::directory(bytes, true);
            decide(directory.orientation, directory.xmp)
        }
        Format::Gif | Format::Bmp => UPRIGHT,
    };
    Orientation::from_exif(value).unwrap_or(Orientation::NoTransforms)
}

/// Returns the metadata in front of the first scan of a JPEG. Several EXIF segments are parts of one, and of several
/// XMP packets the last counts.
fn of_jpeg(bytes: &[u8]) -> Metadata<'_> {
    const EXIF: &[u8] = b"Exif\0\0";
    const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
    /// Largest size of joined segments. This memory is checked before a file is opened.
    const MAX: usize = HEADER_BYTES as usize / 2;
    let mut found = Metadata::default();
    let mut at = 2;
    while let (Some(&first), Some(&kind)) = (bytes.get(at), bytes.get(at + 1)) {
        match (first, kind) {
            (0xff, 0xff) => at += 1,
            // Fill bytes, restarts, and markers that have no content for Pillow.
            (0xff, 0 | 0xc8 | 0xd0..=0xd9 | 0xf0..=0xfd) => at += 2,
            (0xff, 0xda | 0x01..0xc0) => break,
            (0xff, _) => {
                let segment = bytes.get(at + 2..).unwrap_or_default();
                let length = segment.first_chunk().map_or(0, |&length| usize::from(u16::from_be_bytes(length))).max(2);
                let Some(content) = segment.get(2..length) else { break };
                if kind == 0xe1 && content.starts_with(EXIF) {
                    match &mut found.exif {
                        Some(Exif::Bytes(joined)) if joined.len() < MAX => {
                            joined.to_mut().extend_from_slice(&content[EXIF.len()..]);
                        }
                        Some(_) => {}
                        None => found.exif = Some(Exif::Bytes(content.into())),
                    }
                } else if kind == 0xe1
                    && let Some(packet) = content.strip_prefix(XMP)
                {
                    found.xmp = Some(packet.into());
                }
                at += 2 + length;
            }
            _ => at += 1,
        }
    }
    found
}

/// Returns the metadata of a WebP, which counts only if the flags of the extended format announce it.
fn of_webp(bytes: &[u8]) -> Metadata<'_> {
    const EXIF: u8 = 8;
    const XMP: u8 = 4;
    let flags = webp::flags(bytes).unwrap_or(0);
    let chunk = |kind: &[u8], flag: u8| {
        let mut chunks = webp::chunks_within(bytes);
        let content = (flags & flag != 0).then(|| chunks.find(|(found, _)| *found == kind)).flatten();
        content.and_then(|(_, content)| content).filter(|content| !content.is_empty()).map(Cow::from)
    };
    Metadata { exif: chunk(b"EXIF", EXIF).map(Exif::Bytes), xmp: chunk(b"XMP ", XMP) }
}
